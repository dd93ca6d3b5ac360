"""What is shown of an answer of allele counts in columns: sums over all rows, and some of the rows, evenly taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from gdi.releases.allele_counts.column_merge import AlleleCountsMerge
from gdi.releases.allele_counts.merge import BINS, MAX_POINTS, MergedCounts
from gdi.releases.answer import Page
from gdi.releases.columns import FIRST_ROWS

MAX_DRAWN = 50_000  # rows of the picture
_NAMES = ("CHROM", "POS", "REF", "ALT", "AC_MIN", "AC_MAX", "AN_MIN", "AN_MAX", "NODES", "REASON")


class AlleleCountsAnswer(AlleleCountsMerge):
    place = ("CHROM", "POS")

    def draw(self, answer: Path, file: Path, *, title: str, nodes: Sequence[str]) -> None:
        from gdi.releases.allele_counts import figure  # matplotlib: only when a picture is drawn

        rows, total = _evenly(answer, MAX_DRAWN)
        drawn = []
        for chrom, pos, ref, alt, ac_min, ac_max, an_min, an_max, exact, why in rows.select(_NAMES).iter_rows():
            reasons = tuple(why.split(",")) if why else ()
            names = tuple(nodes[:exact])
            drawn.append(MergedCounts(chrom, pos, ref, alt, (ac_min, ac_max), (an_min, an_max), names, reasons))
        figure.draw(drawn, file, title=title, nodes=nodes, of=total)

    def page(self, answer: Path) -> Page:
        """As `AlleleCountsCoordinator.page`, over all rows."""
        c = pl.col
        hidden = c("AC").is_null() | c("AN").is_null()
        missing = hidden & (c("REASON") == "missing") & (c("NODES") == 0)
        try:
            whole = pl.scan_parquet(answer)
            sums = whole.select(pl.len(), hidden=hidden.sum(), missing=missing.sum()).collect()
            bins = whole.select(bin=(c("AF") * BINS).floor().clip(0, BINS - 1).cast(pl.Int32)).drop_nulls()
            counts = dict(bins.group_by("bin").agg(pl.len()).collect().iter_rows())
            points, _ = _evenly(answer, MAX_POINTS)
            first = whole.head(FIRST_ROWS).collect()
        except pl.exceptions.PolarsError as error:
            raise ValueError("the answer cannot be read") from error
        page = Page(first.columns, [list(row) for row in first.iter_rows()], sums["len"][0])
        page.withheld = sums["hidden"][0] - sums["missing"][0]
        histogram = [int(counts.get(step, 0)) for step in range(BINS)]
        page.drawing = {"missing": sums["missing"][0], "histogram": histogram}
        page.drawing["points"] = [list(row) for row in points.select("CHROM", "POS", "AF").iter_rows()]
        return page


def _evenly(answer: Path, most: int) -> tuple[pl.DataFrame, int]:
    """At most `most` rows, every n-th, and how many there are."""
    whole = pl.scan_parquet(answer)
    total = int(whole.select(pl.len()).collect().item())
    return whole.gather_every(max(1, -(-total // most))).collect(), total
