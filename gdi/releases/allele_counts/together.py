"""Sites of several alleles, and records that overlap, judged in numpy by the rules of `check._judge`, where all rules
are on and nothing left of these positions before. What this cannot judge is left to `check` (a test holds the two
together).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from gdi.releases.allele_counts.answers import CODES, COPIES, MISSING, SMALL
from gdi.releases.allele_counts.table import FIELDS, MAX_ALLELES
from gdi.releases.kind import Rules

Array = np.ndarray[Any, np.dtype[Any]]
CODE_MISSING, CODE_REF, CODE_ALT = (CODES.index(one) for one in ((MISSING, ""), (SMALL, "ref"), (SMALL, "alt")))
CODE_NOTHING = CODES.index(("", ""))


def counts_of(batch: pl.DataFrame) -> dict[str, Array]:
    """The numbers of the rows, 64 bits each."""
    return {name: batch[name].to_numpy().astype(np.int64) for name in FIELDS[4:]}


def few(numbers: Array, floor: int) -> Array:
    """As `floor.few`."""
    return np.asarray((numbers > 0) & (numbers < floor))


def calls(c: dict[str, Array], floor: int) -> tuple[Array, Array]:
    """As `check.an_range`: the least and the greatest."""
    spread, single = COPIES * (floor - 1), c["hemi_ref"] + c["hemi_alt"]
    short, alone = few(c["half_missing"] + c["missing"], floor), few(single, floor)
    top = c["an"] + np.where(short, c["half_missing"] + 2 * c["missing"], 0)
    low = np.where(short, top - spread, c["an"])
    top, low = top + np.where(alone, single, 0), low + np.where(alone, single - (floor - 1), 0)
    return np.maximum(low, 0), top


class Judged(NamedTuple):
    """Which sites are judged (by site of the batch), their `rows`, and what is said of each of these."""

    sites: Array
    rows: Array
    numbers: dict[str, Array]


def judge(batch: pl.DataFrame, edges: Array, crowd: Array, which: Array, rules: Rules) -> Judged:
    """Of the sites `which`, those that can be judged here. `edges`: where sites begin and end; `crowd`: by site, the
    number of the records that overlap each other, all of which are judged here or none.
    """
    whole = np.bincount(crowd) == np.bincount(crowd, weights=which)
    places = np.flatnonzero(which & whole[crowd])
    if not len(places):
        return Judged(np.zeros(len(which), dtype=bool), places, {})
    sizes = np.diff(edges)[places]
    starts = np.cumsum(sizes) - sizes
    rows = np.arange(sizes.sum()) + np.repeat(edges[:-1][places] - starts, sizes)
    part = batch[rows]
    c, floor, spread = counts_of(part), rules.floor, COPIES * (rules.floor - 1)
    half_alt = c["ac"] - c["het"] - 2 * c["hom_alt"] - c["hemi_alt"]
    carriers = c["het"] + c["hom_alt"] + c["hemi_alt"] + half_alt
    others = c["hom_ref"] + c["het"] + c["hemi_ref"] + c["half_missing"] - half_alt
    common = carriers >= floor
    copies = np.where(common, c["ac"], 0)

    def total(numbers: Array) -> Array:
        return np.add.reduceat(numbers, starts)

    many, an, sums = total(common.astype(np.int64)), c["an"][starts], total(copies)
    rest = np.where(many == 1, total(np.where(common, others, 0)), (an - sums + 1) // 2)
    nobody, closed = (many == 0) & (rest < floor), (many > 0) & (rest < floor)
    number = np.repeat(np.arange(len(places)), sizes)
    before = np.cumsum(common) - common  # common alleles of all rows before
    hidden = common & closed[number] & (before == before[starts][number])  # the first by its name
    missing, known = nobody[number], sums[number] - c["ac"]
    low, top = calls(c, floor)
    numbers = {
        "ac_min": np.select([hidden, common], [np.maximum(0, low - known - spread), c["ac"]], 0),
        "ac_max": np.select([hidden, common], [np.maximum(0, top - known), c["ac"]], spread),
        "an_min": np.where(missing, 0, low),
        "an_max": np.where(missing, spread * (sizes + 1)[number], top),
        "code": np.select([missing, hidden, common], [CODE_MISSING, CODE_REF, CODE_NOTHING], CODE_ALT),
    }
    good = _one_group(c, starts) & (total(c["ac"]) <= an)
    good &= ~_may_crowd(part, crowd[places][number], c["an"], copies, floor)
    if rules.classes:  # what else follows from classes is looked at where all of a site is told
        exact = (numbers["ac_min"] == numbers["ac_max"]) & (numbers["an_min"] == numbers["an_max"])
        good &= ~np.logical_and.reduceat(exact, starts)
    judged = np.zeros(len(which), dtype=bool)
    judged[places[good]] = True
    bad = np.bincount(crowd, weights=~judged) > 0
    judged &= ~bad[crowd]
    kept = judged[places][number]
    return Judged(judged, rows[kept], {name: column[kept] for name, column in numbers.items()})


def _one_group(c: dict[str, Array], starts: Array) -> Array:
    """By site, whether its rows are of the same people, as `variants.why_not_one`."""
    people = c["hom_ref"] + c["het"] + c["hom_alt"]
    same = [
        np.maximum.reduceat(column, starts) == np.minimum.reduceat(column, starts)
        for column in (c["an"], people, c["half_missing"], c["missing"])
    ]
    return np.asarray(np.logical_and.reduce(same), dtype=bool)


def _may_crowd(rows: pl.DataFrame, crowd: Array, an: Array, copies: Array, floor: int) -> Array:
    """By site, whether an allele of the records that overlap it may have to stay (`check._in_the_crowd`): where at one
    of their positions what is told of all of them leaves few people for any other allele. `crowd`: by row.
    """
    number = np.cumsum(np.diff(crowd, prepend=crowd[:1]) != 0)
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    place = rows["pos"].to_numpy().astype(np.int64) + (number << 40)
    end = place + rows["ref"].str.len_bytes().to_numpy().astype(np.int64)
    by_end = np.argsort(end, kind="stable")
    begins, over = np.cumsum(copies), np.concatenate(([0], np.cumsum(copies[by_end])))
    here = begins[np.searchsorted(place, place, side="right") - 1] - over[np.searchsorted(end[by_end], place, "right")]
    tight = (np.minimum.reduceat(an, starts)[number] - here + 1) // 2 < floor
    sites = rows.select(pl.any_horizontal(pl.col(n) != pl.col(n).shift(1) for n in ("chrom", "pos", "ref")))
    first = sites.to_series().fill_null(value=True).to_numpy()
    per_crowd = np.bincount(number, weights=first)
    found = (np.logical_or.reduceat(tight, starts) | (np.bincount(number) > MAX_ALLELES)) & (per_crowd > 1)
    return np.asarray(found[number[first]], dtype=bool)
