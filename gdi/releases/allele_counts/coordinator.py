"""The coordinator's half of `allele-counts`: adds the nodes' counts up, writes the table, draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gdi.releases.allele_counts import merge
from gdi.releases.allele_counts.merge import BINS, MAX_POINTS, MergedCounts, ReleasedCounts
from gdi.releases.answer import Column, Page, Value, read_page
from gdi.releases.columns import ColumnMerge
from gdi.releases.kind import CoordinatorHalf, Size


class AlleleCountsCoordinator(CoordinatorHalf[ReleasedCounts, list[MergedCounts]]):
    columns = tuple(
        Column(name, float if name == "AF" else str if name in ("CHROM", "REF", "ALT", "REASON") else int)
        for name in merge.COLUMNS
    )

    def read(self, node: str, file: Path) -> ReleasedCounts:
        return merge.parse(node, file.read_bytes())

    def merge(self, releases: Mapping[str, ReleasedCounts], nodes: Sequence[str]) -> list[MergedCounts]:
        return merge.merge(releases, nodes)

    def size(self, answer: list[MergedCounts]) -> Size:
        return Size(len(answer), sum(a.withheld for a in answer))

    def write_table(self, answer: list[MergedCounts], file: Path) -> None:
        file.write_text(merge.table(answer), encoding="utf-8")

    def draw(self, answer: list[MergedCounts], file: Path, *, title: str, nodes: Sequence[str]) -> None:
        from gdi.releases.allele_counts import figure  # matplotlib: only when a picture is drawn

        figure.draw(answer, file, title=title, nodes=nodes)

    def page(self, file: Path) -> Page:
        """`withheld`: alleles whose counts are intervals. `drawing`: `missing`, alleles where hardly anybody was
        called; `histogram`, alleles by frequency in `BINS` equal steps from 0 to 1; `points`, chromosome, position and
        frequency of at most `MAX_POINTS` alleles, evenly taken.
        """
        drawing = _Drawing()
        page = read_page(file, self.columns, drawing.add)
        page.withheld = drawing.withheld
        page.drawing = {"missing": drawing.missing, "histogram": drawing.histogram, "points": drawing.points}
        return page

    def column_merge(self) -> ColumnMerge:
        from gdi.releases.allele_counts.column_answer import AlleleCountsAnswer

        return AlleleCountsAnswer()


class _Drawing:
    def __init__(self) -> None:
        self.histogram = [0] * BINS
        self.withheld = self.missing = 0
        self.points: list[tuple[Value, Value, Value]] = []
        self._step = 1
        self._seen = 0

    def add(self, row: list[Value]) -> None:
        chrom, pos, frequency = row[0], row[1], row[6]
        if row[4] is None or row[5] is None:
            missing = row[12] == "missing" and row[7] == 0
            self.missing += missing
            self.withheld += not missing
        if isinstance(frequency, float):
            self.histogram[min(int(frequency * BINS), BINS - 1)] += 1
        if self._seen % self._step == 0:
            self.points.append((chrom, pos, frequency))
            if len(self.points) > MAX_POINTS:  # every second one from here on, also of those there
                self.points, self._step = self.points[::2], self._step * 2
        self._seen += 1
