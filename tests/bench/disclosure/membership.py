"""Whether a reader who has a person's genome can tell that the person is in a `sensitive` cohort: the likelihood-ratio
test of what the gateway releases within the budget, against people of the same population who are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from gdi.releases.allele_counts.check import answer
from gdi.releases.allele_counts.table import Row, Site
from gdi.releases.disclosure import membership
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules
from tests.bench.disclosure.figure import Figure, at_least, at_most
from tests.support.disclosure_node import cohort

Array = np.ndarray[Any, Any]
RULES = Rules(5, 10_000_000, absent="reference")
SPLITS, ERROR = 10, 0.05
SIMULATED = 5000


def figures() -> Iterator[Figure]:
    for name, one in (("real-cohort", partial(_real)), ("5000-simulated", partial(_simulated))):
        powers, shares = zip(*(one(np.random.default_rng(seed)) for seed in range(SPLITS)), strict=True)
        yield at_most(f"membership-power-{name}", float(np.mean(powers)), "at 5 % error", 0.2)
        yield at_least(f"membership-sites-{name}", 100 * float(np.mean(shares)), "% of the budget", 90)


def _real(random: np.random.Generator) -> tuple[float, float]:
    """A third of the real cohort is asked about, a third is the reader's reference, a third is outside."""
    genotypes = np.array([[max(0, copies) for copies in people] for _, people in cohort(381)]).T
    inside, reference, outside = np.array_split(random.permutation(len(genotypes)), 3)
    frequencies = (genotypes[reference].sum(axis=0) + 1) / (2 * len(reference) + 2)
    return _power(genotypes[inside], genotypes[outside], frequencies)


def _simulated(random: np.random.Generator) -> tuple[float, float]:
    """Independent sites; the reader knows the population's frequencies exactly."""
    frequencies = random.uniform(0.05, 0.95, size=4000)
    people = random.binomial(2, frequencies, size=(2 * SIMULATED, 4000)).astype(np.int8)
    return _power(people[:SIMULATED], people[SIMULATED:], frequencies)


def _power(inside: Array, outside: Array, frequencies: Array) -> tuple[float, float]:
    """(share of the inside that is found where 5 % of the outside is taken for it, share of the budget that left)."""
    people = len(inside)
    keys, exact = [], {}
    for place in range(inside.shape[1]):
        count = np.bincount(inside[:, place], minlength=3)
        row = Row("2", place + 1, "A", "C", int(count[1] + 2 * count[2]), 2 * people, *map(int, count), 0, 0, 0, 0)
        (one,) = answer(Site((row,)), RULES, Past())
        if one.rare != "alt" and one.reason != "missing":  # it is listed
            keys.append([one.key])
            exact[len(keys) - 1] = (place, one.ac.exact)
    whole = membership.affordable(people, membership.budget())
    budget = membership.affordable(people, membership.budget() * (1 - membership.RESERVE))
    chosen = membership.chosen(keys, budget)
    sites = [exact[number][0] for number in sorted(chosen) if exact[number][1]]
    released = np.clip(inside[:, sites].sum(axis=0) / (2 * people), 1e-4, 1 - 1e-4)
    known = np.clip(frequencies[sites], 1e-4, 1 - 1e-4)

    def statistic(genotypes: Array) -> Array:
        alternate, other = np.log(released / known), np.log((1 - released) / (1 - known))
        return genotypes[:, sites] @ alternate + (2 - genotypes[:, sites]) @ other

    threshold = np.quantile(statistic(outside), 1 - ERROR)
    return float((statistic(inside) > threshold).mean()), len(chosen) / whole
