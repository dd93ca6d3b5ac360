"""The run's operators against a broker, gateways and the real process host: refusals, lost pods, failures elsewhere,
retries, releases, the end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from gdi.contracts import broker_api as m
from gdi.contracts import needed
from gdi.kit.problem import ProblemError
from gdi.releases.allele_counts.merge import COLUMNS
from gdi.runner.sandbox import why_not
from gdi_operators.gather import merge
from gdi_operators.launchers.process import ProcessLauncher
from gdi_operators.operators import (
    CloseRunOperator,
    GatherOperator,
    ReleaseOperator,
    SnakemakeOperator,
)
from gdi_operators.results import answer, crate
from gdi_operators.results.folder import Results, Summary, read_summary
from gdi_operators.runs import USED_TICKET
from gdi_operators.settings import settings
from gdi_operators.triggers import deferral_race
from tests.support.operators_flow import admit, deferred, event_of, world  # noqa: F401
from tests.support.operators_world import TICKET, World, until
from tests.support.results_kit import release_of, told

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}")


@pytest.fixture
def hosted(world: World) -> World:
    """The same, with the process host running."""
    world.start_host()
    return world


def analyse(item: dict[str, Any], **more: Any) -> SnakemakeOperator:
    return SnakemakeOperator(task_id="analyse", workflow="probe", item=item, poll=0.1, grace=5, **more)


@pytest.fixture(autouse=True)
def no_scheduler_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferral_race, "SECONDS", 0.0)


def finish(operator: SnakemakeOperator, context: dict[str, Any], waiting: TaskDeferred) -> dict[str, Any]:
    """Through all deferrals to the result."""
    while True:
        event = event_of(waiting)
        try:
            return operator.resume(context, json.loads(json.dumps(event)))
        except TaskDeferred as again:
            waiting = again


def whole(operator: SnakemakeOperator, context: dict[str, Any]) -> dict[str, Any]:
    return finish(operator, context, deferred(lambda: operator.execute(context)))


def test_the_plan_is_the_result_of_admission_and_holds_no_secret(world: World) -> None:
    items = admit(world, mode="ok")
    assert [(i["node"], i["datasets"], i["attempt"]) for i in items] == [
        ("node-a", ["DS-A"], 1),
        ("node-b", ["DS-B"], 1),
    ]
    assert {i["run"] for i in items} == {world.run}
    assert TICKET not in json.dumps(items)
    sent = world.broker.admissions[0]
    assert (
        sent["ticket"] == TICKET
        and sent["triggering_user"] == "alice"
        and sent["parameters"] == {"datasets": ["DS-A", "DS-B"], "mode": "ok"}
    )


def test_a_refusal_names_dataset_reason_and_how_to_apply_and_is_not_retried(world: World) -> None:
    world.broker.refusal = ProblemError(
        403,
        "access-denied",
        "Access is missing.",
        refusals=[{"dataset": "DS-B", "node": "node-b", "reason": "expired", "how_to_apply": "https://rems.test"}],
    )
    with pytest.raises(
        AirflowFailException,
        match=r"(?s)access-denied.*dataset DS-B: expired \(node node-b\); to apply for access: https://rems.test",
    ):
        admit(world, mode="ok")


def test_a_run_goes_on_after_its_ticket_left_conf_and_no_other_run_starts_without_one(world: World) -> None:
    admit(world, mode="ok")
    without = {"ticket": USED_TICKET, "datasets": ["DS-A", "DS-B"], "mode": "ok"}
    assert admit(world, conf=without, try_number=2)[0]["attempt"] == 1  # cleared while the attempt is open: the same
    world.broker.runs[world.run] = world.broker.runs[world.run].model_copy(update={"state": "closed"})
    assert admit(world, conf=without, try_number=3)[0]["attempt"] == 3  # numbered by clears
    assert [(a["ticket"], a["grant"]) for a in world.broker.admissions[1:]] == [(None, None), (None, None)]
    with pytest.raises(AirflowFailException, match=r"ticket-used.*start a new run"):
        admit(world, conf=without, try_number=1)  # a copy of the conf, also under the id of a DAG run that was deleted
    world.broker.runs.clear()
    with pytest.raises(AirflowFailException, match="ticket-used"):
        admit(world, conf=without, try_number=2)
    assert len(world.broker.admissions) == 3


def test_a_broker_that_is_away_is_waited_for_then_retried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDI_BROKER_PATIENCE", "120")
    settings.cache_clear()
    world.broker.served.stop()
    back = threading.Timer(1.0, world.broker.served.start)
    back.start()
    assert len(admit(world, mode="ok")) == 2
    back.join()
    world.broker.served.stop()
    monkeypatch.setenv("GDI_BROKER_PATIENCE", "0")
    settings.cache_clear()
    with pytest.raises(AirflowException) as away:
        admit(world, mode="ok")
    assert not isinstance(away.value, AirflowFailException)
    world.broker.served.start()


def test_a_closed_run_is_opened_again_by_who_clears_it_but_not_by_a_retry_or_a_new_dag_run_of_its_id(
    world: World,
) -> None:
    admit(world, mode="ok")
    CloseRunOperator(task_id="close", workflow="probe").execute(world.context())
    for context, said in (({}, "cannot be used again"), ({"try_number": 2, "since": 1}, "clear this task")):
        with pytest.raises(AirflowFailException, match=said):
            admit(world, mode="ok", **context)
    assert admit(world, mode="ok", try_number=2)[0]["attempt"] == 2
    assert world.broker.admissions[-1]["ticket"] is None


def test_a_pod_is_registered_before_it_is_made_and_pinned_before_it_runs(hosted: World) -> None:
    item = admit(hosted, mode="ok")[0]
    assert whole(analyse(item), hosted.context(mode="ok")) == {
        "node": "node-a",
        "attempt": 1,
        "pod": f"{hosted.run}-node-a-1-1",
    }
    uid = hosted.pods()[f"{hosted.run}-node-a-1-1"]["uid"]
    assert hosted.broker.workloads == [(f"{hosted.run}-node-a-1-1", None), (f"{hosted.run}-node-a-1-1", uid)]


def test_a_task_that_is_executed_again_finds_its_running_pod(hosted: World) -> None:
    item = admit(hosted, mode="slow", seconds=600)[0]
    context = hosted.context(mode="slow", seconds=600)
    deferred(lambda: analyse(item).execute(context))  # and the worker is killed here, or the trigger's event is lost
    again = hosted.context(mode="slow", seconds=600, try_number=2, since=1)
    operator = analyse(item)
    waiting = deferred(lambda: operator.execute(again))
    until(lambda: hosted.starts("node-a"))
    hosted.end("node-a")
    assert finish(operator, again, waiting)["attempt"] == 1
    assert len(hosted.starts("node-a")) == 1
    assert analyse(item).execute(again)  # finished meanwhile: no new pod either
    assert len(hosted.starts("node-a")) == 1


def test_an_interrupted_launch_is_completed_not_repeated(hosted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    item = admit(hosted, mode="ok")[0]
    operator = analyse(item)
    with monkeypatch.context() as patch:  # the worker dies between create and start
        patch.setattr(ProcessLauncher, "start", _die)
        with pytest.raises(KeyboardInterrupt):
            operator.execute(hosted.context(mode="ok"))
    assert [p["state"] for p in hosted.pods().values()] == ["created"]
    whole(analyse(item), hosted.context(mode="ok", try_number=2, since=1))
    assert len(hosted.pods()) == 1 and len(hosted.starts("node-a")) == 1


def test_a_pod_that_may_not_be_pinned_does_not_wait_for_ever(hosted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    item = admit(hosted, mode="ok")[0]
    create = ProcessLauncher.create

    def closed_meanwhile(self: ProcessLauncher, *args: Any) -> Any:
        hosted.broker.runs[hosted.run] = hosted.broker.runs[hosted.run].model_copy(update={"state": "closed"})
        return create(self, *args)

    monkeypatch.setattr(ProcessLauncher, "create", closed_meanwhile)
    with pytest.raises(AirflowFailException, match="could not be started: The attempt is over"):
        analyse(item).execute(hosted.context(mode="ok"))
    assert [p["state"] for p in hosted.pods().values()] == ["exited"] and not hosted.starts("node-a")


def test_a_task_that_is_ended_while_its_pod_is_made_starts_none(hosted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    item = admit(hosted, mode="ok")[0]
    operator = analyse(item)
    create = ProcessLauncher.create

    def ended_meanwhile(self: ProcessLauncher, *args: Any) -> Any:
        operator.on_kill()  # by a signal: the pod is not there yet, and Airflow lets the launch go on for some seconds
        return create(self, *args)

    monkeypatch.setattr(ProcessLauncher, "create", ended_meanwhile)
    with pytest.raises(AirflowException, match="was ended while pod"):
        operator.execute(hosted.context(mode="ok"))
    assert [p["state"] for p in hosted.pods().values()] == ["exited"] and not hosted.starts("node-a")


def _die(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("mode", ["lost-once", "again-once"])
def test_a_lost_pod_is_replaced_and_goes_on_in_the_same_folder(hosted: World, mode: str) -> None:
    item = admit(hosted, mode=mode)[0]
    assert whole(analyse(item), hosted.context(mode=mode))["pod"].endswith("-1-2")
    assert len(hosted.starts("node-a")) == 2
    assert hosted.broker.events == []


def test_replacements_are_bounded_and_the_reason_is_told(hosted: World) -> None:
    item = admit(hosted, mode="always-lost")[0]
    with pytest.raises(AirflowFailException, match="ended with exit code 75 3 times"):
        whole(analyse(item, max_relaunches=2), hosted.context(mode="always-lost"))
    assert hosted.broker.runs[hosted.run].failing is not None


def test_a_retry_that_finds_another_node_failed_stops_the_pod_that_still_runs(hosted: World) -> None:
    items = admit(hosted, mode="fail-node-a", seconds=600)
    context = hosted.context(mode="fail-node-a", seconds=600)
    deferred(lambda: analyse(items[1]).execute(context))  # this try is lost with its trigger
    with pytest.raises(AirflowFailException):
        whole(analyse(items[0]), context)
    retry = analyse(items[1])
    waiting = deferred(lambda: retry.execute(context))
    with pytest.raises(AirflowFailException, match="stopped: node node-a failed"):
        finish(retry, context, waiting)
    assert hosted.pods()[f"{hosted.run}-node-b-1-1"]["state"] == "exited"


def test_a_failed_workflow_fails_without_retry_with_the_nodes_reason_and_stops_the_others(hosted: World) -> None:
    items = admit(hosted, mode="fail-node-a", seconds=600)
    hosted.broker.messages["node-a"] = "rule count_region failed: AccessDenied, dataset DS-A"
    context = hosted.context(mode="fail-node-a", seconds=600)
    other = analyse(items[1])
    waiting = deferred(lambda: other.execute(context))
    with pytest.raises(
        AirflowFailException, match="node node-a failed: rule count_region failed: AccessDenied, dataset DS-A"
    ):
        whole(analyse(items[0]), context)
    assert hosted.broker.events == [
        {"source": "airflow-node-a-1", "node": "node-a", "state": "failed", "message": hosted.broker.messages["node-a"]}
    ]
    with pytest.raises(AirflowFailException, match=r"stopped: node node-a failed: rule count_region"):
        finish(other, context, waiting)
    assert {p["state"] for p in hosted.pods().values()} == {"exited"}
    assert len(hosted.broker.events) == 1
    # A task of that run which was still to start does not start, nor does one that Airflow tries again.
    for task in items:
        for retried in (context, hosted.context(mode="fail-node-a", seconds=600, try_number=2, since=1)):
            with pytest.raises(AirflowFailException, match=r"not started: node node-a failed.*clear this task"):
                analyse(task).execute(retried)
    assert hosted.broker.runs[hosted.run].attempt == 1 and len(hosted.pods()) == 2
    # Cleared, it opens the next attempt and starts anew.
    deferred(lambda: analyse(items[1]).execute(hosted.context(mode="fail-node-a", seconds=600, try_number=2)))
    assert hosted.broker.runs[hosted.run].attempt == 2 and f"{hosted.run}-node-b-2-1" in hosted.pods()


@pytest.mark.parametrize("order", ["resumed first", "ended first", "trigger lost", "try lost"])
def test_a_stopped_pods_task_says_the_same_in_every_order_of_events(
    hosted: World, order: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The pod ends before or after its task is resumed; the trigger that stopped it, or the try, is lost."""
    items = admit(hosted, mode="fail-node-a", seconds=600)
    hosted.broker.messages["node-a"] = "AccessDenied"
    context, pod = hosted.context(mode="fail-node-a", seconds=600), f"{hosted.run}-node-b-1-1"
    other = analyse(items[1])
    waiting = deferred(lambda: other.execute(context))
    until(lambda: hosted.starts("node-b"))
    with pytest.raises(AirflowFailException):
        whole(analyse(items[0]), context)
    if order == "resumed first":
        event = {"kind": "failing", "message": "node node-a failed: AccessDenied", "state": waiting.trigger.state}
        waiting = deferred(lambda: other.resume(context, event))
        failing = lambda: finish(other, context, waiting)  # noqa: E731
    else:
        event = event_of(waiting)  # the trigger stops the pod
        until(lambda: hosted.pods()[pod]["state"] == "exited")
        if order == "trigger lost":
            event |= {"kind": "ended", "message": ""}  # another began, and saw the end alone
        retried = hosted.context(mode="fail-node-a", seconds=600, try_number=2, since=1)
        failing = lambda: other.execute(retried) if order == "try lost" else other.resume(context, event)  # noqa: E731
    capfd.readouterr()
    with pytest.raises(AirflowFailException, match="node node-a failed: AccessDenied"):
        failing()
    assert capfd.readouterr().out.count(f"Pod {pod} is stopped: node node-a failed: AccessDenied") == 1


def test_a_clear_opens_one_attempt_however_late_its_tasks_come_and_however_often_they_are_tried(hosted: World) -> None:
    items = admit(hosted, mode="fail-node-a", seconds=600)
    hosted.broker.messages["node-a"] = "it failed"
    with pytest.raises(AirflowFailException):
        whole(analyse(items[0]), hosted.context(mode="fail-node-a", seconds=600))
    # Cleared with its downstream tasks; the first try was lost before it asked for the attempt, its retry does.
    again = {"mode": "fail-node-a", "seconds": 30, "since": 2}
    items = admit(hosted, try_number=3, **again)
    assert items[0]["attempt"] == 2
    with pytest.raises(AirflowFailException, match="it failed"):
        whole(analyse(items[0]), hosted.context(try_number=2, **again))
    # The other node had to wait for a slot: it sees the new failure, and does not begin over it. Another clear does.
    for tries in (2, 3):
        with pytest.raises(AirflowFailException, match="not started: node node-a failed"):
            analyse(items[1]).execute(hosted.context(try_number=tries, **again))
    assert hosted.broker.runs[hosted.run].attempt == 2
    deferred(
        lambda: analyse(items[1]).execute(
            hosted.context(mode="fail-node-a", seconds=600, try_number=5, since=4, clears=2)
        )
    )
    assert hosted.broker.runs[hosted.run].attempt == 3


def test_a_pod_that_failed_is_begun_again_by_a_clear_and_by_no_retry(hosted: World) -> None:
    item = admit(hosted, mode="fail-node-a")[0]
    again = {"mode": "fail-node-a", "try_number": 2}
    deferred(
        lambda: analyse(item).execute(hosted.context(mode="fail-node-a"))
    )  # nobody hears of its end: neither it nor this try can tell the broker
    until(lambda: [p["state"] for p in hosted.pods().values()] == ["exited"])
    with pytest.raises(AirflowFailException, match="node node-a failed: Snakemake ended with exit code 1"):
        analyse(item).execute(hosted.context(since=1, **again))
    assert len(hosted.pods()) == 1
    hosted.broker.runs[hosted.run] = hosted.broker.runs[hosted.run].model_copy(update={"failing": None})
    deferred(lambda: analyse(item).execute(hosted.context(**again)))
    assert sorted(hosted.pods()) == [f"{hosted.run}-node-a-1-1", f"{hosted.run}-node-a-1-2"]


def test_a_node_whose_tries_are_used_up_tells_the_others(hosted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    item = admit(hosted, mode="ok")[0]
    monkeypatch.setenv("GDI_BROKER_PATIENCE", "0")
    settings.cache_clear()
    hosted.host.terminate()
    hosted.host.wait()
    for tries in (3, 4):
        assert not hosted.broker.events
        with pytest.raises(AirflowException) as away:
            analyse(item).execute(hosted.context(mode="ok", try_number=tries, since=1))
        assert not isinstance(away.value, AirflowFailException)
    assert [(e["source"], e["state"]) for e in hosted.broker.events] == [("airflow-node-a-last-try", "failed")]
    assert hosted.broker.runs[hosted.run].failing is not None
    hosted.start_host()


def test_a_killed_host_loses_the_pod_and_the_run_goes_on(hosted: World) -> None:
    item = admit(hosted, mode="slow", seconds=600)[0]
    context = hosted.context(mode="slow", seconds=600)
    operator = analyse(item)
    waiting = deferred(lambda: operator.execute(context))
    until(lambda: hosted.starts("node-a"))
    hosted.host.send_signal(signal.SIGKILL)
    hosted.host.wait()
    hosted.end("node-a")  # its replacement ends at once
    back = threading.Timer(1.0, hosted.start_host)
    back.start()
    assert finish(operator, context, waiting)["pod"].endswith("-1-2")
    back.join()


def test_a_broker_that_is_away_does_not_disturb_a_running_pod(hosted: World) -> None:
    item = admit(hosted, mode="ok", seconds=2)[0]
    context = hosted.context(mode="ok", seconds=2)
    operator = analyse(item)
    waiting = deferred(lambda: operator.execute(context))
    hosted.broker.served.stop()
    event = event_of(waiting)
    assert event["kind"] == "ended"
    hosted.broker.served.start()
    assert operator.resume(context, event)["pod"].endswith("-1-1")


def test_ending_the_deferred_task_stops_the_pod_but_a_lost_triggerer_does_not(hosted: World) -> None:
    item = admit(hosted, mode="slow", seconds=600)[0]
    context = hosted.context(mode="slow", seconds=600)
    waiting = deferred(lambda: analyse(item).execute(context))
    pod = f"{hosted.run}-node-a-1-1"
    until(lambda: hosted.starts("node-a"))

    async def lost_triggerer() -> None:
        task = asyncio.create_task(anext(aiter(waiting.trigger.run())))  # type: ignore[arg-type]
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await waiting.trigger.cleanup()

    asyncio.run(lost_triggerer())
    assert hosted.pods()[pod]["state"] == "running" and not hosted.pods()[pod]["stopping"]
    asyncio.run(waiting.trigger.on_kill())
    until(lambda: hosted.pods()[pod]["state"] == "exited")
    assert hosted.pods()[pod]["stopping"] is True
    # Cleared: the stopped pod is not taken for a failed workflow.
    deferred(lambda: analyse(item).execute(hosted.context(mode="slow", seconds=600, try_number=2)))
    assert hosted.pods()[f"{hosted.run}-node-a-1-2"]["state"] == "running"
    assert hosted.broker.runs[hosted.run].failing is None


@pytest.mark.parametrize("why", ["closed", "failing"])
def test_a_pod_is_stopped_though_nobody_resumes_its_task(hosted: World, why: str) -> None:
    """A user ends the run, and it is closed before the triggerer hears that the task was ended: Airflow drops the
    trigger's event.
    """
    item = admit(hosted, mode="slow", seconds=600)[0]
    waiting = deferred(lambda: analyse(item).execute(hosted.context(mode="slow", seconds=600)))
    update: dict[str, Any] = (
        {"state": "closed"} if why == "closed" else {"failing": m.Failing(node="node-b", reason="a rule failed")}
    )
    hosted.broker.runs[hosted.run] = hosted.broker.runs[hosted.run].model_copy(update=update)
    assert event_of(waiting)["kind"] == why
    until(lambda: hosted.pods()[f"{hosted.run}-node-a-1-1"]["state"] == "exited")


def test_a_pod_that_runs_too_long_is_stopped(hosted: World) -> None:
    item = admit(hosted, mode="slow", seconds=600)[0]
    context = hosted.context(mode="slow", seconds=600)
    operator = analyse(item, max_duration=timedelta(seconds=6))
    waiting = deferred(lambda: operator.execute(context))
    assert waiting.timeout is not None and waiting.timeout <= timedelta(seconds=6)
    with pytest.raises(AirflowFailException, match="did not end within 0:00:06"):
        operator.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert hosted.pods()[f"{hosted.run}-node-a-1-1"]["stopping"] is True


def released(hosted: World, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        ReleaseOperator(task_id="release", workflow="probe", item=i, release="counts").execute(
            hosted.context(mode="ok")
        )
        for i in items
    ]


def test_releases_are_proven_added_up_and_drawn(world: World) -> None:
    world.nodes[0].release = release_of(told(100, 6, 40), told(200, 5, 40))
    world.nodes[1].release = release_of(told(100, 7, 60))
    items = admit(world, mode="ok")
    results = released(world, items)
    assert [(r["node"], r["name"]) for r in results] == [("node-a", "counts"), ("node-b", "counts")]
    assert world.nodes[0].asked[0]["path"] == "out/counts.json" and world.nodes[0].asked[0]["kind"] == "allele-counts"
    done = GatherOperator(task_id="gather", workflow="probe", releases=results).execute(world.context(mode="ok"))
    folder = Path(done["folder"])
    assert (folder / "answer.tsv").read_text() == (
        "\t".join(COLUMNS) + "\n2\t100\tA\tG\t13\t100\t0.13\t2\t13\t13\t100\t100\t\n"
        "2\t200\tA\tG\t\t\t\t1\t5\t13\t40\t140\tsmall\n"
    )
    assert (folder / "answer.png").read_bytes().startswith(b"\x89PNG")
    assert [r["sha256"] for r in json.loads((folder / "releases.json").read_text())["releases"]] == [
        r["sha256"] for r in results
    ]
    assert (done["alleles"], done["withheld"]) == (2, 1)


def test_a_part_that_comes_late_makes_the_next_version_of_the_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is missing stands in table, picture, page and crate; what was there before stays beside it."""
    drawn: list[str] = []
    ours = merge.answer
    monkeypatch.setattr(merge, "answer", lambda *a, title, **k: drawn.append(title) or ours(*a, title=title, **k))
    monkeypatch.setattr(needed, "read", lambda _: needed.AtLeast(at_least=1))
    world.nodes[0].release, world.nodes[1].release = release_of(told(100, 6, 40)), release_of(told(100, 7, 60))
    items = admit(world, mode="ok")
    results = released(world, items)
    gather = lambda given: GatherOperator(task_id="gather", workflow="probe", releases=given).execute(  # noqa: E731
        world.context(mode="ok")
    )
    first = gather(results[:1])
    assert (first["version"], list(first["missing"])) == (1, ["node-b"])
    folder = Path(first["folder"])
    head, row = (folder / "answer.tsv").read_text().splitlines()
    assert head.split("\t") == [*COLUMNS, "MISSING_NODES"] and row.endswith("\tnode-b")
    assert answer.read(folder / "answer.tsv", "allele-counts").rows[0][-1] == "node-b"
    assert gather(results[:1])["version"] == 1, "the same releases are the same version"
    complete = gather(results)
    assert (complete["version"], complete["missing"]) == (2, {})
    assert "MISSING_NODES" not in (folder / "answer.tsv").read_text()
    assert (folder / "versions" / "1" / "answer.tsv").read_text() == f"{head}\n{row}\n"
    assert drawn == ["A probe · without node-b"] * 2 + ["A probe · version 2"]
    found = Results(folder, read_summary(folder))
    assert found.summary is not None and found.summary.earlier[0].missing == first["missing"]
    assert set(found.earlier_files()) <= set(found.files()) and "versions/1/answer.tsv" in found.files()
    late = Results(folder, Summary.model_validate_json((folder / "versions/1/releases.json").read_text()))
    described = json.dumps(crate.describe(late, [], ["workflow/Snakefile"], {}, None, [], None))
    assert "The answer is without node-b (" in described and "Not in this answer: " in described


def test_a_release_that_the_node_did_not_sign_is_not_used(world: World) -> None:
    items = admit(world, mode="ok")
    results = released(world, items)
    gather = lambda given: GatherOperator(task_id="gather", workflow="probe", releases=given).execute(  # noqa: E731
        world.context(mode="ok")
    )
    world.nodes[0].tamper = b" "
    with pytest.raises(AirflowFailException, match="node-a has another checksum"):
        gather(results)
    world.nodes[0].tamper = b""
    forged = [{**results[0], "signature": results[1]["signature"]}, results[1]]
    with pytest.raises(AirflowFailException, match="node-a has no valid signature"):
        gather(forged)
    with pytest.raises(AirflowFailException, match="No release counts of node-b"):
        gather(results[:1])
    assert not (world.folder / "results" / world.run / "answer.tsv").exists()


def test_a_release_waits_for_review_and_a_refusal_gives_the_reasons(world: World) -> None:
    item = admit(world, mode="ok")[0]
    world.nodes[0].reviews = 1
    operator = ReleaseOperator(task_id="release", workflow="probe", item=item, release="counts")
    waiting = deferred(lambda: operator.execute(world.context(mode="ok")))
    assert operator.resume(world.context(mode="ok"), event_of(waiting))["node"] == "node-a"
    world.nodes[0].refuse = ["not of its schema at sites.3"]
    with pytest.raises(
        AirflowFailException, match=r"node node-a refused the release counts: .*not of its schema at sites.3"
    ):
        operator.execute(world.context(mode="ok"))


def test_closing_tells_every_gateway_once_and_the_broker_what_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit(world, mode="ok")
    monkeypatch.setattr(CloseRunOperator, "_before", lambda self: ["admit", "release"])
    monkeypatch.setattr(CloseRunOperator, "_outcome", lambda *_: ("success", ""))
    close = CloseRunOperator(task_id="close", workflow="probe")
    states = {"admit": "success", "analyse_0": "success", "release": "success"}
    answer = {"node": "node-a", "name": "counts", "kind": None, "sha256": "a" * 64, "bytes": 9, "sites_released": 3}
    first = world.context(
        states=states,
        results={
            ("admit", -1): [{"node": "node-a"}],
            ("release", 0): answer,
            ("release", 1): answer | {"sha256": "no checksum"},
        },
    )
    assert close.execute(first)["outcome"] == "success"
    assert [(one.node, one.count, one.bytes) for one in world.broker.released] == [("node-a", 3, 9)]
    assert close.execute(world.context(states=states)) == {"run": world.run, "attempt": 1, "outcome": "success"}
    assert [n.closed for n in world.nodes] == [[1], [1]]


@pytest.mark.parametrize(
    ("states", "outcome", "said"),
    [
        ({"admit": "success", "analyse_0": "failed", "gather": "upstream_failed"}, "failed", "The first task in red"),
        (
            {"admit": "success", "analyse_0": "failed", "gather": "skipped"},
            "cancelled",
            "It was stopped",
        ),  # what Airflow makes of a run that a person stops
    ],
)
def test_closing_a_run_that_did_not_succeed_fails_so_that_airflow_calls_it_failed(
    world: World, states: dict[str, str], outcome: str, said: str
) -> None:
    admit(world, mode="ok")
    close = CloseRunOperator(task_id="close", workflow="probe")
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=said):
            close.execute(world.context(states=states))
    assert world.broker.runs[world.run].outcome == outcome and [n.closed for n in world.nodes] == [[1], [1]]


def test_closing_what_was_never_admitted_is_no_error(world: World) -> None:
    assert CloseRunOperator(task_id="close", workflow="probe").execute(world.context())["attempt"] == 0


def test_a_gateway_that_cannot_be_told_is_named_and_the_run_is_closed_at_the_last_try(world: World) -> None:
    admit(world, mode="ok")
    world.nodes[1].served.stop()
    close = CloseRunOperator(task_id="close", workflow="probe", gateway_patience=0)
    with pytest.raises(AirflowException, match="node-b"):
        close.execute(world.context())
    assert world.broker.runs[world.run].state == "open" and world.nodes[0].closed == [1]
    with pytest.raises(AirflowException, match=r"closed at the broker, but these gateways could not be told.*node-b"):
        close.execute(world.context(try_number=4, since=1))
    assert world.broker.runs[world.run].state == "closed"
    world.nodes[1].served.start()
