"""Counts the sites of one region: a JSON line for each alternate allele, or one for a record that no release can name
or count, with the reason.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO

from bgzf import section_lines
from genotype_filter import GenotypeFilter
from slices import slice_records
from vcf import FIXED, Place, Record, VcfError, count, fail, parsed, records


def write(out: IO[str], record: Record, counts: GenotypeFilter, people: list[int] | None = None) -> None:
    """`people`: the columns that are counted; everybody's where it is None."""
    record = counts.apply(record)
    if people is not None:
        cells = record.genotypes.split("\t")
        record = replace(record, genotypes="\t".join([cells[place] for place in people]))
    out.writelines(json.dumps(row) + "\n" for row in count(record))


def section(options: argparse.Namespace, samples: int, people: list[int] | None = None) -> None:
    """Section `region` + 1 of a file with an index. Its last row says how many lines it has, and which of them is
    wrong: `gather`, which knows the sections before it, tells the file's own line.
    """
    place = json.loads(options.places.read_text())[options.region + 1]
    lines = 0

    def counted() -> Iterator[tuple[Place, str]]:
        nonlocal lines
        for at, text in section_lines(options.vcf, place):
            lines = at.line
            yield at, text

    with options.out.open("w") as out:
        fault: dict[str, object] = {}
        try:
            if place["skip"] != -1:
                for record in parsed(counted(), samples + FIXED if options.region else 0):
                    if isinstance(record, Record):
                        write(out, record, options.filter, people)
        except VcfError as error:
            fault = {"fault": error.kind, "line": error.line}
        out.write(json.dumps({"lines": lines, **fault}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path, nargs="*")
    parser.add_argument("regions", type=Path)
    parser.add_argument("region", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--places", type=Path, help="of the file's sections, of which this is one")
    parser.add_argument("--slices", nargs="*", help="of each file, which is a slice, its region")
    parser.add_argument("--filter", type=GenotypeFilter.of, default=GenotypeFilter(), help="which genotypes count")
    parser.add_argument("--people", type=Path, help="which columns are of which group")
    parser.add_argument("--group", type=int, default=0, help="of which only its people are counted")
    options = parser.parse_args()
    found = json.loads(options.regions.read_text())
    people = json.loads(options.people.read_text())[options.group] if options.people else None
    if people == []:  # nobody of this level is here
        options.out.write_text("")
        return
    if options.slices is not None:
        try:
            with options.out.open("w") as out:
                for record in slice_records(options.vcf, options.slices, found["samples"]):
                    write(out, record, options.filter, people)
        except VcfError as error:
            fail(error)
        return
    [options.vcf] = options.vcf
    if options.places:
        section(options, found["samples"], people)
        return
    first, end = found["regions"][options.region]
    before, *start = found["places"][options.region] or [0]
    try:
        with options.out.open("w") as out:
            reading = records(options.vcf, Place(*start) if start else None, found["samples"])
            for record in islice(reading, first - before, end - before):
                write(out, record, options.filter, people)
    except VcfError as error:
        fail(error)


if __name__ == "__main__":
    main()
