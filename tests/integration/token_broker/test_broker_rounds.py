"""Rounds of an order at the broker: a hostile centre, a hostile node, kills of either side, floods."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gdi.broker_client.client import BrokerClient
from gdi.broker_client.node_agent import NodeAgentClient, conflict_of
from gdi.contracts import broker_api as m
from gdi.contracts.gateway_api import Released
from gdi.contracts.orders import OrderStatus
from gdi.contracts.round_messages import LAST, MAX_ANSWER, RoundAnswer, RoundNews, RoundQuestion, RoundStatus
from gdi.kit.problem import ProblemError
from gdi.local_federation.openbao import OpenBao
from tests.support.broker_kit import refused
from tests.support.node_agent import AgentWorld

pytest_plugins = ["tests.support.broker_fixtures"]
NODE = "node-a"


@pytest.fixture(scope="module")
def world(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentWorld]:
    made = AgentWorld(tmp_path_factory.mktemp("rounds"), openbao)
    made.start_broker()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def alice(world: AgentWorld) -> BrokerClient:
    return world.user("alice")


@pytest.fixture
def run(world: AgentWorld, alice: BrokerClient) -> m.Run:
    return world.started(alice, mode="standing")[1]


def ask(world: AgentWorld, run: m.Run, number: int, *beta: float, node: str = NODE, attempt: int = 1) -> RoundStatus:
    broadcast = {"beta": list(beta)} if beta else None
    with world.airflow() as airflow:
        return airflow.put_question(run.id, node, number, RoundQuestion(attempt=attempt, broadcast=broadcast))


def answer_of(status: OrderStatus, content: str, **changes: Any) -> RoundAnswer:
    released = Released(
        name="round", kind="matrix", sha256=hashlib.sha256(content.encode()).hexdigest(), url="x", signature="y"
    )
    values = {"attempt": status.attempt, "generation": status.generation, "released": released, "content": content}
    return RoundAnswer.model_validate(values | changes)


def answer(world: AgentWorld, status: OrderStatus, number: int, content: str, **changes: Any) -> RoundStatus:
    sent = answer_of(status, content, **changes)
    return world.agent(NODE, lambda c: c.put_answer(status.run, NODE, number, sent))


def question(world: AgentWorld, status: OrderStatus, after: int = 0, wait: float = 0) -> RoundNews:
    place = (status.run, NODE, status.attempt, status.generation)
    return world.agent(NODE, lambda c: c.question(*place, after=after, wait=wait))


def known(world: AgentWorld, run: m.Run, number: int) -> RoundStatus:
    with world.airflow() as airflow:
        return airflow.round(run.id, NODE, number, 1)


def test_who_has_no_order_asks_and_answers_nothing(world: AgentWorld, run: m.Run) -> None:
    assert refused(ask, world, run, 1, 0.5).slug == "order-unknown"
    world.order(run)  # an analysis is no rounds
    assert refused(ask, world, run, 1, 0.5).slug == "order-unknown"
    made = world.order(run, "round")
    assert ask(world, run, 1, 0.5).answer is None, "a question may come before the order is taken"
    assert conflict_of(refused(question, world, made.model_copy(update={"generation": 1}))) == "order-fenced"
    status = world.take(world.find(run, "round"))
    assert question(world, status).broadcast == {"beta": [0.5]}
    with world.airflow() as airflow:
        as_airflow = refused(airflow.round, run.id, "node-b", 1, 1)
        assert as_airflow.slug == "round-unknown"
    other = refused(world.agent, "node-b", lambda c: c.put_answer(run.id, NODE, 1, answer_of(status, "{}")))
    assert other.slug == "wrong-node"
    foreign = refused(world.agent, "node-b", lambda c: c.question(run.id, NODE, 1, 1, after=0, wait=0))
    assert foreign.slug == "wrong-node"


def test_a_round_goes_there_and_back_and_is_a_row_among_the_jobs(world: AgentWorld, run: m.Run) -> None:
    status = world.taken(run, "round")
    assert question(world, status) == RoundNews()
    first = ask(world, run, 1, 0.0, 0.25)
    assert question(world, status) == RoundNews(number=1, broadcast={"beta": [0.0, 0.25]})
    assert ask(world, run, 1, 0.0, 0.25) == first, "a centre that was killed asks the same"
    done = answer(world, status, 1, '{"n": 1}')
    assert done.answer is not None and done.answer.content == '{"n": 1}'
    assert answer(world, status, 1, '{"n": 1}') == done, "a node that was killed answers the same"
    assert known(world, run, 1) == done
    assert question(world, status, after=1) == RoundNews()
    ask(world, run, 2, 1.0, 0.5)
    assert known(world, run, 1) == done, "the last answer stays"
    assert question(world, status).number == 2, "a node that forgot all gets the newest"
    with world.airflow() as airflow:
        jobs = {job.job: job.state for job in airflow.jobs(run.id).jobs}
    assert jobs == {"node-a-round-1": "done", "node-a-round-2": "running"}
    answer(world, status, 2, "{}")
    ask(world, run, 3, 1.0, 0.5)
    assert refused(known, world, run, 1).slug == "round-unknown", "two are kept"


def test_another_question_or_answer_of_the_same_number_is_refused(world: AgentWorld, run: m.Run) -> None:
    status = world.taken(run, "round")
    assert conflict_of(refused(answer, world, status, 1, "{}")) == "round-early"
    assert conflict_of(refused(ask, world, run, 2, 1.0)) == "round-early"
    ask(world, run, 1, 1.0)
    assert conflict_of(refused(ask, world, run, 1, 1.0000000000000002)) == "round-differs"
    assert conflict_of(refused(ask, world, run, 2, 1.0)) == "round-early", "one question at a time"
    answer(world, status, 1, "{}")
    assert conflict_of(refused(answer, world, status, 1, "{ }")) == "round-differs"
    ask(world, run, 2, 1.0)
    assert conflict_of(refused(ask, world, run, 1, 1.0)) == "round-over"
    assert conflict_of(refused(answer, world, status, 1, "{ }")) == "round-differs"
    answer(world, status, 2, "{}")
    ask(world, run, 3, 2.0)
    assert conflict_of(refused(answer, world, status, 1, "{}")) == "round-over"


def test_an_end_has_no_answer_and_no_round_after_it(world: AgentWorld, run: m.Run) -> None:
    status = world.taken(run, "round")
    ask(world, run, 1, 1.0)
    answer(world, status, 1, "{}")
    assert ask(world, run, 2) == ask(world, run, 2)
    assert question(world, status, after=1) == RoundNews(number=2)
    assert conflict_of(refused(answer, world, status, 2, "{}")) == "round-over"
    assert conflict_of(refused(ask, world, run, 3, 1.0)) == "round-early"
    world.report(status, "running")
    world.report(status, "succeeded")
    assert conflict_of(refused(ask, world, run, 3, 1.0)) == "order-over"
    assert conflict_of(refused(question, world, status)) == "order-over"
    assert known(world, run, 2).broadcast is None


def test_a_taker_of_before_is_not_heard(world: AgentWorld, run: m.Run) -> None:
    status = world.taken(run, "round")
    ask(world, run, 1, 1.0)
    for generation in (status.generation + 1, 1000):
        assert conflict_of(refused(answer, world, status, 1, "{}", generation=generation)) == "order-fenced"
    with world.airflow() as airflow:
        airflow.cancel_order(run.id, NODE, "round", 1, "enough")
    world.report(status, "cancelled")
    assert conflict_of(refused(answer, world, status, 1, "{}")) == "order-over"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("1", {"attempt": 1, "broadcast": {}}, 422),
        ("1", {"attempt": 1}, 422),
        ("1", {"attempt": 1, "broadcast": {"beta": []}}, 422),
        ("1", {"attempt": 1, "broadcast": {"beta": [0.0] * 401}}, 422),
        ("1", {"attempt": 1, "broadcast": {"Beta": [0.0]}}, 422),
        ("1", {"attempt": 1, "broadcast": {"beta": ["rs123"]}}, 422),
        ("1", {"attempt": 1, "broadcast": {"beta": [1e999]}}, 422),
        ("1", {"attempt": 1, "broadcast": {f"b{n}": [-1.2345678901234567e-100] * 400 for n in range(20)}}, 413),
        ("0", {"attempt": 1, "broadcast": {"beta": [0.0]}}, 422),
        (str(LAST + 1), {"attempt": 1, "broadcast": {"beta": [0.0]}}, 422),
        (str(LAST), {"attempt": 1, "broadcast": {"beta": [0.0]}}, 409),
    ],
    ids=["none", "no-word", "empty", "long", "name", "text", "infinite", "bytes", "zero", "beyond", "no-end"],
)
def test_a_broadcast_is_few_finite_numbers(
    world: AgentWorld, run: m.Run, path: str, body: dict[str, Any], status: int
) -> None:
    world.order(run, "round")
    with world.airflow() as airflow:
        text = json.dumps(body).encode()  # with Python's Infinity, which httpx would not send
        where, of = f"/v1/runs/{run.id}/rounds/{NODE}/{path}", {"Content-Type": "application/json"}
        assert airflow._http.put(where, content=text, headers=of).status_code == status


def test_an_answer_is_what_its_checksum_says_and_of_few_bytes(world: AgentWorld, run: m.Run) -> None:
    status = world.taken(run, "round")
    ask(world, run, 1, 1.0)
    assert refused(answer, world, status, 1, "{}", released=answer_of(status, "[]").released).slug == "wrong-hash"
    large = answer_of(status, "{}").model_dump(mode="json") | {"content": "x" * (MAX_ANSWER + 1)}

    async def send(client: NodeAgentClient) -> int:
        return (await client._http.put(f"/v1/runs/{run.id}/rounds/{NODE}/1/answer", json=large)).status_code

    assert world.agent(NODE, send) == 422
    assert known(world, run, 1).answer is None


def test_both_sides_hear_at_once_and_a_node_waits_in_few_calls(world: AgentWorld, run: m.Run) -> None:
    status = world.taken(run, "round")

    async def both(client: NodeAgentClient) -> tuple[int, list[str]]:
        place = (run.id, NODE, 1, status.generation)
        calls = [asyncio.create_task(client.question(*place, after=0, wait=20)) for _ in range(25)]
        await asyncio.wait(calls, timeout=20, return_when=asyncio.FIRST_EXCEPTION)
        while sum(call.done() for call in calls) < 5:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(ask, world, run, 1, 1.0)
        found = await asyncio.gather(*calls, return_exceptions=True)
        heard = [one for one in found if isinstance(one, RoundNews)]
        assert {one.number for one in heard} == {1}
        return len(heard), sorted({one.slug for one in found if isinstance(one, ProblemError)})

    began = time.monotonic()
    assert world.agent(NODE, both) == (20, ["too-many-requests"])
    assert time.monotonic() - began < 15, "who waits hears of it before the wait is over"
