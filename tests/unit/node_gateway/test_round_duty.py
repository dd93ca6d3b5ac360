"""An order `round` at a node: a centre that lies, a TES that loses tasks, kills between any two steps, a node that
serves none.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gdi.contracts.gateway_api import Released, RoundProgress
from gdi.contracts.packed_workflow import UnpackedWorkflow
from gdi.contracts.round_messages import RoundAnswer, RoundNews
from gdi.contracts.workflow import Workflow
from gdi.kit.problem import ProblemError
from node_gateway.agent import duties, round_duty
from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.duties import Duties, EndRequest, OrderEnd
from node_gateway.agent.round_duty import RoundDuty, round_task, wanted_round
from node_gateway.db.store import GatewayDatabase
from node_gateway.node_rounds import RoundHistory
from node_gateway.policy import Policy

ROUNDS = {"most": 6, "broadcast": {"beta": {"length": 3, "shorter": True, "low": -9, "high": 9}}, "answer": "matrix"}
SCRIPTS = {"scripts/round.py": b"print()", "scripts/beside.py": b"", "scripts/data.csv": b"", "Snakefile": b""}
ANSWERING = Policy.model_validate({"releases": {"kinds": ["matrix"], "rounds": {"unattacked": "a test of ours"}}})


def workflow(**changes: Any) -> Workflow:
    values = {"name": "w", "title": "t", "version": "1", "needs": {"images": ["task:1"]}, "rounds": ROUNDS}
    return Workflow.model_validate(values | changes)


FILES = UnpackedWorkflow(SCRIPTS, workflow())


class Node:
    """What the duty meets: the broker asks `questions` in turn and keeps `answers`; `tasks` has what the TES says of
    each try, `dies` what raises once instead of being done.
    """

    def __init__(self, database: GatewayDatabase) -> None:
        self.database = database
        self.questions: list[RoundNews] = []
        self.answers: dict[int, RoundAnswer] = {}
        self.tasks: dict[int, str] = {}
        self.sent: list[tuple[int, int]] = []
        self.checked: list[tuple[str, str]] = []
        self.refusal: ProblemError | None = None
        self.dies = ""
        self.generation = 3

    def _die(self, here: str) -> None:
        if self.dies == here:
            self.dies = ""
            raise asyncio.CancelledError

    async def question(self, *_: Any, after: int, wait: float) -> RoundNews:
        open_ = [one for one in self.questions if one.number > after]
        if open_ and open_[-1].number not in self.answers:
            return open_[-1]
        return RoundNews()

    async def put_answer(self, run: str, node: str, number: int, answer: RoundAnswer) -> None:
        self._die("before the answer")
        if number in self.answers and self.answers[number].content != answer.content:
            raise ProblemError(409, "round-conflict", "another", action="none", conflict="round-differs")
        self.answers[number] = answer
        self._die("after the answer")

    async def ask_round(self, order: Any, task: Any) -> RoundProgress:
        self._die("before the task")
        self.sent.append((task.number, task.try_))
        return RoundProgress(state=self.tasks.get(task.try_, "COMPLETE"), path=f"gdi-rounds/1/{task.number}.json")

    async def ask_release(self, order: Any, request: Any) -> Released:
        self._die("before the check")
        if self.refusal is not None:
            raise self.refusal
        self.checked.append((request.name, request.path))
        data = self._bytes(request.name)
        return Released(
            name=request.name, kind="matrix", sha256=hashlib.sha256(data).hexdigest(), url="x", signature="y"
        )

    @staticmethod
    def _bytes(name: str) -> bytes:
        return json.dumps({"of": name}).encode()

    @asynccontextmanager
    async def published(self, order: Any, released: Released) -> AsyncIterator[io.BytesIO]:
        yield io.BytesIO(self._bytes(released.name))

    def ask(self, *broadcasts: list[float] | None) -> None:
        self.questions = [
            RoundNews(number=n, broadcast=None if beta is None else {"beta": beta})
            for n, beta in enumerate(broadcasts, 1)
        ]

    async def serve(self, wish: EndRequest | None = None, files: UnpackedWorkflow = FILES, **order: Any) -> OrderEnd:
        """An agent of now, which knows what its database has."""

        async def found(_: str) -> UnpackedWorkflow:
            return files

        async def alive(now: bool = False) -> None:
            return None

        itself: Any = SimpleNamespace(node="node-a", broker=self, gateway=self, orders=None)
        itself.patiently = Duties.patiently
        itself.published = lambda *given: Duties.published(itself, *given)
        wanted = [wanted_round(files.workflow, ANSWERING, approved=True).model_dump(mode="json")]
        usual = {"run": "r-1", "attempt": 1, "broker_generation": self.generation, "digest": "d", "wanted": wanted}
        of = cast(Any, SimpleNamespace(**{**usual, "deadline": time.time() + 60, **order}))
        duty = RoundDuty(itself, RoundHistory(self.database), found)
        return await asyncio.wait_for(duty.serve(of, wish or EndRequest(), alive), 20)


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    for module, name in ((round_duty, "LOOK"), (round_duty, "PAUSE"), (duties, "POLL")):
        monkeypatch.setattr(module, name, 0.001)
    database = GatewayDatabase.open(f"sqlite+aiosqlite:///{tmp_path}/gateway.db")
    await database.create()
    yield Node(database)
    await database.close()


async def one_by_one(node: Node, *broadcasts: list[float] | None) -> OrderEnd:
    """The centre asks the next round when the last has its answer."""
    served = asyncio.create_task(node.serve())
    for number in range(1, len(broadcasts) + 1):
        node.ask(*broadcasts[:number])
        while number not in node.answers and not served.done() and broadcasts[number - 1] is not None:
            await asyncio.sleep(0.001)
    return await served


async def test_rounds_are_answered_in_turn_until_there_are_no_more(node: Node) -> None:
    assert await one_by_one(node, [0, 0], [2, 0], [2, 1], None) == OrderEnd("succeeded", detail="3 rounds")
    assert node.checked == [(f"round-{n}", f"gdi-rounds/1/{n}.json") for n in (1, 2, 3)]
    assert {n: json.loads(one.content)["of"] for n, one in node.answers.items()} == {n: f"round-{n}" for n in (1, 2, 3)}
    assert {one.generation for one in node.answers.values()} == {3}


@pytest.mark.parametrize(
    ("broadcasts", "reason", "answered"),
    [
        ([[0, 0], [1, 0], [3, 0]], "round-refused", 2),
        ([[0, 0], [1, 0, 0]], "broadcast-refused", 1),
        ([[0, 0, 0, 0]], "broadcast-refused", 0),
        ([[10]], "broadcast-refused", 0),
        ([[0]] * 7, "round-limit", 6),
    ],
    ids=["a-longer-step", "another-length", "too-many-numbers", "out-of-bounds", "a-round-too-many"],
)
async def test_a_centre_that_asks_what_is_not_declared_ends_the_order(
    broadcasts: list[list[float] | None], reason: str, answered: int, node: Node
) -> None:
    end = await one_by_one(node, *broadcasts)
    assert (end.state, end.reason) == ("failed", reason) and len(node.answers) == answered == len(node.checked)


async def test_no_number_is_answered_for_two_broadcasts_whatever_broker_and_agent_forgot(node: Node) -> None:
    node.ask([1.0])
    node.dies = "after the answer"
    with pytest.raises(asyncio.CancelledError):
        await node.serve()
    node.answers.clear()
    node.ask([1.0000000000000002])
    end = await node.serve()
    assert (end.reason, node.answers, len(node.checked)) == ("round-differs", {}, 1)
    node.ask([1.0], [1.0], [1.0])  # a number is left out
    assert (await node.serve()).reason == "round-early"


@pytest.mark.parametrize("dies", ["before the task", "before the check", "before the answer", "after the answer"])
async def test_an_agent_that_is_killed_goes_on_with_the_same_round(dies: str, node: Node) -> None:
    node.ask([1.0])
    node.dies = dies
    with pytest.raises(asyncio.CancelledError):
        await node.serve()
    node.generation = 4  # it was taken anew
    if dies == "after the answer":
        node.answers.clear()  # the broker lost it
    served = asyncio.create_task(node.serve())
    while not node.answers and not served.done():
        await asyncio.sleep(0.001)
    node.ask([1.0], None)
    assert (await served).state == "succeeded"
    assert json.loads(node.answers[1].content) == {"of": "round-1"} and node.answers[1].generation == 4
    assert len(node.checked) == 1, "what was checked is answered again, and not checked anew"


async def test_a_task_that_the_tes_lost_is_sent_again_and_one_that_failed_is_not(node: Node) -> None:
    node.tasks = {1: "SYSTEM_ERROR", 2: "UNKNOWN"}
    assert (await one_by_one(node, [1.0], None)).state == "succeeded"
    assert node.sent == [(1, 1), (1, 2), (1, 3)]


@pytest.mark.parametrize("tasks", [{1: "EXECUTOR_ERROR"}, dict.fromkeys((1, 2, 3), "SYSTEM_ERROR")])
async def test_a_round_that_cannot_be_computed_ends_the_order_without_its_log(
    tasks: dict[int, str], node: Node
) -> None:
    node.tasks = tasks
    node.ask([1.0])
    end = await node.serve()
    assert (end.state, end.reason, node.checked) == ("failed", "TaskFailed", [])


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [
        (["round-refused: the broadcast takes somebody's |x·beta| above 15"], "round-refused"),
        (["it is not JSON"], "release-refused"),
    ],
)
async def test_what_the_check_refuses_ends_the_order_with_its_word(reasons: list[str], reason: str, node: Node) -> None:
    node.refusal = ProblemError(422, "release-refused", "no", action="none", reasons=reasons)
    node.ask([1.0])
    end = await node.serve()
    assert (end.state, end.reason, end.detail) == ("failed", reason, f"round-1: {reasons[0]}") and not node.answers


@pytest.mark.parametrize(("order", "wish", "state"), [({"deadline": 0.0}, "", "expired"), ({}, "enough", "cancelled")])
async def test_an_order_ends_at_its_deadline_and_by_a_wish(
    order: dict[str, Any], wish: str, state: str, node: Node
) -> None:
    end = EndRequest()
    if wish:
        end.set(wish)
    assert (await node.serve(end, **order)).state == state


async def test_nobody_asks_for_an_hour(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_duty, "IDLE", 0.05)
    assert (await node.serve()).state == "failed"


async def test_an_order_that_the_broker_gave_up_ends(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def over(*_: Any, after: int, wait: float) -> RoundNews:
        raise ProblemError(409, "order-conflict", "no", action="none", conflict="order-fenced")

    monkeypatch.setattr(node, "question", over)
    assert (await node.serve()).state == "cancelled"


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(RefusedOrder) as caught:
        call()
    return caught.value.reason


def test_a_node_serves_rounds_only_where_policy_and_workflow_say_so() -> None:
    assert refusal(lambda: wanted_round(workflow(), Policy(), approved=True)) == "not-open"
    assert refusal(lambda: wanted_round(workflow(rounds=None), ANSWERING, approved=True)) == "release-unknown"
    assert refusal(lambda: wanted_round(workflow(needs={}), ANSWERING, approved=True)) == "workflow-files"
    assert wanted_round(workflow(), ANSWERING, approved=True).review is False
    assert wanted_round(workflow(), ANSWERING, approved=False).review is True, "a person looks at what nobody approved"


def test_a_rounds_task_has_the_scripts_beside_its_own_and_nothing_else() -> None:
    declared = FILES.workflow.rounds
    assert declared is not None
    task = round_task(FILES, declared, 2, "{}")
    assert (task.script, set(task.scripts), task.image) == ("round.py", {"round.py", "beside.py"}, "task:1")
    missing = UnpackedWorkflow({"Snakefile": b""}, FILES.workflow)
    assert refusal(lambda: round_task(missing, declared, 2, "{}")) == "workflow-files"


@pytest.mark.parametrize(
    "rounds", [True, "yes", {}, {"unattacked": ""}, {"unattacked": "   short "}, {"attacked": "x" * 20}]
)
def test_a_policy_says_in_words_why_unattacked_rounds_are_served(rounds: Any) -> None:
    with pytest.raises(ValueError, match="rounds"):
        Policy.model_validate({"releases": {"rounds": rounds}})
    assert Policy.model_validate({"releases": {"rounds": False}}).releases.rounds is False
