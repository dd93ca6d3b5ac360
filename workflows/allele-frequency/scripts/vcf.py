"""Reading a VCF (4.x) with exact line numbers, and counting alleles and genotype classes as bcftools does. Standard
library only.
"""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

CHROM = re.compile(r"^[A-Za-z0-9._]{1,32}$")
REF = re.compile(r"^[ACGTN]{1,1000}$")
ALT = re.compile(r"^([ACGTN*]{1,1000}|<[A-Z0-9:]{1,20}>)$")
CLASSES = ("hom_ref", "het", "hom_alt", "hemi_ref", "hemi_alt", "half_missing", "missing")
MAX_LINE = (
    64 * 1024 * 1024
)  # bytes: a line of a million samples fits, a file without line ends does not fill the memory


class VcfError(Exception):
    """A VCF that cannot be counted: `kind` is the error class, `line` the line at fault (from 1). Nothing of the file's
    content is in it.
    """

    def __init__(self, kind: str, line: int, why: str) -> None:
        super().__init__(f"{kind} at line {line}: {why}")
        self.kind = kind
        self.line = line


def fail(error: VcfError) -> NoReturn:
    """Says what is wrong on standard error, its last line in the form that the node's gateway passes on, and ends with
    1.
    """
    print(error, file=sys.stderr)
    print(f"GDI-ERROR class={error.kind} line={error.line}", file=sys.stderr)
    sys.exit(1)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and text without line end (LF or CRLF) of a plain, gzip or bgzip file. VcfError where it is
    truncated, damaged or no text.
    """
    number = 0
    try:
        with path.open("rb") as probe:
            compressed = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if compressed else path.open("rb") as handle:
            while raw := handle.readline(MAX_LINE + 1):
                number += 1
                if len(raw) > MAX_LINE:
                    raise VcfError("VcfFormatError", number, f"the line is longer than {MAX_LINE} bytes")
                yield number, raw.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        raise VcfError("VcfFormatError", number, "the line is not UTF-8 text") from None
    except EOFError:
        raise VcfError("TruncatedFile", number + 1, "the compressed file ends too early") from None
    except (gzip.BadGzipFile, zlib.error):
        raise VcfError("DamagedFile", number + 1, "the compressed file is damaged") from None


@dataclass(frozen=True)
class Record:
    """One line of data. `genotypes` are the samples' columns as they stand; `gt` is where GT is among their fields, -1
    where it is absent.
    """

    line: int
    chrom: str
    pos: int
    ref: str
    alts: list[str]
    gt: int
    samples: list[str]


def records(path: Path) -> Iterator[Record]:
    """The records of a VCF with genotypes. VcfError naming the first line that is wrong."""
    columns = 0
    number = 0
    for number, text in lines(path):
        if number == 1 and not text.startswith("##fileformat=VCFv4"):
            raise VcfError("VcfFormatError", 1, "the file does not begin with ##fileformat=VCFv4")
        if text.startswith("##"):
            if columns:
                raise VcfError("VcfFormatError", number, "a header line comes after the data's heading")
        elif text.startswith("#"):
            columns = _heading(text, number, columns)
        elif not columns:
            raise VcfError("VcfFormatError", number, "data comes before the #CHROM line")
        else:
            yield _record(text, number, columns)
    if not columns:
        raise VcfError("VcfFormatError", max(1, number), "the file has no #CHROM line")


def _heading(text: str, number: int, columns: int) -> int:
    names = text.split("\t")
    if columns:
        raise VcfError("VcfFormatError", number, "a second #CHROM line")
    if names[:8] != ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]:
        raise VcfError("VcfFormatError", number, "the #CHROM line does not have VCF's columns, separated by tabs")
    if len(names) < 10 or names[8] != "FORMAT":
        raise VcfError("NoGenotypes", number, "the file has no samples")
    if len(set(names[9:])) != len(names) - 9:
        raise VcfError("VcfFormatError", number, "a sample is named twice")
    return len(names)


def _record(text: str, number: int, columns: int) -> Record:
    cells = text.split("\t")
    if len(cells) != columns:
        raise VcfError("VcfFormatError", number, f"{len(cells)} columns instead of {columns}")
    chrom, pos, _, ref, alt = cells[:5]
    ref = ref.upper()
    if not CHROM.match(chrom):
        raise VcfError("VcfFormatError", number, "CHROM is not a name of letters, digits, '.' and '_', at most 32 long")
    if not pos.isascii() or not pos.isdigit() or len(pos) > 12:
        raise VcfError("VcfFormatError", number, "POS is not a number")
    if not REF.match(ref):
        raise VcfError("VcfFormatError", number, "REF is not of A, C, G, T, N, or longer than 1000")
    alts = [] if alt == "." else [a if a.startswith("<") else a.upper() for a in alt.split(",")]
    if any(not ALT.match(a) for a in alts):
        raise VcfError(
            "UnsupportedAllele", number, "an ALT is not of A, C, G, T, N, '*' or a symbol in <>, or longer than 1000"
        )
    if len(set(alts)) != len(alts) or ref in alts:
        raise VcfError("VcfFormatError", number, "an allele is there twice")
    fields = cells[8].split(":")
    return Record(number, chrom, int(pos), ref, alts, fields.index("GT") if "GT" in fields else -1, cells[9:])


def count(record: Record) -> list[dict[str, int | str]]:
    """One row per alternate allele: AC, AN and how many people are of each class by their copies of this allele.

    AN counts called alleles of all ploidies, as `bcftools +fill-tags` and `bcftools view` do; `./1` counts its called
    allele and is half_missing; a haploid call is hemi_ref or hemi_alt, a missing one missing. VcfError
    UnsupportedPloidy above two, VcfFormatError for nonsense.
    """
    alleles = len(record.alts) + 1
    tally: dict[str, int] = {}
    for cell in record.samples:
        genotype = _genotype(cell, record.gt)
        tally[genotype] = tally.get(genotype, 0) + 1
    called = [0] * alleles
    rows = [dict.fromkeys(CLASSES, 0) for _ in record.alts]
    for genotype, people in tally.items():
        found = _parse(genotype, alleles, record.line)
        for allele in found:
            if allele is not None:
                called[allele] += people
        for index, row in enumerate(rows, start=1):
            row[_class(found, index)] += people
    an = sum(called)
    return [
        {
            "chrom": record.chrom,
            "pos": record.pos,
            "ref": record.ref,
            "alt": alt,
            "ac": called[i],
            "an": an,
            **rows[i - 1],
        }
        for i, alt in enumerate(record.alts, start=1)
    ]


def _genotype(cell: str, gt: int) -> str:
    """The GT of one sample's column; a sample may leave trailing fields out."""
    if gt == 0:
        return cell.partition(":")[0]
    fields = cell.split(":")
    return fields[gt] if 0 <= gt < len(fields) else "."


def _parse(genotype: str, alleles: int, line: int) -> list[int | None]:
    text = genotype.lstrip("|/") if genotype[:1] in ("|", "/") else genotype  # VCF 4.4 allows a leading phase
    found: list[int | None] = []
    for part in text.replace("|", "/").split("/"):
        if part == ".":
            found.append(None)
        elif part.isascii() and part.isdigit() and len(part) < 7 and int(part) < alleles:
            found.append(int(part))
        else:
            raise VcfError(
                "VcfFormatError", line, "a genotype names an allele that the site does not have, or is not a genotype"
            )
    if len(found) > 2:
        raise VcfError("UnsupportedPloidy", line, "a genotype has more than two alleles")
    return found


def _class(found: list[int | None], alt: int) -> str:
    missing = found.count(None)
    copies = found.count(alt)
    if missing == len(found):
        return "missing"
    if missing:
        return "half_missing"
    if len(found) == 1:
        return "hemi_alt" if copies else "hemi_ref"
    return ("hom_ref", "het", "hom_alt")[copies]
