"""The attacks of docs/disclosure.md over the real cohort (629 people, 381 sites): each learns something with the one
rule off that stops it, and nothing with it on.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from gdi.releases.allele_counts.answers import AlleleAnswer
from gdi.releases.allele_counts.check import answer
from gdi.releases.allele_counts.table import Row, Site
from gdi.releases.disclosure.past import Numbers, Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import Rules

VCF = Path(__file__).parents[3] / "gdi" / "local_federation" / "data" / "1000G_2010_chr2_629samples.vcf.gz"
FLOOR = 5
Genotypes = list[int]  # copies of the alternate allele by person, -1 where there is no call
Answers = list[AlleleAnswer]


@cache
def cohort() -> list[tuple[tuple[str, int, str, str], Genotypes]]:
    copies = {"0": 0, "1": 1, ".": -1}
    sites = []
    with gzip.open(VCF, "rt") as lines:
        for line in lines:
            if not line.startswith("#"):
                cells = line.rstrip("\n").split("\t")
                pairs = [cell[:3:2] for cell in cells[9:]]
                people = [-1 if "." in pair else sum(copies[allele] for allele in pair) for pair in pairs]
                sites.append(((cells[0], int(cells[1]), cells[3], cells[4]), people))
    assert len(sites) == 381 and len(sites[0][1]) == 629
    return sites


def site(place: tuple[str, int, str, str], genotypes: Sequence[int]) -> Site:
    count = [genotypes.count(copies) for copies in (0, 1, 2, -1)]
    numbers = {"ac": count[1] + 2 * count[2], "an": 2 * sum(count[:3]), "hom_ref": count[0], "het": count[1]}
    rest = {"hom_alt": count[2], "missing": count[3], "hemi_ref": 0, "hemi_alt": 0, "half_missing": 0}
    return Site((Row(*place, **numbers, **rest),))


class Node:
    """A node that remembers what left; cohorts are sets of people (numbers of the real cohort's)."""

    def __init__(self, *off: Rule) -> None:
        self.rules = Rules(FLOOR, 1000, absent="reference", off=frozenset(off))
        self.numbers: dict[frozenset[int], int] = {}
        self.cells: dict[str, dict[int, Numbers]] = {}

    def release(self, people: Sequence[int], *, spelled: str = "", swapped: dict[int, int] | None = None) -> Answers:
        """One answer for each site. `spelled`: as another file writes the same sites; `swapped`: in place of whom."""
        own = frozenset(people)
        answers = []
        swapped = swapped or {}
        for (chrom, pos, ref, alt), genotypes in cohort():
            place = (f"chr{chrom}", pos, f"{ref}T", f"{alt}T") if spelled else (chrom, pos, ref, alt)
            known = {number: cohort for cohort, number in self.numbers.items()}
            past = Past(own, self.numbers.get(own), known, self.cells, listed=True)
            (one,) = answer(site(place, [genotypes[swapped.get(i, i)] for i in people]), self.rules, past)
            answers.append(one)
        number = self.numbers.setdefault(own, len(self.numbers))
        for one in answers:
            self.cells.setdefault(one.key, {}).setdefault(number, one.cell.numbers)
        return answers


def differences(more: Answers, less: Answers) -> list[int]:
    """AC of one release less AC of the other, where both are exact."""
    return [a.ac.low - b.ac.low for a, b in zip(more, less, strict=True) if a.ac.exact and b.ac.exact]


EVERYBODY = list(range(629))


def test_a_dataset_and_the_same_without_one_person_do_not_give_the_persons_genotypes() -> None:
    def attack(*off: Rule) -> list[int]:
        node = Node(*off)
        return differences(node.release(EVERYBODY), node.release(EVERYBODY[:-1]))

    off = attack(Rule.PARTS)
    assert len(off) > 100 and set(off) <= {0, 1, 2} and any(off), "with the rule off: each genotype of the one person"
    assert attack() == []


def test_another_spelling_of_contigs_and_alleles_is_the_same_site() -> None:
    def attack(*off: Rule) -> list[int]:
        node = Node(*off)
        return differences(node.release(EVERYBODY, spelled="chr"), node.release(EVERYBODY[:-1]))

    off = attack(Rule.KEYS)
    assert len(off) > 100 and any(off), "with the rule off: the newcomer's genotypes"
    assert attack() == []


def test_three_sums_of_two_datasets_tell_about_none_of_them() -> None:
    a, b, c = EVERYBODY[:420], EVERYBODY[420:580], EVERYBODY[580:]

    def attack(*off: Rule) -> list[int]:
        node = Node(*off)
        ab, ac, bc = (node.release(people) for people in ([*a, *b], [*a, *c], [*b, *c]))
        exact = [trio for trio in zip(ab, ac, bc, strict=True) if all(one.ac.exact for one in trio)]
        of_c = [(y.ac.low + z.ac.low - x.ac.low) // 2 for x, y, z in exact]
        return [count for count in of_c if count < FLOOR]

    assert len(attack(Rule.PARTS)) > 5, "with the rule off: counts below the floor in one of them"
    assert attack() == []


def test_a_person_who_is_swapped_for_another_changes_no_answer() -> None:
    def attack(*off: Rule) -> int:
        node = Node(*off)
        before, after = node.release(EVERYBODY[:-1]), node.release(EVERYBODY[:-1], swapped={0: 628})
        return sum(a.ac != b.ac for a, b in zip(before, after, strict=True))

    assert attack(Rule.LEDGER, Rule.PARTS) > 0, "with the rule off: where the two people differ"
    assert attack() == 0


def test_no_release_of_the_cohort_tells_a_count_of_few_people() -> None:
    for one, (_, genotypes) in zip(Node().release(EVERYBODY), cohort(), strict=True):
        carriers = sum(copies > 0 for copies in genotypes)
        others = sum(copies in (0, 1) for copies in genotypes)
        assert one.ac.exact == (carriers >= FLOOR and others >= FLOOR)


def test_the_honest_user_of_small_nodes_gets_numbers_or_intervals() -> None:
    thirds = [list(range(first, 240, 3)) for first in range(3)]
    answers = [Node().release(people) for people in thirds]
    widths = []
    for at, (_, genotypes) in enumerate(cohort()):
        called = [copies for copies in genotypes[:240] if copies >= 0]
        frequency = sum(called) / max(2 * len(called), 1)
        if 0.05 <= frequency <= 0.95:
            three = [of_node[at] for of_node in answers]
            withholding = sum(not one.ac.exact for one in three)
            width = sum(one.ac.high - one.ac.low for one in three)
            assert width <= withholding * 2 * (FLOOR - 1)
            assert sum(one.ac.low for one in three) <= sum(called) <= sum(one.ac.high for one in three)
            widths.append(width)
    assert widths and widths.count(0) / len(widths) > 0.5
    print(f"{len(widths)} sites with AF 5-95 %: {widths.count(0)} exact, the others within {max(widths)} copies")
