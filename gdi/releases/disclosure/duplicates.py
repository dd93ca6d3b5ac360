"""One person under two ids: genotypes are compared at common sites. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from gdi.releases.disclosure.membership import order
from gdi.releases.disclosure.variants import Variant

SITES, FEWEST = 1000, 200  # that are compared; with fewer nothing can be said
COMMON = (0.2, 0.8)  # frequencies of the alternate allele
SAME = 0.95  # of the sites at which both were called: unrelated people agree at half of them, siblings at two thirds
Copies = Sequence[int]  # of the alternate allele by person, -1 where there is no call


class TooFewSitesError(Exception):
    """There are too few common sites to tell people apart."""


@dataclass(frozen=True)
class Genome:
    """A person's genotypes at the compared sites as bits: which were called, and which are heterozygous or homozygous
    for the alternate allele.
    """

    called: int = 0
    het: int = 0
    hom: int = 0

    def agreement(self, other: Genome) -> float:
        """Share of the sites at which both were called that are equal; 0 where there are fewer than FEWEST."""
        both = self.called & other.called
        if both.bit_count() < FEWEST:
            return 0.0
        different = ((self.het ^ other.het) | (self.hom ^ other.hom)) & both
        return 1 - different.bit_count() / both.bit_count()


def common(sites: Iterable[tuple[Variant, Copies]]) -> list[tuple[Variant, Copies]]:
    """At most SITES common sites, the first in the public order. TooFewSitesError."""
    found = []
    for variant, copies in sites:
        called = [one for one in copies if one >= 0]
        if called and COMMON[0] <= sum(called) / (2 * len(called)) <= COMMON[1]:
            found.append((variant, copies))
    if len(found) < FEWEST:
        raise TooFewSitesError(f"there are {len(found)} common sites, and {FEWEST} are needed to tell people apart")
    return sorted(found, key=lambda site: order(site[0]))[:SITES]


def genomes(people: Sequence[str], sites: Iterable[tuple[Variant, Copies]]) -> dict[str, Genome]:
    """Each person's genotypes at these sites."""
    planes = {person: [0, 0, 0] for person in people}
    for place, (_, copies) in enumerate(sites):
        for person, count in zip(people, copies, strict=True):
            if count >= 0:
                planes[person][0] |= 1 << place
            if count > 0:
                planes[person][min(count, 2)] |= 1 << place
    return {person: Genome(*bits) for person, bits in planes.items()}


def pairs(people: Mapping[str, Genome]) -> list[tuple[str, str]]:
    """Ids that are of one person, or of identical twins."""
    return [(one, other) for (one, a), (other, b) in combinations(people.items(), 2) if a.agreement(b) >= SAME]
