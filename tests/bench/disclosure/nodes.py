"""What honest users get: three small nodes of the real cohort, and 24 large ones that are simulated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gdi.releases.allele_counts.check import answer
from gdi.releases.allele_counts.table import Row, Site
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules
from tests.bench.disclosure.figure import Figure, at_least
from tests.support.disclosure_node import cohort

FLOOR = 5
RULES = Rules(FLOOR, 10_000_000, absent="reference")
NODES, PEOPLE, FST = 24, 5000, 0.01
CLASSES = {"AF-at-least-1-percent": (0.01, 0.5, 95.0), "AF-0.1-to-1-percent": (0.001, 0.01, 50.0)}
SITES = 400  # of each class


def small() -> Iterator[Figure]:
    """240 people over 3 nodes."""
    thirds = [range(first, 240, 3) for first in range(3)]
    good = exact = sites = 0
    for place, genotypes in cohort(381):
        called = [copies for copies in genotypes[:240] if copies >= 0]
        if not called or not 0.05 <= sum(called) / (2 * len(called)) <= 0.95:
            continue
        sites += 1
        width = withholding = 0
        for people in thirds:
            count = [[genotypes[one] for one in people].count(copies) for copies in (0, 1, 2, -1)]
            row = Row(*place, count[1] + 2 * count[2], 2 * sum(count[:3]), *count[:3], 0, 0, 0, count[3])
            (one,) = answer(Site((row,)), RULES, Past())
            width, withholding = width + one.ac.high - one.ac.low, withholding + (not one.ac.exact)
        good += width <= withholding * 2 * (FLOOR - 1)
        exact += width == 0
    yield at_least(f"240-people-3-nodes-of-{sites}-sites", 100 * good / sites, "% with AC or a narrow interval", 100)
    yield Figure("240-people-3-nodes-exact", 100 * exact / sites, "% exact")


def large() -> Iterator[Figure]:
    """24 nodes of 5,000 people; frequencies by node after Balding and Nichols."""
    random = np.random.default_rng(15)
    for name, (low, high, target) in CLASSES.items():
        good = exact = 0
        for number, frequency in enumerate(np.exp(random.uniform(np.log(low), np.log(high), SITES))):
            scale = (1 - FST) / FST
            least = most = 0
            for share in random.beta(frequency * scale, (1 - frequency) * scale, NODES):
                count = random.multinomial(PEOPLE, [(1 - share) ** 2, 2 * share * (1 - share), share**2]).tolist()
                row = Row("2", number + 1, "A", "C", count[1] + 2 * count[2], 2 * PEOPLE, *count, 0, 0, 0, 0)
                (one,) = answer(Site((row,)), RULES, Past())
                least, most = least + one.ac.low, most + one.ac.high
            good += most - least <= 0.1 * most
            exact += most == least
        yield at_least(f"24-nodes-{name}", 100 * good / SITES, "% with AC or within 10 %", target)
        yield Figure(f"24-nodes-{name}-exact", 100 * exact / SITES, "% exact")
