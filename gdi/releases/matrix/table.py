"""Reads `gdi-matrix/1`: people by categories, sums of numbers over everybody and over each category, sums of products
of two numbers, and what the node needs to judge them by. FormatError names the place and the field, never a value.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, product
from typing import IO

from pydantic import ValidationError

from gdi.releases.cross_table import table as cross_table
from gdi.releases.cross_table.table import MAX_COUNT, CrossTable, Key
from gdi.releases.disclosure.parts import MAX_COHORTS
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.sums import expect_shares
from gdi.releases.kind import FormatError, Rules
from gdi.releases.matrix.forms import FORMAT, Group, MatrixFile, NumberSum, ProductSum
from gdi.releases.matrix.round_table import MAX_BITS, LogisticRound, expect_whole

RELEASED = "gdi-matrix-released/1"  # what leaves the node


@dataclass(frozen=True)
class SumMatrix:
    """`table`: people by categories. `sums`: by number and group of people; `products`: by two numbers, sorted.
    `ranges`: by number, how many values it may have: 0 where it may have any. `leverage`: as the file has it. `fit`: a
    round of a logistic model, None of a linear one.
    """

    outcome: str
    numbers: tuple[str, ...]
    table: CrossTable
    sums: Mapping[tuple[str, Group], NumberSum]
    products: Mapping[tuple[str, str], ProductSum]
    ranges: Mapping[str, float]
    leverage: tuple[float, ...]
    fit: LogisticRound | None = None

    @property
    def people(self) -> int:
        return self.table.people

    @cached_property
    def counts(self) -> dict[Key, int]:
        """Of everybody, of each category, and of each two."""
        return {key: n for key, n in self.table.all_counts().items() if sum(level is not None for level in key) <= 2}

    @cached_property
    def levels(self) -> list[tuple[str, str]]:
        """The categories that anybody has, in the order in which the node declares them."""
        found = []
        for place, column in enumerate(self.table.columns):
            for number, level in enumerate(self.table.levels[place]):
                if self.counts[self.key(column, number)]:
                    found.append((column, level))
        return found

    @property
    def groups(self) -> list[Group]:
        return [None, *self.levels]

    @property
    def parameters(self) -> int:
        """Columns of the regression, the constant one included: of a category one less than it has levels."""
        present = {column for column, _ in self.levels}
        return len(self.numbers) + len(self.levels) - len(present)

    @property
    def equations(self) -> int:
        """What a reader learns, in numbers: p of the outcome's products, p (p + 1) / 2 of the others."""
        p = self.parameters
        return p + p * (p + 1) // 2

    @property
    def bits_of_category(self) -> int:
        """Of the sums of all numbers over the people of one category."""
        each = [self.people * self.ranges[number] for number in self.numbers]
        return sum(MAX_BITS if not count else min(MAX_BITS, math.ceil(math.log2(count + 1))) for count in each)

    @property
    def bits(self) -> int:
        """What a reader who knows the numbers learns of who is in which category: of each number and category, but for
        one of each column, the bits of its sum.
        """
        return self.bits_of_category * (len(self.levels) - len({column for column, _ in self.levels}))

    @property
    def differing(self) -> int:
        """The fewest people whose value of a number is not its commonest: of the others its sums may say nothing."""
        return min(self.sums[number, None].apart for number in self.numbers)

    @property
    def choices(self) -> list[float]:
        """Of each category that some have and some have not, the bits of who has it: of k among n, log2 of n over k."""
        n, each = self.people, [self.counts[self.place(level)] for level in self.levels]
        logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in each if k < n]
        return [one / math.log(2) for one in logs]

    def key(self, column: str, level: int) -> Key:
        """The cell of the table that counts a category's people."""
        return tuple(level if one == column else None for one in self.table.columns)

    def place(self, *levels: tuple[str, str]) -> Key:
        """The cell that counts the people who have all of these; ValueError where two are of one column."""
        named = dict(levels)
        if len(named) < len(set(levels)):
            raise ValueError("two levels of one column")
        columns = enumerate(self.table.columns)
        return tuple(self.table.levels[i].index(named[one]) if one in named else None for i, one in columns)


def read(file: IO[bytes], rules: Rules) -> list[SumMatrix]:
    """The one unit of a file."""
    try:
        found = MatrixFile.model_validate(json.load(file))
    except ValidationError as error:
        known = {*MatrixFile.model_fields, *NumberSum.model_fields, *ProductSum.model_fields}
        place = ".".join(str(part) for part in error.errors()[0]["loc"] if type(part) is int or part in known)
        raise FormatError(f"{place or 'document'}: it is not of the form that {FORMAT} has") from None
    except (ValueError, RecursionError):
        raise FormatError("it is not JSON") from None
    if (found.model == "logistic") != (found.round is not None):
        raise FormatError(f"model: it is not of the form that {FORMAT} has: a logistic one has a round")
    for number, name in enumerate(found.numbers, 1):
        if name not in rules.bounds or (name not in rules.numbers and Rule.NUMBERS not in rules.off):
            raise FormatError(f"number {number} is none whose bounds this node declares")
        if name in rules.scores and Rule.SCORES not in rules.off:
            raise FormatError(f"number {number} is a score: ask for its moments")
    if len(set(found.numbers)) != len(found.numbers) or (found.round is None and found.outcome not in found.numbers):
        raise FormatError("numbers has one twice, or lacks the outcome")
    sums = {(one.number, one.group): one for one in found.sums}
    products = {(min(one.numbers), max(one.numbers)): one for one in found.products}
    if len(sums) != len(found.sums) or len(products) != len(found.products):
        raise FormatError("a sum is there twice")
    ranges = {name: _range(name, found, rules) for name in found.numbers}
    names, people = tuple(sorted(found.numbers)), _people(found, rules)
    unit = SumMatrix(found.outcome, names, people, sums, products, ranges, found.leverage, found.round)
    if len(unit.levels) - len({column for column, _ in unit.levels}) >= MAX_COHORTS:
        raise FormatError(f"categories must have fewer than {MAX_COHORTS} levels beside the first of each column")
    if set(sums) != set(product(unit.numbers, unit.groups)):
        raise FormatError("sums must have one for each number, over everybody and over each category that people have")
    if set(products) != set(combinations_with_replacement(unit.numbers, 2)):
        raise FormatError("products must have one for each two numbers, and for each with itself")
    for number, one in enumerate(found.sums, 1):
        _check_sum(number, one, unit, rules)
    for number, two in enumerate(found.products, 1):
        _check_product(number, two, unit, rules)
    _check_leverage(unit)
    if unit.fit is not None:
        _check_round(unit, unit.fit, rules)
    return [unit]


def _range(name: str, found: MatrixFile, rules: Rules) -> float:
    """How many values a number may have; 0 where it may have any. Its sums must be multiples of its step, and its
    values no more than there is room for.
    """
    step = found.steps.get(name)
    if step is None:
        return 0.0
    low, high = rules.bounds[name]
    for one in (each for each in found.sums if each.number == name):
        steps = one.sum / step
        if not math.isfinite(steps) or abs(steps - round(steps)) > 1e-3:
            raise FormatError("steps has a number whose sum is no multiple of its step")
        if (high - low) / step * (1 + 1e-9) < one.values - 1:
            raise FormatError("steps has a number of more values than its bounds have steps")
    return (high - low) / step


def _people(found: MatrixFile, rules: Rules) -> CrossTable:
    if found.categories:
        scores = frozenset() if Rule.SCORES in rules.off else rules.scores
        known = {column: levels for column, levels in rules.levels.items() if column not in scores}
        rows = [list(row) for row in found.people]
        tables = [{"name": "people", "columns": list(found.categories), "rows": rows}]
        text = json.dumps({"format": cross_table.FORMAT, "tables": tables})
        table = cross_table.read(io.BytesIO(text.encode()), known, max_rows=rules.max_rows)[0]
        if set(table.columns) & set(found.numbers):
            raise FormatError("a column is a number and a category")
        return table
    (row,) = found.people if len(found.people) == 1 else ((),)
    if len(row) != 1 or not isinstance(row[0], int) or not 0 < row[0] <= MAX_COUNT:
        raise FormatError("people of no category must be one row of one number")
    return CrossTable("people", (), (), {(): row[0]})


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
    if one.apart > of.people:
        raise FormatError(f"product {place}: apart is more than people")
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
