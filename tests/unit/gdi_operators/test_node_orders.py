"""Airflow's side of placement `node`: a retry asks for the same order and nothing happens, a clear asks for the next
attempt's, a review at the node is waited for with no worker, and what ends the task ends the order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from gdi.contracts import broker_api as m
from gdi.contracts import order_table
from gdi.contracts.gateway_api import Released
from gdi.contracts.order_table import Order
from gdi.contracts.orders import OrderRequest, OrderStatus
from gdi.contracts.progress import NodeProgress, Progress
from gdi.contracts.workflow_files import load
from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import SigningKey
from gdi_operators.operators import ReleaseOperator, SnakemakeOperator, node_order
from gdi_operators.operators import release as release_module
from gdi_operators.operators.base import RunOperator
from gdi_operators.progress_poller import Snapshot
from gdi_operators.settings import settings
from gdi_operators.triggers.node_order import NodeOrderTrigger
from tests.support.results_kit import WORKFLOWS, a_run

ENTRY = load(WORKFLOWS / "allele-frequency")
NAME = ENTRY.workflow.releases[0].name


@dataclass
class FakeBroker:
    """Orders by the one table that the real broker asks (`gdi.contracts.order_table`)."""

    run: m.Run
    orders: dict[tuple[str, int], Order] = field(default_factory=dict)
    asked: list[OrderRequest] = field(default_factory=list)
    detail: str = ""
    released: list[Released] = field(default_factory=list)

    def get_run(self, run: str) -> m.Run:
        return self.run

    def put_workflow(self, digest: str, body: bytes) -> None:
        assert digest == ENTRY.digest

    def put_order(self, run: str, node: str, kind: Any, request: OrderRequest) -> OrderStatus:
        self.asked.append(request)
        body = sha256_hex(request.model_dump_json().encode())
        new = Order(request.attempt, body, "0" * 32, request.deadline)
        known = [order for (of, _), order in self.orders.items() if of == kind]
        for order in order_table.put(known, new, time.time()):
            self.orders[kind, order.attempt] = order
        return self.order(run, node, kind, request.attempt)

    def order(self, run: str, node: str, kind: Any, attempt: int) -> OrderStatus:
        order = self.orders[kind, attempt]
        more: dict[str, Any] = {"cancelling": order.cancelling, "reason": order.reason, "detail": self.detail}
        state = {"state": order.state, "deadline": order.deadline, "released": self.released, **more}
        return OrderStatus.model_validate({"run": run, "node": node, "kind": kind, "attempt": attempt, **state})

    def find_order(self, run: str, node: str, kind: Any, attempt: int) -> OrderStatus | None:
        return self.order(run, node, kind, attempt) if (kind, attempt) in self.orders else None

    def cancel_order(self, run: str, node: str, kind: Any, attempt: int, why: str) -> OrderStatus:
        self.orders[kind, attempt] = order_table.cancel(self.orders[kind, attempt], why)
        return self.order(run, node, kind, attempt)

    def becomes(self, kind: str, state: Any, attempt: int = 1, reason: str = "") -> None:
        """As the node's agent says."""
        order, now = self.orders[kind, attempt], time.time()
        if order.state == "waiting":
            order = order_table.take(order, [], order.nonce, now, 60)
        self.orders[kind, attempt] = order_table.report(order, order.generation, state, reason, now, 60)


@pytest.fixture(name="broker")
def broker_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    run = a_run({"node-a": SigningKey.generate()}, ENTRY)
    run = run.model_copy(update={"plan": [item.model_copy(update={"placement": "node"}) for item in run.plan]})
    made = FakeBroker(run)

    @contextmanager
    def broker(self: RunOperator) -> Iterator[FakeBroker]:
        yield made

    monkeypatch.setattr(RunOperator, "broker", broker)
    for module in (node_order, release_module):
        monkeypatch.setattr(module, "entry_of_run", lambda *_: ENTRY)
    monkeypatch.setenv("GDI_WORKFLOWS", str(WORKFLOWS))
    settings.cache_clear()
    yield made
    settings.cache_clear()


def context(broker: FakeBroker, *, tried: int = 1, clears: int = 0) -> Any:
    conf = {"ticket": "used", "datasets": broker.run.datasets}
    dag_run = SimpleNamespace(
        dag_id=broker.run.dag_id, run_id=broker.run.dag_run_id, conf=conf, triggering_user_name="a", clear_number=clears
    )
    ti = SimpleNamespace(try_number=tried, max_tries=3 + clears, task=SimpleNamespace(retries=3))
    return {"dag_run": dag_run, "ti": ti}


def fails(broker: FakeBroker, reason: str) -> None:
    """As the broker says of a run that needs the node."""
    broker.run = broker.run.model_copy(update={"failing": m.Failing(node="node-a", reason=reason)})


def item(broker: FakeBroker) -> dict[str, Any]:
    return broker.run.plan[0].model_dump(mode="json")


def analyse(broker: FakeBroker) -> SnakemakeOperator:
    return SnakemakeOperator(task_id="analyse", workflow="allele-frequency", item=item(broker))


def deferred(call: Any) -> dict[str, Any]:
    """What the trigger brings back once the order is over."""
    with pytest.raises(TaskDeferred) as caught:
        call()
    assert isinstance(caught.value.trigger, NodeOrderTrigger)
    return {"kind": "ended", "message": "", "state": caught.value.trigger.state}


def test_a_retry_asks_for_the_same_order_and_nothing_happens(broker: FakeBroker) -> None:
    deferred(lambda: analyse(broker).execute(context(broker)))
    broker.becomes("analyse", "running")
    before = dict(broker.orders)
    event = deferred(lambda: analyse(broker).execute(context(broker, tried=2)))  # the worker died before it deferred
    assert broker.asked[0] == broker.asked[1] and broker.orders == before
    broker.becomes("analyse", "succeeded")
    assert analyse(broker).resume_order(context(broker, tried=2), event) == {
        "node": "node-a",
        "attempt": 1,
        "pod": "",
    }
    assert analyse(broker).execute(context(broker, tried=3))["attempt"] == 1, "a late retry finds it done"
    assert len(broker.orders) == 1


def test_a_retry_of_a_refused_order_asks_the_node_nothing_again(broker: FakeBroker) -> None:
    event = deferred(lambda: analyse(broker).execute(context(broker)))
    broker.becomes("analyse", "refused", reason="user-vetoed")
    fails(broker, "the node refused: user-vetoed")
    with pytest.raises(AirflowFailException, match="node node-a refused: user-vetoed"):
        analyse(broker).resume_order(context(broker), event)
    with pytest.raises(AirflowFailException, match=r"not started: .*user-vetoed"):
        analyse(broker).execute(context(broker, tried=2))
    assert len(broker.asked) == 1


def test_a_clear_asks_for_the_next_attempts_order_and_ends_the_one_before(broker: FakeBroker) -> None:
    deferred(lambda: analyse(broker).execute(context(broker)))
    broker.becomes("analyse", "running")
    broker.run = broker.run.model_copy(update={"attempt": 2})
    deferred(lambda: analyse(broker).execute(context(broker, tried=2, clears=1)))
    first, second = broker.orders["analyse", 1], broker.orders["analyse", 2]
    assert (first.cancelling, second.state) == ("attempt 2 took over", "waiting")


def release(broker: FakeBroker) -> ReleaseOperator:
    return ReleaseOperator(task_id="release", workflow="allele-frequency", item=item(broker), release=NAME)


def test_a_review_at_the_node_is_waited_for_with_no_worker_and_survives_a_retry(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    event = deferred(lambda: release(broker).execute(context(broker)))
    assert [one.name for one in broker.asked[0].releases] == [NAME]
    broker.becomes("release", "running")
    broker.detail = f"awaiting-review: {NAME}"
    trigger = NodeOrderTrigger(run=broker.run.id, attempt=1, node="node-a", kind="release", state=event["state"])
    assert trigger._look(snapshot(broker)) is None
    assert f"the release {NAME} waits for a reviewer of the node" in trigger._last_text
    again = deferred(lambda: release(broker).execute(context(broker, tried=2)))
    assert len(broker.orders) == 1
    signed = {"sha256": "a" * 64, "url": "https://node-a.example/x", "signature": "a.b.c", "sites_released": 3}
    broker.released = [Released.model_validate({"name": NAME, **signed})]
    broker.becomes("release", "succeeded")
    assert trigger._look(snapshot(broker)) == ("ended", "")
    found = release(broker).resume_order(context(broker, tried=2), again)
    assert (found["node"], found["name"], found["attempt"]) == ("node-a", NAME, 1)


def test_a_review_that_refuses_fails_the_task_with_the_reviewers_reason(broker: FakeBroker) -> None:
    event = deferred(lambda: release(broker).execute(context(broker)))
    broker.becomes("release", "running")
    broker.detail = f"the release {NAME}: a person of the node looked at it and refused it: too few people"
    broker.becomes("release", "failed", reason="release-refused")
    fails(broker, "refused")
    with pytest.raises(AirflowFailException, match="too few people"):
        release(broker).resume_order(context(broker), event)


def test_another_nodes_failure_ends_the_order_here(broker: FakeBroker) -> None:
    event = deferred(lambda: analyse(broker).execute(context(broker)))
    broker.becomes("analyse", "running")
    failing = {**event, "kind": "failing", "message": "node node-b failed: no"}
    waits = deferred(lambda: analyse(broker).resume_order(context(broker), failing))
    assert broker.orders["analyse", 1].cancelling == "node node-b failed: no"
    broker.becomes("analyse", "cancelled")
    with pytest.raises(AirflowFailException, match="stopped: node node-b failed: no"):
        analyse(broker).resume_order(context(broker), waits)


@pytest.mark.parametrize("lost", ["before it asked", "after it asked", "after the end"])
def test_a_stopped_orders_task_says_the_same_in_every_order_of_events(
    broker: FakeBroker, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try may be lost at any moment: the next one says whose failure ended the order."""
    lines: list[str] = []
    monkeypatch.setattr(
        RunOperator, "log", SimpleNamespace(info=lambda *_: None, warning=lambda t, *a: lines.append(t % a))
    )
    deferred(lambda: analyse(broker).execute(context(broker)))
    broker.becomes("analyse", "running")
    broker.run = broker.run.model_copy(update={"failing": m.Failing(node="node-b", reason="no")})
    if lost != "before it asked":
        broker.cancel_order(broker.run.id, "node-a", "analyse", 1, "node node-b failed: no")
    if lost != "after the end":
        waits = deferred(lambda: analyse(broker).execute(context(broker, tried=2)))
        broker.becomes("analyse", "cancelled")
        ending, message = lambda: analyse(broker).resume_order(context(broker, tried=2), waits), "stopped: node node-b"
    else:
        broker.becomes("analyse", "cancelled")
        ending, message = lambda: analyse(broker).execute(context(broker, tried=2)), "not started: node node-b failed"
    with pytest.raises(AirflowFailException, match=message):
        ending()
    assert "The order at node-a is ended: node node-b failed: no" in lines


def test_enough_nodes_do_not_wait_for_a_late_one_beyond_the_runs_patience(broker: FakeBroker) -> None:
    patient = {"at_least": 1, "within": 3600}
    broker.run = broker.run.model_copy(update={"needed": patient})
    event = deferred(lambda: analyse(broker).execute(context(broker)))
    broker.becomes("analyse", "running")
    state = event["state"]
    assert state["late"] == {"at": broker.run.opened_at + 3600, "at_least": 1}

    def look(at: float, *states: Any) -> Any:
        trigger = NodeOrderTrigger(
            run=broker.run.id,
            attempt=1,
            node="node-a",
            kind="analyse",
            state={**state, "late": {"at": at, "at_least": 1}},
        )
        seen = snapshot(broker)
        others = [NodeProgress(node=f"node-{name}", state=one) for name, one in zip("bc", states, strict=True)]
        assert seen.progress is not None
        seen.progress.nodes.extend(others)
        return trigger._look(seen)

    assert look(time.time() + 60, "success", "running") is None, "its time is not over"
    assert look(time.time() - 1, "running", "failed") is None, "nobody else has answered"
    assert look(time.time() - 1, "success", "running") == ("late", "")
    found = analyse(broker).resume_order(context(broker), {**event, "kind": "late"})
    assert "node node-a is late" in found["missing"] and not broker.orders["analyse", 1].cancelling
    broker.becomes("analyse", "succeeded")
    assert "missing" not in analyse(broker).resume_order(context(broker), {**event, "kind": "late"}), "just in time"


def snapshot(broker: FakeBroker) -> Snapshot:
    orders = [broker.order(broker.run.id, "node-a", kind, attempt) for kind, attempt in broker.orders]
    node = NodeProgress(node="node-a", state="running")
    progress = Progress(run=broker.run.id, attempt=1, state="open", nodes=[node], rules=[], orders=orders)
    return SimpleNamespace(progress=progress, away=False, trouble="")  # type: ignore[return-value]
