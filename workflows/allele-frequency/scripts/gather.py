"""Puts the regions' counts together into the release: sites in order of first appearance, a node's datasets added up.

The counts of one dataset lie in one folder. A site is left out, and counted by its reason, where its people would count
twice, where its lines disagree about who was called, or where a dataset does not have it and nothing says that absent
means reference.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from variants import Counted, normal, why_not_one
from vcf import CLASSES, NO_ALTERNATE, VcfError, fail

NUMBERS = ("ac", "an", *CLASSES)
TEXT_ROWS = 400_000  # of a release, up to which it is JSON, which every node's policy takes
AUTOSOMES = frozenset(str(n) for n in range(1, 23))
Place = tuple[str, int, str]
Allele = tuple[str, int, str, str]  # `variants.normal`
Row = dict[str, Any]  # a JSON line of `count`


class Dataset:
    """One dataset's counts. `sites`: the rows of each (chrom, pos, ref); `withheld`: why some of them cannot count;
    `unnamed`: how many lines no release can name or count, by reason; `people`: how many, 0 where no line told.
    """

    def __init__(self) -> None:
        self.sites: dict[Place, list[Row]] = {}
        self.withheld: dict[Place, str] = {}
        self.unnamed: Counter[str] = Counter()
        self.people = 0
        self._uncounted: set[Place | Allele] = set()
        self._seen: dict[Allele, tuple[tuple[str, int], Place]] = {}

    def add(self, row: Row, part: str) -> None:
        """`part`: which of the dataset's files of counts it is of, as a line has a number of its own in each."""
        place = (row["chrom"], row["pos"], row["ref"])
        if "why" in row:
            self._add_uncounted(row, place, part)
            return
        self.sites.setdefault(place, []).append(row)
        self.people = self.people or sum(row[name] for name in CLASSES)
        if row["alt"] != NO_ALTERNATE:
            self._see((part, row["line"]), place, row["alt"])

    def _add_uncounted(self, row: Row, place: Place, part: str) -> None:
        """A line that does not count: what it has of a site or an allele is not known, which is not nothing."""
        self.unnamed[row["why"]] += 1
        self._uncounted.add(place)
        for alt in row["alts"]:
            self._uncounted.add(normal(*place, alt))
            self._see((part, row["line"]), place, alt)
        if row["why"] == "polyploid":  # the site's other lines are of other people, or of other copies
            self.withheld[place] = row["why"]

    def _see(self, line: tuple[str, int], place: Place, alt: str) -> None:
        first, before = self._seen.setdefault(normal(*place, alt), (line, place))
        if first != line:  # also where both lines write the allele in another way
            self.withheld[before] = self.withheld[place] = "duplicate-site"

    def close(self) -> None:
        """When all rows are there: which sites have rows of different people."""
        for place, rows in self.sites.items():
            alleles = [row for row in rows if row["alt"] != NO_ALTERNATE]
            self.sites[place] = alleles or rows[:1]
            if place not in self.withheld and (why := why_not_one([counted(row) for row in alleles])):
                self.withheld[place] = why
        self._seen.clear()

    def counts(self, place: Place, alt: str, *, absent_is_reference: bool) -> Mapping[str, int] | None:
        """The numbers of this allele, which nobody carries where the site is there without it; None where they cannot
        be known.
        """
        if normal(*place, alt) in self._uncounted:
            return None
        rows = self.sites.get(place)
        if rows is None:
            if place in self._uncounted:
                return None
            autosome = normal(*place, NO_ALTERNATE)[0] in AUTOSOMES  # elsewhere people have one copy or two
            if not (absent_is_reference and autosome and self.people):
                return None
            return dict.fromkeys(NUMBERS, 0) | {"an": 2 * self.people, "hom_ref": self.people}
        for row in rows:
            if row["alt"] == alt:
                return row
        one = rows[0]
        full, haploid = one["hom_ref"] + one["het"] + one["hom_alt"], one["hemi_ref"] + one["hemi_alt"]
        return {**one, "ac": 0, "hom_ref": full, "het": 0, "hom_alt": 0, "hemi_ref": haploid, "hemi_alt": 0}


def counted(row: Row) -> Counted:
    people = row["hom_ref"] + row["het"] + row["hom_alt"]
    return Counted(row["alt"], row["ac"], row["an"], people, row["half_missing"], row["missing"])


def gather(files: list[Path], reference: Collection[str] = ()) -> dict[str, Any]:
    """The release `gdi-allele-counts/1`; ends with 1 where a section was at fault, with the file's own line. `files`: a
    file's sections in order. `reference`: the folders of datasets where an absent site means reference."""
    datasets: dict[str, Dataset] = {}
    lines: Counter[str] = Counter()  # of the sections so far, by their file
    for file in files:
        dataset = datasets.setdefault(file.parent.name, Dataset())
        with file.open() as handle:
            for line in handle:
                row = json.loads(line)
                if "lines" not in row:
                    dataset.add(row, file.stem)
                    continue
                whole = f"{file.parent.name}/{file.stem.partition('.')[0]}"
                if "fault" in row:
                    fail(VcfError(row["fault"], lines[whole] + row["line"], "found while a section was counted"))
                lines[whole] += row["lines"]
    skipped: Counter[str] = Counter()
    places: dict[Place, None] = {}
    for dataset in datasets.values():
        dataset.close()
        skipped.update(dataset.unnamed)
        places.update(dict.fromkeys(dataset.sites))
    sites: list[Row] = []
    for place in places:
        rows = list(_rows(place, datasets, reference, skipped))
        sites += rows
    release: dict[str, Any] = {"format": "gdi-allele-counts/1", "sites": sites}
    return release | ({"skipped": dict(sorted(skipped.items()))} if skipped else {})


def _rows(
    place: Place, datasets: Mapping[str, Dataset], reference: Collection[str], skipped: Counter[str]
) -> Iterator[Row]:
    """The site's rows over all datasets; none where it cannot count, and then the reason is in `skipped`."""
    alts = {row["alt"]: None for d in datasets.values() for row in d.sites.get(place, ()) if row["alt"] != NO_ALTERNATE}
    if not alts:
        return
    if why := next((d.withheld[place] for d in datasets.values() if place in d.withheld), ""):
        skipped[why] += 1
        return
    rows = []
    for alt in alts:
        row: Row = dict(zip(("chrom", "pos", "ref", "alt"), (*place, alt), strict=True)) | dict.fromkeys(NUMBERS, 0)
        for name, dataset in datasets.items():
            numbers = dataset.counts(place, alt, absent_is_reference=name in reference)
            if numbers is None:
                skipped["not-in-every-dataset"] += 1
                return
            for number in NUMBERS:
                row[number] += numbers[number]
        rows.append(row)
    yield from rows


def write_parquet(out: Path, release: dict[str, Any]) -> None:
    """The same rows as `gdi-allele-counts/2`, sorted. The node tells the two apart by the file's first bytes."""
    import polars

    texts = {"chrom", "ref", "alt"}
    schema = {n: polars.String if n in texts else polars.Int32 for n in ("chrom", "pos", "ref", "alt", *NUMBERS)}
    about = {"format": "gdi-allele-counts/2"} | {n: release[n] for n in ("skipped",) if n in release}
    frame = polars.DataFrame(release["sites"], schema=schema).sort("chrom", "pos", "ref", "alt")
    frame.write_parquet(out, row_group_size=131_072, metadata={"gdi": json.dumps(about)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--reference", nargs="*", default=[], help="folders of datasets where absent means reference")
    parser.add_argument("--text-rows", type=int, default=TEXT_ROWS, help="of more rows than these it is Parquet")
    options = parser.parse_args()
    release = gather(options.files, options.reference)
    if len(release["sites"]) <= options.text_rows:
        options.out.write_text(json.dumps(release, separators=(",", ":")) + "\n")
    else:
        write_parquet(options.out, release)


if __name__ == "__main__":
    main()
