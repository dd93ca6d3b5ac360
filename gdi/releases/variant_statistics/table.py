"""Reads `gdi-variant-statistics/1`: text separated by tabs, a line that says what was analysed, a heading, a line for
each variant. FormatError names the line and the field, never a value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import IO, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gdi.contracts.variants import ALTERNATE, CONTIG, MAX_POS, REFERENCE
from gdi.releases.kind import FormatError

FORMAT = "gdi-variant-statistics/1"  # what a workflow writes, and what leaves the node
HEADING = (
    *("CHROM", "POS", "REF", "ALT", "N", "CASES", "CARRIERS", "OTHERS", "CASES_CARRIERS", "CASES_OTHERS"),
    *("AF", "BETA", "SE"),
)
BURDEN_HEADING = (*HEADING, "LARGEST", "CASES_LARGEST", "CONTROLS_LARGEST")
"""Of genes: also the most people who carry any one rare allele of the gene: of all, of cases, of controls."""
RELEASED = ("CHROM", "POS", "REF", "ALT", "N", "AF", "BETA", "SE")
MAX_LINE, MAX_HEAD = 4096, 16_384  # bytes
_PATTERNS = tuple(re.compile(pattern) for pattern in (CONTIG, REFERENCE, ALTERNATE))
_COUNT = re.compile(r"0|[1-9][0-9]{0,8}")
_NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?")
Column = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")


class Burden(BaseModel):
    """Of genes instead of variants: a row is of the people who carry a rare allele of a gene, its ALT `<NAME>`, its POS
    the gene's start. `genes`: SHA-256 of the list; `max_frequency`: up to which an allele is rare.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    test: Literal["collapsing", "score"]
    genes: str = Field(pattern=r"^[0-9a-f]{64}$")
    max_frequency: float = Field(gt=0, le=0.05)


class Analysis(BaseModel):
    """What was analysed: the first line, as JSON after a `#`. `people` complete for all columns; `cases` of them, 0 for
    a number. The columns must be ones that the node's descriptors declare.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["gdi-variant-statistics/1"]
    model: Literal["linear", "logistic"]
    phenotype: str = Column
    covariates: tuple[str, ...] = Field(default=(), max_length=50)
    people: int = Field(ge=0, lt=2**31, strict=True)
    cases: int = Field(ge=0, lt=2**31, strict=True)
    burden: Burden | None = None

    @property
    def question(self) -> str:
        """What was asked, of whichever people, as JSON."""
        return self.model_dump_json(exclude={"people", "cases"}, exclude_none=True)

    @property
    def line(self) -> str:
        return "#" + json.dumps(self.model_dump(mode="json", exclude_none=True), separators=(",", ":"), sort_keys=True)


class StatisticsRow(NamedTuple):
    """A variant. People: analysed, cases, carriers of ALT, carriers of another allele, and these two among cases. Of a
    gene: carriers of a rare allele, the others, and who carry its commonest rare allele, of all, of cases, of controls.
    """

    chrom: str
    pos: int
    ref: str
    alt: str
    people: int
    cases: int
    carriers: int
    others: int
    cases_carriers: int
    cases_others: int
    frequency: float
    beta: float
    se: float
    largest: tuple[int, ...] = ()

    @property
    def counts(self) -> tuple[int, ...]:
        return self[4:10]


def analysis(line: bytes) -> Analysis:
    """The first line. FormatError."""
    if len(line) > MAX_HEAD or line[:1] != b"#":
        raise FormatError("line 1 must be # and JSON that says what was analysed")
    try:
        return Analysis.model_validate_json(line[1:])
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"]) or "JSON"
        raise FormatError(f"line 1: {place} is not of the form that {FORMAT} has") from None


def rows(file: IO[bytes], of: Analysis, *, max_rows: int) -> Iterator[StatisticsRow]:
    """The variants. FormatError."""
    heading = BURDEN_HEADING if of.burden else HEADING
    if file.readline(MAX_HEAD).rstrip(b"\n").split(b"\t") != [name.encode() for name in heading]:
        raise FormatError(f"line 2 must be the heading {' '.join(heading)}")
    number = 2
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if number - 2 > max_rows:
            raise FormatError(f"more than {max_rows} rows, which is what this node looks at")
        if len(line) > MAX_LINE or not line.isascii():
            raise FormatError(f"line {number}: it is too long, or no ASCII text")
        yield _row(line.decode().rstrip("\n").split("\t"), number, of)


def check_place(chrom: str, pos: str, ref: str, alt: str, number: int) -> None:
    """FormatError where a line does not name a variant."""
    for name, text, pattern in zip(("CHROM", "REF", "ALT"), (chrom, ref, alt), _PATTERNS, strict=True):
        if not pattern.fullmatch(text):
            raise FormatError(f"line {number}: {name} is not of the form {pattern.pattern}")
    if not pos.isascii() or not pos.isdigit() or len(pos) > 10 or not 1 <= int(pos) <= MAX_POS:
        raise FormatError(f"line {number}: POS must be from 1 to {MAX_POS}")


def _row(cells: list[str], number: int, of: Analysis) -> StatisticsRow:
    heading = BURDEN_HEADING if of.burden else HEADING
    if len(cells) != len(heading):
        raise FormatError(f"line {number}: {len(cells)} columns instead of {len(heading)}")
    chrom, pos, ref, alt, *rest = cells
    check_place(chrom, pos, ref, alt, number)
    for name, text in zip((*heading[4:10], *heading[13:]), (*rest[:6], *rest[9:]), strict=True):
        if not _COUNT.fullmatch(text):
            raise FormatError(f"line {number}: {name} must be a whole number")
    for name, text in zip(HEADING[10:], rest[6:9], strict=True):
        if not _NUMBER.fullmatch(text):
            raise FormatError(f"line {number}: {name} must be a number")
    numbers: tuple[Any, ...] = (*map(int, rest[:6]), *map(float, rest[6:9]), tuple(map(int, rest[9:])))
    row = StatisticsRow(chrom, int(pos), ref, alt, *numbers)
    if not row.cases <= of.cases or not row.people <= of.people or row.cases > row.people:
        raise FormatError(f"line {number}: more people or cases than were analysed")
    if max(row.carriers, row.others) > row.people or row.carriers + row.others < row.people:
        raise FormatError(f"line {number}: carriers and people do not agree")
    if max(row.cases_carriers, row.cases_others) > row.cases or row.cases_carriers + row.cases_others < row.cases:
        raise FormatError(f"line {number}: carriers and cases do not agree")
    if of.burden:
        _check_gene(row, number)
    if not 0 <= row.frequency <= 1 or not math.isfinite(row.beta) or not 0 < row.se < math.inf:
        raise FormatError(f"line {number}: AF must be from 0 to 1, SE above 0, and all numbers finite")
    return row


def _check_gene(row: StatisticsRow, number: int) -> None:
    """A person carries a rare allele of the gene, or none: there are two kinds of people, not three."""
    if row.ref != "N" or not row.alt.startswith("<"):
        raise FormatError(f"line {number}: REF must be N and ALT <NAME> of a gene")
    if row.carriers + row.others != row.people or row.cases_carriers + row.cases_others != row.cases:
        raise FormatError(f"line {number}: a gene's carriers and others must be all people, also among cases")
    groups = row.carriers, row.cases_carriers, row.carriers - row.cases_carriers
    if row.cases and any(one > most for one, most in zip(row.largest, groups, strict=True)):
        raise FormatError(f"line {number}: more people carry one allele than carry any")
    if row.largest[0] > row.carriers:
        raise FormatError(f"line {number}: more people carry one allele than carry any")
