"""What the Results tab is told of a run (`data/results/…` of Airflow's pages); packaging/ui_types.py writes it as
TypeScript.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from gdi.contracts.cohorts import CohortChoice
from gdi.contracts.ids import DatasetId, NodeId
from gdi.contracts.runs import Failing, RunState
from gdi.kit.models import Strict

Cell = str | int | float | None
MEDIA_TYPES = {  # of the files of a run's results, by suffix
    ".tsv": "text/tab-separated-values",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".gz": "application/gzip",
}


class Approval(Strict):
    """One visa under which the run reads a dataset: who approved, when, until when (GA4GH Passport: `by`, `source`,
    `asserted`). Times are epoch seconds.
    """

    dataset: str
    node: str = ""
    source: str = ""
    by: str = ""
    asserted: float | None = None
    ends_at: float | None = None


class ReleaseView(Strict):
    """What one node released. `unit`: what leaves whole or not at all, in the singular (a site, a table). `reasons`:
    why a unit is withheld, in words, by the names in `withheld`. `sites_withheld` is rounded; null of few units, where
    the node does not tell it. `file`: its name among the results' files, null where the bytes are not there. `cohort`:
    whose numbers these are, null where the node's datasets have no epoch.
    """

    node: NodeId
    name: str
    title: str
    kind: str
    unit: str
    reasons: dict[str, str]
    bytes: int
    sha256: str
    sites_released: int
    sites_withheld: int | None
    withheld: dict[str, int]
    attempt: int
    verified: bool
    verdict: str
    file: str | None
    cohort: CohortChoice | None = None


class AnswerPage(BaseModel):
    """The first rows of the merged answer; `total` rows in all, `withheld` of them not told exactly, `unit` a row in
    the singular. The fields after it come of kinds that are drawn in the page; the others show their picture.
    `missing`: rows where nobody was called. `points`: chromosome, position, frequency of at most a few thousand rows,
    evenly taken. `regions`: the chromosomes of an answer that is read in pages (`AnswerRows`), null of others.
    """

    columns: list[str]
    rows: list[list[Cell]]
    total: int
    withheld: int
    unit: str
    missing: int | None = None
    histogram: list[int] | None = None
    points: list[tuple[str, int, float | None]] | None = None
    regions: list[str] | None = None


class AnswerRows(BaseModel):
    """A page of the merged answer (`data/rows/…`): rows from `start` of `total`, of the region that was asked for."""

    rows: list[list[Cell]]
    total: int
    start: int


class WorkflowView(Strict):
    """The workflow as the run was admitted with it."""

    name: str
    title: str
    version: str
    digest: str


class NodeDatasets(Strict):
    """The datasets of the run at one node."""

    node: NodeId
    datasets: list[DatasetId]


class ResultsFile(Strict):
    """A file of the results that may be saved; `bytes` is its size."""

    name: str
    title: str
    bytes: int


class ResultsView(Strict):
    """The whole tab. `airflow`: what Airflow says of a run that the broker does not know. `waits_until`: a logical date
    in the future. Times are epoch seconds. `notes`: what could not be read, in sentences.
    """

    state: RunState | Literal["not-admitted"]
    outcome: str
    attempt: int
    airflow: str | None = None
    waits_until: float | None = None
    run: str
    workflow: WorkflowView | None
    user: str
    started_by: str | None = None
    opened_at: float | None = None
    closed_at: float | None = None
    failing: Failing | None = None
    nodes: list[NodeDatasets] = Field(default_factory=list)
    approvals: list[Approval] = Field(default_factory=list)
    releases: list[ReleaseView] = Field(default_factory=list)
    answer: AnswerPage | None = None
    files: list[ResultsFile] = Field(default_factory=list)
    crate: bool
    notes: list[str] = Field(default_factory=list)
