"""What centre, broker and node say of an order's rounds (decision 864): the centre's questions, the node's answers.
How they follow each other is `rounds`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from gdi.contracts.gateway_api import Released
from gdi.contracts.ids import NodeId, RunId
from gdi.contracts.rounds import MAX_LENGTH, MAX_ROUNDS, Bound, Name
from gdi.kit.models import Strict

MAX_ANSWER = 256 * 1024  # characters of an answer
LAST = MAX_ROUNDS + 1  # the end has a number as well
Vector = Annotated[list[Bound], Field(min_length=1, max_length=MAX_LENGTH)]


class RoundQuestion(Strict):
    """`PUT /v1/runs/{run}/rounds/{node}/{number}` by Airflow's workload. The same again changes nothing, another one is
    409. No broadcast: there are no more rounds, and the order has succeeded.
    """

    attempt: int = Field(ge=1, le=10_000)
    broadcast: Annotated[dict[Name, Vector], Field(min_length=1, max_length=20)] | None


class RoundNews(Strict):
    """`GET /v1/runs/{run}/rounds/{node}?after=&wait=` by the node: the newest question, where its number is above
    `after`; number 0 where there is none.
    """

    number: int = Field(default=0, ge=0, le=LAST)
    broadcast: dict[Name, Vector] | None = None


class RoundAnswer(Strict):
    """`PUT /v1/runs/{run}/rounds/{node}/{number}/answer` by the node: a release, and its bytes as text (UTF-8), whose
    checksum the release has. The same bytes again change nothing, others are 409.
    """

    attempt: int = Field(ge=1, le=10_000)
    generation: int = Field(ge=1)
    released: Released
    content: str = Field(max_length=MAX_ANSWER)


class RoundStatus(Strict):
    """A round as the broker has it. `answer`: None while the node has not answered."""

    run: RunId
    node: NodeId
    attempt: int
    number: int = Field(ge=1, le=LAST)
    broadcast: dict[Name, Vector] | None
    answer: RoundAnswer | None = None

    @model_validator(mode="after")
    def _whole(self) -> RoundStatus:
        if self.broadcast is None and self.answer is not None:
            raise ValueError("an end has no answer")
        return self
