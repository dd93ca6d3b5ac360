"""The form of a file of the kind `matrix`: `gdi-matrix/1`, as a workflow writes it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gdi.kit.models import Frozen
from gdi.releases.cross_table.table import COLUMN, MAX_CELLS, MAX_COLUMNS, MAX_COUNT, MAX_LEVEL
from gdi.releases.disclosure.sums import MAX_LARGEST, expect_shares
from gdi.releases.matrix.round_table import LogisticRound

FORMAT = "gdi-matrix/1"  # what a workflow writes
MAX_NUMBERS = 20
Column = Field(pattern=rf"^{COLUMN}$")
Support = Annotated[int, Field(ge=1, le=MAX_COUNT, strict=True)]  # people
Group = tuple[str, str] | None
"""A column and its category; None is everybody."""


class NumberSum(Frozen):
    """A number over the people of a category, or over everybody. `sums`, `squares`: which part of the sum of |x|, and
    of that of (x - mean)², the 1, 2, … people have who have most of it, at most 50 of them. `apart`: people whose value
    is not the commonest one; `values`: how many values there are; `odd`: the fewest people who have another remainder
    than the commonest modulo a round number, 0 where nobody has, whichever it is.
    """

    number: str = Column
    category: str | None = Field(default=None, pattern=rf"^{COLUMN}$")
    level: str | None = Field(default=None, max_length=MAX_LEVEL)
    people: int = Field(ge=1, le=MAX_COUNT, strict=True)
    sum: float = Field(allow_inf_nan=False)
    sums: tuple[float, ...] = Field(max_length=MAX_LARGEST)
    squares: tuple[float, ...] = Field(max_length=MAX_LARGEST)
    apart: int = Field(ge=0, le=MAX_COUNT, strict=True)
    values: int = Field(ge=1, le=MAX_COUNT, strict=True)
    odd: int = Field(ge=0, le=MAX_COUNT, strict=True)

    @property
    def group(self) -> Group:
        return None if self.category is None or self.level is None else (self.category, self.level)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.category is None) != (self.level is None):
            raise ValueError("category and level belong together")
        for shares in (self.sums, self.squares):
            expect_shares(shares, self.people)
        if max(self.apart, self.values - 1, self.odd) > self.people:
            raise ValueError("apart, values or odd is more than people")
        return self


class ProductSum(Frozen):
    """The sum of the products of two numbers, over everybody. `products`: which part of the sum of |x - mean| |y -
    mean| the 1, 2, … people have who have most of it. `apart`: people both of whose values are not the commonest.
    `odd`: as of a number, of the products.
    """

    numbers: tuple[str, str]
    sum: float = Field(allow_inf_nan=False)
    products: tuple[float, ...] = Field(max_length=MAX_LARGEST)
    apart: int = Field(ge=0, le=MAX_COUNT, strict=True)
    odd: int = Field(ge=0, le=MAX_COUNT, strict=True)


class MatrixFile(Frozen):
    """`people`: a level of each of the `categories`, then how many people. `steps`: of numbers whose values are whole
    multiples of one, that one: 0.01 of two decimals. `leverage`: the sum of the 1, 2, … largest leverages, at most 1,
    of the constant, all numbers and all categories: of no combination of columns have so few people a larger part.
    `support`: the fewest people who have 95 %, and 99.9 %, of a combination's squares, of all that were tried; the
    second also those who alone have a number's last digits, by as much more as these have fewer than 40 bits.
    `arrangements`: of each number, log2 of in how many ways the people can have its values.
    `round`: of a logistic model, whose `outcome` is a category and its level, `COLUMN:LEVEL`.
    """

    format: Literal["gdi-matrix/1"]
    model: Literal["linear", "logistic"]
    outcome: str = Field(max_length=MAX_LEVEL + 70)
    numbers: tuple[str, ...] = Field(min_length=1, max_length=MAX_NUMBERS)
    categories: tuple[str, ...] = Field(default=(), max_length=MAX_COLUMNS)
    people: tuple[tuple[str | int, ...], ...] = Field(max_length=MAX_CELLS)
    steps: dict[str, Annotated[float, Field(ge=1e-9, le=1e9)]] = Field(default_factory=dict, max_length=MAX_NUMBERS)
    leverage: tuple[float, ...] = Field(max_length=MAX_LARGEST)
    support: tuple[Support, Support]
    arrangements: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(max_length=MAX_NUMBERS)
    sums: tuple[NumberSum, ...] = Field(min_length=1, max_length=MAX_CELLS)
    products: tuple[ProductSum, ...] = Field(min_length=1, max_length=MAX_NUMBERS * (MAX_NUMBERS + 1) // 2)
    round: LogisticRound | None = None
