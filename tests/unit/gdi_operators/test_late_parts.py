"""A node's part that comes after the close: what is left with the node, and how its part gets into the answer. What is
wrong, forged or not to be had holds up no other run's part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gdi.contracts import broker_api as m
from gdi.contracts.gateway_api import Released
from gdi.contracts.orders import LatePart, OrderRequest, OrderStatus
from gdi.contracts.progress import Progress
from gdi.contracts.workflow_files import load
from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.releases import signature
from gdi.result_store.model import release_key
from gdi_operators import late_orders
from gdi_operators.operators import AddLatePartsOperator
from gdi_operators.operators.base import RunOperator
from gdi_operators.results import store
from gdi_operators.results.folder import Summary, read_summary
from gdi_operators.settings import settings
from tests.support.results_kit import WORKFLOWS, a_run, gathered, release_of, told

ENTRY = load(WORKFLOWS / "allele-frequency")
NAME = ENTRY.workflow.releases[0].name
KEYS = {"node-a": SigningKey.generate(), "node-b": SigningKey.generate()}


def status(run: m.Run, node: str, kind: Any, state: Any, **more: Any) -> OrderStatus:
    return OrderStatus(run=run.id, node=node, kind=kind, attempt=1, state=state, deadline=run.opened_at + 7200, **more)


@dataclass
class FakeBroker:
    run: m.Run
    orders: list[OrderStatus] = field(default_factory=list)
    parts: list[LatePart] = field(default_factory=list)
    put: list[tuple[str, str, OrderRequest]] = field(default_factory=list)
    forgotten: list[tuple[str, str, int]] = field(default_factory=list)

    def progress(self, run: str) -> Progress:
        values: dict[str, Any] = {"run": run, "attempt": 1, "state": "closed", "nodes": [], "rules": []}
        return Progress.model_construct(**values, orders=self.orders)

    def put_order(self, run: str, node: str, kind: Any, request: OrderRequest) -> OrderStatus:
        self.put.append((node, kind, request))
        return status(self.run, node, kind, "waiting")

    def order(self, run: str, node: str, kind: Any, attempt: int) -> OrderStatus:
        return status(self.run, node, kind, "waiting")

    def late_parts(self) -> list[LatePart]:
        return self.parts

    def forget_late_part(self, run: str, node: str, attempt: int) -> None:
        self.forgotten.append((run, node, attempt))


@pytest.fixture(name="broker")
def broker_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """node-a's part is in the answer; node-b's is late."""
    run = a_run(KEYS, ENTRY, needed={"at_least": 1}, state="closed", outcome="success")
    run = run.model_copy(update={"plan": [item.model_copy(update={"placement": "node"}) for item in run.plan]})
    monkeypatch.setenv("GDI_WORKFLOWS", str(WORKFLOWS))
    monkeypatch.setenv("GDI_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("GDI_RESULT_STORE", str(tmp_path / "store"))
    settings.cache_clear()
    store.found.cache_clear()
    gathered(tmp_path / "results", run, {"node-a": KEYS["node-a"]})
    made = FakeBroker(run)

    @contextmanager
    def broker(self: RunOperator) -> Iterator[FakeBroker]:
        yield made

    monkeypatch.setattr(RunOperator, "broker", broker)
    yield made
    settings.cache_clear()
    store.found.cache_clear()


def pushed(broker: FakeBroker, tmp_path: Path, *, key: SigningKey = KEYS["node-b"], stored: bool = True) -> LatePart:
    """What node-b brought, and where."""
    body, run = release_of(*(told(10_000 + i * 7919, 40, 600) for i in range(5)), an_max=600), broker.run
    sha256 = sha256_hex(body)
    if stored:
        place = tmp_path / "store" / release_key(run.id, "node-b", NAME, sha256)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)
    same = {"run": run.id, "name": NAME, "sha256": sha256, "workflow": run.workflow, "digest": run.digest}
    signed = signature.sign(key, node="node-b", attempt=1, **same)
    one = Released(name=NAME, sha256=sha256, bytes=len(body), url="http://b", signature=signed, sites_released=5)
    return LatePart(run=run, release=status(run, "node-b", "release", "succeeded", released=[one]))


def add() -> dict[str, Any]:
    return AddLatePartsOperator(task_id="add_late_parts").execute({})


def answer(broker: FakeBroker, tmp_path: Path) -> Summary:
    found = read_summary(tmp_path / "results" / broker.run.id)
    assert found is not None
    return found


def test_a_part_that_came_makes_the_next_version_and_is_forgotten(broker: FakeBroker, tmp_path: Path) -> None:
    before = answer(broker, tmp_path)
    broker.parts = [pushed(broker, tmp_path)]
    assert add() == {"added": {broker.run.id: 2}, "ended": {broker.run.id: ["node-b"]}, "waiting": []}
    after = answer(broker, tmp_path)
    assert (after.answer_version, after.missing, [one.version for one in after.earlier]) == (2, {}, [1])
    assert {r.node for r in after.releases} == {"node-a", "node-b"}
    assert (after.title, after.parameters, after.dag_run_id) == (before.title, before.parameters, before.dag_run_id)
    assert broker.forgotten == [(broker.run.id, "node-b", 1)]
    assert [(node, kind) for node, kind, _ in broker.put] == [("node-b", "close")]
    assert add()["added"] == {broker.run.id: 2}, "twice is the same version"


@pytest.mark.parametrize(
    ("wrong", "words", "again"),
    [
        ({"key": SigningKey.generate()}, "no valid signature", False),
        ({"stored": False}, "not in the store yet", True),
    ],
    ids=["another's signature", "not in the store"],
)
def test_a_part_that_cannot_be_proven_changes_no_answer_and_holds_up_no_other(
    broker: FakeBroker,
    tmp_path: Path,
    wrong: dict[str, Any],
    words: str,
    again: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = LatePart(run=broker.run.model_copy(update={"id": "r-" + "1" * 20}), release=GONE)
    broker.parts = [pushed(broker, tmp_path, **wrong), good]
    found = add()
    assert (found["added"], found["waiting"]) == ({}, [broker.run.id] if again else [])
    assert good.run.id in found["ended"] and (broker.run.id in found["ended"]) is not again
    assert answer(broker, tmp_path).answer_version == 1 and words in capsys.readouterr().out


GONE = OrderStatus(
    run="r-" + "1" * 20, node="node-b", kind="release", attempt=1, state="expired", deadline=1, reason="too late"
)


def test_a_part_that_does_not_come_is_closed_and_not_waited_for_any_more(broker: FakeBroker, tmp_path: Path) -> None:
    broker.parts = [LatePart(run=broker.run, release=status(broker.run, "node-b", "release", "refused"))]
    assert add() == {"added": {}, "ended": {broker.run.id: ["node-b"]}, "waiting": []}
    assert answer(broker, tmp_path).answer_version == 1 and broker.forgotten


def test_a_late_node_finds_the_order_to_release_and_no_other_node_does(broker: FakeBroker) -> None:
    run = broker.run
    conf = {"ticket": "used", "datasets": run.datasets}
    context: Any = {"dag_run": SimpleNamespace(conf=conf)}
    broker.orders = [
        status(run, "node-a", "analyse", "succeeded"),
        status(run, "node-a", "release", "succeeded"),
        status(run, "node-b", "analyse", "waiting"),
        status(run, "node-c", "analyse", "running", cancelling="its user stopped it"),
        status(run, "node-d", "release", "running"),
    ]
    hook: Any = broker
    assert late_orders.leave(hook, context, run) == ["node-b", "node-d"]
    ((node, kind, request),) = broker.put
    assert (node, kind, [r.name for r in request.releases]) == ("node-b", "release", [NAME])
    assert request.deadline > run.opened_at + 7200 and request.deadline <= run.opened_at + 59 * 86_400
    broker.orders.append(status(run, "node-b", "release", "waiting"))
    assert late_orders.leave(hook, context, run) == ["node-b", "node-d"], "each once, also at a second try"
    assert broker.put[0] == broker.put[1], "again, it is the same order"


def test_a_broker_that_knows_no_late_parts_holds_up_no_schedule() -> None:
    from gdi_operators.operators import StartDueOperator

    def late_parts() -> list[LatePart]:
        raise ProblemError(404, "not-found", "no such path")

    hook: Any = SimpleNamespace(late_parts=late_parts)
    StartDueOperator(task_id="start_due")._start_late_parts(hook)
