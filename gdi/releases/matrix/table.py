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
from gdi.releases.kind import FormatError, Rules
from gdi.releases.matrix.forms import FORMAT, Group, MatrixFile, NumberSum, ProductSum
from gdi.releases.matrix.round_table import MAX_BITS, LogisticRound

RELEASED = "gdi-matrix-released/1"  # what leaves the node


@dataclass(frozen=True)
class SumMatrix:
    """`table`: people by categories. `sums`: by number and group of people; `products`: by two numbers, sorted.
    `ranges`: by number, how many values it may have: 0 where it may have any. `leverage`, `support`, `arrangements`: as
    the file has them. `fit`: a round of a logistic model, None of a linear one.
    """

    outcome: str
    numbers: tuple[str, ...]
    table: CrossTable
    sums: Mapping[tuple[str, Group], NumberSum]
    products: Mapping[tuple[str, str], ProductSum]
    ranges: Mapping[str, float]
    leverage: tuple[float, ...]
    support: tuple[int, int]
    arrangements: Mapping[str, float]
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
        return len(self.numbers) + self.free_levels

    @property
    def equations(self) -> int:
        """What a reader learns, in numbers: p of the outcome's products, p (p + 1) / 2 of the others."""
        p = self.parameters
        return p + p * (p + 1) // 2

    @property
    def bits_of_category(self) -> int:
        """Of the sums of all numbers over the people of one category."""
        return sum(_bits(self.people * self.ranges[number]) for number in self.numbers)

    @property
    def bits_of_numbers(self) -> dict[str, int]:
        """Of all sums that a number is in: over everybody, over each category but one of each column, and of its
        products.
        """
        groups, found = 1 + self.free_levels, {}
        for number, values in self.ranges.items():
            alone = groups * _bits(self.people * values)
            found[number] = alone + sum(_bits(self.people * values * other) for other in self.ranges.values())
        return found

    @property
    def free_levels(self) -> int:
        """Categories but for one of each column, whose people follow from the others."""
        return len(self.levels) - len({column for column, _ in self.levels})

    @property
    def bits(self) -> int:
        """What a reader who knows the numbers learns of who is in which category: of each number and category, but for
        one of each column, the bits of its sum.
        """
        return self.bits_of_category * self.free_levels

    @property
    def differing(self) -> int:
        """The fewest people of whom sums may be alone: whose value of a number is not its commonest, or `support`."""
        return min(self.support[1], *(self.sums[number, None].apart for number in self.numbers))

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
    facts = (found.leverage, found.support, found.arrangements, found.round)
    unit = SumMatrix(found.outcome, names, people, sums, products, ranges, *facts)
    if unit.free_levels >= MAX_COHORTS:
        raise FormatError(f"categories must have fewer than {MAX_COHORTS} levels beside the first of each column")
    if set(sums) != set(product(unit.numbers, unit.groups)):
        raise FormatError("sums must have one for each number, over everybody and over each category that people have")
    if set(products) != set(combinations_with_replacement(unit.numbers, 2)):
        raise FormatError("products must have one for each two numbers, and for each with itself")
    return [unit]


def _bits(values: float) -> int:
    """Of a sum that may have so many values; 0: any."""
    return MAX_BITS if not values else min(MAX_BITS, math.ceil(math.log2(values + 1)))


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
