"""Puts the nodes' matrices together (release format `gdi-matrix-released/1`): sums of products of disjoint people add
up, so that the regression is that of the pooled people.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from gdi.releases.cross_table.table import COLUMN, MAX_LEVEL
from gdi.releases.disclosure.parts import MAX_COHORTS
from gdi.releases.kind import BadReleaseError
from gdi.releases.matrix import least_squares, round_merge
from gdi.releases.matrix.forms import MAX_NUMBERS
from gdi.releases.matrix.least_squares import Estimate
from gdi.releases.matrix.round_merge import ReleasedRound

COLUMNS = (
    *("OUTCOME", "TERM", "LEVEL", "BETA", "SE", "T", "MINUS_LOG10_P", "LOW_95", "HIGH_95", "NODES", "N", "R2"),
    *("SIGMA", "REASON"),
)
CONSTANT = "(constant)"
MOST_COLUMNS = 1 + MAX_NUMBERS + 2 * MAX_COHORTS
Word = Annotated[str, Field(min_length=1, max_length=MAX_LEVEL, pattern=r"^[^\x00-\x1f\x7f]+$")]
Term = Annotated[tuple[Word, ...], Field(max_length=2)]
"""A column: nothing is the constant 1, one name a number, two a column and its category."""
Entry = tuple[Term, Term, Annotated[Decimal, Field(allow_inf_nan=False, max_digits=400)]]


class ReleasedMatrix(BaseModel):
    """A node's release: `columns`, and `entries`, the sum over people of one column times the other. No columns where
    the node withholds it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    format: str = Field(pattern=r"^gdi-matrix-released/1$")
    model: Literal["linear"]
    outcome: Annotated[str, Field(pattern=f"^{COLUMN}$")] | None
    columns: tuple[Term, ...] = Field(max_length=MOST_COLUMNS)
    withheld: dict[Word, int] = Field(default_factory=dict, max_length=10)
    entries: tuple[Entry, ...] = Field(max_length=MOST_COLUMNS * (MOST_COLUMNS + 1) // 2)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        known = set(self.columns)
        if len(known) != len(self.columns):
            raise ValueError("a column is there twice")
        if self.columns and (() not in known or (self.outcome,) not in known):
            raise ValueError("the constant or the outcome is no column")
        wanted = {frozenset((a, b)) for a in known for b in known if not apart(a, b)}
        if {frozenset((a, b)) for a, b, _ in self.entries} != wanted or len(wanted) != len(self.entries):
            raise ValueError("entries must have one for every two columns")
        if any(abs(number.adjusted()) > 100 for _, _, number in self.entries if number):
            raise ValueError("an entry is out of all bounds")
        if any(a == b and number < 0 for a, b, number in self.entries):
            raise ValueError("a sum of squares is below zero")
        return self


Released = ReleasedMatrix | ReleasedRound
RELEASED: TypeAdapter[Released] = TypeAdapter(Annotated[Released, Field(discriminator="model")])


@dataclass(frozen=True)
class FittedTerm:
    """A row of the answer: a coefficient over the `nodes` whose sums left. `reason`: `small` or `equations` where other
    nodes' did not, `dependent` where the column follows from the others, `few` where people are too few, `rounds` where
    they ended early.
    """

    outcome: str
    term: str
    level: str
    estimate: Estimate | None
    nodes: int
    n: int
    r2: float | None
    sigma: float | None
    reason: str = ""


def apart(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether two columns are categories of one column: nobody has both."""
    return len(a) == len(b) == 2 and a[0] == b[0] and a != b


def parse(node: str, data: bytes) -> Released:
    """A node's release. BadReleaseError naming node and place."""
    try:
        return RELEASED.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])[:80] or "document"
        raise BadReleaseError(f"The matrix of {node} is not of its format: {place}: {first['msg']}") from None


def merge(releases: Mapping[str, Released], nodes: Iterable[str]) -> list[FittedTerm]:
    """A row for each term, the constant first, of a category each level but its first. BadReleaseError where the nodes
    have different numbers, categories or outcomes.
    """
    wanted = sorted(set(nodes))
    every = [releases[node] for node in wanted if releases[node].columns]
    if not every:
        return []
    reasons = {reason for node in wanted for reason in releases[node].withheld if not releases[node].columns}
    reason = "" if len(every) == len(wanted) else ",".join(sorted(reasons)) or "small"
    rounds = [one for one in every if isinstance(one, ReleasedRound)]
    if rounds:
        if len(rounds) < len(every) or not round_merge.alike(rounds):
            raise BadReleaseError(f"The matrices of {', '.join(wanted)} are of different rounds.")
        return _of_rounds(rounds, reason)
    full = [one for one in every if isinstance(one, ReleasedMatrix)]
    if len({(one.outcome, frozenset(column[:1] for column in one.columns)) for one in full}) > 1:
        raise BadReleaseError(f"The matrices of {', '.join(wanted)} are of different columns.")
    sums: dict[frozenset[tuple[str, ...]], Fraction] = {}
    for one in full:
        for a, b, number in one.entries:
            place = frozenset((a, b))
            sums[place] = sums.get(place, Fraction(0)) + Fraction(number)
    return _fitted(full[0].outcome or "", _terms(full), sums, len(full), reason)


def _of_rounds(rounds: Sequence[ReleasedRound], why: str) -> list[FittedTerm]:
    found, n = round_merge.estimates(rounds), sum(one.people for one in rounds)
    rows = []
    for place, column in enumerate(rounds[0].columns):
        estimate = found[0][place] if found and found[1] else None  # no coefficient on its way is an answer
        reason = why or ("dependent" if found is None else "" if found[1] else "rounds")
        name, level = (column[0] if column else CONSTANT), (column[1] if len(column) == 2 else "")
        rows.append(FittedTerm(rounds[0].outcome, name, level, estimate, len(rounds), n, None, None, reason))
    return rows


def _terms(full: Sequence[ReleasedMatrix]) -> list[tuple[str, ...]]:
    """The columns of the regression: without the outcome, and without the first level of each category."""
    found = list(dict.fromkeys(column for one in full for column in one.columns))
    outcome = (full[0].outcome,)
    first = {column[0]: column for column in reversed(found) if len(column) == 2}
    return [column for column in found if column != outcome and first.get(column[0] if column else "") != column]


def _fitted(
    outcome: str,
    terms: list[tuple[str, ...]],
    sums: Mapping[frozenset[tuple[str, ...]], Fraction],
    nodes: int,
    why: str,
) -> list[FittedTerm]:
    def of(a: tuple[str, ...], b: tuple[str, ...]) -> Fraction:
        return sums.get(frozenset((a, b)), Fraction(0))

    y = (outcome,)
    found = least_squares.fit([[of(a, b) for b in terms] for a in terms], [of(a, y) for a in terms], of(y, y))
    n = int(of((), ()))
    rows = []
    for place, term in enumerate(terms):
        estimate = found.estimates[place] if found else None
        reason = why or ("" if estimate else "dependent" if found else "few")
        name, level = (term[0] if term else CONSTANT), (term[1] if len(term) == 2 else "")
        r2, sigma = (found.r2, found.sigma) if found else (None, None)
        rows.append(FittedTerm(outcome, name, level, estimate, nodes, n, r2, sigma, reason))
    return rows


def table_line(one: FittedTerm) -> str:
    """A row of the answer."""
    of = one.estimate
    numbers = [of.beta, of.se, of.t, of.minus_log10_p, of.low, of.high] if of else [None] * 6
    texts = [_text(number) for number in numbers]
    return "\t".join(
        [
            one.outcome,
            one.term,
            one.level,
            *texts,
            str(one.nodes),
            str(one.n),
            _text(one.r2),
            _text(one.sigma),
            one.reason,
        ]
    )


def _text(number: float | None) -> str:
    return "" if number is None or not math.isfinite(number) else f"{number:.10g}"
