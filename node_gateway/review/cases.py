"""A release that awaits a person of the node, and rows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gdi.releases.registry import kinds

AT_NODE = "at_node"  # of a release's answer: what only the node's own pages show


@dataclass(frozen=True)
class Case:
    """One release that awaits a decision. `answer` is what its run is told once it is approved; `asked`: `{user,
    workflow, digest, attempt, datasets}`.
    """

    number: int
    run: str
    name: str
    key: str
    answer: dict[str, Any]
    request: dict[str, Any]
    time: float

    @property
    def sha256(self) -> str:
        return str(self.answer["sha256"])

    @property
    def kind(self) -> str:
        """The kind's name; a release from before there were several has none."""
        return str(self.answer.get("kind", "allele-counts"))

    @property
    def withheld(self) -> dict[str, int]:
        """How much the check withheld, by reason, exactly."""
        return dict(self.answer.get(AT_NODE, self.answer)["withheld"])

    @property
    def unit(self) -> str:
        """The kind's noun for what leaves whole or not at all."""
        kind = kinds().get(self.kind)
        return kind.unit if kind else "row"


@dataclass(frozen=True)
class Excerpt:
    """Some rows of a release, under its kind's columns. `unit`: the kind's noun for what leaves whole or not at all."""

    unit: str
    columns: tuple[str, ...]
    rows: list[tuple[str | int | float, ...]]
