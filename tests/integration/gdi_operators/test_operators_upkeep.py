"""Recurring starts and housekeeping: each start makes one DAG run whatever is done twice; what was left open is closed,
and nothing that lives.
"""

from __future__ import annotations

import json
import logging
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, OKResponse, TriggerDagRun

from gdi.contracts.grants import DueStart
from gdi.kit.problem import ProblemError
from gdi.runner.sandbox import why_not
from gdi_operators import closing
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.operators import CloseLeftoverRunsOperator, StartDueOperator, start_due
from gdi_operators.settings import settings
from tests.support.operators_flow import admit, world  # noqa: F401
from tests.support.operators_world import World

pytestmark = [pytest.mark.long, pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}")]
TICKET = "gdit_" + "t" * 43


class Airflow:
    """The DAG runs that are there; a second one of an id is refused, as Airflow's execution API does."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.states: dict[str, str] = {}
        self.broken: set[str] = set()

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
        if dag_id in self.broken:
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"conf": conf}))
        there = (dag_id, run_id) in self.runs
        self.runs.setdefault((dag_id, run_id), conf)
        return there

    def ti(self) -> Any:
        return SimpleNamespace(
            get_dr_count=lambda *, dag_id, run_ids: sum(r in self.states for r in run_ids),
            get_dagrun_state=lambda *, dag_id, run_id: self.states[run_id],
        )


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    made = Airflow()
    monkeypatch.setattr(start_due, "trigger", made.trigger)
    return made


def due(number: int, workflow: str = "probe") -> DueStart:
    return DueStart(
        due=float(number),
        workflow=workflow,
        parameters={"datasets": ["DS-A"]},
        dag_run_id=f"recurring__{number}",
        ticket=TICKET,
    )


def start(triggering_user: str | None = None) -> dict[str, list[str]]:
    context = {
        "dag_run": SimpleNamespace(dag_id="recurring", run_id="s", conf={}, triggering_user_name=triggering_user)
    }
    return StartDueOperator(task_id="start_due").execute(context)


def test_what_is_due_becomes_a_run_with_its_ticket_and_is_reported(
    world: World,
    airflow: Airflow,
    caplog: pytest.LogCaptureFixture,
) -> None:
    world.broker.due = [due(1), due(2)]
    with caplog.at_level(logging.DEBUG):
        told = start()
    assert told["started"] == ["probe recurring__1", "probe recurring__2"]
    assert airflow.runs["probe", "recurring__1"] == {"datasets": ["DS-A"], "ticket": TICKET}
    assert [(r.due, r.outcome) for r in world.broker.reported] == [(1.0, "started"), (2.0, "started")]
    assert TICKET not in json.dumps(told) + caplog.text


def test_a_start_made_again_after_a_crash_makes_no_second_run_and_is_reported(world: World, airflow: Airflow) -> None:
    airflow.trigger("probe", "recurring__1", {"ticket": "of before"})
    world.broker.due = [due(1)]
    assert start()["there_before"] == ["probe recurring__1"]
    assert airflow.runs["probe", "recurring__1"] == {"ticket": "of before"} and len(world.broker.reported) == 1


def test_one_start_that_fails_holds_up_no_other_and_is_not_reported(
    world: World,
    airflow: Airflow,
    caplog: pytest.LogCaptureFixture,
) -> None:
    airflow.broken = {"gone"}
    world.broker.due = [due(1, "gone"), due(2)]
    with pytest.raises(AirflowException, match="gone recurring__1"), caplog.at_level(logging.DEBUG):
        start()
    assert [r.due for r in world.broker.reported] == [2.0] and ("probe", "recurring__2") in airflow.runs
    assert TICKET not in caplog.text


def test_nobody_starts_other_users_runs_in_their_own_name(world: World, airflow: Airflow) -> None:
    world.broker.due = [due(1)]
    with pytest.raises(AirflowFailException, match="only its schedule"):
        start(triggering_user="mallory")
    assert not airflow.runs and world.broker.due


def test_where_teams_are_a_start_is_a_run_of_its_users_team_and_one_of_nobodys_holds_up_no_other(
    world: World,
    airflow: Airflow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "teams.yaml").write_text("red: {members: [alice], workflows: [other]}\nblue: {members: [alice]}\n")
    monkeypatch.setenv("GDI_ISOLATION", "team")
    monkeypatch.setenv("GDI_TEAMS", str(tmp_path / "teams.yaml"))
    settings.cache_clear()
    world.broker.due = [due(1).model_copy(update={"user": "mallory"}), due(2).model_copy(update={"user": "alice"})]
    with pytest.raises(AirflowException, match="Airflow did not start: probe recurring__1"):
        start()
    assert list(airflow.runs) == [("probe__blue", "recurring__2")] and [r.due for r in world.broker.reported] == [2.0]
    said = caplog.text + capsys.readouterr().out  # by logging, or where Airflow has configured it, by structlog
    assert "has mallory among its members (GDI_TEAMS)" in said and TICKET not in said


@pytest.mark.parametrize("raised", [False, True])
def test_airflows_own_word_that_the_run_is_there_is_understood_and_any_other_refusal_is_one(
    monkeypatch: pytest.MonkeyPatch, raised: bool
) -> None:
    class Comms:
        answer: Any = OKResponse(ok=True)

        def send(self, message: TriggerDagRun) -> Any:
            assert (message.dag_id, message.run_id, message.conf) == ("probe", "recurring__1", {"ticket": "t"})
            if raised and isinstance(self.answer, ErrorResponse):
                raise AirflowRuntimeError(self.answer)
            return self.answer

    comms = Comms()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    assert start_due.trigger("probe", "recurring__1", {"ticket": "t"}) is False
    comms.answer = ErrorResponse(error=ErrorType.DAGRUN_ALREADY_EXISTS)
    assert start_due.trigger("probe", "recurring__1", {"ticket": "t"}) is True
    comms.answer = ErrorResponse(error=ErrorType.GENERIC_ERROR)
    with pytest.raises(AirflowRuntimeError):
        start_due.trigger("probe", "recurring__1", {"ticket": "t"})


def test_the_catalogue_is_brought_to_the_broker_and_one_that_does_not_take_it_stops_no_schedule(
    world: World, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[Path] = []
    monkeypatch.setattr(TokenBrokerHook, "bring_workflows", lambda _, folder: brought.append(folder) or [])
    start()
    assert brought == [settings().need("workflows")]

    def refuses(_: TokenBrokerHook, folder: Path) -> list[str]:
        raise ProblemError(403, "missing-scope", "Airflow is not enrolled for the scope admit.")

    monkeypatch.setattr(TokenBrokerHook, "bring_workflows", refuses)
    world.broker.due = [due(1)]
    assert start()["started"] == ["probe recurring__1"]


# --- housekeeping -------------------------------------------------------------------------------


def tidy(airflow: Airflow, **more: Any) -> dict[str, Any]:
    return CloseLeftoverRunsOperator(task_id="tidy", gateway_patience=0, **more).execute({"ti": airflow.ti()})


@pytest.mark.parametrize(("state", "outcome"), [("failed", "failed"), ("success", "success"), (None, "cancelled")])
def test_a_run_left_open_is_closed_at_every_gateway_and_at_the_broker(
    world: World,
    airflow: Airflow,
    state: str | None,
    outcome: str,
) -> None:
    admit(world, mode="ok")
    if state:
        airflow.states[world.broker.runs[world.run].dag_run_id] = state
    assert tidy(airflow) == {"closed": {world.run: outcome}, "waiting": []}
    assert [n.closed for n in world.nodes] == [[1], [1]] and world.broker.runs[world.run].outcome == outcome
    assert tidy(airflow) == {"closed": {}, "waiting": []}


@pytest.mark.parametrize("state", ["queued", "running"])
def test_what_lives_is_left_alone(world: World, airflow: Airflow, state: str) -> None:
    admit(world, mode="ok")
    airflow.states[world.broker.runs[world.run].dag_run_id] = state
    assert tidy(airflow) == {"closed": {}, "waiting": []} and world.nodes[0].closed == []


def test_two_at_once_do_no_harm(world: World, airflow: Airflow) -> None:
    admit(world, mode="ok")
    results: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: results.append(tidy(airflow))) for _ in range(2)]
    [t.start() for t in threads]
    [t.join(60) for t in threads]
    assert (
        len(results) == 2 and world.broker.runs[world.run].state == "closed" and all(not r["waiting"] for r in results)
    )


def test_what_another_closes_while_its_gateways_are_told_does_not_wait(
    world: World,
    airflow: Airflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admit(world, mode="ok")
    told = closing.GatewayClient.close

    def close(gateway: closing.GatewayClient, attempt: int) -> None:
        told(gateway, attempt)
        world.broker.runs[world.run] = world.broker.runs[world.run].model_copy(
            update={"state": "closed", "outcome": "failed"}
        )

    monkeypatch.setattr(closing.GatewayClient, "close", close)
    assert tidy(airflow)["waiting"] == [] and [n.closed for n in world.nodes] == [
        [1],
        [],
    ]  # no token for the second: the run is closed


def test_a_gateway_that_is_away_is_told_next_time_but_not_for_ever(world: World, airflow: Airflow) -> None:
    admit(world, mode="ok")
    world.nodes[1].served.stop()
    assert tidy(airflow) == {"closed": {}, "waiting": [world.run]} and world.broker.runs[world.run].state == "open"
    assert tidy(airflow, give_up=timedelta(0))["closed"] == {world.run: "cancelled"}
