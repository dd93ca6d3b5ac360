"""What a user may use now: the broker's answers to a signed-in user about themselves, the datasets and the nodes, which
the API for people and portals passes on. Times are seconds since the epoch (UTC) as floats.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gdi.contracts.cohorts import EpochCohorts
from gdi.contracts.data_use import DuoCode
from gdi.contracts.ids import DatasetId, NodeId
from gdi.contracts.refusals import VisaReason
from gdi.contracts.runs import Run

WebLink = Annotated[str, Field(pattern=r"^https?://[^\s\"'<>\\@/?#]+([/?#][^\s\"'<>\\]*)?$", max_length=500)]


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


class DatasetDescription(Answer):
    """What a catalogue says of a dataset, as read at `read_at` from `source`, the URL that the broker's operator
    linked. Plain text, one line each. `link`: the dataset's page; `access_url`: where access is asked for. The fields
    are HealthDCAT-AP's title, description, publisher, accessRights, healthTheme with healthCategory and theme,
    numberOfRecords, numberOfUniqueIndividuals, landingPage and accessURL.
    """

    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=2000)
    publisher: str = Field(default="", max_length=200)
    access_rights: str = Field(default="", max_length=200)
    themes: list[Annotated[str, Field(max_length=200)]] = Field(default_factory=list, max_length=20)
    records: int | None = Field(default=None, ge=0)
    individuals: int | None = Field(default=None, ge=0)
    link: WebLink | None = None
    access_url: WebLink | None = None
    source: str
    read_at: float


class DataUseTerm(Answer):
    """A term of a dataset's use: its DUO code, and the ontology's name of it, empty where this version knows none."""

    code: DuoCode
    label: str = ""


class DatasetEntry(Answer):
    """A dataset, the node that holds it, and the caller's access. `how_to_apply`: a sentence of the node's operator;
    `apply_url`: where to apply, where the operator or the catalogue names it. `title`: the operator's, else the
    catalogue's. `terms`: of its use, as the node's own agent told them last.
    `cohorts`: what a run may name of its newest epoch, where the caller may use it and the node says so.
    """

    id: DatasetId
    title: str = ""
    node: NodeId
    access: DatasetAccess
    how_to_apply: str = ""
    apply_url: str | None = None
    catalogue: DatasetDescription | None = None
    terms: list[DataUseTerm] = Field(default_factory=list)
    cohorts: EpochCohorts | None = None


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
