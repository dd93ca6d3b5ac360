"""Several releases of overlapping cohorts: a reader who knows the rules, all cohorts and all that left pins no group of
people down to a few carriers.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gdi.releases.allele_counts.answers import AlleleAnswer
from gdi.releases.allele_counts.check import answer
from gdi.releases.allele_counts.table import Row, Site
from gdi.releases.disclosure import parts
from gdi.releases.disclosure.parts import bounds, computable, cut, too_small
from gdi.releases.disclosure.past import Numbers, Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import Rules

SIZE = 20  # people of a part: the least that an epoch lets two cohorts differ by
Cohorts = list[frozenset[int]]  # each the numbers of its parts


def people_of(parts: frozenset[int]) -> frozenset[int]:
    return frozenset(SIZE * part + i for part in parts for i in range(SIZE))


def site(carriers: int, people: int) -> Site:
    """A site where so many of the people have one copy."""
    counts = {"ac": carriers, "an": 2 * people, "hom_ref": people - carriers, "het": carriers, "hom_alt": 0}
    return Site((Row("2", 7, "A", "C", **counts, hemi_ref=0, hemi_alt=0, half_missing=0, missing=0),))


def releases(
    counts: tuple[int, ...], cohorts: Cohorts, floor: int, off: frozenset[Rule] = frozenset()
) -> list[AlleleAnswer]:
    """What leaves when these cohorts are asked one after the other; `counts` are the carriers in each part."""
    rules = Rules(floor, 10, absent="reference", off=off)
    numbers: dict[frozenset[int], int] = {}
    cells: dict[str, dict[int, Numbers]] = {}
    left = []
    for cohort in cohorts:
        own = people_of(cohort)
        known = {number: people for people, number in numbers.items()}
        past = Past(own, numbers.get(own), known, cells, listed=True)
        (told,) = answer(site(sum(counts[part] for part in cohort), len(own)), rules, past)
        number = numbers.setdefault(own, len(numbers))
        cells.setdefault(told.key, {}).setdefault(number, told.cell.numbers)
        left.append(told._replace(people=(0, 0, 0, 0, 0), copies=0))
    return left


def cohorts_over(parts: int, most: int) -> st.SearchStrategy[Cohorts]:
    return st.lists(st.frozensets(st.integers(0, parts - 1), min_size=1), min_size=1, max_size=most)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.tuples(*[st.integers(0, 12)] * 6), cohorts_over(6, 8))
def test_over_six_parts_no_count_that_follows_from_what_left_is_about_few_people(
    counts: tuple[int, ...], cohorts: Cohorts
) -> None:
    left = dict(zip(cohorts, releases(counts, cohorts, 5), strict=True))
    for cohort, told in left.items():
        carriers = sum(counts[part] for part in cohort)
        assert told.ac.low <= carriers <= told.ac.high, "an interval holds"
    exact = [cohort for cohort, told in left.items() if told.ac.exact]
    vectors = [tuple(int(part in cohort) for part in range(6)) for cohort in exact]
    for union in itertools.product((0, 1), repeat=6):
        if any(union) and in_span(vectors, union):
            assert sum(count for count, there in zip(counts, union, strict=True) if there) >= 5


def in_span(vectors: list[tuple[int, ...]], wanted: tuple[int, ...]) -> bool:
    """Whether `wanted` is a linear combination, by elimination of its own: not the code under test."""

    def rank(rows: list[list[Fraction]]) -> int:
        rows, found = [list(row) for row in rows], 0
        for column in range(6):
            for i in range(found, len(rows)):
                if rows[i][column]:
                    rows[found], rows[i] = rows[i], rows[found]
                    for j in range(found + 1, len(rows)):
                        factor = rows[j][column] / rows[found][column]
                        rows[j] = [a - factor * b for a, b in zip(rows[j], rows[found], strict=True)]
                    found += 1
                    break
        return found

    fractions = [[Fraction(n) for n in vector] for vector in vectors]
    return rank(fractions) == rank([*fractions, [Fraction(n) for n in wanted]])


A, B, C = frozenset({0}), frozenset({1}), frozenset({2})


def test_three_sums_of_two_datasets_do_not_give_the_third_away() -> None:
    counts, cohorts = (1, 9, 9), [A | B, A | C, B | C]
    off = releases(counts, cohorts, 5, frozenset({Rule.PARTS}))
    assert all(told.ac.exact for told in off)
    assert (off[0].ac.low + off[1].ac.low - off[2].ac.low) // 2 == 1, "with the rule off: one carrier in A"
    told = releases(counts, cohorts, 5)
    assert [one.ac.exact for one in told] == [True, False, False], "the second cuts the first and adds people"


def test_a_dataset_that_grew_is_answered_by_what_left_before_and_by_its_newcomers_as_a_cohort() -> None:
    off = releases((12, 1), [A, A | B], 5, frozenset({Rule.PARTS}))
    assert off[1].ac.low - off[0].ac.low == 1, "with the rule off: one of the newcomers carries it"
    old, new = releases((12, 1), [A, A | B], 5)
    assert old.ac.exact and (new.ac.low, new.ac.high) == (12, 20), "0 to 4 of the newcomers"
    (same,) = releases((12, 0), [A, A | B], 5)[1:]
    assert (same.ac, same.an, same.reason) == (new.ac, new.an, new.reason), "and it is the same where none of them does"
    assert releases((12, 6), [A, A | B], 5)[1].ac.exact, "enough of them"
    back = releases((12, 1), [A | B, A], 5)
    assert (back[1].ac.low, back[1].ac.high) == (0, 13)
    assert releases((12, 6), [A | B, A], 5)[1].ac.exact, "both pieces have enough"


def test_whoever_is_asked_twice_is_answered_from_what_left() -> None:
    """A, B, then both; and the whole, one level, then the other."""
    assert releases((9, 2, 0), [A, B, A | B], 5)[2].ac.low == 9
    assert releases((9, 2, 0), [A, B, A | B], 5)[2].ac.high == 17
    whole, level, other = releases((9, 8, 0), [A | B, A, B], 5)
    assert (whole.ac.low, level.ac.low, other.ac.low, other.ac.exact) == (17, 9, 8, True)
    crossing = releases((9, 8, 7), [A | B | C, A, B, B | C, A | C], 5)
    assert [one.ac.exact for one in crossing] == [True] * 4 + [False], "another split of the same people"


def test_the_same_cohort_is_answered_as_before_whatever_the_file_says_now() -> None:
    first, again = (Past(people_of(A)), Past(people_of(A), 0, {0: people_of(A)}))
    (told,) = answer(site(12, SIZE), Rules(5, 10), first)
    cells = {told.key: {0: told.cell.numbers}}
    now = Past(again.own, 0, again.cohorts, cells, listed=True)
    (swapped,) = answer(site(13, SIZE), Rules(5, 10), now)
    assert swapped.ac == told.ac
    (off,) = answer(site(13, SIZE), Rules(5, 10, off=frozenset({Rule.LEDGER})), now)
    assert off.ac.low == 13, "with the rule off: what one person's genotype changed"


def test_parts_are_cut_counted_and_bounded() -> None:
    cohorts = [people_of(A | B), people_of(B | C) - {20}]
    assert [(part.cohorts, part.people) for part in cut(cohorts)] == [(1, 21), (2, 20), (3, 19)]
    assert too_small(cohorts, 20) == [(frozenset({0, 1}), 19)]
    unions = computable([people_of(A | B), people_of(A | C), people_of(B | C)])
    # cut() orders the parts: A (in cohorts 0 and 1), B (0 and 2), C (1 and 2)
    assert {union.parts: union.of((10, 14, 16)) for union in unions}[frozenset({0})] == 4
    assert bounds([(people_of(A), 9), (people_of(B | C), 30)], people_of(A | B), 2) == (9, 9 + 2 * SIZE)
    with pytest.raises(ValueError, match="more than 10 cohorts"):
        computable([A] * 11)


def test_where_an_becomes_an_interval_a_rare_reference_does_not_tell_it() -> None:
    rules = Rules(5, 10, absent="reference")

    def rare_reference(people: int, missing: int) -> Site:
        called = people - missing
        counts = {"ac": 2 * called, "an": 2 * called, "hom_ref": 0, "het": 0, "hom_alt": called, "missing": missing}
        return Site((Row("2", 7, "A", "C", **counts, hemi_ref=0, hemi_alt=0, half_missing=0),))

    (first,) = answer(rare_reference(20, 6), rules, Past(people_of(A)))
    assert first.an.exact and first.ac.high == first.an.high
    past = Past(people_of(A | B), None, {0: people_of(A)}, {first.key: {0: first.cell.numbers}}, listed=True)
    (now,) = answer(rare_reference(40, 7), rules, past)  # one of the newcomers has no call
    (same,) = answer(rare_reference(40, 9), rules, past)  # three of them
    assert not now.an.exact and now.an.low <= 66 <= now.an.high and now.ac.low <= 66 <= now.ac.high
    assert (now.ac, now.an) == (same.ac, same.an)


def test_a_million_sites_of_a_large_cohort_are_judged_without_cutting_it_each_time() -> None:
    own, other = frozenset(range(5000)), frozenset(range(2500, 7500))
    past = Past(own, None, {0: other}, {f"k{i}": {0: (9, 9, 9)} for i in range(2000)}, listed=True)
    cuts = parts._unions.cache_info().misses
    assert all(past.passes(f"k{i}", (9, 9, 9), lambda _: True, lambda n: n, 5) for i in range(2000))
    assert parts._unions.cache_info().misses - cuts <= 1, "once for all sites"
