"""Adds up the allele counts of several nodes (release format `gdi-allele-counts-released/1`): exact numbers where every
node's are exact, intervals that hold where they are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gdi.contracts.variants import ALTERNATE, CONTIG, MAX_POS, REFERENCE, whole
from gdi.releases.kind import BadReleaseError

MAX_POINTS = 6_000  # of a picture
BINS = 40  # of a histogram of frequencies
COLUMNS = ("CHROM", "POS", "REF", "ALT", "AC", "AN", "AF", "NODES", "AC_MIN", "AC_MAX", "AN_MIN", "AN_MAX", "REASON")
Count = Annotated[int, Field(ge=0, lt=2**53, strict=True)]
Reason = Literal["", "small", "missing"]
Site = tuple[str, int, str]


class ReleasedRow(BaseModel):
    """One alternate allele at one node: what is known of its counts, and why where they are no exact ones."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    chrom: str = Field(pattern=whole(CONTIG))
    pos: int = Field(ge=0, le=MAX_POS, strict=True)
    ref: str = Field(pattern=whole(REFERENCE))
    alt: str = Field(pattern=whole(ALTERNATE))
    ac_min: Count
    ac_max: Count
    an_min: Count
    an_max: Count
    reason: Reason = ""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.ac_min > self.ac_max or self.an_min > self.an_max or self.ac_min > self.an_max:
            raise ValueError("an interval ends before it begins")
        return self


class Unlisted(BaseModel):
    """What holds at this node for each allele that its release does not list: at most so many copies, of so many."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    ac_max: Count
    an_max: Count
    reason: Literal["small", "missing"]


class ReleasedCounts(BaseModel):
    model_config = ConfigDict(extra="ignore")
    format: str = Field(pattern=r"^gdi-allele-counts-released/1$")
    unlisted: Unlisted
    sites: list[ReleasedRow]
    withheld: dict[str, int] = Field(default_factory=dict)


@dataclass(frozen=True)
class MergedCounts:
    """One row of the answer. `ac` (lowest, highest) and `an` are sums over the nodes; `nodes` told AC exactly;
    `reasons`, sorted, are those of the others.
    """

    chrom: str
    pos: int
    ref: str
    alt: str
    ac: tuple[int, int]
    an: tuple[int, int]
    nodes: tuple[str, ...]
    reasons: tuple[str, ...] = ()

    @property
    def count(self) -> int | None:
        """AC where it is exact."""
        return self.ac[0] if self.ac[0] == self.ac[1] and not self.reasons else None

    @property
    def total(self) -> int | None:
        """AN where it is exact."""
        return self.an[0] if self.an[0] == self.an[1] else None

    @property
    def af(self) -> float | None:
        return self.count / self.total if self.count is not None and self.total else None

    @property
    def missing(self) -> bool:
        """Whether hardly anybody was called, at any node."""
        return self.reasons == ("missing",) and not self.nodes

    @property
    def withheld(self) -> bool:
        """Whether AC or AN is an interval because of a node."""
        return (self.count is None or self.total is None) and not self.missing


def parse(node: str, data: bytes) -> ReleasedCounts:
    """A node's release. BadReleaseError naming node and place."""
    try:
        return ReleasedCounts.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"]) or "document"
        raise BadReleaseError(f"The allele counts of {node} are not of their format: {place}: {first['msg']}") from None


def merge(releases: Mapping[str, ReleasedCounts], nodes: Iterable[str]) -> list[MergedCounts]:
    """Sums over `nodes` (all of the plan), sorted by chromosome, position and alleles: one row for each allele that a
    node lists. A node that does not list it adds what its release says of unlisted alleles; its AN is known where it
    lists another allele of the site. An allele that a node lists twice may have any number of copies there.
    """
    wanted = sorted(set(nodes))
    alleles: dict[Site, dict[str, dict[str, ReleasedRow]]] = {}
    totals: dict[Site, dict[str, tuple[int, int]]] = {}
    for node, release in releases.items():
        for row in release.sites:
            site = (row.chrom, row.pos, row.ref)
            of_alt = alleles.setdefault(site, {}).setdefault(row.alt, {})
            calls = totals.setdefault(site, {}).setdefault(node, (row.an_min, row.an_max))
            if node in of_alt or calls != (row.an_min, row.an_max):
                most = max(row.an_max, calls[1])
                row = row.model_copy(update={"ac_min": 0, "ac_max": most, "an_min": 0, "an_max": most})
                row = row.model_copy(update={"reason": "small"})
                totals[site][node] = 0, most
            of_alt[node] = row
    answers = []
    for site, by_alt in alleles.items():
        for alt, rows in by_alt.items():
            answers.append(_answer(site, alt, rows, totals[site], releases, wanted))
    return sorted(answers, key=lambda a: (natural(a.chrom), a.pos, a.ref, a.alt))


def _answer(
    site: Site,
    alt: str,
    rows: Mapping[str, ReleasedRow],
    totals: Mapping[str, tuple[int, int]],
    releases: Mapping[str, ReleasedCounts],
    nodes: list[str],
) -> MergedCounts:
    ac, an, exact, reasons = [0, 0], [0, 0], [], set[str]()
    for node in nodes:
        if row := rows.get(node):
            counts, calls, reason = (row.ac_min, row.ac_max), totals[node], str(row.reason)
        else:
            unlisted = releases[node].unlisted
            calls = totals.get(node, (0, unlisted.an_max))
            counts, reason = (0, min(unlisted.ac_max, calls[1])), str(unlisted.reason)
        for sums, ends in ((ac, counts), (an, calls)):
            sums[0] += ends[0]
            sums[1] += ends[1]
        if reason:
            reasons.add(reason)
        elif counts[0] == counts[1]:
            exact.append(node)
    return MergedCounts(*site, alt, (ac[0], ac[1]), (an[0], an[1]), tuple(exact), tuple(sorted(reasons)))


def natural(chrom: str) -> tuple[tuple[int, int, str], ...]:
    """chr2 before chr10 before chrX."""
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", chrom) if p)


def table(answers: Iterable[MergedCounts]) -> str:
    """The answer as tab-separated text. AC, AN and AF are empty where they are not exact; AC lies between AC_MIN and
    AC_MAX, AN between AN_MIN and AN_MAX. NODES: how many nodes told AC exactly. REASON: why the others did not.
    """
    lines = ["\t".join(COLUMNS)]
    for a in answers:
        af = "" if a.af is None else f"{a.af:.6g}"
        cells = [a.chrom, a.pos, a.ref, a.alt, _text(a.count), _text(a.total), af, len(a.nodes), *a.ac, *a.an]
        lines.append("\t".join(map(str, [*cells, ",".join(a.reasons)])))
    return "\n".join(lines) + "\n"


def _text(value: int | None) -> str:
    return "" if value is None else str(value)
