"""Counts the sites of a file that were asked for, in one pass: a JSON line for each alternate allele of such a site,
or one with the reason where a release cannot name or count its line. Variants are compared as they are written
shortest, and `chr1` is `1`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from bgzf import section_lines
from genotype_filter import GenotypeFilter
from variants import BASES, normal
from vcf import FIXED, Record, VcfError, count, fail, parsed, read

MOST = 1000
Variant = tuple[str, int, str, str]


def wrong(number: int) -> NoReturn:
    """Ends with 1: a variant of the run's parameters is none."""
    print(f"variant {number} is not of the form CHROM:POS:REF:ALT", file=sys.stderr)
    print(f"GDI-ERROR class=UnknownVariant line={number}", file=sys.stderr)
    sys.exit(1)


def wanted(texts: list[str]) -> set[Variant]:
    """The variants asked for."""
    found = set()
    for number, text in enumerate(texts[:MOST], 1):
        parts = re.fullmatch(rf"(.+):([1-9][0-9]{{0,9}}):([{BASES}]+):([{BASES}]+|\*|<[^>]+>)", text)
        if not parts:
            wrong(number)
        found.add(normal(parts[1], int(parts[2]), parts[3], parts[4]))
    return found


def parts(vcf: Path, places: list[dict[str, int | None]], contigs: set[str]) -> Iterator[Record | list[str]]:
    """The names of the samples, then the records of the file's parts (`chunks.py`). A line is numbered within its part,
    so each part has numbers of its own.
    """
    names: list[str] = []
    for found in parsed(section_lines(vcf, places[0])):
        names = names if isinstance(found, Record) else found
        yield found
    for number, place in enumerate(places[1:], 1):
        for found in parsed(section_lines(vcf, place), len(names) + FIXED):
            if isinstance(found, Record):
                if normal(found.chrom, 1, "A", "C")[0] not in contigs:
                    raise VcfError("WrongIndex", found.line, "the index leads to another contig: index the file anew")
                yield replace(found, place=found.place._replace(line=found.line + number * 10**9))


def of_people(record: Record, columns: list[int] | None) -> Record:
    """Of the people of these columns; of everybody where it is None."""
    if columns is None:
        return record
    cells = record.genotypes.split("\t")
    return replace(record, genotypes="\t".join([cells[place] for place in columns]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("people", type=Path, help="where to write the SHA-256 of each sample's name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--variants", required=True, help="JSON: a list of CHROM:POS:REF:ALT")
    parser.add_argument("--places", type=Path, help="of the file's parts, which `vcf` has one after the other")
    parser.add_argument("--cohort", type=Path, help="which columns are of which group")
    parser.add_argument("--group", type=int, default=0, help="of which only its people are counted")
    parser.add_argument("--filter", type=GenotypeFilter.of, default=GenotypeFilter(), help="which genotypes count")
    options = parser.parse_args()
    asked = wanted(json.loads(options.variants))
    places = json.loads(options.places.read_text()) if options.places else []
    columns = json.loads(options.cohort.read_text())[options.group] if options.cohort else None
    reading = parts(options.vcf, places, {contig for contig, *_ in asked}) if places else read(options.vcf)
    try:
        with options.out.open("w") as out:
            for found in reading:
                if not isinstance(found, Record):
                    people = sorted(hashlib.sha256(name.encode()).hexdigest() for name in found)
                    options.people.write_text(json.dumps({"people": people}) + "\n")
                elif columns != [] and any(normal(found.chrom, found.pos, found.ref, a) in asked for a in found.alts):
                    counted = of_people(options.filter.apply(found), columns)
                    out.writelines(json.dumps(row) + "\n" for row in count(counted))
    except VcfError as error:
        if not places:
            fail(error)
        print(f"{error.kind}: in a part of the file", file=sys.stderr)
        print(f"GDI-ERROR class={error.kind}", file=sys.stderr)  # the file's own line is not known here
        sys.exit(1)


if __name__ == "__main__":
    main()
