"""Membership: how many frequencies may leave before a reader who has a person's genome can tell that the person is in
the cohort, and the order in which sites leave, the same at all nodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from statistics import NormalDist

from gdi.releases.disclosure.parts import cut
from gdi.releases.disclosure.variants import Variant, key

POWER, ERROR = 0.2, 0.05  # a reader who is wrong about 5 % of outsiders finds at most 20 % of the members
SHARE = 0.1  # of the budget, that one run may take
RESERVE = 0.05  # of the budget, never used: a reader's statistic is not exactly normal


def budget(power: float = POWER, error: float = ERROR) -> float:
    """b = (z(1 - error) + z(power))², in sites for each person: 0.65 by default (AUC 0.71)."""
    normal = NormalDist()
    return float((normal.inv_cdf(1 - error) + normal.inv_cdf(power)) ** 2)


def cost(sites: int, people: int, statistics: int = 1) -> float:
    """What a release of sites that are new for a cohort costs each of its people."""
    return statistics * sites / people


def affordable(people: int, left: float, statistics: int = 1, share: float = 1.0) -> int:
    """How many new sites a cohort may release with so much budget `left`; `share` of it in one run."""
    return max(0, int(left * share * people / statistics + 1e-9))


def order(variant: Variant) -> bytes:
    """The place of a site in the public order: SHA-256 of its normalised name."""
    return hashlib.sha256(key(variant).encode()).digest()


def first(variants: Iterable[Variant], count: int) -> Sequence[Variant]:
    """The first `count` of these in the public order."""
    return sorted(variants, key=order)[:count]


def most_spent(own: AbstractSet[Hashable], uses: Sequence[tuple[AbstractSet[Hashable], float]]) -> float:
    """What was taken of the budget of those people of `own` who have least left: the costs of all cohorts that a person
    is in add up. `uses`: cohorts with what each of them cost.
    """
    parts = cut([own, *(cohort for cohort, _ in uses)])
    sums = [
        sum(cost for place, (_, cost) in enumerate(uses, 1) if part.cohorts >> place & 1)
        for part in parts
        if part.cohorts & 1
    ]
    return max(sums, default=0.0)


def chosen(units: Sequence[Sequence[str]], statistics: int) -> frozenset[int]:
    """Which units leave, by their places: those without new keys, and of the others the first in the public order whose
    keys together are at most `statistics`. `units`: the keys of each that have not left before.
    """
    free = [place for place, keys in enumerate(units) if not keys]
    new = sorted((hashlib.sha256(min(keys).encode()).digest(), place) for place, keys in enumerate(units) if keys)
    left = statistics
    for _, place in new:
        left -= len(units[place])
        if left < 0:
            break
        free.append(place)
    return frozenset(free)
