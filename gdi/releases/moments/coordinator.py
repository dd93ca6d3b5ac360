"""The coordinator's half of `moments`: pools the nodes' groups, writes the answer, draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gdi.releases.answer import Column
from gdi.releases.kind import CoordinatorHalf, Size
from gdi.releases.moments import merge
from gdi.releases.moments.merge import MergedGroup, ReleasedMoments

WHOLE, TEXTS = ("NODES", "N"), ("VARIABLE", "COLUMN_1", "LEVEL_1", "COLUMN_2", "LEVEL_2", "REASON")


class MomentsCoordinator(CoordinatorHalf[ReleasedMoments, list[MergedGroup]]):
    columns = tuple(Column(name, int if name in WHOLE else str if name in TEXTS else float) for name in merge.COLUMNS)

    def read(self, node: str, file: Path) -> ReleasedMoments:
        return merge.parse(node, file.read_bytes())

    def merge(self, releases: Mapping[str, ReleasedMoments], nodes: Sequence[str]) -> list[MergedGroup]:
        return merge.merge(releases, nodes)

    def size(self, answer: list[MergedGroup]) -> Size:
        return Size(len(answer), sum(bool(one.reason) for one in answer))

    def write_table(self, answer: list[MergedGroup], file: Path) -> None:
        with file.open("w", encoding="utf-8") as out:
            out.write("\t".join(merge.COLUMNS) + "\n")
            out.writelines(merge.table_line(one) + "\n" for one in answer)

    def draw(self, answer: list[MergedGroup], file: Path, *, title: str, nodes: Sequence[str]) -> None:
        from gdi.releases.moments import figure  # matplotlib: only when a picture is drawn

        figure.draw(answer, file, title=title, nodes=nodes)
