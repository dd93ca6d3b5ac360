"""The coordinator's half of `variant-statistics`: the meta-analysis, its table, its Manhattan and QQ plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gdi.releases.answer import Column
from gdi.releases.kind import CoordinatorHalf, Size
from gdi.releases.variant_statistics import merge
from gdi.releases.variant_statistics.merge import MergedVariant, NodeStatistics

TEXTS, WHOLE = ("CHROM", "REF", "ALT", "DIRECTION"), ("POS", "NODES", "N")


class VariantStatisticsCoordinator(CoordinatorHalf[NodeStatistics, list[MergedVariant]]):
    columns = tuple(Column(name, str if name in TEXTS else int if name in WHOLE else float) for name in merge.COLUMNS)

    def read(self, node: str, file: Path) -> NodeStatistics:
        return merge.parse(node, file)

    def merge(self, releases: Mapping[str, NodeStatistics], nodes: Sequence[str]) -> list[MergedVariant]:
        return merge.merge(releases, nodes)

    def size(self, answer: list[MergedVariant]) -> Size:
        return Size(len(answer), sum("?" in one.direction for one in answer))

    def write_table(self, answer: list[MergedVariant], file: Path) -> None:
        with file.open("w", encoding="utf-8") as out:
            out.write("\t".join(merge.COLUMNS) + "\n")
            out.writelines(merge.table_line(one) + "\n" for one in answer)

    def draw(self, answer: list[MergedVariant], file: Path, *, title: str, nodes: Sequence[str]) -> None:
        from gdi.releases.variant_statistics import figure  # matplotlib: only when a picture is drawn

        figure.draw(answer, file, title=title, nodes=nodes)
