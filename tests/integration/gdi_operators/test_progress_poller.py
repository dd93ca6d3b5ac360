"""One poll for each run however many rules are watched, in all runs together no more than agreed; and the trigger of a
rule, whatever the broker does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent
from fastapi import FastAPI

from gdi.contracts import broker_api as m
from gdi.contracts.ids import make_run_id
from gdi.kit.problem import ProblemError
from gdi.kit.server import install
from gdi_operators import progress_poller
from gdi_operators.settings import settings
from gdi_operators.triggers.rule import RuleTrigger
from tests.support.operators_world import Served
from tests.support.wire import bind
from tests.support.wires import BROKER

pytestmark = pytest.mark.long


class Broker:
    """Answers progress only: `done` says how many of two jobs of rule `count` are done, by run."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.done: Counter[str] = Counter()
        self.failed: set[str] = set()
        self.known = True
        app = bind(FastAPI(), BROKER)
        install(app)
        app.get("/v1/runs/{run}/progress")(self._progress)
        self.served = Served(app)

    async def _progress(self, run: str) -> m.Progress:
        self.asked.append((time.monotonic(), run))
        if not self.known:
            raise ProblemError(404, "run-unknown", "There is no such run.")
        rule = m.RuleProgress(node="node-a", rule="count", total=2, done=self.done[run], failed=int(run in self.failed))
        return m.Progress(
            run=run, attempt=1, state="open", nodes=[m.NodeProgress(node="node-a", state="running")], rules=[rule]
        )


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    made = Broker()
    (tmp_path / "token").write_text("identity")
    monkeypatch.setenv("GDI_BROKER_URL", made.served.url)
    monkeypatch.setenv("GDI_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    settings.cache_clear()
    yield made
    made.served.stop()
    settings.cache_clear()


def trigger(rule: str = "count", dag_run: str = "manual__1", *, try_number: int = 1) -> RuleTrigger:
    path, kwargs = RuleTrigger(rule=rule).serialize()
    assert path == "gdi_operators.triggers.rule.RuleTrigger"
    made = RuleTrigger(**kwargs)
    made._log = logging.getLogger("rule")
    made._log.setLevel(logging.INFO)
    made._task_instance = SimpleNamespace(
        dag_id="probe", run_id=dag_run, task_id=f"rules.{rule}", try_number=try_number, task=None
    )
    return made


async def event(made: RuleTrigger) -> TriggerEvent:
    async for found in made.run():
        return found
    raise AssertionError("no event")


async def ended(made: RuleTrigger, *, within: float = 120) -> TriggerEvent:
    async with asyncio.timeout(within):
        return await event(made)


async def come(condition: Callable[[], bool]) -> None:
    """Waits for it."""
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_thousand_rules_of_twenty_runs_ask_the_broker_fewer_than_ten_times_a_second(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, turns = progress_poller.ProgressPollers.turn, []

    async def noted(feeds: progress_poller.ProgressPollers) -> None:
        waiting = asyncio.ensure_future(turn(feeds))
        await asyncio.sleep(0)  # it has its turn, and waits for it
        turns.append(feeds._next_turn)
        await waiting

    monkeypatch.setattr(progress_poller.ProgressPollers, "turn", noted)
    waiting = [asyncio.create_task(event(trigger(dag_run=f"run-{n}"))) for n in range(20) for _ in range(50)]
    everyone = {make_run_id("probe", f"run-{n}") for n in range(20)}
    await come(lambda: {run for _, run in broker.asked} == everyone and len(broker.asked) >= 40)
    started = time.monotonic()
    for n in range(20):
        broker.done[make_run_id("probe", f"run-{n}")] = 2
    async with asyncio.timeout(120):
        events = await asyncio.gather(*waiting)
    took = time.monotonic() - started
    assert all(isinstance(e, TaskSuccessEvent) for e in events)
    # By the times that polls are given: when they arrive depends on the machine.
    rate = len(turns) / (turns[-1] - turns[0])
    print(
        f"{len(broker.asked)} requests, {rate:.1f} a second; the last of 1000 rules was green {took:.1f} s after its"
        " job's end"
    )
    assert rate < 10 and len(broker.asked) <= len(turns)
    assert len({run for _, run in broker.asked}) == 20


async def test_the_poll_ends_with_the_last_who_wants_it_and_its_connection_with_it(broker: Broker) -> None:
    one = asyncio.create_task(event(trigger()))
    other = asyncio.create_task(event(trigger()))
    await come(lambda: bool(broker.asked))
    one.cancel()  # marked, cleared, or moved to another triggerer
    await asyncio.gather(one, return_exceptions=True)
    feeds = progress_poller._loops[asyncio.get_running_loop()][None]
    assert feeds._feeds and feeds._client is not None
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    assert not feeds._feeds and feeds._client is None
    asked = len(broker.asked)
    await asyncio.sleep(2.5)
    assert len(broker.asked) == asked


async def test_red_is_told_at_once_and_logged_as_an_error(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    broker.failed.add(make_run_id("probe", "manual__1"))
    assert isinstance(await ended(trigger()), TaskFailedEvent)
    assert "Rule count: failed (a job failed at node-a)." in caplog.text


async def test_a_broker_that_is_away_or_forgot_the_run_is_waited_for(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.known = False
    waiting = asyncio.create_task(event(trigger()))
    await come(lambda: "The broker refuses (There is no such run" in caplog.text)
    await asyncio.to_thread(broker.served.stop)
    await come(lambda: "The broker does not answer" in caplog.text)
    assert not waiting.done()
    broker.known = True
    broker.done[make_run_id("probe", "manual__1")] = 2
    await asyncio.to_thread(broker.served.start)
    async with asyncio.timeout(120):
        assert isinstance(await waiting, TaskSuccessEvent)
    assert "The broker refuses (There is no such run" in caplog.text and "The broker does not answer" in caplog.text


async def test_a_connection_that_is_missing_may_be_made_while_rules_wait(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker.done[make_run_id("probe", "manual__1")] = 2
    made = trigger()
    made.token_broker_conn_id = "not_there_yet"
    waiting = asyncio.create_task(event(made))
    await come(lambda: "not_there_yet" in caplog.text)
    assert not waiting.done()
    extra = json.dumps({"identity_token_file": str(settings().identity_token_file)})
    monkeypatch.setenv(
        "AIRFLOW_CONN_NOT_THERE_YET",
        json.dumps({"conn_type": "gdi_token_broker", "host": broker.served.url, "extra": extra}),
    )
    async with asyncio.timeout(120):
        assert isinstance(await waiting, TaskSuccessEvent)


def in_airflow(monkeypatch: pytest.MonkeyPatch, *answers: tuple[bool, bool, bool]) -> list[progress_poller.InAirflow]:
    """What Airflow says at each look, the last for ever: (admitted, refused, ended)."""
    asked: list[progress_poller.InAirflow] = []

    async def look(place: progress_poller.InAirflow, now: float) -> progress_poller._Known:
        admitted, refused, ended = answers[min(len(asked), len(answers) - 1)]
        asked.append(place)
        return progress_poller._Known(admitted=now if admitted else 0.0, refused=refused, ended=ended)

    monkeypatch.setattr(progress_poller, "_look", look)
    return asked


async def test_a_run_that_is_over_in_airflow_is_not_waited_for_where_the_broker_cannot_tell(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = in_airflow(monkeypatch, (True, False, True))
    broker.known = False
    assert isinstance(await ended(trigger()), TaskSkippedEvent)
    assert asked[0] == progress_poller.InAirflow("probe", "manual__1", "admit", "close")


async def test_what_an_earlier_attempt_did_does_not_count_before_the_run_is_admitted_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.done[make_run_id("probe", "manual__1")] = 2  # all of the attempt before
    asked = in_airflow(monkeypatch, (False, False, False), (False, False, False), (True, False, False))
    waiting = asyncio.create_task(event(trigger()))
    await come(lambda: len(asked) >= 2)
    assert not waiting.done()
    broker.done.clear()  # the next attempt is opened
    polls = len(broker.asked)
    await come(lambda: len(asked) >= 3 and len(broker.asked) >= polls + 2)
    assert not waiting.done()
    broker.done[make_run_id("probe", "manual__1")] = 2
    async with asyncio.timeout(120):
        assert isinstance(await waiting, TaskSuccessEvent)


async def test_a_run_that_is_not_admitted_again_leaves_no_rule_waiting(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.done[make_run_id("probe", "manual__1")] = 2
    in_airflow(monkeypatch, (False, True, False))
    assert isinstance(await ended(trigger()), TaskSkippedEvent)


async def test_a_fault_of_the_watcher_says_nothing_about_the_rule(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("gdi_operators.triggers.rule.verdict", fault)
    assert isinstance(await ended(trigger()), TaskSkippedEvent)


async def test_a_cleared_rule_says_what_would_run_it(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    broker.done[make_run_id("probe", "manual__1")] = 2
    assert isinstance(await ended(trigger(try_number=2)), TaskSuccessEvent)
    assert "clear 'analyse' with its downstream tasks" in caplog.text


def test_what_airflow_made_for_templates_is_let_go() -> None:
    made = trigger()
    made._task_instance.task = "a copy of the DAG"
    context = {"dag": "a copy of the DAG", "dag_run": None}
    made.render_template_fields(context)
    assert not context and made._task_instance.task is None
