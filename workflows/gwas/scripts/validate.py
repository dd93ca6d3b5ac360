"""Reads a whole cohort once: every record must be without a fault. Writes how many records there are, where every
500th of them begins, and the SHA-256 of each sample's name, which `regions` compares between datasets; no name and no
genotype.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from vcf import Record, VcfError, count, fail, read

EVERY = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    total = 0
    people: list[str] = []
    places: list[list[int]] = []
    try:
        for found in read(options.vcf):
            if isinstance(found, Record):
                if total % EVERY == 0:
                    places.append([total, *found.place])
                count(found)
                total += 1
            else:
                people = sorted(hashlib.sha256(name.encode()).hexdigest() for name in found)
    except VcfError as error:
        fail(error)
    options.out.write_text(json.dumps({"records": total, "people": people, "places": places}) + "\n")


if __name__ == "__main__":
    main()
