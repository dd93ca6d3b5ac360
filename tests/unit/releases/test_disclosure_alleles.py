"""Alleles of one site that are asked for by and by, of one cohort and of its neighbours: whoever replays the answers
for every table of genotypes there could be pins nobody. Whole small domains of three alleles, no samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cache

import pytest

from gdi.releases.allele_counts.check import answer
from gdi.releases.allele_counts.table import Row, Site
from gdi.releases.disclosure.past import Numbers, Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.variants import Variant, contig, key
from gdi.releases.disclosure.vocabulary import ALLELES, topic, words
from gdi.releases.kind import Rules

GENOTYPES = list(itertools.combinations_with_replacement(range(3), 2))
FLOOR = 2
People = tuple[int, ...]  # of each genotype
Wish = tuple[tuple[int, ...], tuple[int, ...]]  # parts, and the alternate alleles that are asked for
C, G, BOTH = (1,), (2,), (1, 2)


def tables(people: int, kinds: int = len(GENOTYPES)) -> Iterator[People]:
    if kinds == 1:
        yield (people,)
        return
    for first in range(people + 1):
        yield from ((first, *rest) for rest in tables(people - first, kinds - 1))


@cache
def row(people: People, allele: int) -> Row:
    classes = [
        sum(n for genotype, n in zip(GENOTYPES, people, strict=True) if genotype.count(allele) == k) for k in (0, 1, 2)
    ]
    return Row("2", 7, "A", ".CG"[allele], classes[1] + 2 * classes[2], 2 * sum(people), *classes, 0, 0, 0, 0)


def told(table: Sequence[People], asked: Sequence[Wish], off: frozenset[Rule]) -> tuple[object, ...]:
    """What the centre sees."""
    rules = Rules(FLOOR, 10, absent="reference", off=off)
    numbers: dict[frozenset[int], int] = {}
    cells: dict[str, dict[int, Numbers]] = {}
    seen: list[object] = []
    for parts, alleles in asked:
        own = frozenset(100 * part + i for part in parts for i in range(sum(table[part])))
        topics = {"2:7": set(cells)} if cells else {}
        past = Past(own, numbers.get(own), {n: who for who, n in numbers.items()}, cells, True, topics)
        people = tuple(map(sum, zip(*(table[part] for part in parts), strict=True)))
        answers = answer(Site(tuple(row(people, allele) for allele in alleles)), rules, past)
        for one in answers:
            cells.setdefault(one.key, {}).setdefault(numbers.setdefault(own, len(numbers)), one.cell.numbers)
            seen.append("unlisted" if one.rare == "alt" else (one.ac, one.an, one.reason, one.rare))
    return tuple(seen)


def pinned(people: int, parts: int, asked: Sequence[Wish], off: frozenset[Rule] = frozenset()) -> int:
    """How many answers pin the carriers of an allele, or those of any other, of a union of parts."""
    classes: dict[tuple[object, ...], list[tuple[People, ...]]] = {}
    for table in itertools.product(list(tables(people)), repeat=parts):
        classes.setdefault(told(table, asked, off), []).append(table)
    unions = [u for n in range(1, parts + 1) for u in itertools.combinations(range(parts), n)]
    return sum(any(few(same, union) for union in unions) for same in classes.values())


def few(same: list[tuple[People, ...]], union: tuple[int, ...]) -> bool:
    for allele, others in itertools.product(range(3), (False, True)):
        who = [n for n, one in enumerate(GENOTYPES) if (one != (allele, allele) if others else allele in one)]
        sums = [sum(table[part][n] for part in union for n in who) for table in same]
        if min(sums) >= 1 and max(sums) < FLOOR:
            return True
    return False


ALONE = list(itertools.permutations([((0,), C), ((0,), G), ((0,), BOTH)], 2))
NEIGHBOURS: list[list[Wish]] = [
    [((1,), C), ((0, 1), BOTH)],
    [((0, 1), BOTH), ((1,), C)],
    [((0,), G), ((0, 1), C)],
    [((0, 1), C), ((0,), BOTH)],
    [((0,), BOTH), ((0, 1), BOTH)],
    [((1,), BOTH), ((0,), C), ((0, 1), G)],
    [((1,), C), ((0,), BOTH), ((0, 1), BOTH)],
    [((0,), BOTH), ((0, 1), C), ((0, 1), G)],
    [((0,), BOTH), ((0, 1), C), ((0, 1), BOTH)],
]


@pytest.mark.parametrize("asked", ALONE, ids=str)
def test_alleles_asked_for_by_and_by_pin_nobody(asked: Sequence[Wish]) -> None:
    assert pinned(6, 1, asked) == 0


@pytest.mark.parametrize("asked", NEIGHBOURS, ids=str)
def test_alleles_asked_of_neighbours_pin_nobody(asked: Sequence[Wish]) -> None:
    assert pinned(3, 2, asked) == 0


WISHES: list[Wish] = [(parts, alleles) for parts in ((0,), (1,), (0, 1)) for alleles in (C, G, BOTH)]


@pytest.mark.long
def test_no_three_questions_pin_anybody() -> None:
    """All orders, but for those that only name the parts the other way round."""
    swapped = {wish: (tuple(sorted(1 - part for part in wish[0])), wish[1]) for wish in WISHES}
    for asked in itertools.permutations(WISHES, 3):
        if asked <= tuple(swapped[wish] for wish in asked):
            assert pinned(3, 2, asked) == 0, asked


@pytest.mark.parametrize("people", range(2, 7))
def test_which_allele_is_hidden_tells_nothing(people: int) -> None:
    assert pinned(people, 1, [((0,), BOTH)]) == 0


def test_with_the_rule_off_one_allele_first_and_then_both_tell_the_third() -> None:
    assert pinned(6, 1, [((0,), C), ((0,), BOTH)], frozenset({Rule.SITES})) > 0


def test_what_left_of_one_allele_speaks_for_another_beside_it() -> None:
    """60 copies of C, 137 of G, 3 of the reference: C alone, then both."""
    people = (0, 0, 3, 0, 60, 37)
    first, _, second = told([people], [((0,), C), ((0,), BOTH)], frozenset())
    assert first == ((60, 60), (200, 200), "", "")
    assert isinstance(second, tuple) and second[0] == (0, 200), "G is not told beside it"


@pytest.mark.parametrize("alt", ["C", "<DEL>", "<INS:ME:ALU>", "<A:B:C>", "*"])
@pytest.mark.parametrize("name", ["2", "HLA-A*01:01", "gi|5|x", "x=1", "sha256", "chrUn"])
def test_every_allele_of_a_position_is_of_its_topic(name: str, alt: str) -> None:
    one, other = key(Variant(name, 100, "A", alt)), key(Variant(name, 100, "AT", "A"))
    assert words(ALLELES, one) == ALLELES and topic(ALLELES, one) == topic(ALLELES, other) != topic(ALLELES, "9:1:A:C")


def test_contigs_of_ncbi_are_chromosomes() -> None:
    assert [contig(name) for name in ("gi|568815597|ref|NC_000001.11|", "ref|NC_000002", "gb|CM000664.2|")] == [
        "1",
        "2",
        "2",
    ]
