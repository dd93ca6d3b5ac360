"""Reads `gdi-allele-counts/1` as a stream: only numbers and coordinates, only honest arithmetic. Memory is bounded by
the number of rows. FormatError names the row (1 is the first) and the field.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import IO, Any, NamedTuple

from gdi.contracts.variants import ALTERNATE, CONTIG, MAX_POS, REFERENCE, WITHHELD, Counted, why_not_one
from gdi.releases.disclosure.variants import Variant, contig, normalise, unfit
from gdi.releases.kind import FormatError

FORMAT = "gdi-allele-counts/1"  # what a workflow writes
RELEASED = "gdi-allele-counts-released/1"  # what leaves the node
CLASSES = ("hom_ref", "het", "hom_alt", "hemi_ref", "hemi_alt", "half_missing", "missing")
FIELDS = ("chrom", "pos", "ref", "alt", "ac", "an", *CLASSES)
MAX_COUNT = 2**31 - 1
MAX_ROW = 64 * 1024  # characters of JSON that one row may take
MAX_CHROMS = 5000
MAX_ALLELES = 1000  # of one site, which is judged as a whole
_PATTERNS = {"chrom": re.compile(CONTIG), "ref": re.compile(REFERENCE), "alt": re.compile(ALTERNATE)}
Place = tuple[str, int, str]  # contig, position, reference
_SPACE = re.compile(r"[ \t\r\n]+")
MOST_NUMBERS = 100_000
_TEXTS = {field: f'"({pattern.pattern})"' for field, pattern in _PATTERNS.items()}
_FIELDS = (rf'"{field}": ?{_TEXTS.get(field, "(0|[1-9][0-9]{0,8})")}' for field in FIELDS)
_PLAIN = re.compile(r"\{" + ", ?".join(_FIELDS) + r"\},[ \t\r\n]*(?=\{)")
"""A row as `json.dumps` writes it, before another row. What this does not match is read as any JSON is, which says what
is wrong with it: this is ten times faster, and takes nothing that would be refused there.
"""


class Row(NamedTuple):
    """One alternate allele at one site."""

    chrom: str
    pos: int
    ref: str
    alt: str
    ac: int
    an: int
    hom_ref: int
    het: int
    hom_alt: int
    hemi_ref: int
    hemi_alt: int
    half_missing: int
    missing: int

    @property
    def half_alt(self) -> int:
        """People with a half-missing genotype whose called allele is this alt: not told, but it follows from the
        rest.
        """
        return self.ac - self.het - 2 * self.hom_alt - self.hemi_alt


@dataclass(frozen=True, slots=True)
class Site:
    """All alternate alleles of one (chrom, pos, ref), sorted. `why`: a reason of the kind where it cannot leave,
    whatever the node's floor; `count` such sites without rows are one unit, where the workflow left them out. `crowd`:
    where other records of the file overlap it, the rows of all of them and its own.
    """

    rows: tuple[Row, ...]
    why: str = ""
    count: int = 1
    crowd: tuple[Row, ...] = ()

    @property
    def place(self) -> tuple[str, int, str]:
        return self.rows[0][:3]


def read(file: IO[bytes], *, max_rows: int) -> list[Site]:
    """The sites, sorted by chromosome, position and reference (the order of a file could carry a message), then what
    the workflow left out. FormatError.
    """
    rows: list[Row] = []
    chroms: set[str] = set()
    skipped: dict[str, int] = {}
    known = _Numbers()
    for number, value in enumerate(_sites(_Text(file), skipped), start=1):
        if number > max_rows:
            raise FormatError(f"more than {max_rows} rows, which is what this node looks at")
        row = _checked(_plain(value, known) if type(value) is tuple else _row(value, number), number)
        if row.chrom not in chroms:
            chroms.add(row.chrom)
            if len(chroms) > MAX_CHROMS:
                raise FormatError(f"row {number}: more than {MAX_CHROMS} chromosomes")
        rows.append(row)
    rows = sorted(rows)
    twice, odd = _twice(rows), unfit(chroms)
    sites = []
    for place, same in groupby(rows, key=itemgetter(0, 1, 2)):
        of_site = tuple(same)
        if len(of_site) > MAX_ALLELES:
            raise FormatError(f"more than {MAX_ALLELES} alleles at one site")
        why = odd.get(place[0]) or ("duplicate-site" if place in twice else why_not(of_site))
        sites.append(Site(of_site, why))
    return crowded(sites) + [Site((), why, count) for why, count in sorted(skipped.items())]


class _Numbers(dict[str, int]):
    """Counts by their text: one object for each, because most are there many times."""

    def __missing__(self, text: str) -> int:
        number = int(text)
        if len(self) < MOST_NUMBERS:
            self[text] = number
        return number


def _plain(texts: tuple[str, ...], known: _Numbers) -> Row:
    """A row of which `_PLAIN` matched the fields."""
    chrom, pos, ref, alt, *numbers = texts
    counts = [known[number] for number in numbers]
    return Row._make((sys.intern(chrom), int(pos), sys.intern(ref), sys.intern(alt), *counts))


def _row(value: Any, number: int) -> Row:  # whatever JSON held
    if not isinstance(value, dict) or set(value) != set(FIELDS):
        raise FormatError(f"row {number}: it must have exactly the fields {', '.join(FIELDS)}")
    for field, pattern in _PATTERNS.items():
        if not isinstance(value[field], str) or not pattern.fullmatch(value[field]):
            raise FormatError(f"row {number}: {field} is not of the form {pattern.pattern}")
    for field in FIELDS[1:2] + FIELDS[4:]:
        if type(value[field]) is not int or not 0 <= value[field] <= MAX_COUNT:
            raise FormatError(f"row {number}: {field} must be a whole number from 0 to {MAX_COUNT}")
    texts = {"chrom": sys.intern(value["chrom"]), "ref": sys.intern(value["ref"]), "alt": sys.intern(value["alt"])}
    return Row(**{**value, **texts})


def _checked(row: Row, number: int) -> Row:
    """The row, where its numbers agree."""
    people = row.hom_ref + row.het + row.hom_alt
    if not 1 <= row.pos <= MAX_POS:
        raise FormatError(f"row {number}: pos must be from 1 to {MAX_POS}")
    if row.an != 2 * people + row.hemi_ref + row.hemi_alt + row.half_missing:
        raise FormatError(f"row {number}: an must be 2*(hom_ref + het + hom_alt) + hemi_ref + hemi_alt + half_missing")
    if not 0 <= row.half_alt <= row.half_missing:
        raise FormatError(f"row {number}: ac does not agree with het, hom_alt, hemi_alt and half_missing")
    return row


def _twice(rows: Sequence[Row]) -> set[Place]:
    """The sites of a variant that is there under two names: its people would be counted twice. `rows` are sorted."""
    names = Counter(contig(chrom) for chrom in {row.chrom for row in rows})
    one_name = {chrom for chrom in {row.chrom for row in rows} if names[contig(chrom)] == 1}
    found: dict[Variant, Place] = {}
    twice: set[Place] = set()
    for row in rows:
        if len(row.ref) == len(row.alt) == 1 and row.chrom in one_name:
            continue  # it has no other name
        place = row[:3]
        short = normalise(Variant(*row[:4]))
        written_so = Variant(short.chrom, *row[1:4])
        if short == written_so and names[short.chrom] == 1:
            continue  # another name of it is found from there
        others = [found.setdefault(short, place)]
        others += [(row.chrom, short.pos, short.ref)] if short != written_so else []
        for other in others:
            if other != place and any(normalise(Variant(*r[:4])) == short for r in _of_place(rows, other)):
                twice |= {place, other}
    return twice


def _of_place(rows: Sequence[Row], place: Place) -> Iterator[Row]:
    """The rows of one site, of rows that are sorted."""
    for number in range(bisect_left(rows, place), len(rows)):
        if rows[number][:3] != place:
            return
        yield rows[number]


def crowded(sites: Sequence[Site]) -> list[Site]:
    """The sites, sorted by place, with the rows of the records that overlap them: a person's haplotype has one allele
    of all of these. Those of `why` count nobody.
    """
    found: list[Site] = []
    start, chrom, end = 0, "", 0
    for place, site in enumerate(sites):
        here, pos, ref = site.place
        if here != chrom or pos > end:
            _put_crowd(found, start)
            start, chrom, end = place, here, 0
        end = max(end, pos + len(ref) - 1)
        found.append(site)
    _put_crowd(found, start)
    return found


def _put_crowd(sites: list[Site], start: int) -> None:
    """The crowd of the sites from `start` on, which overlap each other."""
    if len(sites) - start < 2:
        return
    rows = tuple(row for site in sites[start:] if not site.why for row in site.rows)
    for place in range(start, len(sites)):
        site = sites[place]
        if not site.why and len(rows) > len(site.rows):
            sites[place] = Site(site.rows, "crowded") if len(rows) > MAX_ALLELES else Site(site.rows, crowd=rows)


def why_not(rows: Sequence[Row]) -> str:
    """Why these rows of one site cannot leave: the word of `variants.WITHHELD`, empty where they can."""
    return why_not_one([_counted(row) for row in rows]) if rows[1:] else ""


def _counted(row: Row) -> Counted:
    return Counted(row.alt, row.ac, row.an, row.hom_ref + row.het + row.hom_alt, row.half_missing, row.missing)


class _Text:
    """UTF-8 text read piece by piece, with a place in it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._buffer = ""
        self._at = 0
        self._ended = False

    def _more(self) -> bool:
        """Reads on; False at the end."""
        if self._ended:
            return False
        piece = self._file.read(256 * 1024)
        self._ended = not piece
        try:
            self._buffer = self._buffer[self._at :] + self._decoder.decode(piece, final=self._ended)
        except UnicodeDecodeError:
            raise FormatError("it is not UTF-8") from None
        self._at = 0
        return True

    def peek(self) -> str:
        """The next character that is no white space, kept; empty at the end."""
        while True:
            space = _SPACE.match(self._buffer, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def expect(self, *kinds: str) -> str:
        found = self.peek()
        if found not in kinds or not found:
            raise FormatError(f'it is not JSON of the form {{"format": "{FORMAT}", "sites": […]}}')
        self._at += 1
        return found

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The fields' texts of each row that is written plainly, up to one that is not, or that is the last."""
        while found := _PLAIN.match(self._buffer, self._at):
            self._at = found.end()
            yield found.groups()

    def value(self) -> Any:  # any JSON value
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                if len(self._buffer) - self._at > MAX_ROW or isinstance(error, RecursionError) or not self._more():
                    raise FormatError("it is not JSON, or a row is far too long") from None
                continue
            if end - self._at > MAX_ROW:
                raise FormatError("a row is far too long")
            self._at = end
            return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise FormatError("a field is given twice in one row")
    return value


def _small_int(text: str) -> int:
    if len(text) > 12:
        raise FormatError("a number is too long")
    return int(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_no_twins, parse_int=_small_int)


def _sites(text: _Text, skipped: dict[str, int]) -> Iterator[Any]:
    """Each value of `sites`; what `skipped` holds goes into the dict of that name."""
    text.expect("{")
    seen: list[str] = []
    while True:
        if text.peek() != '"':
            text.expect('"')
        key = text.value()
        text.expect(":")
        if key in seen or key not in ("format", "sites", "skipped"):
            raise FormatError("it must have exactly the fields format, sites and, where sites were left out, skipped")
        seen.append(key)
        if key == "format":
            if text.value() != FORMAT:
                raise FormatError(f"format is not {FORMAT}")
        elif key == "skipped":
            skipped.update(_skipped(text.value()))
        else:
            yield from _array(text)
        if text.expect(",", "}") == "}":
            break
    if not {"format", "sites"} <= set(seen) or text.peek():
        raise FormatError("it must have exactly the fields format and sites, and nothing after them")


def _skipped(value: Any) -> dict[str, int]:  # whatever JSON held
    good = isinstance(value, dict) and all(
        why in WITHHELD and type(n) is int and 0 < n <= MAX_COUNT for why, n in value.items()
    )
    if not good:
        raise FormatError(f"skipped must have numbers above 0 by reason, of {', '.join(WITHHELD)}")
    return dict(value)


def _array(text: _Text) -> Iterator[Any]:
    text.expect("[")
    if text.peek() == "]":
        text.expect("]")
        return
    while True:
        yield from text.rows()
        if text.peek() != "{":
            text.expect("{")
        yield text.value()
        if text.expect(",", "]") == "]":
            return
