"""The node's own record of an order's rounds: what it was asked, and what it answered. A question is written before
anything is computed, so that no number is answered for two broadcasts, whoever was killed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import sqlalchemy as sa

from gdi.contracts.rounds import Broadcast, NodeRounds, RoundConflict, RoundsDeclaration, admit, body_of, digest_of
from gdi.releases.matrix import newton
from node_gateway.db import store as db

STEPPING = "matrix"  # the kind whose broadcasts approach something


@dataclass(frozen=True)
class KeptRound:
    """`question`: as `gdi.contracts.rounds.body_of` has it; `answer`: a `RoundAnswer` as JSON, empty before."""

    number: int
    question: str
    answer: str

    @property
    def broadcast(self) -> dict[str, tuple[float, ...]]:
        return {name: tuple(values) for name, values in json.loads(self.question)["broadcast"].items()}


class RoundHistory:
    def __init__(self, database: db.GatewayDatabase) -> None:
        self._db = database

    async def of(self, run: str, attempt: int) -> list[KeptRound]:
        """In their order."""
        query = sa.select(db.rounds).filter_by(run=run, attempt=attempt).order_by(db.rounds.c.number)
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [KeptRound(row["number"], row["question"], row["answer"]) for row in rows]

    async def add(self, run: str, attempt: int, number: int, question: str) -> None:
        values = {"run": run, "attempt": attempt, "number": number, "question": question, "answer": ""}
        async with self._db.write() as connection:
            await connection.execute(db.rounds.insert().values(**values))

    async def answer(self, run: str, attempt: int, number: int, answer: str) -> None:
        here = db.rounds.update().filter_by(run=run, attempt=attempt, number=number)
        async with self._db.write() as connection:
            await connection.execute(here.values(answer=answer))


def expect_next(declared: RoundsDeclaration, before: list[KeptRound], number: int, broadcast: Broadcast) -> bool:
    """Whether the question is new; the last one again is not. RoundConflict as `gdi.contracts.rounds.admit`, and
    `round-refused` where a step is longer than the last.
    """
    known = NodeRounds()
    if before:
        last = before[-1]
        known = NodeRounds(last.number, digest_of(last.question.encode()), last.broadcast)
    if admit(declared, known, number, broadcast) is known:
        return False
    if declared.answer == STEPPING:
        for name, values in broadcast.items():
            if newton.longer([one.broadcast[name] for one in before], tuple(map(float, values))):
                raise RoundConflict("round-refused", "A step is longer than the last.")
    return True


def question_text(number: int, broadcast: Broadcast) -> str:
    return body_of(number, broadcast).decode()
