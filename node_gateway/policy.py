"""The node's policy: what its operator lets strangers' workflows do here. A YAML file, read again when it changes; what
it does not allow is refused.
"""

from __future__ import annotations

import fnmatch
import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field, StringConstraints, model_validator

from gdi.contracts.ids import Digest, WorkflowAt
from gdi.contracts.runs import Placement
from gdi.contracts.task_errors import ErrorClass
from gdi.kit.models import Frozen, load_model
from gdi.kit.reloading_file import ReloadingFile
from gdi.releases.registry import UnknownKindError, kind_of
from gdi.visas.issuer import VisaIssuer
from node_gateway.descriptors import Descriptors
from node_gateway.workflow_policy import ApprovedBy, ApprovedVersion, Approver, Veto, WorkflowEntry

log = logging.getLogger(__name__)


CATALOGUE = ("DamagedFile", "DuplicatePeople", "SampleTableError", "TruncatedFile", "VcfFormatError")
"""Error classes of the project's own workflows."""


class PolicyError(Exception):
    """The policy file is missing or wrong: names file and field."""


def _installed(name: str) -> str:
    try:
        return kind_of(name).name
    except UnknownKindError as error:
        raise ValueError(str(error)) from None


class ReleasePolicy(Frozen):
    """Which kinds of release may leave, by name, and how large a file their checks look at (`max_bytes`, and `max_rows`
    where it has rows). `checks` is the name that `kinds` had before version 0.2; `absent` stands in the descriptors of
    datasets now.
    """

    kinds: list[Annotated[str, AfterValidator(_installed)]] = Field(
        default_factory=list, max_length=100, validation_alias=AliasChoices("kinds", "checks")
    )
    max_bytes: int = Field(default=64 * 1024 * 1024, ge=1, le=1024**3)
    max_rows: int = Field(default=400_000, ge=1, le=10_000_000)

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, value: object) -> object:
        if isinstance(value, dict) and "checks" in value:
            log.warning("The policy's key releases.checks is named releases.kinds now: rename it.")
        if isinstance(value, dict) and "absent" in value:
            log.warning("The policy's key releases.absent is not read any more: each dataset's descriptor says it.")
            return {name: one for name, one in value.items() if name != "absent"}
        return value


class Policy(Frozen):
    """`placement: node` (the default): the node's own agent starts Snakemake (docs/install.md); then `workflows` lists
    what was approved (`{name, digest}`, `{approved_by: KEY-ID}` of an `approvers` entry, `signatures` of them; `"*"`
    for any workflow, whose releases all wait for a person), an empty list admits none, `blocked` wins, `veto` names who
    is not served, and `visa_issuers` whose visas count. `progress`: what is told of jobs; `error_lines`: also lines of
    input.

    `placement: coordinator`: the coordinator starts Snakemake, and what it says of user and workflow nobody here can
    prove. So each release waits for a person and error classes are closed, unless `accept_unattested` says in words
    why the coordinator is believed.

    `images` are shell patterns (`*` matches `/` too) and nothing runs without one. `workflows` are `name` or
    `name@sha256:…`; empty allows all.

    `max_task_bytes` is of one task as it is sent (JSON), `max_run_bytes` of all tasks of a run together.

    `floor` is the fewest people that a number may be about; zero does not pass. `logs: open` lets anyone read what
    tasks print: for open data only. `review: true` lets nothing leave before one of `reviewers` (LS AAI subs) approved
    it at `/review`; a workflow may ask for the same. What nobody looked at for `review_days` is refused.
    Of a failed task of a workflow that `workflows` or `error_workflows` names, `error_classes` pass, with the line
    where `error_lines` says so; of all others `TaskFailed`. `retention_days` after a run ended its workspace is
    emptied; without it, never.
    """

    images: list[Annotated[str, Field(min_length=1, max_length=300)]] = Field(default_factory=list, max_length=1000)
    max_cpu_cores: int = Field(default=8, ge=1)
    max_ram_gb: float = Field(default=32, gt=0)
    max_disk_gb: float = Field(default=200, gt=0)
    max_inputs: int = Field(default=1000, ge=1, le=100_000)
    max_tasks_per_run: int = Field(default=20_000, ge=1)
    max_task_bytes: int = Field(default=1024 * 1024, ge=1024, le=8 * 1024 * 1024)
    max_run_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    workflows: list[WorkflowEntry] = Field(default_factory=list, max_length=10_000)
    placement: Placement = "node"
    accept_unattested: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = ""
    blocked: list[Digest] = Field(default_factory=list, max_length=10_000)
    approvers: list[Approver] = Field(default_factory=list, max_length=100)
    signatures: int = Field(default=1, ge=1, le=20)
    veto: Veto = Field(default_factory=Veto)
    visa_issuers: list[VisaIssuer] = Field(default_factory=list, max_length=100)
    progress: Literal["rules", "jobs"] = "jobs"
    error_lines: bool = False
    floor: int = Field(default=5, ge=1, le=1_000_000)
    logs: Literal["nobody", "open"] = "nobody"
    releases: ReleasePolicy = Field(default_factory=ReleasePolicy)
    error_classes: list[ErrorClass] = Field(default_factory=lambda: list(CATALOGUE), max_length=200)
    error_workflows: list[WorkflowAt] = Field(default_factory=list, max_length=10_000)
    review: bool = False
    review_days: float = Field(default=30, gt=0, le=36_500)
    retention_days: float | None = Field(default=None, ge=0, le=36_500)
    reviewers: list[Annotated[str, Field(min_length=1, max_length=255)]] = Field(default_factory=list, max_length=1000)

    @property
    def unattested(self) -> bool:
        """Whether what comes from here is somebody else's word that nobody accepted: a person looks at each release."""
        return self.placement == "coordinator" and not self.accept_unattested

    def approves(self, name: str, digest: str) -> bool:
        """Whether the workflow is one that the operator named, not one of all: its errors are told."""
        if self.unattested:
            return False
        version = ApprovedVersion(name=name, digest=digest)
        return any(one in (name, f"{name}@{digest}", version) for one in (*self.workflows, *self.error_workflows))

    def allows_image(self, image: str) -> bool:
        return any(fnmatch.fnmatchcase(image, pattern) for pattern in self.images)

    def allows_workflow(self, name: str, digest: str) -> bool:
        """Whether a task or a release of this version may come in at all. In placement `node` it was judged when its
        order was admitted (`node_gateway.agent.decision`).
        """
        if digest in self.blocked:
            return False
        if self.placement == "node" or not self.workflows:
            return True
        version = ApprovedVersion(name=name, digest=digest)
        return any(entry in self.workflows for entry in ("*", name, f"{name}@{digest}", version))

    def may_still_leave(self, name: str, digest: str) -> bool:
        """Whether the policy of now has an entry by which this version may have been approved."""
        if self.placement != "node":
            return self.allows_workflow(name, digest)
        named = ("*", f"{name}@{digest}", ApprovedVersion(name=name, digest=digest))
        return digest not in self.blocked and any(
            entry in named or isinstance(entry, ApprovedBy) for entry in self.workflows
        )


def load(path: Path) -> Policy:
    """Reads the file. PolicyError naming file and field."""
    return load_model(path, Policy, error=PolicyError)


class PolicyFile(ReloadingFile[Policy]):
    """The policy in force. A changed file takes effect at the next request; a broken one does not: the last good policy
    stays and `problem` says why. `datasets`: the descriptors beside it, in the folder `datasets` unless another is
    named.
    """

    def __init__(self, path: Path, datasets: Path | None = None) -> None:
        super().__init__(path, load, PolicyError, "policy")
        self.datasets = Descriptors(datasets or path.parent / "datasets")

    def current(self) -> Policy:
        return self.look()
