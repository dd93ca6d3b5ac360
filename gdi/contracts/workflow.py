"""A catalogue entry: what `workflow.yaml` and `rules.lock` say. workflow_files.py reads them from a folder.

`rules.lock` names the rules in their order; it is made by `gdi workflow lock` and tells about the workflow, so it is no
part of the digest.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from gdi.contracts import data_use
from gdi.contracts.cohorts import PARAMETER as COHORT
from gdi.contracts.cohorts import PARTS, CohortPart, WrongCohortError, chosen
from gdi.contracts.ids import Digest, KindName, ReleaseName, RuleName, WorkflowName
from gdi.contracts.ids import RelativePath as RelativePath
from gdi.contracts.parameters import mistakes
from gdi.contracts.rounds import RoundsDeclaration
from gdi.kit.models import Strict

SHARED = (data_use.PARAMETER, COHORT)  # parameters of any workflow
RESERVED = ("ticket", "grant", "datasets", "pod", "nodes", *SHARED)
MAX_RULES = 500


class CatalogueError(Exception):
    """A bad entry: names the file and the field."""


class Release(Strict):
    """A file that the workflow asks to release. `path` is relative to the workspace. `kind` names the kind of release:
    its format, the node's check, and how the releases of several nodes become one answer, which `merge: false` leaves
    out.

    `schema_file`: a JSON Schema (2020-12) beside the Snakefile, which `gdi workflow check` compares with the kind.
    `review: true` asks every node that a person looks before it leaves; a node's own policy may ask for that by itself.
    `levels`: a folder where the workflow writes the same of every level of a split, when a run asks for one: each file
    is named by the level's place among all, in their order, from 0, and ends as `path` does.

    Before version 0.2 `kind` was named `check`, and `gather` named it again where releases were merged.
    """

    name: ReleaseName
    title: str = Field(max_length=200)
    path: RelativePath
    kind: KindName
    schema_file: RelativePath | None = None
    merge: bool = True
    review: bool = False
    levels: RelativePath | None = None

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, value: object) -> object:
        if not isinstance(value, dict) or "check" not in value or "kind" in value:
            return value
        warnings.warn(
            "workflow.yaml: a release's `check` and `gather` are named `kind` now: rename them.",
            FutureWarning,
            stacklevel=2,
        )
        new = dict(value)
        kind, gather = new.pop("check"), new.pop("gather", None)
        if gather not in (None, kind):
            raise ValueError(f"gather must be {kind}, or not be given")
        return {**new, "kind": kind, "merge": gather is not None}


class Needs(Strict):
    images: list[str] = Field(default_factory=list, max_length=50)
    cpu_cores: int = Field(default=1, ge=1, le=256)
    ram_gb: float = Field(default=1, gt=0, le=2048)
    disk_gb: float = Field(default=1, gt=0, le=100_000)


class Workflow(Strict):
    """The content of `workflow.yaml`. `parameters` is a JSON Schema object: `{name: schema}`, each schema with a title
    and, unless required, a default. `cohorts`: the parts of an epoch's people that it can analyse by themselves, where
    a run names one (`config["cohort"]`); every workflow analyses everybody. `filters`: it counts only genotypes that an
    epoch's filter lets count (`config["described"]`), or reads none.
    """

    name: WorkflowName
    title: str = Field(max_length=200)
    description: str = Field(default="", max_length=20_000)
    version: str = Field(max_length=50)
    parameters: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")], dict[str, Any]] = Field(
        default_factory=dict
    )
    required: list[str] = Field(default_factory=list)
    needs: Needs = Field(default_factory=Needs)
    releases: list[Release] = Field(default_factory=list, max_length=20)
    cohorts: list[CohortPart] = Field(default_factory=list, max_length=len(PARTS))
    rounds: RoundsDeclaration | None = None
    filters: bool = False

    @model_validator(mode="after")
    def _levels(self) -> Workflow:
        if ("level" in self.cohorts) != any(release.levels for release in self.releases):
            raise ValueError("cohorts has level where a release has levels, the folder of every level's file")
        return self

    @field_validator("parameters")
    @classmethod
    def _schemas(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        import jsonschema  # here: who only carries workflows has no need of it

        for name, schema in value.items():
            if name in RESERVED:
                raise ValueError(f"{name} is a reserved parameter name")
            try:
                jsonschema.Draft202012Validator.check_schema(schema)
            except jsonschema.SchemaError as error:
                raise ValueError(f"{name} is not a JSON Schema: {error.message}") from None
        return value

    def schema_of_parameters(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": self.parameters,
            "required": self.required,
            "additionalProperties": False,
        }

    def check_parameters(self, values: dict[str, Any]) -> list[str]:
        """What is wrong with `values`, one sentence each; empty where nothing is. `purpose` and `cohort` may be among
        them, of any workflow (`gdi.contracts.data_use`, `cohorts`).
        """
        own = {name: value for name, value in values.items() if name not in SHARED}
        wrong = mistakes(self.schema_of_parameters(), own)
        wrong += self.check_cohort(values.get(COHORT))
        try:
            data_use.purposes(values.get(data_use.PARAMETER))
        except data_use.WrongPurposeError as error:
            wrong.append(str(error))
        return wrong

    def check_cohort(self, value: Any) -> list[str]:
        """What is wrong with a run's `cohort`, which may be any JSON: not one, or not one that this workflow takes."""
        try:
            part = chosen(value).part
        except WrongCohortError as error:
            return [str(error)]
        if part is None or part in self.cohorts:
            return []
        takes = f"only a cohort by {' or '.join(self.cohorts)}" if self.cohorts else "no cohort but everybody"
        return [f"{COHORT}: {self.name} takes {takes}"]


class RulesLock(Strict):
    """The content of `rules.lock`: the rules that have jobs, in the order in which the Snakefile declares them, as
    Snakemake `snakemake` read them.
    """

    format: Literal["gdi-rules/1"] = "gdi-rules/1"
    digest: Digest
    snakemake: str = Field(max_length=50)
    rules: list[RuleName] = Field(max_length=MAX_RULES)

    @field_validator("rules")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("a rule is named twice")
        return value

    def text(self) -> str:
        """The file as it is kept: one rule a line, so that a change reads well in a diff."""
        head = "# Made by `gdi workflow lock`; not to be edited. Airflow shows a task for each of these rules.\n"
        fields = f'format: {self.format}\ndigest: {self.digest}\nsnakemake: "{self.snakemake}"\n'
        return (
            head
            + fields
            + ("rules:\n" + "".join(f'  - "{name}"\n' for name in self.rules) if self.rules else "rules: []\n")
        )


class CatalogueEntry(BaseModel):
    """A workflow on disk: its folder, its model and its digest (`sha256:<hex>` over names and contents of all files, in
    order).

    `lock` is what rules.lock says, None where there is none; `stale` where it was made for other files than those that
    lie there now.
    """

    folder: Path
    workflow: Workflow
    digest: str
    files: list[str]
    lock: RulesLock | None = None

    @property
    def stale(self) -> bool:
        return self.lock is not None and self.lock.digest != self.digest
