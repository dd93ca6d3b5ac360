"""What a person should look at before a release leaves: cells nearest the floor, and values that look odd."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from itertools import groupby

from gdi.releases.allele_counts.answers import AlleleAnswer
from gdi.releases.disclosure.variants import CHROMOSOMES, contig
from gdi.releases.kind import Rules

NEAREST, LONG, IN_A_ROW, MOST = 5, 50, 10, 20


def remarks(left: Iterable[Sequence[AlleleAnswer]], rules: Rules) -> list[str]:
    """At most MOST sentences."""
    answers = [one for site in left for one in site]
    exact = nsmallest(NEAREST, (one for one in answers if one.ac.exact), key=lambda one: min(one.people[:2]))
    found = [
        f"{_name(one)}: {min(one.people[:2])} people carry its rarer allele; the floor is {rules.floor}"
        for one in exact
    ]
    strange = sorted({one.chrom for one in answers if contig(one.chrom) not in CHROMOSOMES})
    found += [f"the contig {name} is no chromosome" for name in strange[:NEAREST]]
    long = [one for one in answers if max(len(one.ref), len(one.alt)) > LONG]
    found += [f"{_name(one)}: an allele of {max(len(one.ref), len(one.alt))} letters" for one in long[:NEAREST]]
    for numbers, group in groupby(exact and [one for one in answers if one.ac.exact], key=lambda one: (one.ac, one.an)):
        same = list(group)
        if len(same) >= IN_A_ROW:
            found.append(f"{len(same)} alleles in a row from {_name(same[0])} have AC {numbers[0].low}")
    return found[:MOST]


def _name(one: AlleleAnswer) -> str:
    return f"{one.chrom}:{one.pos} {one.ref[:20]}>{one.alt[:20]}"
