"""Reads what an htsget server gave of a bgzip file: a slice, which has the file's header, the blocks with a region's
records, and what else lies in these blocks.

Where the server left blocks out, the end of one line and the beginning of another would make a line that is in no
file. So every block must end where a line does, as htslib writes them unless a line is longer than a block; a file that
is not so is refused by name. Only a header, of which no server leaves a block out, may be cut within its lines: htslib
does so to one of more than 65,280 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from bgzf import SectionFile, WrongIndex
from vcf import BGZIP_END, Place, Record, VcfError, parsed, split

WHOLE: dict[str, int | None] = {"start": 0, "skip": 0, "length": None, "tail": 0}
REGION = re.compile(r"(.+?)(?::([0-9]+)-([0-9]+))?")
CONTIG = re.compile(r"##contig=<(?:.*,)?ID=([^,>]+)")


class UnevenBlock(Exception):
    """A block ends within a line of data."""


class SliceFile(SectionFile):
    """As a binary file, which `vcf.split` reads block by block."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, WHOLE)
        self._open = b""  # the first byte of the line that the last block cut

    def read(self, size: int) -> bytes:
        found = super().read(size)
        _, end, rest = found.rpartition(b"\n")
        self._open = rest[:1] if end else self._open or rest[:1]
        if found and self._open not in (b"", b"#"):
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
    counted on from slice to slice. VcfError, also where a slice is of other people than `samples` says, or its header
    names contigs and not the region's.
    """
    before = 0
    for path, region in zip(slices, regions, strict=True):
        found = REGION.fullmatch(region)
        assert found is not None
        contig, first, last = found[1], int(found[2] or 0), int(found[3] or 2**63)
        line = 0
        contigs: set[str] = set()
        for one in parsed(_noting(slice_lines(path), contigs)):
            if isinstance(one, Record):
                line = one.line
                if one.chrom == contig and first <= one.pos <= last:
                    yield replace(one, place=one.place._replace(line=before + line))
            elif len(one) != samples:
                raise VcfError("DifferentPeople", before + 1, "the slice has another number of samples than the file")
            elif contigs and contig not in contigs:
                why = "no ##contig line names the contig of a region: spell the descriptor's `regions` as the file does"
                raise VcfError("UnknownContig", before + 1, why)
        before += line


def _noting(lines: Iterable[tuple[Place, str]], contigs: set[str]) -> Iterator[tuple[Place, str]]:
    """The lines; which contigs those of a header name is added to `contigs`."""
    for at, text in lines:
        if text.startswith("##contig=") and (found := CONTIG.match(text)):
            contigs.add(found[1])
        yield at, text
