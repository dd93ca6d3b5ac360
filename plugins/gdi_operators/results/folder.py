"""A run's results on disk: `<GDI_RESULTS_DIR>/<run id>/`, as the gather task left them. Names of files come from here,
never from a request.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gdi.contracts.gateway_api import Released
from gdi.contracts.ids import NODE_ID, RELEASE_NAME, KindName, NodeId, matches
from gdi.contracts.overlaps import counted_twice
from gdi.kit.settings import SettingsError
from gdi.releases.columns import sha256_of
from gdi.releases.registry import kinds
from gdi.releases.signature import NotProvenError, check_sha256, signing_key
from gdi.result_store.model import StoreAwayError
from gdi_operators.results.store import bring
from gdi_operators.settings import settings

ANSWER, PLOT, SUMMARY, RELEASES, WORKFLOW = "answer.tsv", "answer.png", "releases.json", "releases", "workflow"
VERSIONS = "versions"
COLUMNS, PACKED, DRAWING = "answer.parquet", "answer.tsv.gz", "answer.svg"
TITLES = {
    ANSWER: "The answer, as a table",
    COLUMNS: "The answer, as Parquet",
    PACKED: "The answer, as a compressed table",
    PLOT: "The answer, as a picture",
    DRAWING: "The same picture, for papers",
    SUMMARY: "What each node released, with its signatures",
}
MAX_SUMMARY = 16 * 1024 * 1024


class Kept(Released):
    """A release as the gather task kept it: its gateway's answer, with its node and attempt (operators/release.py).
    Results of before version 0.2 name no kind; `url` is not needed any more.
    """

    model_config = ConfigDict(extra="ignore")
    node: NodeId
    kind: KindName = "allele-counts"
    url: str = ""
    attempt: int = Field(default=1, ge=1)
    suffix: Literal["", ".json", ".tsv", ".parquet"] = ""  # empty: the kind's

    @property
    def file(self) -> str:
        kind = kinds().get(self.kind)
        return release_file(self.node, self.name, self.suffix or (kind.suffix if kind else ".json"))

    @property
    def reasons(self) -> dict[str, str]:
        """Why something is withheld, in words, by the names in `withheld`."""
        kind = kinds().get(self.kind)
        return dict(kind.reasons) if kind else {}

    @property
    def unit(self) -> str:
        """The kind's noun for what left whole or not at all."""
        kind = kinds().get(self.kind)
        return kind.unit if kind else "row"


class KeptNode(BaseModel):
    model_config = ConfigDict(extra="ignore")
    datasets: list[str]
    public_key: dict[str, Any]
    other_keys: list[dict[str, Any]] = Field(default_factory=list)


class AnswerVersion(BaseModel):
    """A version of the answer before the one that is there: its files are those of `version_file`."""

    model_config = ConfigDict(extra="ignore")
    version: int
    made_at: float | None = None
    attempt: int = 1
    nodes: list[str] = Field(default_factory=list)
    missing: dict[str, str] = Field(default_factory=dict)


class Summary(BaseModel):
    """`releases.json`. `missing`: the nodes of the run that are not in the answer, and why; `answer_version` counts
    from 1, `earlier` are the versions before.
    """

    model_config = ConfigDict(extra="ignore")
    run: str
    attempt: int
    workflow: str
    digest: str
    user: str
    datasets: list[str]
    nodes: dict[str, KeptNode]
    releases: list[Kept]
    parameters: dict[str, Any] = Field(default_factory=dict)
    title: str = ""
    version: str = ""
    answer_kind: KindName = "allele-counts"
    answer_rows: int | None = Field(default=None, ge=0)
    release_titles: dict[str, str] = Field(default_factory=dict)
    dag_id: str = ""
    dag_run_id: str = ""
    started_by: str | None = None
    opened_at: float | None = None
    gathered_at: float | None = None
    images: list[str] = Field(default_factory=list)
    software: dict[str, str] = Field(default_factory=dict)
    answer_version: int = 1
    missing: dict[str, str] = Field(default_factory=dict)
    earlier: list[AnswerVersion] = Field(default_factory=list)


def twice_in(releases: Iterable[Kept], datasets: Mapping[str, Collection[str]]) -> list[str]:
    """Whom the answer of these releases counts twice, in sentences. `datasets`: of the run, by node."""
    shared = {release.node: release.overlaps for release in releases}
    return counted_twice(shared, {node: datasets[node] for node in shared if node in datasets})


def version_file(version: int, name: str) -> str:
    """Where a file of an earlier version of the answer is kept below the run's folder."""
    return f"{VERSIONS}/{int(version)}/{name}"


def read_summary(folder: Path) -> Summary | None:
    """What lies there; None where nothing does, or what cannot be read."""
    try:
        return Summary.model_validate(json.loads((folder / SUMMARY).read_text()))
    except (OSError, ValueError):
        return None


def release_file(node: str, name: str, suffix: str = ".json") -> str:
    """Where a release is kept below the run's folder; `suffix` is its kind's. ValueError for names that are none."""
    if not (matches(NODE_ID, node) and matches(RELEASE_NAME, name)):
        raise ValueError(f"{node!r}, {name!r}: not the names of a node and a release")
    return f"{RELEASES}/{node}/{name}{suffix}"


@dataclass(frozen=True)
class Proof:
    verified: bool
    verdict: str = ""


@dataclass(frozen=True)
class Results:
    """What is there. `summary` is None where nothing was gathered (yet); `broken` says what cannot be read."""

    folder: Path
    summary: Summary | None = None
    broken: str = ""

    def files(self) -> dict[str, Path]:
        """Everything that may be taken away, by its name below the folder."""
        names = [*TITLES, *(r.file for r in (self.summary.releases if self.summary else [])), *self.earlier_files()]
        return {name: path for name in names if (path := self.folder / name).is_file() and not path.is_symlink()}

    def earlier_files(self) -> dict[str, str]:
        """The files of earlier versions, with their titles."""
        return {
            version_file(one.version, name): f"{title} (version {one.version})"
            for one in (self.summary.earlier if self.summary else [])
            for name, title in TITLES.items()
            if (self.folder / version_file(one.version, name)).is_file()
        }

    def proofs(self, keys: Mapping[str, Mapping[str, Any]]) -> dict[str, Proof]:
        """Every release's bytes against its node's signature, by the release's file. `keys`: the nodes' public keys as
        the broker has them.

        Blocking: reads a release that was not read before. Where the broker names no key for a node, the one kept with
        the results is used.
        """
        found = {}
        for release in self.summary.releases if self.summary else []:
            node = self.summary.nodes.get(release.node) if self.summary else None
            key = keys.get(release.node) or (node.public_key if node else None)
            if key is not None:  # the broker's word and a key that the plan had beside it
                key = signing_key(release.signature, [key, *(node.other_keys if node else [])])
            found[release.file] = (
                self._prove(release, dict(key)) if key else Proof(False, f"no public key of {release.node} is known")
            )
        return found

    def _prove(self, release: Kept, key: dict[str, Any]) -> Proof:
        assert self.summary is not None
        path = self.folder / release.file
        try:
            state = path.stat()
        except OSError:
            return Proof(False, "the released bytes were not kept here")
        of = self.summary
        return _prove(
            path,
            state.st_mtime_ns,
            state.st_size,
            release.model_dump_json(),
            json.dumps(key),
            of.run,
            of.digest,
            of.workflow,
            of.attempt,
        )


@lru_cache(maxsize=256)
def _prove(
    path: Path, _changed: int, _size: int, release: str, key: str, run: str, digest: str, workflow: str, attempt: int
) -> Proof:
    try:
        check_sha256(
            sha256_of(path),
            json.loads(release),
            public_key=json.loads(key),
            run=run,
            digest=digest,
            workflow=workflow,
            attempt=attempt,
        )
    except (NotProvenError, OSError) as error:
        return Proof(False, str(error))
    return Proof(True)


def find(run: str) -> Results:
    """The run's results. Blocking: reads a small file."""
    base = settings().results_dir
    if base is None:
        return Results(
            Path("/nonexistent"),
            broken="GDI_RESULTS_DIR is not set for this api-server: it cannot show results. Tell the operator.",
        )
    folder = base / run
    file = folder / SUMMARY
    try:
        bring(run, folder)
    except (StoreAwayError, SettingsError) as error:
        if not file.is_file():
            return Results(folder, broken=f"The results cannot be had now: {error}. Try again, or tell the operator.")
    try:
        if file.stat().st_size > MAX_SUMMARY:
            return Results(folder, broken=f"{SUMMARY} is larger than {MAX_SUMMARY} bytes and was not read.")
        return Results(folder, Summary.model_validate(json.loads(file.read_text())))
    except FileNotFoundError:
        return Results(folder)
    except (OSError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        return Results(folder, broken=f"{SUMMARY} cannot be read ({type(error).__name__}): clear the task gather.")
