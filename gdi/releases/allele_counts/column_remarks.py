"""What a person should look at before a large release leaves: the sentences of `remarks`, gathered batch by batch."""

from __future__ import annotations

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
        rows = (
            judged.lazy()
            .filter("listed")
            .with_columns(
                name=pl.format("{}:{} {}>{}", "chrom", "pos", pl.col("ref").str.head(20), pl.col("alt").str.head(20)),
                fewest=pl.min_horizontal("carriers", "others"),
                letters=pl.max_horizontal(pl.col("ref").str.len_bytes(), pl.col("alt").str.len_bytes()),
                exact=pl.col("ac_min") == pl.col("ac_max"),
            )
        )
        exact = rows.filter("exact")
        near = exact.select("fewest", "name").bottom_k(NEAREST, by="fewest").collect()
        self._nearest = sorted([*self._nearest, *near.iter_rows()])[:NEAREST]
        chroms = rows.select(pl.col("chrom").unique()).collect()["chrom"]
        self._strange |= {name for name in chroms if contig(name) not in CHROMOSOMES}
        long = rows.filter(pl.col("letters") > LONG).select("name", "letters").head(NEAREST).collect()
        self._long += [f"{name}: an allele of {letters} letters" for name, letters in long.iter_rows()]
        same = pl.struct("ac_min", "an_min", "an_max").rle_id()
        runs = exact.group_by(run=same).agg(pl.len(), pl.col("name").first(), pl.col("ac_min").first())
        for _, count, name, ac in (
            runs.filter(pl.col("len") >= IN_A_ROW).sort("run").head(NEAREST).collect().iter_rows()
        ):
            self._alike.append(f"{count} alleles in a row from {name} have AC {ac}")

    def sentences(self) -> list[str]:
        """At most MOST."""
        found = [
            f"{name}: {fewest} people carry its rarer allele; the floor is {self._floor}"
            for fewest, name in self._nearest
        ]
        found += [f"the contig {name} is no chromosome" for name in sorted(self._strange)[:NEAREST]]
        return [*found, *self._long[:NEAREST], *self._alike][:MOST]
