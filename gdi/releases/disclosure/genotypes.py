"""Genotype classes of a site with several alternate alleles: each row shows the classes by copies of its own allele,
and rows together determine more than each of them shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations_with_replacement

from gdi.releases.disclosure.parts import Union, computable

MAX_ALLELES = 4
Genotype = tuple[int, int]  # alleles by number, 0 is the reference, the smaller first


def cells(alleles: int) -> list[Genotype]:
    """All genotypes of two called alleles."""
    return list(combinations_with_replacement(range(alleles), 2))


@lru_cache(maxsize=MAX_ALLELES)
def sums(alleles: int) -> list[Union]:
    """All 0/1 sums of genotype cells that the rows' classes determine, by rank over the cells. Counts are in the order
    hom_ref, het, hom_alt of alternate allele 1, then of 2, and so on. ValueError above MAX_ALLELES.
    """
    if alleles > MAX_ALLELES:
        raise ValueError(f"more than {MAX_ALLELES} alleles")
    return computable(
        [
            {genotype for genotype in cells(alleles) if genotype.count(alternate) == copies}
            for alternate in range(1, alleles)
            for copies in (0, 1, 2)
        ]
    )


def classes_pass(rows: list[tuple[int, int, int]], floor: int) -> bool:
    """Whether the classes (hom_ref, het, hom_alt) of a site's alternate alleles may leave: each of them, and every sum
    of genotype cells that they determine, is at least the floor.
    """
    if len(rows) + 1 > MAX_ALLELES:
        return False
    counts = [count for row in rows for count in row]
    return all(union.of(counts) >= floor for union in sums(len(rows) + 1))


def rows_of(people: Mapping[Genotype, int], alleles: int) -> list[tuple[int, int, int]]:
    """The classes of each alternate allele, of how many people have each genotype."""
    rows = []
    for alternate in range(1, alleles):
        count = [0, 0, 0]
        for genotype, number in people.items():
            count[genotype.count(alternate)] += number
        rows.append((count[0], count[1], count[2]))
    return rows
