"""Rounds under a hostile centre, a forgetful one, and kills of either side: no round is answered for two broadcasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gdi.contracts.rounds import (
    NodeRounds,
    RoundConflict,
    RoundsDeclaration,
    RoundTable,
    admit,
    body_of,
    digest_of,
    expect_declared,
    put,
    put_answer,
    question_after,
)

DECLARED = RoundsDeclaration.model_validate(
    {"most": 6, "broadcast": {"beta": {"length": 2, "low": -10, "high": 10}}, "answer": "matrix"}
)
MOST_BYTES = RoundsDeclaration.model_validate(
    {
        "most": 1,
        "broadcast": {f"b{n}": {"length": 400, "low": -1, "high": 1} for n in range(20)},
        "answer": "matrix",
    }
)


def slug_of(call: Callable[[], Any]) -> str:
    with pytest.raises(RoundConflict) as caught:
        call()
    return caught.value.slug


@pytest.mark.parametrize(
    ("number", "broadcast", "slug"),
    [
        (0, {"beta": [0, 0]}, "round-limit"),
        (7, {"beta": [0, 0]}, "round-limit"),
        (1, {}, "broadcast-refused"),
        (1, {"beta": [0, 0], "more": [1]}, "broadcast-refused"),
        (1, {"beta": [0]}, "broadcast-refused"),
        (1, {"beta": [0, 0, 0]}, "broadcast-refused"),
        (1, {"beta": [0, 10.1]}, "broadcast-refused"),
        (1, {"beta": [0, float("nan")]}, "broadcast-refused"),
        (1, {"beta": [0, float("inf")]}, "broadcast-refused"),
        (1, {"beta": [0, True]}, "broadcast-refused"),
        (1, {"beta": [0, "rs123"]}, "broadcast-refused"),
        (1, {"beta": [0, 10**400]}, "broadcast-refused"),
    ],
)
def test_a_broadcast_that_was_not_declared_is_refused(number: int, broadcast: dict[str, Any], slug: str) -> None:
    with pytest.raises(RoundConflict) as caught:
        expect_declared(DECLARED, number, broadcast)
    assert caught.value.slug == slug and "rs123" not in str(caught.value)


def test_a_broadcast_is_small() -> None:
    with pytest.raises(RoundConflict, match="at most 65536 bytes"):
        expect_declared(MOST_BYTES, 1, {f"b{n}": [1 / 3] * 400 for n in range(20)})


@pytest.mark.parametrize(
    "change",
    [{"most": 0}, {"most": 101}, {"broadcast": {}}, {"broadcast": {"b": {"length": 1, "low": 1, "high": 1}}}],
    ids=str,
)
def test_a_declaration_is_bounded(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        RoundsDeclaration.model_validate(DECLARED.model_dump() | change)


def test_another_broadcast_under_a_number_is_refused_by_broker_and_node() -> None:
    known = admit(DECLARED, NodeRounds(), 1, {"beta": [0, 0]})
    assert slug_of(lambda: admit(DECLARED, known, 1, {"beta": [0, 1]})) == "round-differs"
    assert slug_of(lambda: put(put(RoundTable(), 1, "a", 6), 1, "b", 6)) == "round-differs"
    table = put_answer(put(RoundTable(), 1, "a", 6), 1, "x")
    assert put(table, 1, "a", 6) == table and put_answer(table, 1, "x") == table
    later = put(table, 2, "b", 6)
    assert put_answer(later, 1, "x") == later and question_after(later, 1) == 2 and question_after(later, 2) is None
    last = put_answer(later, 2, "z")
    assert slug_of(lambda: put_answer(later, 1, "y")) == "round-differs"
    assert slug_of(lambda: put_answer(later, 3, "y")) == "round-early"
    assert slug_of(lambda: put(later, 1, "a", 6)) == "round-over"
    assert slug_of(lambda: put(later, 3, "c", 6)) == "round-early"
    assert slug_of(lambda: put(last, 4, "c", 6)) == "round-early"
    assert slug_of(lambda: put(last, 3, "c", 2)) == "round-limit"
    assert slug_of(lambda: put_answer(put(last, 3, "c", 6), 1, "x")) == "round-over"


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=2))
def test_equal_questions_have_equal_bytes(beta: list[float]) -> None:
    assert body_of(1, {"beta": beta}) == body_of(1, {"beta": tuple(beta)})
    known = admit(DECLARED, NodeRounds(), 1, {"beta": beta})
    assert admit(DECLARED, known, 1, {"beta": beta}) == known and known.question == digest_of(
        body_of(1, {"beta": beta})
    )


class Rounds(RuleBasedStateMachine):
    """A centre whose next question follows from the last answer, the broker's table, and a node. Either side is killed
    between any two steps: the centre knows what it stored before, the node what it wrote down.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table, self.node = RoundTable(), NodeRounds()
        self.stored = 1  # the round that the centre works on, as its store has it
        self.answers: dict[int, set[str]] = {}
        self.questions: dict[int, str] = {}

    def question(self, number: int) -> dict[str, list[float]]:
        return {"beta": [number / 2, -number / 3]}

    @rule()
    def ask(self) -> None:
        """Also after a kill: the same number, the same bytes."""
        if self.stored <= DECLARED.most:
            body = body_of(self.stored, self.question(self.stored))
            self.questions[self.stored] = digest_of(body)
            self.table = put(self.table, self.stored, digest_of(body), DECLARED.most)

    @rule()
    def hear(self) -> None:
        """The centre reads the answer and stores the next state."""
        if self.table.number == self.stored and self.table.answer:
            self.stored += 1

    @rule(after=st.integers(0, 6))
    def work(self, after: int) -> None:
        """The node asks; a killed one names an earlier number."""
        number = question_after(self.table, min(after, self.node.number))
        if number is None:
            return
        self.node = admit(DECLARED, self.node, number, self.question(number))
        answer = f"answer to {self.node.question}"
        self.answers.setdefault(number, set()).add(answer)
        self.table = put_answer(self.table, number, answer)

    @precondition(lambda self: self.node.number > 0)
    @rule(change=st.floats(0.1, 5))
    def lie(self, change: float) -> None:
        """A hostile centre or broker sends another broadcast under a number that the node answered."""
        other = {"beta": [self.node.number / 2 + change, 0.0]}
        assert slug_of(lambda: admit(DECLARED, self.node, self.node.number, other)) == "round-differs"
        assert slug_of(lambda: put(self.table, self.table.number, "0" * 64, 6)) == "round-differs"

    @precondition(lambda self: self.node.number > 1)
    @rule()
    def replay(self) -> None:
        number = self.node.number - 1
        assert slug_of(lambda: admit(DECLARED, self.node, number, self.question(number))) == "round-over"

    @rule(ahead=st.integers(2, 4))
    def skip(self, ahead: int) -> None:
        number = self.node.number + ahead
        wanted = "round-limit" if number > DECLARED.most else "round-early"
        assert slug_of(lambda: admit(DECLARED, self.node, number, self.question(1))) == wanted

    @invariant()
    def one_answer_each(self) -> None:
        assert all(len(found) == 1 for found in self.answers.values())
        assert self.node.number <= self.table.number <= self.node.number + 1
        assert self.stored in (self.table.number, self.table.number + 1)


TestRounds = Rounds.TestCase
TestRounds.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
