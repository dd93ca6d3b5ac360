"""A trigger that is told to end stops its pod for a user, and leaves it alone where another triggerer has it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from gdi_operators.triggers import snakemake, still_deferred
from tests.support.clock import virtual_time

POD = "r-0123456789abcdef0123-node-a-1-1"


class Airflow:
    """Answers the states that it is given, in order, the last one for ever; an exception is raised instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.answers = list(answers)
        self.questions: list[dict[str, Any]] = []
        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(self._states))
        monkeypatch.setattr(still_deferred.asyncio, "to_thread", self._at_once)  # no thread's time beside a virtual one

    @staticmethod
    async def _at_once(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def _states(self, **question: Any) -> Any:
        self.questions.append(question)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Launcher:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stopped: list[str] = []
        monkeypatch.setattr(snakemake, "get_launcher", lambda _: self)

    async def astop(self, name: str, *, mode: str, grace: float) -> None:
        self.stopped.append(name)

    async def aclose(self) -> None:
        pass


def trigger(map_index: int = 1) -> snakemake.SnakemakeTrigger:
    made = snakemake.SnakemakeTrigger(run="r-1", attempt=1, node="node-a", pod=POD)
    made.task_instance = SimpleNamespace(dag_id="probe", task_id="analyse", run_id="manual__1", map_index=map_index)
    return made


@pytest.mark.parametrize(
    ("states", "stopped"),
    [
        ({"manual__1": {"analyse_1": "deferred"}}, []),  # reassigned to another triggerer
        ({"manual__1": {"analyse_1": "failed"}}, [POD]),
        ({"manual__1": {"analyse_1": "success"}}, [POD]),
        ({"manual__1": {"analyse_1": None}}, [POD]),  # cleared
        ({"manual__1": {"analyse_0": "deferred", "analyse_1": "failed"}}, [POD]),  # another node's
        ({}, [POD]),  # the DAG run was deleted
    ],
)
async def test_only_a_pod_for_which_no_task_waits_is_stopped(
    states: Any, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow, launcher = Airflow(monkeypatch, states), Launcher(monkeypatch)
    await trigger().on_kill()
    assert launcher.stopped == stopped
    assert airflow.questions == [{"dag_id": "probe", "task_ids": ["analyse"], "run_ids": ["manual__1"], "map_index": 1}]


async def test_a_task_that_is_not_mapped_has_a_key_without_number(monkeypatch: pytest.MonkeyPatch) -> None:
    Airflow(monkeypatch, {"manual__1": {"analyse": "deferred"}})
    launcher = Launcher(monkeypatch)
    await trigger(map_index=-1).on_kill()
    assert launcher.stopped == []


@virtual_time
async def test_an_airflow_that_does_not_answer_at_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    airflow = Airflow(monkeypatch, RuntimeError("away"), {"manual__1": {"analyse_1": "failed"}})
    launcher = Launcher(monkeypatch)
    await trigger().on_kill()
    assert launcher.stopped == [POD] and len(airflow.questions) == 2


@virtual_time
async def test_a_pod_is_left_alone_where_airflow_does_not_tell_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    airflow, launcher = Airflow(monkeypatch, RuntimeError("away")), Launcher(monkeypatch)
    await trigger().on_kill()
    assert launcher.stopped == [] and len(airflow.questions) >= 3
    assert snakemake.STATE_PATIENCE + snakemake.STOP_TRY < snakemake.STOP_PATIENCE < 30, "Airflow's on_kill_timeout"


def test_airflow_still_names_a_mapped_task_as_it_did() -> None:
    """The key of a mapped task in the api-server's answer: an upgrade that changes it must be seen here."""
    import inspect

    from airflow.api_fastapi.execution_api.routes.task_instances import get_task_instance_states

    assert 'f"{task.task_id}_{task.map_index}"' in inspect.getsource(get_task_instance_states)
    assert still_deferred.DEFERRED == "deferred"
