"""The reader who knows the rule: whoever asks in whatever order, and replays how the answers were made for every table
there could be, pins no group of people to 1 to floor - 1 carriers, nor to so few who carry another allele. Whole small
domains, no samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import pytest

from gdi.releases.allele_counts.check import answer
from gdi.releases.allele_counts.table import Row, Site
from gdi.releases.disclosure.past import Numbers, Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import Rules

Genotypes = tuple[int, int, int]  # people of a part with no, one and two copies
Cohort = frozenset[int]  # parts
Answers = tuple[object, ...]


def releases(
    table: Sequence[Genotypes], asked: Sequence[Cohort], floor: int, off: frozenset[Rule], *, split: bool = False
) -> Answers:
    """What the centre sees of one site when these cohorts are asked one after the other; `split`: of its levels, which
    single parts are, all leave or none.
    """
    passing = all(min(het + alt, ref + het) >= floor for ref, het, alt in table)
    levels = frozenset({"2:7:A:C"} if passing else ())
    numbers: dict[frozenset[int], int] = {}
    cells: dict[str, dict[int, Numbers]] = {}
    seen: list[object] = []
    for cohort in asked:
        own = frozenset(100 * part + i for part in cohort for i in range(sum(table[part])))
        past = Past(own, numbers.get(own), {n: people for people, n in numbers.items()}, cells, listed=True)
        ref, het, alt = (sum(table[part][copies] for part in cohort) for copies in range(3))
        row = Row("2", 7, "A", "C", het + 2 * alt, 2 * (ref + het + alt), ref, het, alt, 0, 0, 0, 0)
        rules = Rules(floor, 10, "reference", off=off, together=levels if split and len(cohort) == 1 else None)
        (told,) = answer(Site((row,)), rules, past)
        cells.setdefault(told.key, {}).setdefault(numbers.setdefault(own, len(numbers)), told.cell.numbers)
        seen.append("unlisted" if told.rare == "alt" else (told.ac, told.an, told.reason, told.rare))
        if told.rare != "alt":
            assert told.ac.low <= row.ac <= told.ac.high and told.an.low <= row.an <= told.an.high, "it holds"
        else:
            assert row.ac <= past.pieces * 2 * (floor - 1), "and what holds of all that is not listed"
    return tuple(seen)


def tells(seen: object) -> bool:
    """Whether the centre sees a number."""
    return isinstance(seen, tuple) and bool(seen[0].exact)


def pinned(
    tables: Iterable[tuple[Genotypes, ...]],
    asked: Sequence[Cohort],
    floor: int,
    off: frozenset[Rule] = frozenset(),
    *,
    split: bool = False,
) -> int:
    """How many of the answers pin a union of parts, of all that there can be."""
    classes: dict[Answers, list[tuple[Genotypes, ...]]] = {}
    for table in tables:
        classes.setdefault(releases(table, asked, floor, off, split=split), []).append(table)
    return sum(any(few(same, union, floor) for union in unions(len(same[0]))) for same in classes.values())


def few(tables: list[tuple[Genotypes, ...]], union: tuple[int, ...], floor: int) -> bool:
    for alleles in ((1, 2), (0, 1)):  # carriers of the allele, carriers of the other one
        sums = [sum(table[part][copies] for part in union for copies in alleles) for table in tables]
        if min(sums) >= 1 and max(sums) < floor:
            return True
    return False


def unions(parts: int) -> list[tuple[int, ...]]:
    return [union for n in range(1, parts + 1) for union in itertools.combinations(range(parts), n)]


def orders(parts: int, most: int) -> list[tuple[Cohort, ...]]:
    """The ways to ask up to so many cohorts, one after the other."""
    cohorts = [frozenset(union) for union in unions(parts)]
    return list(itertools.permutations(cohorts, min(most, len(cohorts))))


def genotypes(people: int, hets: bool) -> list[Genotypes]:
    """All that a part of so many people can have."""
    return [(people - h - a, h, a) for h in range(people + 1 if hets else 1) for a in range(people - h + 1)]


@pytest.mark.parametrize(
    ("parts", "most", "people", "floor", "hets"),
    [(2, 3, 5, 2, True), (2, 3, 7, 3, False), (3, 2, 5, 2, False), (3, 3, 4, 2, False)],
    ids=lambda value: str(value),
)
def test_no_order_of_cohorts_pins_anybody(parts: int, most: int, people: int, floor: int, hets: bool) -> None:
    of_part = genotypes(people, hets)
    for asked in orders(parts, most):
        assert pinned(itertools.product(of_part, repeat=parts), asked, floor) == 0, asked


@pytest.mark.parametrize("asked", [[{0, 2}, {0}, {0, 1}], [{0, 1, 2}, {0}, {1}]], ids=["grown", "cut"])
def test_with_the_rule_off_the_same_reader_finds_people(asked: list[set[int]]) -> None:
    tables = list(itertools.product(genotypes(5, hets=False), repeat=3))
    cohorts = [frozenset(cohort) for cohort in asked]
    assert pinned(tables, cohorts, 2, frozenset({Rule.PARTS})) > 0
    assert pinned(tables, cohorts, 2) == 0


@pytest.mark.parametrize(("people", "hets"), [(5, False), (3, True)])
def test_the_levels_of_a_split_leave_all_or_none_and_pin_nobody(people: int, hets: bool) -> None:
    levels = [frozenset({0}), frozenset({1}), frozenset({2})]
    for asked in itertools.permutations(levels):
        of_all = [frozenset({0, 1, 2}), *asked]
        tables = list(itertools.product(genotypes(people, hets), repeat=3))
        assert pinned(tables, of_all, 2, split=True) == 0, asked
        exact = [[tells(one) for one in releases(table, of_all, 2, frozenset(), split=True)] for table in tables]
        assert all(one in ([True] * 3, [False] * 3) for _, *one in exact)
        assert any(all(one) for one in exact), "and leave at all"
