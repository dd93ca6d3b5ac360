"""Reads what an htsget server gave of a bgzip file: a slice, which has the file's header, the blocks with a region's
records, and what else lies in these blocks.

Where the server left blocks out, the end of one line and the beginning of another would make a line that is in no
file. So every block must end where a line does, as htslib writes them unless a line is longer than a block; a file that
is not so is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bgzf import SectionFile, WrongIndex
from vcf import BGZIP_END, Place, Record, VcfError, parsed, split

WHOLE: dict[str, int | None] = {"start": 0, "skip": 0, "length": None, "tail": 0}
REGION = re.compile(r"(.+?)(?::([0-9]+)-([0-9]+))?")


class UnevenBlock(Exception):
    """A block ends within a line."""


class SliceFile(SectionFile):
    """As a binary file, which `vcf.split` reads block by block."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, WHOLE)

    def read(self, size: int) -> bytes:
        found = super().read(size)
        if found and not found.endswith(b"\n"):
            raise UnevenBlock
        return found


def slice_lines(path: Path) -> Iterator[tuple[Place, str]]:
    """Place (its line is counted from the slice's beginning) and text of the lines. VcfError."""
    last = 0
    try:
        for at, text in split(lambda: SliceFile(path), None):
            last = at.line
            yield at, text
    except UnevenBlock:
        why = "lines run over the file's blocks: write it anew (bcftools view -Oz), or let `served_by` be `file`"
        raise VcfError("UnevenBlocks", last + 1, why) from None
    except WrongIndex:
        raise VcfError("DamagedFile", last + 1, "the slice is no bgzip file") from None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(BGZIP_END)))
        if file.read() != BGZIP_END:
            raise VcfError("TruncatedFile", last + 1, "the 28-byte end-of-file block of bgzip is missing")


def slice_records(slices: list[Path], regions: list[str], samples: int) -> Iterator[Record]:
    """The records whose position lies in a slice's own region (`CONTIG` or `CONTIG:START-END`), with lines that are
    counted on from slice to slice. VcfError, also where a slice is of other people than `samples` says.
    """
    before = 0
    for path, region in zip(slices, regions, strict=True):
        found = REGION.fullmatch(region)
        assert found is not None
        contig, first, last = found[1], int(found[2] or 0), int(found[3] or 2**63)
        line = 0
        for one in parsed(slice_lines(path)):
            if isinstance(one, Record):
                line = one.line
                if one.chrom == contig and first <= one.pos <= last:
                    yield replace(one, place=one.place._replace(line=before + line))
            elif len(one) != samples:
                raise VcfError("DifferentPeople", before + 1, "the slice has another number of samples than the file")
        before += line
