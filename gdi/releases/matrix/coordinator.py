"""The coordinator's half of `matrix`: adds the nodes' sums, computes the regression, writes and draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gdi.releases.answer import Column
from gdi.releases.kind import CoordinatorHalf, Size
from gdi.releases.matrix import merge
from gdi.releases.matrix.merge import FittedTerm, Released

WHOLE, TEXTS = ("NODES", "N"), ("OUTCOME", "TERM", "LEVEL", "REASON")


class MatrixCoordinator(CoordinatorHalf[Released, list[FittedTerm]]):
    columns = tuple(Column(name, int if name in WHOLE else str if name in TEXTS else float) for name in merge.COLUMNS)

    def read(self, node: str, file: Path) -> Released:
        return merge.parse(node, file.read_bytes())

    def merge(self, releases: Mapping[str, Released], nodes: Sequence[str]) -> list[FittedTerm]:
        return merge.merge(releases, nodes)

    def size(self, answer: list[FittedTerm]) -> Size:
        return Size(len(answer), sum(one.estimate is None for one in answer))

    def write_table(self, answer: list[FittedTerm], file: Path) -> None:
        with file.open("w", encoding="utf-8") as out:
            out.write("\t".join(merge.COLUMNS) + "\n")
            out.writelines(merge.table_line(one) + "\n" for one in answer)

    def draw(self, answer: list[FittedTerm], file: Path, *, title: str, nodes: Sequence[str]) -> None:
        from gdi.releases.matrix import figure  # matplotlib: only when a picture is drawn

        figure.draw(answer, file, title=title, nodes=nodes)
