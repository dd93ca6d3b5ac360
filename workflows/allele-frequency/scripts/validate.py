"""Reads a whole cohort once: every record must be countable. Writes how many records there are; no name and no
genotype.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vcf import VcfError, count, fail, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    total = 0
    seen: dict[tuple[str, int, str], set[str]] = {}
    chrom = ""
    try:
        for record in records(options.vcf):
            if record.chrom != chrom:
                chrom, seen = record.chrom, {}
            alts = seen.setdefault((record.chrom, record.pos, record.ref), set())
            if alts.intersection(record.alts):
                # Added up at the centre, a site that is there twice would count its people twice.
                raise VcfError("DuplicateSite", record.line, "this allele of this site was on an earlier line")
            alts.update(record.alts)
            count(record)
            total += 1
    except VcfError as error:
        fail(error)
    options.out.write_text(json.dumps({"records": total}) + "\n")


if __name__ == "__main__":
    main()
