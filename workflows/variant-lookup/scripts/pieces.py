"""The regions' counts in pieces that are put together one after the other: each holds whole stretches of a contig, and
is cut where no allele before the cut can be the same as one after it, however they are written. A first reading says
where the lines of each piece stand; the files may have them in any order.
"""

from __future__ import annotations

import contextlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from variants import normal
from vcf import CLASSES, NO_ALTERNATE, VcfError

Row = dict[str, Any]  # a JSON line of `count`
Zone = tuple[str, int]  # contig, and its positions by ZONE
ZONE = 14  # bits of a position: a piece is at least 16,384 bases


class Pieces:
    """`files`: JSON lines of `count`, a file's sections in order, those of a dataset in a folder of its name. `lines`:
    how many there are; `people`: of each dataset, 0 where no line told; `contigs`: by the name of a chromosome that a
    release may have, what all its names mean. VcfError where a section was at fault, with the file's own line.
    """

    def __init__(self, files: Sequence[Path], most: int) -> None:
        self.files = files
        self.lines = 0
        self.people = {file.parent.name: 0 for file in files}
        self.contigs: dict[str, str] = {}
        self._zones: dict[Zone, int] = {}
        self._sizes = array("q")  # lines of each zone
        self._closed: set[Zone] = set()  # zones that must not be cut from the next
        self._names: dict[str, str] = {}
        sections: Counter[str] = Counter()  # lines of the sections so far, by their file
        runs = [self._look(file, sections) for file in files]
        self._of_contig, of_zone = self._cut(most)
        self._runs = [array("q") for _ in range(sum(map(len, self._of_contig.values())))]  # file, from, to
        for number, (file, found) in enumerate(zip(files, runs, strict=True)):
            self._share(number, file, found, of_zone)

    def of(self, chrom: str) -> Sequence[int]:
        """The pieces of a chromosome, and of its other names, by position."""
        return self._of_contig[self.contigs[chrom]]

    def unnamed(self) -> list[int]:
        """The pieces of contigs of which no line counts."""
        named = set(self.contigs.values())
        return [piece for contig, pieces in self._of_contig.items() if contig not in named for piece in pieces]

    def read(self, piece: int) -> Iterator[tuple[Path, Row]]:
        """The piece's lines, each with its file, in the files' order."""
        runs = self._runs[piece]
        with contextlib.ExitStack() as stack:
            opened: dict[int, IO[bytes]] = {}
            for at in range(0, len(runs), 3):
                number, place, end = runs[at : at + 3]
                if number not in opened:
                    stack.close()
                    opened = {number: stack.enter_context(self.files[number].open("rb"))}
                opened[number].seek(place)
                while place < end:
                    line = opened[number].readline()
                    place += len(line)
                    row = json.loads(line.decode())
                    if "lines" not in row:
                        yield self.files[number], row

    def all(self) -> Iterator[tuple[Path, Row]]:
        """As `read`, of all pieces at once."""
        for file in self.files:
            with file.open("rb") as handle:
                for line in handle:
                    row = json.loads(line.decode())
                    if "lines" not in row:
                        yield file, row

    def _look(self, file: Path, sections: Counter[str]) -> array[int]:
        """Runs of lines of one zone: its number, and where the run begins."""
        runs, last, at = array("q"), -1, 0
        dataset = file.parent.name
        with file.open("rb") as handle:
            for line in handle:
                row = json.loads(line.decode())
                if "lines" in row:
                    _count_section(row, f"{dataset}/{file.stem.partition('.')[0]}", sections)
                else:
                    if not self.people[dataset] and "why" not in row:
                        self.people[dataset] = sum(row[name] for name in CLASSES)
                    zone = self._zone(row)
                    if zone != last:
                        runs.extend((zone, at))
                        last = zone
                at += len(line)
        return runs

    def _zone(self, row: Row) -> int:
        """The number of the row's zone, which has one line more; zones that it joins are remembered."""
        chrom, pos, ref = row["chrom"], row["pos"], row["ref"]
        contig = self._names.get(chrom)
        if contig is None:
            contig = self._names[chrom] = normal(chrom, pos, ref, NO_ALTERNATE)[0]
        first = pos >> ZONE
        if "why" in row:
            alts = row["alts"]
        else:
            alts = [row["alt"]]
            self.contigs.setdefault(chrom, contig)
        if len(ref) > 1:
            last = max((normal(chrom, pos, ref, alt)[1] for alt in alts), default=pos) >> ZONE
            self._closed.update((contig, n) for n in range(first, last))
        self.lines += 1
        zone = (contig, first)
        number = self._zones.setdefault(zone, len(self._sizes))
        if number == len(self._sizes):
            self._sizes.append(0)
        self._sizes[number] += 1
        return number

    def _cut(self, most: int) -> tuple[Mapping[str, Sequence[int]], Mapping[int, int]]:
        """Pieces of at most `most` lines, where cuts are allowed: those of each contig, and that of each zone."""
        found: dict[str, list[int]] = {}
        of_zone: dict[int, int] = {}
        piece, size, before = -1, 0, ("", 0)
        for zone in sorted(self._zones):
            lines = self._sizes[self._zones[zone]]
            joined = zone[0] == before[0] and all((zone[0], n) in self._closed for n in range(before[1], zone[1]))
            if zone[0] != before[0] or (size + lines > most and not joined):
                piece, size = piece + 1, 0
                found.setdefault(zone[0], []).append(piece)
            of_zone[self._zones[zone]] = piece
            size, before = size + lines, zone
        return found, of_zone

    def _share(self, number: int, file: Path, runs: array[int], of_zone: Mapping[int, int]) -> None:
        """Gives each run to its piece; runs of one piece that follow each other are one."""
        ends = [*runs[3::2], file.stat().st_size]
        for at, end in zip(range(0, len(runs), 2), ends, strict=False):
            mine, start = self._runs[of_zone[runs[at]]], runs[at + 1]
            if len(mine) and mine[-3] == number and mine[-1] == start:
                mine[-1] = end
            else:
                mine.extend((number, start, end))


def _count_section(row: Row, whole: str, sections: Counter[str]) -> None:
    if "fault" in row:
        raise VcfError(row["fault"], sections[whole] + row["line"], "found while a section was counted")
    sections[whole] += row["lines"]
