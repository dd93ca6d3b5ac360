"""Rounds of an order (decision 854): what a workflow declares of its broadcasts, and how questions and answers follow
each other. Pure: no clock, no network; who keeps rounds asks here what becomes of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from gdi.contracts.ids import KindName, RelativePath
from gdi.kit.models import Frozen

MAX_ROUNDS, MAX_LENGTH, MAX_BYTES = 100, 400, 64 * 1024
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
Bound = Annotated[float, Field(allow_inf_nan=False)]


class RoundConflict(Exception):
    """A question or an answer does not go with how the rounds stand, or with what is declared. `slug` is the problem's
    type. The text names place and bound, never a value.
    """

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug


class BroadcastVector(Frozen):
    """`length` numbers, each from `low` to `high`. `shorter`: or fewer, as many as the run's question has columns; in
    each round of an order as many as in the first.
    """

    length: int = Field(ge=1, le=MAX_LENGTH)
    low: Bound
    high: Bound
    shorter: bool = False

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be smaller than high")
        return self


class RoundsDeclaration(Frozen):
    """What a workflow says of its rounds, which reviewers sign: how many at most, what each broadcast holds by name,
    the kind of release that each answer is; and how a node computes one: `script`, a Python program beside the
    Snakefile, run in the first image that the workflow needs as `script PEOPLE BROADCAST OUT`, where `people` is a file
    that the analysis left in the workspace. It sees nothing else.
    """

    most: int = Field(ge=1, le=MAX_ROUNDS)
    broadcast: dict[Name, BroadcastVector] = Field(min_length=1, max_length=20)
    answer: KindName
    script: RelativePath = "scripts/round.py"
    people: RelativePath = "rounds/people.json"


Broadcast = Mapping[str, Sequence[float]]


def expect_declared(declared: RoundsDeclaration, number: int, broadcast: Broadcast) -> None:
    """RoundConflict `round-limit`, `broadcast-refused` where a question is not one of those that were declared."""
    if not 1 <= number <= declared.most:
        raise RoundConflict("round-limit", f"There are at most {declared.most} rounds.")
    if set(broadcast) != set(declared.broadcast):
        raise RoundConflict("broadcast-refused", "The broadcast has other names than the workflow declares.")
    for name, shape in declared.broadcast.items():
        values = broadcast[name]
        if len(values) != shape.length and not (shape.shorter and 1 <= len(values) < shape.length):
            most = " at most" if shape.shorter else ""
            raise RoundConflict("broadcast-refused", f"{name} must have{most} {shape.length} numbers.")
        if not all(type(value) in (int, float) and shape.low <= value <= shape.high for value in values):
            raise RoundConflict("broadcast-refused", f"{name} must be numbers from {shape.low:g} to {shape.high:g}.")
    if len(body_of(number, broadcast)) > MAX_BYTES:
        raise RoundConflict("broadcast-refused", f"A broadcast has at most {MAX_BYTES} bytes.")


def body_of(number: int, broadcast: Broadcast | None) -> bytes:
    """The question as it travels: equal questions have equal bytes. None: there are no more."""
    values = (
        None if broadcast is None else {name: [float(one) for one in broadcast[name]] for name in sorted(broadcast)}
    )
    return json.dumps({"number": number, "broadcast": values}, separators=(",", ":"), allow_nan=False).encode()


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True)
class RoundTable:
    """The rounds of one order: the newest question's number (0 before the first), its digest, and its answer's; of the
    round before, the answer's, which a centre that was killed asks for again.
    """

    number: int = 0
    question: str = ""
    answer: str = ""
    before: str = ""

    @property
    def waiting(self) -> bool:
        """Whether a question has no answer yet."""
        return self.number > 0 and not self.answer


def put(table: RoundTable, number: int, question: str, most: int) -> RoundTable:
    """The rounds with this question (its digest). The same again changes nothing. RoundConflict: `round-differs`,
    `round-over`, `round-early`, `round-limit`.
    """
    if number == table.number and number > 0:
        if question != table.question:
            raise RoundConflict("round-differs", f"Round {number} has another question.")
        return table
    if number < table.number:
        raise RoundConflict("round-over", f"Round {table.number} was asked already.")
    if number > most:
        raise RoundConflict("round-limit", f"There are at most {most} rounds.")
    if number != table.number + 1 or table.waiting:
        raise RoundConflict("round-early", f"Round {table.number} has no answer yet, or numbers do not rise by one.")
    return RoundTable(number, question, "", table.answer)


def put_answer(table: RoundTable, number: int, answer: str) -> RoundTable:
    """The rounds with this answer (its digest). The same again changes nothing, also of the round before.
    RoundConflict: `round-differs`, `round-over`, `round-early`.
    """
    if number > table.number or number < 1:
        raise RoundConflict("round-early", f"Round {number} was not asked.")
    known = table.answer if number == table.number else table.before if number == table.number - 1 else ""
    if number < table.number - 1:
        raise RoundConflict("round-over", f"Round {number} is over.")
    if known and known != answer:
        raise RoundConflict("round-differs", f"Round {number} has another answer.")
    return table if known else replace(table, answer=answer)


def question_after(table: RoundTable, after: int) -> int | None:
    """The number of the question that a node gets which says that it answered `after`: the newest, where that is later.
    A node that was killed says an earlier number, and gets the newest again.
    """
    return table.number if table.number > after else None


@dataclass(frozen=True)
class NodeRounds:
    """What a node remembers of an order's rounds: the last number, its digest, and the vectors of the broadcast."""

    number: int = 0
    question: str = ""
    broadcast: Mapping[str, tuple[float, ...]] | None = None


def admit(declared: RoundsDeclaration, known: NodeRounds, number: int, broadcast: Broadcast) -> NodeRounds:
    """What the node remembers after it admitted the question. The last question again changes nothing. RoundConflict:
    as `expect_declared`, and `round-differs`, `round-over`, `round-early`: the node trusts no other side's table.
    """
    expect_declared(declared, number, broadcast)
    question = digest_of(body_of(number, broadcast))
    if number == known.number:
        if question != known.question:
            raise RoundConflict("round-differs", f"Round {number} was asked with another broadcast.")
        return known
    if number < known.number:
        raise RoundConflict("round-over", f"Round {known.number} was asked already.")
    if number != known.number + 1:
        raise RoundConflict("round-early", "Numbers of rounds rise by one.")
    if known.broadcast is not None and any(len(known.broadcast[name]) != len(broadcast[name]) for name in broadcast):
        raise RoundConflict("broadcast-refused", "A broadcast has as many numbers as the one before.")
    return NodeRounds(number, question, {name: tuple(map(float, broadcast[name])) for name in broadcast})
