"""The descriptors of the node's datasets: YAML files in one folder, each read again when it changes. A dataset without
a good one is not served.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gdi.contracts.descriptor import Descriptor
from gdi.kit.models import load_model
from gdi.kit.problem import ProblemError

log = logging.getLogger(__name__)
MAX_FILES = 10_000
SUFFIXES = (".yaml", ".yml", ".json")


class DescriptorError(Exception):
    """A descriptor is wrong: names file and field."""


@dataclass
class _File:
    stamp: tuple[int, int, int]
    descriptor: Descriptor | None = None
    problem: str = ""


@dataclass
class Descriptors:
    """The descriptors in force. A file that got a mistake keeps its last good content; one that never was good serves
    nothing. Where two files describe one id, neither does. `problem` says what is wrong, empty where nothing is.
    """

    folder: Path
    _files: dict[str, _File] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._look()

    @property
    def problem(self) -> str:
        """All of them in one line."""
        return "; ".join(self.problems())

    def problems(self) -> list[str]:
        """File and field of each mistake."""
        self._look()
        return [one.problem for one in self._files.values() if one.problem] + self._twins()

    def all(self) -> list[Descriptor]:
        """Those in force, by dataset."""
        self._look()
        found: dict[str, list[Descriptor]] = {}
        for one in self._files.values():
            if one.descriptor is not None:
                found.setdefault(one.descriptor.dataset, []).append(one.descriptor)
        return [found[dataset][0] for dataset in sorted(found) if len(found[dataset]) == 1]

    def of(self, dataset: str) -> Descriptor | None:
        """The dataset's descriptor: its own, else that of the longest prefix."""
        return find(self.all(), dataset)

    def required(self, dataset: str) -> Descriptor:
        """The same. ProblemError 403 `dataset-not-described` where there is none."""
        found = self.of(dataset)
        if found is None:
            raise not_described(dataset)
        return found

    def _twins(self) -> list[str]:
        found: dict[str, list[str]] = {}
        for name, one in self._files.items():
            if one.descriptor is not None:
                found.setdefault(one.descriptor.dataset, []).append(name)
        return [
            f"{self.folder}: dataset: {dataset} is described by {' and '.join(names)}: by neither, until one is left"
            for dataset, names in sorted(found.items())
            if len(names) > 1
        ]

    def _look(self) -> None:
        try:
            paths = sorted(p for p in self.folder.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
        except OSError:
            paths = []
        stamps = {path.name: stamp for path in paths[:MAX_FILES] if (stamp := _stamp(path)) is not None}
        for gone in self._files.keys() - stamps.keys():
            del self._files[gone]
        for name, stamp in stamps.items():
            known = self._files.get(name)
            if known is None or known.stamp != stamp:
                self._files[name] = self._read(name, stamp, known)

    def _read(self, name: str, stamp: tuple[int, int, int], known: _File | None) -> _File:
        try:
            descriptor = read(self.folder / name)
        except DescriptorError as error:
            log.error("a descriptor is not used: %s", error)
            return _File(stamp, known.descriptor if known else None, str(error))
        log.info("dataset %s is described by %s", descriptor.dataset, self.folder / name)
        return _File(stamp, descriptor)


def find(descriptors: Sequence[Descriptor], dataset: str) -> Descriptor | None:
    """The dataset's descriptor among these: its own, else that of the longest prefix."""
    fitting = [one for one in descriptors if one.is_of(dataset)]
    return max(fitting, key=lambda one: (one.exact, len(one.dataset)), default=None)


def not_described(dataset: str) -> ProblemError:
    """403: its operator has not said what may be done with it."""
    return ProblemError(
        403,
        "dataset-not-described",
        f"The node's operator has not described the dataset {dataset}: nothing of it is served.",
        action="Ask the node's operator.",
        dataset=dataset,
    )


def read(path: Path) -> Descriptor:
    """One file. DescriptorError naming file and field."""
    return load_model(path, Descriptor, error=DescriptorError)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino
