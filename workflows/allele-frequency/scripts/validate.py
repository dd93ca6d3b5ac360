"""Reads a whole file once: every record must be without a fault; of a file with an index, or in slices, its header
only, as `count` reads each record of its part anyway. Writes how many records there are, where every 500th of them
begins, and the SHA-256 of each sample's name, which `regions` compares between datasets; no name and no genotype.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from bgzf import section_lines
from slices import slice_lines
from vcf import Record, VcfError, count, fail, parsed, read

EVERY = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--places", type=Path, help="of the file's sections: only the header is here, and is read")
    parser.add_argument("--slice", action="store_true", help="of a file that comes in slices: only the header is read")
    options = parser.parse_args()
    total = 0
    people: list[str] = []
    places: list[list[int]] = []
    if options.places:
        given = parsed(section_lines(options.vcf, json.loads(options.places.read_text())[0]))
    else:
        given = parsed(slice_lines(options.vcf)) if options.slice else read(options.vcf)
    try:
        for found in given:
            if isinstance(found, Record):
                if total % EVERY == 0:
                    places.append([total, *found.place])
                count(found)
                total += 1
            else:
                people = sorted(hashlib.sha256(name.encode()).hexdigest() for name in found)
                if options.slice:
                    break
    except VcfError as error:
        fail(error)
    options.out.write_text(json.dumps({"records": total, "people": people, "places": places}) + "\n")


if __name__ == "__main__":
    main()
