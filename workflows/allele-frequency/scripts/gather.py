"""Puts the regions' counts together into the release: sites in order of first appearance, counts of several datasets
added up.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vcf import CLASSES

NUMBERS = ("ac", "an", *CLASSES)


def gather(files: list[Path]) -> dict[str, Any]:
    """The release `gdi-allele-counts/1`. A site that only some of a node's datasets have gets the counts of those."""
    sites: dict[tuple[str, int, str, str], dict[str, Any]] = {}
    for file in files:
        with file.open() as handle:
            for line in handle:
                row = json.loads(line)
                key = (row["chrom"], row["pos"], row["ref"], row["alt"])
                known = sites.setdefault(key, row)
                if known is not row:
                    for name in NUMBERS:
                        known[name] += row[name]
    return {"format": "gdi-allele-counts/1", "sites": list(sites.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    options.out.write_text(json.dumps(gather(options.files), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
