"""The names of things, each with one pattern: types for the edges, `matches` for a name that comes another way, and
the makers of the ids that are made here.

A pattern is written without anchors, so that it can stand inside a longer one. Python's `$` also matches before a line
end; `matches` does not.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated
from urllib.parse import quote, unquote

from pydantic import Field

from gdi.kit.canonical import sha256_hex

MAX_DATASET_ID = 128
_LATER = "._~:+()=?&;-"  # letters of a dataset id besides A-Z, a-z and 0-9
_PART = rf"[A-Za-z0-9_~+(?=][A-Za-z0-9{_LATER}]*"
# An accession, a DOI, a URL, as the visa's `value` has it. No part begins with a dot: `..` leads nowhere.
DATASET_ID = rf"(https?://)?[A-Za-z0-9][A-Za-z0-9{_LATER}]*(/{_PART})*/?"
NAME_ESCAPE = "%(?:" + "|".join(f"{ord(c):02X}" for c in "/" + _LATER if quote(c, safe=":") != c) + ")"
NODE_ID = r"[a-z][a-z0-9-]{0,30}"
RUN_ID = r"r-[0-9a-f]{20}"
GRANT_ID = r"g-[0-9a-f]{32}"
POD_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"  # a DNS label, as Kubernetes wants it
WORKFLOW_NAME = r"[a-z][a-z0-9-]{0,62}"
RELEASE_NAME = WORKFLOW_NAME
RULE_NAME = r"[A-Za-z0-9_]{1,100}"
SHA256 = r"[0-9a-f]{64}"
DIGEST = rf"sha256:{SHA256}"
HTTP_URL = r"https?://[^\s?#@]+"  # no user, no query, no fragment: nothing secret can hide in it

DatasetId = Annotated[str, Field(pattern=f"^{DATASET_ID}$", max_length=MAX_DATASET_ID)]
NodeId = Annotated[str, Field(pattern=f"^{NODE_ID}$")]
RunId = Annotated[str, Field(pattern=f"^{RUN_ID}$")]
GrantId = Annotated[str, Field(pattern=f"^{GRANT_ID}$")]
PodName = Annotated[str, Field(pattern=f"^{POD_NAME}$")]
WorkflowName = Annotated[str, Field(pattern=f"^{WORKFLOW_NAME}$")]
ReleaseName = Annotated[str, Field(pattern=f"^{RELEASE_NAME}$")]
KindName = Annotated[str, Field(pattern=f"^{RELEASE_NAME}$")]  # of a kind of release
RuleName = Annotated[str, Field(pattern=f"^{RULE_NAME}$")]
Sha256 = Annotated[str, Field(pattern=f"^{SHA256}$")]
Digest = Annotated[str, Field(pattern=f"^{DIGEST}$")]
# what a node may claim, or a policy may name: an exact id, or a prefix of ids that ends in `*`
DatasetClaim = Annotated[str, Field(pattern=rf"^{DATASET_ID}\*?$", max_length=MAX_DATASET_ID)]
# a workflow in any version, or `NAME@DIGEST`
WorkflowAt = Annotated[str, Field(pattern=rf"^{WORKFLOW_NAME}(@{DIGEST})?$")]
HttpUrl = Annotated[str, Field(pattern=f"^{HTTP_URL}$", max_length=500)]
RelativePath = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", max_length=200)
]
Text = Annotated[str, Field(max_length=2000)]
Label = Annotated[str, Field(max_length=255)]
# any text that every database can hold: PostgreSQL's has no NUL
AirflowId = Annotated[str, Field(max_length=250, pattern=r"^[^\x00]*$")]

# of a run that is still to be started: what Airflow's `allowed_run_id_pattern` takes by default, and a folder of logs
# named `run_id=…` can hold
NewRunId = Annotated[str, Field(min_length=1, max_length=248, pattern=r"^[A-Za-z0-9_.~:+-]+$")]


def matches(pattern: str, text: str) -> bool:
    """Whether the whole of `text` has the form of one of the patterns above."""
    return re.fullmatch(pattern, text) is not None


def is_dataset_id(text: str) -> bool:
    """Whether `text` may be a dataset's id. What differs in one letter is another dataset: nothing is normalised."""
    return len(text) <= MAX_DATASET_ID and matches(DATASET_ID, text)


def dataset_name(dataset: str) -> str:
    """The id as one part of a path or a `sda://` URL: percent-encoded but for `A-Za-z0-9._~:-`. An accession's is the
    id itself. HTTP encodes the name once more, as any part of a path (Funnel does so with what follows `sda://`).
    """
    return quote(dataset, safe=":")


def dataset_of_name(name: str) -> str | None:
    """The id of a name; None where `dataset_name` makes no such name."""
    dataset = unquote(name, errors="replace")
    return dataset if is_dataset_id(dataset) and dataset_name(dataset) == name else None


def make_run_id(dag_id: str, dag_run_id: str) -> str:
    """The id of an Airflow run: `r-` and 20 hex digits. The same run has the same id everywhere; it is no secret.

    Any two texts have an id, also those that are not valid Unicode: a page may be asked for by any name.
    """
    return "r-" + sha256_hex(f"{dag_id}\0{dag_run_id}".encode("utf-8", "surrogatepass"))[:20]


def make_grant_id() -> str:
    """A new grant's id: `g-` and 128 random bits. Knowing it gives no right."""
    return f"g-{secrets.token_hex(16)}"


def make_pod_name(run: str, node: str, attempt: int, generation: int) -> str:
    """`RUN-NODE-ATTEMPT-GENERATION`: at most 63 characters, as Kubernetes wants (run id 22, node 31)."""
    return f"{run}-{node}-{attempt}-{generation}"


def node_of_pod(name: str) -> str | None:
    """The node in a name that `make_pod_name` made; None for any other name."""
    found = re.fullmatch(rf"{RUN_ID}-(?P<node>{NODE_ID})-[0-9]+-[0-9]+", name)
    return found["node"] if found else None
