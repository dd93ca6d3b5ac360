"""Whether a matrix stays, by its own numbers: groups of enough people, numbers of many values, no sum that few people
have most of, and none that a reader could compute of few: by categories, or by any combination of its columns.
"""

from __future__ import annotations

from gdi.releases.cross_table.node import AnsweredTable
from gdi.releases.cross_table.table import Key
from gdi.releases.disclosure import parts
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.sums import LEAST_OF_GROUP, MOST_OF_TWO, largest_share
from gdi.releases.kind import Rules
from gdi.releases.matrix.forms import NumberSum, ProductSum
from gdi.releases.matrix.table import SumMatrix

LEAST_PEOPLE, LEAST_VALUES = 50, 20


def stays(unit: SumMatrix, people: AnsweredTable, rules: Rules) -> bool:
    """Whether any of it would tell of few people: then nothing of it leaves."""
    if unit.people < max(LEAST_PEOPLE, 2 * rules.floor) and Rule.GROUPS not in rules.off:
        return True
    if Rule.PAIRS not in rules.off and not all(people.ranges[key].exact for key in unit.counts):
        return True
    if Rule.SUMS not in rules.off and smallest_union(unit) < max(LEAST_OF_GROUP, rules.floor):
        return True
    few_have_most = largest_share(unit.leverage, rules.floor) >= MOST_OF_TWO or unit.support[0] < LEAST_OF_GROUP
    if few_have_most and Rule.LEVERAGE not in rules.off:
        return True
    return any(of_few(one, rules) for one in unit.sums.values()) or any(
        product_of_few(one, rules) for one in unit.products.values()
    )


def of_few(one: NumberSum, rules: Rules) -> bool:
    """Of a number in a group."""
    if one.values < LEAST_VALUES and Rule.VALUES not in rules.off:
        return True
    if one.apart < rules.floor and Rule.APART not in rules.off:
        return True
    if _few_are_odd(one.odd, rules):
        return True
    return dominated(one.sums, rules) or dominated(one.squares, rules)


def product_of_few(one: ProductSum, rules: Rules) -> bool:
    """Of two numbers: also of those in whom both are not as in most people."""
    if one.apart < rules.floor and Rule.APART not in rules.off:
        return True
    return _few_are_odd(one.odd, rules) or dominated(one.products, rules)


def _few_are_odd(odd: int, rules: Rules) -> bool:
    """Whether few alone have other last digits: 70.5 where all others have whole kilograms. The sum's are theirs."""
    return 0 < odd < rules.floor and Rule.ODD not in rules.off


def dominated(shares: tuple[float, ...], rules: Rules) -> bool:
    return largest_share(shares, rules.floor) >= MOST_OF_TWO and Rule.DOMINANCE not in rules.off


def smallest_union(unit: SumMatrix) -> int:
    """The fewest people whose sum of a number follows from those of the categories: everybody, or categories of one
    column. 0 where others' does, as of the men who do not smoke where no woman smokes: whether few of them have most of
    it, nobody has said.
    """
    cells = [key for key, count in unit.table.counts.items() if count]
    cohorts = [frozenset(cells)]
    for place in range(len(unit.table.columns)):
        levels = sorted({key[place] for key in cells if key[place] is not None}, key=lambda level: level or 0)
        cohorts += [frozenset(key for key in cells if key[place] == level) for level in levels[1:]]
    counts = [sum(unit.table.counts[key] for key in cohort) for cohort in cohorts]
    number = {part.cohorts: i for i, part in enumerate(parts.cut(cohorts))}
    part_of = {key: number[sum(1 << i for i, cohort in enumerate(cohorts) if key in cohort)] for key in cells}
    return min(
        union.of(counts) if _of_one_column({key for key in cells if part_of[key] in union.parts}, set(cells)) else 0
        for union in parts.computable(cohorts)
    )


def _of_one_column(inside: set[Key], cells: set[Key]) -> bool:
    """Whether these cells are all, or those of some categories of one column."""
    outside = cells - inside
    return not outside or any(
        {key[place] for key in inside}.isdisjoint(key[place] for key in outside) for place in range(len(min(cells)))
    )
