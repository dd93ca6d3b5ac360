"""Why a user may not read a dataset: what the problem `access-denied` lists as `refusals`, one for each dataset."""

from __future__ import annotations

from typing import Literal

from gdi.contracts.ids import DatasetId, NodeId
from gdi.kit.models import Strict

# What came of the user's visas for a dataset. `issuer-unavailable`: it could not be found out.
VisaReason = Literal[
    "no-visa",
    "expired",
    "untrusted-issuer",
    "untrusted-source",
    "bad-signature",
    "wrong-type",
    "wrong-subject",
    "conditions",
    "malformed",
    "clocks-differ",
    "not-in-seconds",
    "issuer-unavailable",
]


class AccessRefusal(Strict):
    """`node` is None where no enrolled node holds the dataset. `how_to_apply` is a sentence of the node's operator;
    `apply_url` the application for this dataset, where the operator named it.
    """

    dataset: DatasetId
    node: NodeId | None
    reason: VisaReason | Literal["unknown-dataset", "stopped-by-committee"]
    how_to_apply: str
    apply_url: str | None = None
