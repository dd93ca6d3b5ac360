"""What a user may use now: the broker's answers to a signed-in user about themselves, the datasets and the nodes, which
the API for people and portals passes on. Times are seconds since the epoch (UTC) as floats.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gdi.contracts.ids import DatasetId, NodeId
from gdi.contracts.refusals import VisaReason
from gdi.contracts.runs import Run


class Answer(BaseModel):
    """What the API answers. Lenient for readers: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


class TokenOwner(Answer):
    """`GET /v1/me`: who the token is of, and the access committees that they are a member of."""

    sub: str
    client_id: str = ""
    committees: list[str] = Field(default_factory=list)


AccessState = Literal["granted", "refused", "unknown"]


class DatasetAccess(Answer):
    """What the caller may use now. `granted` until `until`, when the visa ends; `refused` for `reason`; `unknown` where
    the issuer of the visas cannot be asked. `sentence` says it in words.
    """

    state: AccessState
    until: float | None = None
    reason: VisaReason | Literal["stopped-by-committee"] | None = None
    sentence: str = ""


class DatasetEntry(Answer):
    """A dataset, the node that holds it, and the caller's access. `how_to_apply`: a sentence of the node's operator;
    `apply_url`: where to apply, where the operator named it.
    """

    id: DatasetId
    title: str = ""
    node: NodeId
    access: DatasetAccess
    how_to_apply: str = ""
    apply_url: str | None = None


class DatasetList(Answer):
    """`prefixes`: nodes that hold any dataset whose id begins so; those are listed where the caller has a visa."""

    datasets: list[DatasetEntry]
    prefixes: dict[NodeId, list[str]] = Field(default_factory=dict)


class OwnRuns(Answer):
    """`GET /v1/me/runs?after=`: the caller's runs that were admitted after that moment, oldest first. `more`: ask again
    with the last one's `opened_at`.
    """

    runs: list[Run]
    more: bool = False
