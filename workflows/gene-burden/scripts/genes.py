"""Reads a list of genes (name, contig, start, end; both ends included, from 1), and says which gene a place is of: the
first of the list that has it, so that no variant is counted for two.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple, NoReturn

from genotypes import chromosome

HEADING = ["name", "contig", "start", "end"]
NAME, CONTIG = re.compile(r"[A-Z0-9][A-Z0-9.-]{0,31}"), re.compile(r"[0-9A-Za-z][0-9A-Za-z_.]{0,31}")
MAX_GENES, MAX_POS = 100_000, 2**31 - 1


class Gene(NamedTuple):
    name: str
    contig: str
    start: int
    end: int


def wrong(line: int, why: str) -> NoReturn:
    """Ends with 1."""
    print(f"GeneListError at line {line}: {why}", file=sys.stderr)
    print(f"GDI-ERROR class=GeneListError line={line}", file=sys.stderr)
    sys.exit(1)


def genes(file: Path) -> list[Gene]:
    """In the order of the file; no name, and no start on a contig, twice."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError:
        wrong(1, "it is no ASCII text")
    if not lines or lines[0].split("\t") != HEADING:
        wrong(1, f"its heading is not {' '.join(HEADING)}, separated by tabs")
    if len(lines) > MAX_GENES + 1:
        wrong(MAX_GENES + 2, f"there are more than {MAX_GENES} genes")
    found: list[Gene] = []
    names: set[str] = set()
    starts: set[tuple[str, int]] = set()
    for line, text in enumerate(lines[1:], 2):
        cells = text.split("\t")
        if len(cells) != len(HEADING):
            wrong(line, f"{len(cells)} columns instead of {len(HEADING)}")
        name, contig, start, end = cells
        if not NAME.fullmatch(name) or not CONTIG.fullmatch(contig):
            wrong(line, "a name is of capitals, digits, dot and hyphen, a contig of letters and digits")
        if (
            not all(one.isdigit() and len(one) < 11 for one in (start, end))
            or not 1 <= int(start) <= int(end) <= MAX_POS
        ):
            wrong(line, "start and end are whole numbers from 1, the end not before the start")
        place = chromosome(contig), int(start)
        if name in names or place in starts:
            wrong(line, "the name, or the start on this contig, is there twice")
        names.add(name)
        starts.add(place)
        found.append(Gene(name, contig, int(start), int(end)))
    return found


class Places:
    """Which gene of the list, by its number, a place is of."""

    def __init__(self, of: list[Gene]) -> None:
        self._by: dict[str, list[tuple[int, int, int]]] = {}  # start, end, number
        for number, gene in enumerate(of):
            self._by.setdefault(chromosome(gene.contig), []).append((gene.start, gene.end, number))
        self._farthest: dict[str, list[int]] = {}  # the largest end up to there
        for contig, mine in self._by.items():
            mine.sort()
            ends = self._farthest[contig] = []
            for _, end, _ in mine:
                ends.append(max(end, ends[-1] if ends else 0))

    def gene(self, contig: str, pos: int) -> int | None:
        name = chromosome(contig)
        mine = self._by.get(name, [])
        at = bisect_right(mine, (pos, MAX_POS + 1, 0)) - 1
        first: int | None = None
        while at >= 0 and self._farthest[name][at] >= pos:
            start, end, number = mine[at]
            if start <= pos <= end and (first is None or number < first):
                first = number
            at -= 1
        return first
