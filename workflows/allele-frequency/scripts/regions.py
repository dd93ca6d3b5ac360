"""Splits the records 0..n-1 into as many ranges of nearly equal length as were asked for; some are empty where there
are few records.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path


def split(records: int, regions: int) -> list[list[int]]:
    """`[first, end)` of each region, in order, together all records."""
    edges = [records * i // regions for i in range(regions + 1)]
    return [[a, b] for a, b in pairwise(edges)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("validated", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--regions", type=int, required=True)
    options = parser.parse_args()
    records = int(json.loads(options.validated.read_text())["records"])
    options.out.write_text(json.dumps({"regions": split(records, options.regions)}) + "\n")


if __name__ == "__main__":
    main()
