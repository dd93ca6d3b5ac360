"""Adds up allele counts of several nodes (release format `gdi-allele-counts/1`): a number only where every node
released the site.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gdi.contracts.variants import ALTERNATE, CONTIG, MAX_POS, REFERENCE, whole
from gdi.releases.kind import BadReleaseError

HEADER = "CHROM\tPOS\tREF\tALT\tAC\tAN\tAF\tNODES"
Count = Annotated[int, Field(ge=0, lt=2**53, strict=True)]


class ReleasedRow(BaseModel):
    """One alternate allele at one node; the genotype classes are checked at the gateway and not needed here."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    chrom: str = Field(pattern=whole(CONTIG))
    pos: int = Field(ge=0, le=MAX_POS, strict=True)
    ref: str = Field(pattern=whole(REFERENCE))
    alt: str = Field(pattern=whole(ALTERNATE))
    ac: Count
    an: Count


class ReleasedCounts(BaseModel):
    model_config = ConfigDict(extra="ignore")
    format: str = Field(pattern=r"^gdi-allele-counts/1$")
    sites: list[ReleasedRow]
    withheld: dict[str, int] = Field(default_factory=dict)


@dataclass(frozen=True)
class MergedCounts:
    """One row of the answer. `ac` and `an` are None where some node withheld the site (or does not know it); `nodes`
    released it.
    """

    chrom: str
    pos: int
    ref: str
    alt: str
    ac: int | None
    an: int | None
    nodes: tuple[str, ...]

    @property
    def af(self) -> float | None:
        return self.ac / self.an if self.ac is not None and self.an else None


def parse(node: str, data: bytes) -> ReleasedCounts:
    """A node's release. BadReleaseError naming node and place."""
    try:
        return ReleasedCounts.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"]) or "document"
        raise BadReleaseError(f"The allele counts of {node} are not of their format: {place}: {first['msg']}") from None


Site = tuple[str, int, str]


def merge(releases: Mapping[str, ReleasedCounts], nodes: Iterable[str]) -> list[MergedCounts]:
    """Sums over `nodes` (all of the plan), sorted by chromosome, position and alleles.

    A site is (chrom, pos, ref): where a node released it without an alternate allele that another node has, it has no
    copy of that allele, and its AN counts. A site that a node lists twice is ambiguous and counts as withheld.
    """
    members = sorted(set(nodes))
    alleles: dict[Site, dict[str, dict[str, int]]] = {}
    totals: dict[Site, dict[str, int]] = {}
    ambiguous: set[Site] = set()
    for node, release in releases.items():
        for row in release.sites:
            site = (row.chrom, row.pos, row.ref)
            of_alt = alleles.setdefault(site, {}).setdefault(row.alt, {})
            an = totals.setdefault(site, {})
            if node in of_alt or an.get(node, row.an) != row.an or row.ac > row.an:
                ambiguous.add(site)
            of_alt[node] = row.ac
            an[node] = row.an
    answers = []
    for site, by_alt in alleles.items():
        released = tuple(n for n in members if n in totals[site])
        whole = len(released) == len(members) and site not in ambiguous
        an_sum = sum(totals[site].values()) if whole else None
        for alt, counts in by_alt.items():
            answers.append(MergedCounts(*site, alt, sum(counts.values()) if whole else None, an_sum, released))
    return sorted(answers, key=lambda a: (natural(a.chrom), a.pos, a.ref, a.alt))


def natural(chrom: str) -> tuple[tuple[int, int, str], ...]:
    """chr2 before chr10 before chrX."""
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", chrom) if p)


def table(answers: Iterable[MergedCounts]) -> str:
    """The answer as tab-separated text; AC, AN and AF empty where withheld, AF empty where nobody was called; NODES:
    how many nodes released the site.
    """
    lines = [HEADER]
    for a in answers:
        af = "" if a.af is None else f"{a.af:.6g}"
        lines.append("\t".join([a.chrom, str(a.pos), a.ref, a.alt, _text(a.ac), _text(a.an), af, str(len(a.nodes))]))
    return "\n".join(lines) + "\n"


def _text(value: int | None) -> str:
    return "" if value is None else str(value)
