"""Reading a VCF (4.x) with exact line numbers, and counting alleles and genotype classes as bcftools does. htslib
unpacks bgzip files and numpy counts genotypes, both on the columns as they stand, where pysam and numpy are.
"""

from __future__ import annotations

import contextlib
import gzip
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from variants import BASES, REFERENCE_BLOCKS, why_uncounted

try:  # in the task image; without them the same is done by the standard library
    import numpy
    import pysam
except ImportError:
    numpy = pysam = None

NO_ALTERNATE = "."
FIXED = 9  # columns before those of the samples
PIECE = 1024 * 1024  # bytes that are read at once
TAB, COLON, SLASH, BAR = b"\t:/|"
CALLS = None if numpy is None else numpy.isin(numpy.arange(256), list(b"0123456789."))
BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block at the end of every bgzip file (SAM specification, 4.1.2)."""
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


class Place(NamedTuple):
    """Where a line begins: its number, the place of a piece of the file (of a bgzip file its virtual offset), and how
    many bytes of the piece come before it.
    """

    line: int
    piece: int
    skip: int


def lines(path: Path, start: Place | None = None) -> Iterator[tuple[Place, str]]:
    """Place and text without line end (LF or CRLF) of the lines of a plain, gzip or bgzip file, from `start` on.
    VcfError where it is truncated, damaged or no text.
    """
    with path.open("rb") as probe:
        head = probe.read(18)
        probe.seek(max(0, path.stat().st_size - len(BGZIP_END)))
        end = probe.read()
    blocks = head[:4] == BGZIP_END[:4] and head[12:14] == b"BC"
    place = start or Place(1, 0, 0)
    if blocks and pysam is not None:
        try:
            for place, text in split(lambda: pysam.BGZFile(str(path), "rb"), start):
                yield place, text
        except OSError:  # htslib does not say where: read again, slowly, to the line at fault
            _find_damage(path)
    else:
        opened = gzip.open if head[:2] == b"\x1f\x8b" else open
        for place, text in split(lambda: opened(path, "rb"), start):
            yield place, text
    if blocks and end != BGZIP_END:
        raise VcfError("TruncatedFile", place.line + 1, "the 28-byte end-of-file block of bgzip is missing")


def _find_damage(path: Path) -> NoReturn:
    """VcfError with the line where a bgzip file cannot be read any more."""
    last = 0
    opened = gzip.open
    try:
        for place, _ in split(lambda: opened(path, "rb"), None):
            last = place.line
    except VcfError as error:
        if error.kind == "TruncatedFile":
            raise
    raise VcfError("DamagedFile", last + 1, "the compressed file is damaged")


def split(opened: Callable[[], Any], start: Place | None) -> Iterator[tuple[Place, str]]:
    """Place and text of the lines, read in pieces of `PIECE` bytes. OSError of htslib where the file is damaged."""
    place = start or Place(1, 0, 0)
    number = place.line - 1
    handle = opened()
    read = getattr(handle, "read1", handle.read)  # of a damaged file what comes before the damage
    try:
        if start:
            handle.seek(place.piece)
        rest = b""
        while True:
            piece = handle.tell()
            data = read(PIECE)
            if not data:
                break
            skip = start.skip if start and piece == start.piece else 0
            *whole, last = data[skip:].split(b"\n")
            for raw in whole:
                number += 1
                yield place._replace(line=number) if rest else Place(number, piece, skip), _text(rest + raw, number)
                skip += len(raw) + 1
                rest = b""
            if not rest:
                place = Place(number + 1, piece, skip)
            rest += last
            if len(rest) > MAX_LINE:
                raise VcfError("VcfFormatError", number + 1, f"the line is longer than {MAX_LINE} bytes")
        if rest:
            yield place._replace(line=number + 1), _text(rest, number + 1)
    except EOFError:
        raise VcfError("TruncatedFile", number + 1, "the compressed file ends too early") from None
    except (gzip.BadGzipFile, zlib.error):
        raise VcfError("DamagedFile", number + 1, "the compressed file is damaged") from None
    finally:
        with contextlib.suppress(OSError):
            handle.close()


def _text(raw: bytes, number: int) -> str:
    if len(raw) > MAX_LINE:
        raise VcfError("VcfFormatError", number, f"the line is longer than {MAX_LINE} bytes")
    try:
        return raw.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        raise VcfError("VcfFormatError", number, "the line is not UTF-8 text") from None


@dataclass(frozen=True)
class Record:
    """One line of data. `genotypes` are the samples' columns as they stand; `gt` is where GT is among their fields, -1
    where it is absent. `why`: a reason of `variants.WITHHELD` where a release cannot name it. `passed`: FILTER is PASS;
    `fields`: what the samples' columns have.
    """

    place: Place
    chrom: str
    pos: int
    ref: str
    alts: list[str]
    gt: int
    genotypes: str
    why: str = ""
    passed: bool = True
    fields: tuple[str, ...] = ("GT",)

    @property
    def line(self) -> int:
        return self.place.line


def records(path: Path, start: Place | None = None, samples: int = 0) -> Iterator[Record]:
    """The records of a VCF with genotypes; from a place on, where one is given, of a file with so many samples.
    VcfError naming the first line that is wrong.
    """
    for found in read(path, start, samples):
        if isinstance(found, Record):
            yield found


def read(path: Path, start: Place | None = None, samples: int = 0) -> Iterator[Record | list[str]]:
    """The names of the samples, then the records. VcfError naming the first line that is wrong."""
    return parsed(lines(path, start), samples + FIXED if start else 0)


def parsed(found: Iterable[tuple[Place, str]], columns: int = 0) -> Iterator[Record | list[str]]:
    """The same of lines. `columns`: how many there are, where the heading is not among the lines."""
    number = 0
    blank = 0
    inside = bool(columns)
    for place, text in found:
        number = place.line
        if number == 1 and not inside and text.startswith("\ufeff"):
            raise VcfError("VcfFormatError", 1, "the file begins with a byte order mark; store it without")
        if number == 1 and not inside and not text.startswith("##fileformat=VCFv4"):
            raise VcfError("VcfFormatError", 1, "the file does not begin with ##fileformat=VCFv4")
        if blank and text:  # at the end of the file blank lines do no harm
            raise VcfError("VcfFormatError", blank, "a blank line stands before other lines")
        if not text:
            blank = blank or number
        elif text.startswith("##"):
            if columns:
                raise VcfError("VcfFormatError", number, "a header line comes after the data's heading")
        elif text.startswith("#"):
            names = _heading(text, number, columns)
            columns = len(names) + FIXED
            yield names
        elif not columns:
            raise VcfError("VcfFormatError", number, "data comes before the #CHROM line")
        else:
            yield _record(text, place, columns)
    if not columns:
        raise VcfError("VcfFormatError", max(1, number), "the file has no #CHROM line")


def _heading(text: str, number: int, columns: int) -> list[str]:
    names = text.split("\t")
    if columns:
        raise VcfError("VcfFormatError", number, "a second #CHROM line")
    if names[:8] != ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]:
        raise VcfError("VcfFormatError", number, "the #CHROM line does not have VCF's columns, separated by tabs")
    if len(names) < 10 or names[8] != "FORMAT":
        raise VcfError("NoGenotypes", number, "the file has no samples")
    if len(set(names[9:])) != len(names) - 9:
        raise VcfError("VcfFormatError", number, "a sample is named twice")
    return names[9:]


def _record(text: str, place: Place, columns: int) -> Record:
    number = place.line
    found = text.count("\t") + 1
    if found != columns:
        raise VcfError("VcfFormatError", number, f"{found} columns instead of {columns}")
    cells = text.split("\t", FIXED)
    chrom, pos, _, ref, alt = cells[:5]
    ref = ref.upper()
    if not chrom or not chrom.isprintable() or " " in chrom:
        raise VcfError("VcfFormatError", number, "CHROM is empty or has a space")
    if not pos.isascii() or not pos.isdigit() or len(pos) > 20:
        raise VcfError("VcfFormatError", number, "POS is not a number")
    if ref.strip(BASES) not in ("", "*", "."):
        raise VcfError("VcfFormatError", number, f"REF is not of the letters {BASES}")
    alts = [] if alt == NO_ALTERNATE else [a if a.startswith("<") else a.upper() for a in alt.split(",")]
    fields = tuple(cells[8].split(":"))
    gt = fields.index("GT") if "GT" in fields else -1
    why, passed = why_uncounted(chrom, int(pos), ref, alts), cells[6] == "PASS"
    return Record(place, chrom, int(pos), ref, alts, gt, cells[FIXED], why, passed, fields)


def count(record: Record) -> list[dict[str, Any]]:
    """One row per alternate allele: AC, AN and how many people are of each class by their copies of this allele; one
    with the alternate `.` where there is none but a reference block's. Of a record that a release cannot name or count
    one row of where it is, its alleles and `why`, a reason of `variants.WITHHELD`.

    AN counts called alleles of all ploidies, as `bcftools +fill-tags` and `bcftools view` do; `./1` counts its called
    allele and is half_missing; a haploid call is hemi_ref or hemi_alt, a missing one missing; a genotype of more than
    two alleles makes the record `polyploid`. VcfError VcfFormatError for nonsense.
    """
    place: dict[str, Any] = {"line": record.line, "chrom": record.chrom, "pos": record.pos, "ref": record.ref}
    if record.why:
        return [{**place, "alts": record.alts, "why": record.why}]
    alleles = len(record.alts) + 1
    tally = _common(record) or _tally(record)
    people = {genotype: _parse(genotype, alleles, record.line) for genotype in tally}
    if any(len(found) > 2 for found in people.values()):
        return [{**place, "alts": record.alts, "why": "polyploid"}]
    called = [0] * alleles
    named = {i: alt for i, alt in enumerate(record.alts, start=1) if alt not in REFERENCE_BLOCKS} or {0: NO_ALTERNATE}
    rows = {index: dict.fromkeys(CLASSES, 0) for index in named}
    for genotype, found in people.items():
        for allele in found:
            if allele is not None:
                called[allele] += tally[genotype]
        for index, row in rows.items():
            row[_class(found, index or -1)] += tally[genotype]
    an = sum(called)
    return [{**place, "alt": alt, "ac": called[i] if i else 0, "an": an, **rows[i]} for i, alt in named.items()]


def _tally(record: Record) -> dict[str, int]:
    """How many people have each genotype, as it is written."""
    tally: dict[str, int] = {}
    for cell in record.genotypes.split("\t"):
        genotype = _genotype(cell, record.gt)
        tally[genotype] = tally.get(genotype, 0) + 1
    return tally


def _common(record: Record) -> dict[str, int] | None:
    """The same by numpy, for most lines of most files; None for others."""
    letters = pairs(record)
    if letters is None:
        return None
    tally = numpy.bincount(letters[0].astype(numpy.int64) * 256 + letters[1])
    return {f"{chr(pair // 256)}/{chr(pair % 256)}": int(tally[pair]) for pair in numpy.flatnonzero(tally).tolist()}


def words(record: Record) -> Any | None:
    """Everybody's column as one number of four bytes, where each is of three letters with `/` or `|` in the middle (the
    first letter is the lowest byte, the highest a tab); None where one is not, or numpy is missing.
    """
    if numpy is None or record.gt != 0 or len(record.genotypes) % 4 != 3 or not record.genotypes.isascii():
        return None
    cells = numpy.frombuffer(record.genotypes.encode() + b"\t", dtype="<u4")
    between = cells & 0xFF00FF00
    return cells if ((between == 0x09007C00) | (between == 0x09002F00)).all() else None


def pairs(record: Record) -> tuple[Any, Any] | None:
    """The letters (0 to 9 and `.`) of everybody's two alleles, as arrays of bytes; None where a genotype is not of two
    alleles of one letter each, or does not stand first in its column, or numpy is missing.
    """
    if numpy is None or record.gt != 0 or not record.genotypes.isascii():
        return None
    if (cells := words(record)) is not None:
        first, second = cells & 0xFF, (cells >> 16) & 0xFF
        return (first, second) if (CALLS[first] & CALLS[second]).all() else None
    cells = numpy.frombuffer(record.genotypes.encode() + b"\t:::", dtype=numpy.uint8)
    ends = numpy.flatnonzero(cells == TAB)
    starts = numpy.concatenate(([0], ends[:-1] + 1))
    after = cells[starts + 3]
    if (ends - starts < 3).any() or not ((after == TAB) | (after == COLON)).all():
        return None
    first, between, second = cells[starts], cells[starts + 1], cells[starts + 2]
    if not ((between == SLASH) | (between == BAR)).all() or not (CALLS[first] & CALLS[second]).all():
        return None
    return first, second


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
