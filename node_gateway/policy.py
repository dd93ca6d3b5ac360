"""The node's policy: what its operator lets strangers' workflows do here. A YAML file, read again when it changes; what
it does not allow is refused.
"""

from __future__ import annotations

import fnmatch
import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, StringConstraints, model_validator

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


class UnattackedRounds(Frozen):
    """Why a node serves rounds although no stranger has attacked their rules yet, in its operator's words."""

    unattacked: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=500)]


def _no_rounds(wanted: object) -> object:
    """`true` will say that they were attacked."""
    if wanted is True:
        raise ValueError(
            "rounds are not served before a stranger has attacked their rules: leave it out, or say why they are all"
            ' the same: {unattacked: "reason"}'
        )
    return wanted


class ReleasePolicy(Frozen):
    """Which kinds of release may leave, by name, and how large a file their checks look at (`max_bytes`, and `max_rows`
    where it has rows; of Parquet, which is checked as it is read, `max_parquet_bytes` and `max_parquet_rows`). `checks`
    is the name that `kinds` had before version 0.2; `absent` stands in the descriptors of datasets now. `rounds`: sums
    of products for a broadcast vector, one round after another (decision 864).
    """

    kinds: list[Annotated[str, AfterValidator(_installed)]] = Field(
        default_factory=list, max_length=100, validation_alias=AliasChoices("kinds", "checks")
    )
    max_bytes: int = Field(default=64 * 1024 * 1024, ge=1, le=1024**3)
    max_rows: int = Field(default=400_000, ge=1, le=10_000_000)
    max_parquet_bytes: int = Field(default=4 * 1024**3, ge=1, le=64 * 1024**3)
    max_parquet_rows: int = Field(default=80_000_000, ge=1, le=1_000_000_000)

    rounds: Annotated[Literal[False] | UnattackedRounds, BeforeValidator(_no_rounds)] = False

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
    """What the operator lets strangers do; each field says what it is (docs/node-settings.md is made of them). What is
    not allowed is refused.
    """

    images: list[Annotated[str, Field(min_length=1, max_length=300)]] = Field(
        default_factory=list,
        max_length=1000,
        description="shell patterns of images that tasks may run (`*` matches `/` too); nothing runs without one",
    )
    present_images: list[Annotated[str, Field(min_length=1, max_length=300)]] | None = Field(
        default=None,
        max_length=1000,
        description="shell patterns of images that are at the node, where it cannot fetch any: a run that needs another"
        " one is refused by its name before it begins; left out, all that are allowed can be had",
    )
    max_cpu_cores: int = Field(default=8, ge=1, description="of a task")
    max_ram_gb: float = Field(default=32, gt=0, description="of a task")
    max_disk_gb: float = Field(default=200, gt=0, description="of a task")
    max_inputs: int = Field(default=1000, ge=1, le=100_000, description="files of a task")
    max_tasks_per_run: int = Field(default=20_000, ge=1, description="how many")
    max_task_bytes: int = Field(
        default=1024 * 1024, ge=1024, le=8 * 1024 * 1024, description="of one task as it is sent (JSON)"
    )
    max_run_bytes: int = Field(default=256 * 1024 * 1024, ge=1024, description="of all tasks of a run together")
    workflows: list[WorkflowEntry] = Field(
        default_factory=list,
        max_length=10_000,
        description="names, `name@sha256:…`, `{name, digest}`, `{approved_by: KEY-ID}`; empty allows all in placement"
        ' `coordinator`, and none in `node`, where `"*"` is any, with review',
    )
    placement: Placement = Field(
        default="node",
        description="`node`: the node's own agent starts Snakemake (docs/install.md); `coordinator`: the centre does,"
        " and nobody here can prove what it says of user and workflow: each release waits for a person, error classes"
        " are closed",
    )
    accept_unattested: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = Field(
        default="", description="in placement `coordinator`: why its word is believed all the same, in words"
    )
    blocked: list[Digest] = Field(
        default_factory=list,
        max_length=10_000,
        description="digests of workflows that never run here; it wins over everything",
    )
    approvers: list[Approver] = Field(
        default_factory=list, max_length=100, description="keys of reviewers whose signature approves a workflow"
    )
    signatures: int = Field(default=1, ge=1, le=20, description="of how many of them")
    veto: Veto = Field(default_factory=Veto, description="who is not served: `users` (LS AAI subs), `organisations`")
    visa_issuers: list[VisaIssuer] = Field(
        default_factory=list, max_length=100, description="whose visas count in placement `node`: `{iss, jku}`"
    )
    progress: Literal["rules", "jobs"] = Field(
        default="jobs", description="what the centre is told: of each job, or of rules only"
    )
    error_lines: bool = Field(default=False, description="whether a failed task tells the line of its input")
    own_image: Annotated[str, Field(min_length=1, max_length=300)] | None = Field(
        default=None,
        description="an image with Python, by its digest, in which the node's own tasks run: the recount beside a"
        " release that waits, the list of persons; without it there are none",
    )
    floor: int = Field(
        default=5, ge=1, le=1_000_000, description="the fewest people that a number may be about; zero does not pass"
    )
    logs: Literal["nobody", "open"] = Field(
        default="nobody", description="`open` lets anyone read what tasks print: for open data only"
    )
    releases: ReleasePolicy = Field(
        default_factory=ReleasePolicy, description="which kinds may leave, and how large a file their checks look at"
    )
    error_classes: list[ErrorClass] = Field(
        default_factory=lambda: list(CATALOGUE),
        max_length=200,
        description="that a named workflow may tell of; of all others `TaskFailed`",
    )
    error_workflows: list[WorkflowAt] = Field(
        default_factory=list, max_length=10_000, description="further workflows whose error classes are told"
    )
    review: bool = Field(
        default=False,
        description="nothing leaves before one of `reviewers` approved it at `/review`; a workflow may ask"
        " for the same",
    )
    review_days: float = Field(default=30, gt=0, le=36_500, description="what nobody looked at for so long is refused")
    retention_days: float | None = Field(
        default=None, ge=0, le=36_500, description="after a run ended its workspace is emptied; without it, never"
    )
    reviewers: list[Annotated[str, Field(min_length=1, max_length=255)]] = Field(
        default_factory=list, max_length=1000, description="LS AAI subs"
    )
    committee: list[Annotated[str, Field(min_length=1, max_length=255)]] = Field(
        default_factory=list,
        max_length=1000,
        description="LS AAI subs that see uses at `/review/uses`, and stop runs and people there",
    )

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

    def has_image(self, image: str) -> bool:
        """Whether the image is there or can be fetched, as far as the operator said."""
        return self.present_images is None or any(fnmatch.fnmatchcase(image, p) for p in self.present_images)

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
