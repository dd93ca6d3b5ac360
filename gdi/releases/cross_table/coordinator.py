"""The coordinator's half of `table`: adds the nodes' tables up, writes the answer, draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gdi.releases.answer import Column
from gdi.releases.cross_table import merge
from gdi.releases.cross_table.merge import MergedCell, ReleasedTables
from gdi.releases.kind import CoordinatorHalf, Size

NUMBERS = ("PEOPLE", "NODES", "PEOPLE_MIN", "PEOPLE_MAX")


class CrossTableCoordinator(CoordinatorHalf[ReleasedTables, list[MergedCell]]):
    columns = tuple(Column(name, int if name in NUMBERS else str, counted=name == "PEOPLE") for name in merge.COLUMNS)

    def read(self, node: str, file: Path) -> ReleasedTables:
        return merge.parse(node, file.read_bytes())

    def merge(self, releases: Mapping[str, ReleasedTables], nodes: Sequence[str]) -> list[MergedCell]:
        return merge.merge(releases, nodes)

    def size(self, answer: list[MergedCell]) -> Size:
        return Size(len(answer), sum(cell.count is None for cell in answer))

    def write_table(self, answer: list[MergedCell], file: Path) -> None:
        file.write_text(merge.table(answer), encoding="utf-8")

    def draw(self, answer: list[MergedCell], file: Path, *, title: str, nodes: Sequence[str]) -> None:
        from gdi.releases.cross_table import figure  # matplotlib: only when a picture is drawn

        figure.draw(answer, file, title=title, nodes=nodes)
