"""A trigger never ends a deferral before Airflow has settled it, and Airflow's own code still needs that."""

from __future__ import annotations

import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.executors.local_executor import LocalExecutor
from airflow.models.taskinstancekey import TaskInstanceKey

from gdi_operators.triggers import deferral_race
from gdi_operators.triggers.release import ReleaseTrigger
from gdi_operators.triggers.snakemake import SnakemakeTrigger
from tests.support.clock import virtual_time


class Ready:
    """A launcher, a poll and a broker that have their answer at once."""

    async def _wait(self, *_: object) -> tuple[str, str]:
        return "ended", ""

    async def aclose(self) -> None: ...

    async def aget_conn(self) -> Any:
        return self

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None: ...


@virtual_time
async def test_an_event_that_is_there_at_once_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferral_race, "SECONDS", 0.5)
    monkeypatch.setattr("gdi_operators.triggers.release.TokenBrokerHook", lambda _: Ready())
    started = time.monotonic()
    trigger = ReleaseTrigger(
        run="r-1",
        item={"node": "node-a", "gateway_url": "http://gateway.test", "audience": "x"},
        release="counts",
        until=0,
    )
    assert [event.payload["kind"] async for event in trigger.run()] == ["late"]
    assert time.monotonic() - started >= 0.5


@virtual_time
async def test_a_pod_that_has_ended_before_the_trigger_began_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferral_race, "SECONDS", 0.5)
    monkeypatch.setattr("gdi_operators.triggers.snakemake.get_launcher", lambda _: Ready())
    monkeypatch.setattr("gdi_operators.triggers.snakemake.follow", lambda *_, **__: Ready())
    monkeypatch.setattr(SnakemakeTrigger, "_wait", Ready._wait)
    started = time.monotonic()
    trigger = SnakemakeTrigger(run="r-1", attempt=1, node="node-a", pod="p")
    assert [event.payload["kind"] async for event in trigger.run()] == ["ended"]
    assert time.monotonic() - started >= 0.5


def test_airflow_still_forgets_a_second_leg_when_it_hears_of_the_firsts_end_late() -> None:
    """The reason for the wait. Where this fails, Airflow was mended and `deferral_race.py` can go."""

    class Executor(LocalExecutor):
        def _process_workloads(self, workloads: Any) -> None:
            for workload in workloads:
                self.running.add(workload.key)
                del self.queued_tasks[workload.key]

        def _check_workers(self) -> None: ...

    class Results(deque[Any]):
        def empty(self) -> bool:
            return not self

        def get(self) -> Any:
            return self.popleft()

    executor, key = Executor(parallelism=4), TaskInstanceKey("dag", "task", "run", 1, -1)
    executor.result_queue = Results()  # type: ignore[assignment]
    executor.running.add(key)  # the first leg, which deferred and whose process ends only now
    executor.queued_tasks[key] = SimpleNamespace(
        key=key, ti=SimpleNamespace(priority_weight=1)
    )  # the trigger fired: the second leg
    executor.result_queue.append((key, "success", None))  # type: ignore[attr-defined]
    executor.heartbeat()
    assert key not in executor.running and executor.event_buffer[key][0] == "success"
