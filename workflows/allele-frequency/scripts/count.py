"""Counts the sites of one region: a JSON line for each alternate allele, or one for a record that no release can name
or count, with the reason.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path

from vcf import Place, VcfError, count, fail, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("regions", type=Path)
    parser.add_argument("region", type=int)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    found = json.loads(options.regions.read_text())
    first, end = found["regions"][options.region]
    before, *start = found["places"][options.region] or [0]
    try:
        with options.out.open("w") as out:
            reading = records(options.vcf, Place(*start) if start else None, found["samples"])
            for record in islice(reading, first - before, end - before):
                out.writelines(json.dumps(row) + "\n" for row in count(record))
    except VcfError as error:
        fail(error)


if __name__ == "__main__":
    main()
