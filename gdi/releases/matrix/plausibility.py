"""Whether what a file of the kind `matrix` says can be true: sums within the declared bounds, and facts that agree with
its own numbers. FormatError names the place, never a value.
"""

from __future__ import annotations

import math
from itertools import product

from gdi.releases.disclosure.sums import expect_shares
from gdi.releases.kind import FormatError, Rules
from gdi.releases.matrix.forms import NumberSum, ProductSum
from gdi.releases.matrix.round_table import LogisticRound, expect_whole
from gdi.releases.matrix.table import SumMatrix


def expect_plausible(unit: SumMatrix, rules: Rules) -> None:
    for place, one in enumerate(unit.sums.values(), 1):
        _check_sum(place, one, unit, rules)
    for place, two in enumerate(unit.products.values(), 1):
        _check_product(place, two, unit, rules)
    _check_leverage(unit)
    _check_support(unit)
    if unit.fit is not None:
        _check_round(unit, unit.fit, rules)


def _check_sum(place: int, one: NumberSum, of: SumMatrix, rules: Rules) -> None:
    low, high = rules.bounds[one.number]
    slack = 1e-9 * max(1.0, abs(low), abs(high)) * one.people
    if one.people != of.counts[of.place(*([one.group] if one.group else []))]:
        raise FormatError(f"sum {place}: people is not the number of people of the category")
    if not low * one.people - slack <= one.sum <= high * one.people + slack:
        raise FormatError(f"sum {place}: it lies outside what the declared bounds allow")
    square = of.products[one.number, one.number].sum
    if one.sum * one.sum > square * one.people * (1 + 1e-9):
        raise FormatError(f"sum {place}: it is larger than the sum of squares allows")


def _check_product(place: int, one: ProductSum, of: SumMatrix, rules: Rules) -> None:
    ends = [a * b for a, b in product(*(rules.bounds[name] for name in one.numbers))]
    low = 0.0 if one.numbers[0] == one.numbers[1] and min(ends) < 0 else min(ends)
    slack = 1e-9 * max(1.0, *map(abs, ends)) * of.people
    if not low * of.people - slack <= one.sum <= max(ends) * of.people + slack:
        raise FormatError(f"product {place}: it lies outside what the declared bounds allow")
    if max(one.apart, one.odd) > of.people:
        raise FormatError(f"product {place}: apart or odd is more than people")
    try:
        expect_shares(one.products, of.people)
    except ValueError as error:
        raise FormatError(f"product {place}: {error}") from None
    x, y = (of.products[name, name].sum for name in one.numbers)
    if one.sum * one.sum > x * y * (1 + 1e-6):
        raise FormatError(f"product {place}: it is larger than those of its numbers with themselves allow")


def _check_leverage(of: SumMatrix) -> None:
    """A category of k people is a column of which each of them has one k-th: less cannot be true."""
    try:
        expect_shares(of.leverage, of.people)
    except ValueError as error:
        raise FormatError(f"leverage: {error}") from None
    smallest = min([of.people, *(of.counts[of.place(level)] for level in of.levels)])
    if any(part < min(1.0, n / smallest) - 1e-6 for n, part in enumerate(of.leverage, 1)):
        raise FormatError("leverage: it is less than that of the smallest category")


def _check_support(of: SumMatrix) -> None:
    """n people have n values in at most k^n ways, of k."""
    if max(of.support) > of.people:
        raise FormatError("support: it is more than there are people")
    if set(of.arrangements) != set(of.numbers):
        raise FormatError("arrangements must have each number")
    for number, bits in of.arrangements.items():
        if bits > of.people * math.log2(of.sums[number, None].values) * (1 + 1e-9):
            raise FormatError("arrangements has more than the values of a number allow")


def _check_round(of: SumMatrix, fit: LogisticRound, rules: Rules) -> None:
    if not rules.rounds:
        raise FormatError("this node's policy serves no rounds")
    column, _, level = of.outcome.partition(":")
    if (column, level) not in of.levels or column in {one[0] for one in fit.columns if one}:
        raise FormatError("outcome is no category that anybody has, or is a column as well")
    if not {one for one in fit.columns if len(one) == 2} <= set(of.levels):
        raise FormatError("round: a column is no category that anybody has")
    if {one[0] for one in fit.columns if len(one) == 2} | {column} != set(of.table.columns):
        raise FormatError("categories must be those of outcome and columns")
    try:
        expect_whole(fit, of.numbers, of.people)
    except ValueError as error:
        raise FormatError(f"round: {error}") from None
