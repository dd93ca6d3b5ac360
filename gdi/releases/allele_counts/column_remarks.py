"""What a person should look at before a large release leaves: the sentences of `remarks`, gathered batch by batch."""

from __future__ import annotations

import numpy as np
import polars as pl

from gdi.releases.allele_counts.remarks import IN_A_ROW, LONG, MOST, NEAREST
from gdi.releases.disclosure.variants import CHROMOSOMES, contig
from gdi.releases.kind import Rules


class ColumnRemarks:
    """`add` sees each batch of judged rows in order. Equal numbers in a row are seen within a batch."""

    def __init__(self, rules: Rules) -> None:
        self._floor = rules.floor
        self._nearest: list[tuple[int, str]] = []
        self._strange: set[str] = set()
        self._long: list[str] = []
        self._alike: list[str] = []

    def add(self, judged: pl.DataFrame) -> None:
        name = pl.format("{}:{} {}>{}", "chrom", "pos", pl.col("ref").str.head(20), pl.col("alt").str.head(20))
        letters = pl.max_horizontal(pl.col("ref").str.len_bytes(), pl.col("alt").str.len_bytes())
        rows = judged.filter("listed")
        exact = rows.filter(pl.col("ac_min") == pl.col("ac_max"))
        fewest = pl.min_horizontal("carriers", "others").alias("fewest")
        least = exact.select(fewest.bottom_k(NEAREST).max()).item() or 0  # names are written of few rows only
        near = exact.filter(fewest < least).vstack(exact.filter(fewest == least).head(NEAREST))
        found = near.select(fewest, name.alias("name"))
        self._nearest = sorted([*self._nearest, *found.iter_rows()])[:NEAREST]
        self._strange |= {chrom for chrom in rows["chrom"].unique() if contig(chrom) not in CHROMOSOMES}
        long = rows.filter(letters > LONG).head(NEAREST).select(name.alias("name"), letters.alias("letters"))
        self._long += [f"{text}: an allele of {count} letters" for text, count in long.iter_rows()]
        same = pl.all_horizontal(pl.col(n) == pl.col(n).shift(1) for n in ("ac_min", "an_min", "an_max"))
        first = np.flatnonzero(~exact.select(same.fill_null(value=False)).to_series().to_numpy())
        counts = np.diff(first, append=len(exact))
        runs = np.flatnonzero(counts >= IN_A_ROW)[:NEAREST]
        begins = exact[first[runs]].select(name.alias("name"), "ac_min")
        for count, (text, ac) in zip(counts[runs].tolist(), begins.iter_rows(), strict=True):
            self._alike.append(f"{count} alleles in a row from {text} have AC {ac}")

    def sentences(self) -> list[str]:
        """At most MOST."""
        found = [
            f"{name}: {fewest} people carry its rarer allele; the floor is {self._floor}"
            for fewest, name in self._nearest
        ]
        found += [f"the contig {name} is no chromosome" for name in sorted(self._strange)[:NEAREST]]
        return [*found, *self._long[:NEAREST], *self._alike][:MOST]
