"""The API for people and portals (`gdi.portal`): workflows, datasets, nodes, grants, runs and what came of them.

Times are seconds since the epoch (UTC) as floats. Every error is `gdi.kit.problem.Problem`. Answers may get new fields:
readers ignore those that they do not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gdi.contracts.access import Answer
from gdi.contracts.access import DatasetAccess as DatasetAccess
from gdi.contracts.access import DatasetEntry as DatasetEntry
from gdi.contracts.access import DatasetList as DatasetList
from gdi.contracts.access import TokenOwner as TokenOwner
from gdi.contracts.cohorts import CohortChoice, CohortPart
from gdi.contracts.grants import Grant
from gdi.contracts.ids import DatasetId, Digest, GrantId, Label, NodeId, RunId, Text, WorkflowName
from gdi.contracts.nodes import NodePreflight
from gdi.contracts.parameters import StartParameters
from gdi.contracts.progress import Job, NodeProgress, RuleProgress
from gdi.contracts.run_endings import RunStanding
from gdi.contracts.runs import Placement
from gdi.contracts.workflow import Needs
from gdi.kit.models import Strict

MAX_TAGS, MAX_DATASETS, MAX_PAGE = 50, 1000, 1000
ClientKey = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
Tags = Annotated[dict[Annotated[str, Field(min_length=1, max_length=100)], Label], Field(max_length=MAX_TAGS)]


class SignInHint(Answer):
    """`GET /v1/sign-in`: where programs on a person's machine sign them in, by device code (RFC 8628). Nothing named:
    this portal offers it to nobody.
    """

    issuer: str | None = None
    client_id: str | None = None
    scope: str = ""


class CatalogueRelease(Answer):
    """What a workflow asks to release from each node. `merged`: the nodes' files become one answer."""

    name: str
    title: str
    kind: str
    merged: bool = True


class CatalogueWorkflow(Answer):
    """`GET /v1/workflows/{name}`. `parameters`: a JSON Schema (2020-12) of the object that `parameters` of a start
    holds; datasets are no part of it, nor is the `cohort` that it may name: `cohorts` says which it takes (`level`,
    `variables`, `table`), beside everybody.
    """

    name: WorkflowName
    title: str
    description: str = ""
    version: str
    digest: Digest
    parameters: dict[str, Any]
    releases: list[CatalogueRelease] = Field(default_factory=list)
    needs: Needs = Field(default_factory=Needs)
    cohorts: list[CohortPart] = Field(default_factory=list)


class WorkflowList(Answer):
    """`broken`: how many entries of the catalogue cannot be read; their operator's log says which and why."""

    workflows: list[CatalogueWorkflow]
    broken: int = 0


NodeState = Literal["up", "away", "unknown"]


class NodeEntry(Answer):
    """`state`: `up` answered just now, `away` did not, `unknown` cannot be asked from the centre. `seen_at`: when it
    was last heard.
    """

    id: NodeId
    state: NodeState
    seen_at: float | None = None
    sentence: str = ""
    datasets: list[str] = Field(default_factory=list, description="ids, or prefixes that end in *")
    placement: Placement = Field(default="node", description="who starts Snakemake there")
    version: str = ""
    orders: int = Field(default=0, description="orders that go on there, of all users")
    limits: list[str] = Field(default_factory=list, description="what the node does not allow, as it says itself")


class NodeList(Answer):
    nodes: list[NodeEntry]


class GrantList(Answer):
    grants: list[Grant]


class Consent(Strict):
    """Consent given with the start itself: a grant for this workflow on these datasets is made first. `days`: how long
    it is good for; `once`: for this run only.
    """

    days: float = Field(default=30, gt=0, le=366)
    once: bool = False


class RunStart(Strict):
    """`POST /v1/runs`. `grant`: which consent; without one, an active grant of the caller's that covers workflow and
    datasets, else `consent`, else 403 `consent-needed`.

    `digest`: refuse (409) unless the catalogue has this very version. `tags`: the caller's own words, shown again.
    """

    workflow: WorkflowName
    datasets: list[DatasetId] = Field(min_length=1, max_length=MAX_DATASETS)
    parameters: StartParameters = Field(default_factory=dict)
    digest: Digest | None = None
    grant: GrantId | None = None
    consent: Consent | None = None
    tags: Tags = Field(default_factory=dict)


class StartCheck(Strict):
    """`POST /v1/preflight`: the same as a start, and nothing starts."""

    workflow: WorkflowName
    datasets: list[DatasetId] = Field(min_length=1, max_length=MAX_DATASETS)
    parameters: StartParameters = Field(default_factory=dict)


class NodeCheck(Answer):
    """One node of a start: up or not, the caller's access to its datasets, and what the node itself says, where it can
    be asked (`answer`: admitted or the reason, queue, expected time).
    """

    node: NodeId
    state: NodeState
    datasets: list[DatasetEntry] = Field(default_factory=list)
    ready: bool
    sentence: str = ""
    answer: NodePreflight | None = None


class StartChecked(Answer):
    """`ready`: a start would be admitted as far as centre and nodes can tell. `mistakes`: what is wrong with the
    parameters, one sentence each. `grants`: the caller's grants that cover it; none: give consent first.
    """

    ready: bool
    mistakes: list[str] = Field(default_factory=list)
    nodes: list[NodeCheck] = Field(default_factory=list)
    unknown_datasets: list[str] = Field(default_factory=list)
    grants: list[GrantId] = Field(default_factory=list)
    sentence: str = ""


class RunLinks(Answer):
    """Paths of this server, for the caller's own token. `airflow`: the run's page there, for people with a login."""

    self: str
    jobs: str
    results: str
    crate: str
    airflow: str | None = None


class RunSummary(Answer):
    """A run in a list. `state` and `sentence`: how it stands, and why, in one sentence fit for a person.

    `by`: who started it (`api`, `wes`, `schedule`, `airflow`). `stop_requested_at`: when its user asked that it ends.
    """

    id: RunId
    workflow: str
    title: str = ""
    version: str = ""
    digest: str = ""
    state: RunStanding
    sentence: str
    datasets: list[str]
    tags: dict[str, str] = Field(default_factory=dict)
    by: Literal["api", "wes", "schedule", "airflow"] = "api"
    created_at: float
    ended_at: float | None = None
    stop_requested_at: float | None = None


class RunEntry(RunSummary):
    """`GET /v1/runs/{id}`. `nodes` are empty until the run is admitted. `jobs_done` of `jobs_total` over all nodes.

    `waiting_for`: what it waits for (`review at node-a`); `next_step`: what its user can do now.
    """

    parameters: dict[str, Any] = Field(default_factory=dict)
    attempt: int = 1
    nodes: list[NodeProgress] = Field(default_factory=list)
    jobs_done: int = 0
    jobs_total: int = 0
    waiting_for: list[str] = Field(default_factory=list)
    next_step: str = ""
    links: RunLinks


class RunPage(Answer):
    """Newest first. `next_page_token` is empty on the last page."""

    runs: list[RunSummary]
    next_page_token: str = ""


class RunStarted(Answer):
    """The answer of a start, also of one that was sent again with the same Idempotency-Key (`repeated`)."""

    id: RunId
    state: RunStanding
    sentence: str
    grant: GrantId | None = None
    repeated: bool = False
    links: RunLinks


class RunJobs(Answer):
    """`GET /v1/runs/{id}/jobs?after=`: the jobs of which there is news since event number `after`; the later word of a
    job counts. Ask again with `next_after`, at once where there is `more`. Where nothing is new, `nodes` and `rules`
    are empty: they are as they were.
    """

    run: RunId
    attempt: int
    state: RunStanding
    sentence: str
    nodes: list[NodeProgress] = Field(default_factory=list)
    rules: list[RuleProgress] = Field(default_factory=list)
    jobs: list[Job] = Field(default_factory=list)
    next_after: int = 0
    more: bool = False


class ResultFile(Answer):
    """A file of the results: `url` is a path of this server; `bytes` its size."""

    name: Text
    title: str = ""
    bytes: int | None = None
    media_type: str = "application/octet-stream"
    url: str


class ReleaseEntry(Answer):
    """What left a node. `released` and `withheld` count `unit`s; `withheld` is None where it is not told. `verified`:
    the node's signature was checked just now, else `verdict` says why it is not proven. `cohort`: whose numbers these
    are, as the node says; None where its datasets have no epoch.
    """

    node: NodeId
    name: str
    title: str = ""
    kind: str = ""
    unit: str = "row"
    released: int = 0
    withheld: int | None = None
    reasons: dict[str, int] = Field(default_factory=dict)
    verified: bool = False
    verdict: str = ""
    cohort: CohortChoice | None = None
    file: ResultFile | None = None


class RunResults(Answer):
    """`GET /v1/runs/{id}/results`. `answer`: the merged answer as its kind shows it (`columns`, `rows`, `total`, …);
    None where nothing was gathered (yet), and `sentence` says why.
    """

    run: RunId
    state: RunStanding
    sentence: str
    files: list[ResultFile] = Field(default_factory=list)
    releases: list[ReleaseEntry] = Field(default_factory=list)
    answer: dict[str, Any] | None = None
    crate: str | None = None
    notes: list[str] = Field(default_factory=list)
