"""What the gateway answers outside TES: releases, a run's files and datasets, the end of an attempt. The coordinator
and Snakemake read it. Times are seconds since the epoch (UTC).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, Field

from gdi.contracts.cohorts import CohortChoice, EpochCohorts, PeopleTable
from gdi.contracts.descriptor import Assembly, DataFile, Level
from gdi.contracts.ids import (
    DatasetId,
    Digest,
    KindName,
    Label,
    RelativePath,
    ReleaseName,
    RunId,
    Sha256,
    WorkflowName,
)
from gdi.contracts.overlaps import Shared
from gdi.kit.models import Strict

ReviewState = Literal["awaiting-review", "published", "refused", "unknown"]
WAITING: ReviewState = "awaiting-review"
Count = Annotated[int, Field(ge=0)]


class ReleaseRequest(BaseModel):
    """`POST /releases/{run}`: publish the workspace file `path` as `name`, after the check of its kind. Before version
    0.2 `kind` was named `check`. `cohort`: whose numbers these are, the newest epoch's whole unless it says more.
    `review`: the workflow asks that a person looks, whatever the node's policy says. `levels`: where the cohort is a
    level of a split, the file of every other level, by its name: all of them leave, or none does. `levels_in`: the
    folder where they lie instead, named by their place among all levels, in order: the node knows which there are.
    """

    name: ReleaseName
    path: RelativePath
    kind: KindName = Field(validation_alias=AliasChoices("kind", "check"))
    workflow: WorkflowName | None = None
    digest: Digest | None = None
    attempt: Annotated[int, Field(ge=1)] | None = None
    review: bool = False
    cohort: CohortChoice = CohortChoice()
    levels: dict[Level, RelativePath] = Field(default_factory=dict, max_length=1000)
    levels_in: RelativePath | None = None


class Released(BaseModel):
    """The answer of `POST /releases/{run}` (200): what was published. `sha256` and `bytes` of the published file, which
    lies at `url`; `signature` is the node's `release+jwt`. `sites_withheld` and `withheld`, by reason: rounded
    to 1,000; None and empty of fewer than 10,000 sites. `cohort`: whose numbers these are, with each epoch's number.
    `overlaps`: datasets elsewhere that have some of the same people, as the datasets' descriptors say.
    """

    name: ReleaseName
    kind: KindName | None = None  # not told by gateways before version 0.2
    sha256: Sha256
    bytes: Count = 0
    url: Annotated[str, Field(max_length=500)]
    signature: Annotated[str, Field(max_length=4000)]
    sites_released: Count = 0
    sites_withheld: Count | None = None
    withheld: dict[str, int] = Field(default_factory=dict)
    # Not told by gateways before version 0.3, whose readers know no such field.
    cohort: CohortChoice | None = Field(default=None, exclude_if=lambda cohort: cohort is None)
    overlaps: Shared = Field(default_factory=list, exclude_if=lambda overlaps: not overlaps)


class ObjectFile(BaseModel):
    """The answer of `GET /drs/{url}`: which file of a dataset a DRS object is (`url`: `sda://DATASET/path`), its size
    in bytes after decryption, and when it changed, where the archive says so.
    """

    url: Annotated[str, Field(max_length=2000)]
    size: Count
    modified: float | None = None


class AwaitingReview(BaseModel):
    """The answer of `POST /releases/{run}` (202): a person of the node looks first. No checksum: it would tell whether
    a guess of the content is right.
    """

    status: Literal["awaiting-review"] = "awaiting-review"
    name: ReleaseName


class Review(BaseModel):
    """`GET /releases/{run}/{name}/review`: how the latest release of that name stands."""

    state: ReviewState


class RoundTask(Strict):
    """`POST /rounds/{run}` by the node's own agent: one round, computed by the node's TES in `image`. `scripts`: those
    of the workflow, by name; `script` is run; `people`: a file of the run's workspace; `broadcast`: the question as it
    is signed and kept. `try_`: another after one that was lost. The same again changes nothing.
    """

    number: int = Field(ge=1, le=100)
    try_: int = Field(default=1, ge=1, le=5)
    image: str = Field(min_length=1, max_length=300)
    scripts: dict[RelativePath, Annotated[str, Field(max_length=256 * 1024)]] = Field(min_length=1, max_length=20)
    script: RelativePath
    people: RelativePath
    broadcast: str = Field(max_length=64 * 1024)
    ram_gb: float = Field(default=1, gt=0, le=64)


class RoundProgress(BaseModel):
    """The answer: the state of the round's task at the TES; `path`, below the run, is where its file will lie."""

    state: str
    path: RelativePath


class CloseAttempt(Strict):
    """`POST /runs/{run}/close`: the attempt ends; its live tasks are cancelled, its capabilities end."""

    attempt: int = Field(ge=1, le=10_000)


class Closed(BaseModel):
    """The answer: how many tasks were cancelled."""

    run: RunId
    attempt: int
    cancelled: Count = 0


AGENT_TYPE = "node-agent+jwt"  # `typ` of what the node's own agent shows its gateway, signed by the node's key


class GatewayHealth(Strict):
    """`GET /health`, for the node's own agent: how the gateway last saw its parts (`tes`, `archive`, `storage`,
    `database` …), in the node's own words: `ok`, `away`, `not as it should be`.
    """

    checks: dict[Label, Label] = Field(max_length=18)


class StoredFile(BaseModel):
    """A file of a run's workspace: `path` below the run, `size` in bytes, `mtime` of its last change. `folder`: a
    folder that a task declared, whose files stay untold; its size is 0.
    """

    path: str
    size: Count
    mtime: float
    folder: bool = False


class WorkspaceListing(BaseModel):
    """A page of `GET /workspace/{run}`; `next_page_token` is empty on the last one."""

    files: list[StoredFile]
    next_page_token: str = ""


class Described(BaseModel):
    """What Snakefiles see as `config["described"][dataset]`. `people`: how the sample table tells who is in a cohort;
    `epochs`: the cohorts that are open.
    """

    assembly: Assembly
    absent: Literal["reference", "unknown"] = "unknown"
    files: list[DataFile] = Field(default_factory=list, max_length=100_000)
    samples: RelativePath | None = None
    people: PeopleTable | None = None
    epochs: list[EpochCohorts] = Field(default_factory=list, max_length=1000)


class Datasets(BaseModel):
    """`GET /datasets`: those of the run at this node, and of each what its descriptor says that an analysis needs to
    know before it reads (`{}` from gateways before version 0.3).
    """

    datasets: list[DatasetId]
    described: dict[DatasetId, Described] = Field(default_factory=dict)
