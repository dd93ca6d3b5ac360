"""What the node's own tasks run, in the image that its policy names (`own_image`): Python's standard library only, one
file, given inline with the task. `recount SITES OUT FILE…` counts alleles at the sites of a release;
`persons OUT FILE…` lists samples, with their genotypes at common sites. VCF, plain or compressed. What it writes stays
at the node.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

SITES = 1000  # common sites at which persons are compared
COMMON = (0.2, 0.8)  # frequencies of their alternate allele
MAX_LINE = 64 * 1024 * 1024


def name_of(contig: str) -> str:
    """The contig without `chr`, mitochondria as MT: as the gateway compares them for a recount."""
    short = re.sub(r"^chr", "", contig, flags=re.IGNORECASE).upper()
    return {"M": "MT"}.get(short, short)


def opened(file: Path) -> IO[str]:
    with file.open("rb") as start:
        zipped = start.read(2) == b"\x1f\x8b"
    return gzip.open(file, "rt", encoding="utf-8") if zipped else file.open(encoding="utf-8")


def records(file: Path) -> Iterator[list[str]]:
    """The samples' names, then each record's cells."""
    with opened(file) as lines:
        for line in iter(lambda: lines.readline(MAX_LINE), ""):
            if line.startswith("#CHROM"):
                yield line.rstrip("\n").split("\t")[9:]
            elif not line.startswith("#"):
                yield line.rstrip("\n").split("\t")


def alleles(cell: str) -> list[str]:
    return cell.partition(":")[0].replace("|", "/").split("/")


def recount(sites: list[list[Any]], absent: dict[str, bool], files: list[Path]) -> dict[str, Any]:
    """`sites`: [contig, position, reference, alternate]. `absent`: by folder of files, whether a site that its files do
    not list is one where everybody has the reference.
    """
    groups: dict[tuple[str, str], list[Path]] = {}  # files of one dataset with the same samples: regions of one table
    people: dict[tuple[str, str], int] = {}
    found: dict[tuple[tuple[str, str], int], tuple[int, int]] = {}
    wanted: dict[tuple[str, str], list[int]] = {}
    for number, (contig, pos, _, _) in enumerate(sites):
        wanted.setdefault((name_of(contig), str(pos)), []).append(number)
    for file in files:
        rows = records(file)
        samples = next(rows)
        group = (file.parent.name, hashlib.sha256("\t".join(samples).encode()).hexdigest())
        groups.setdefault(group, []).append(file)
        people[group] = len(samples)
        for cells in rows:
            for number in wanted.get((name_of(cells[0]), cells[1]), ()):
                _, _, ref, alt = sites[number]
                names = cells[4].upper().split(",")
                if cells[3].upper() != ref or alt not in names:
                    continue
                index = str(names.index(alt) + 1)
                called = [one for cell in cells[9:] for one in alleles(cell) if one != "."]
                found[group, number] = (called.count(index), len(called))
    counts = []
    for number in range(len(sites)):
        ac = an = 0
        for group in groups:
            nothing = (0, 2 * people[group] if absent.get(group[0]) else 0)
            mine, all_ = found.get((group, number), nothing)
            ac, an = ac + mine, an + all_
        counts.append([ac, an])
    return {"people": sum(people.values()), "counts": counts}


def persons(files: list[Path]) -> dict[str, Any]:
    """Samples of files that have the same ones, and their copies at at most SITES common sites: the first in an order
    by hash, so that it does not matter which file has them.
    """
    names: list[str] = []
    table = ""
    kept: list[tuple[str, str]] = []
    for file in files:
        if file.suffix == ".table":  # the sample table, TSV or Parquet, which the gateway reads
            table = base64.b64encode(file.read_bytes()).decode()
            continue
        rows = records(file)
        samples = next(rows)
        if names and samples != names:
            return {"error": "the files have not the same samples"}
        names = samples
        for cells in rows:
            if len(cells[3]) != 1 or len(cells[4]) != 1:
                continue
            copies = "".join(_copies(cell) for cell in cells[9:])
            called = len(copies) - copies.count(".")
            if called and COMMON[0] <= (copies.count("1") + 2 * copies.count("2")) / (2 * called) <= COMMON[1]:
                place = hashlib.sha256("\t".join(cells[:2] + cells[3:5]).encode()).hexdigest()
                kept.append((place, copies))
                if len(kept) > 4 * SITES:
                    kept = sorted(kept)[:SITES]
    return {"people": names, "copies": [copies for _, copies in sorted(kept)[:SITES]], "table": table}


def _copies(cell: str) -> str:
    found = alleles(cell)
    return str(found.count("1")) if len(found) == 2 and set(found) <= {"0", "1"} else "."


def main(argv: list[str]) -> None:
    mode, files = argv[0], [Path(name) for name in argv[1:]]
    if mode == "recount":
        question = json.loads(files[0].read_text())
        answer, out = recount(question["sites"], question["absent"], files[2:]), files[1]
    else:
        answer, out = persons(files[1:]), files[0]
    out.write_text(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
