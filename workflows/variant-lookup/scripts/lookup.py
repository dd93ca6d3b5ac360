"""Counts the sites of a cohort that were asked for, in one pass: a JSON line for each alternate allele of such a site,
or one with the reason where a release cannot name or count its line. Variants are compared as they are written
shortest, and `chr1` is `1`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import NoReturn

from variants import BASES, normal
from vcf import Record, VcfError, count, fail, read

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("people", type=Path, help="where to write the SHA-256 of each sample's name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--variants", required=True, help="JSON: a list of CHROM:POS:REF:ALT")
    options = parser.parse_args()
    asked = wanted(json.loads(options.variants))
    try:
        with options.out.open("w") as out:
            for found in read(options.vcf):
                if not isinstance(found, Record):
                    people = sorted(hashlib.sha256(name.encode()).hexdigest() for name in found)
                    options.people.write_text(json.dumps({"people": people}) + "\n")
                elif any(normal(found.chrom, found.pos, found.ref, a) in asked for a in found.alts):
                    out.writelines(json.dumps(row) + "\n" for row in count(found))
    except VcfError as error:
        fail(error)


if __name__ == "__main__":
    main()
