"""A run under way: the catalogue changes, somebody marks it or a part of it by hand. No harm, and a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from gdi.contracts import needed
from gdi.runner.sandbox import why_not
from gdi_operators.operators import (
    AdmitRunOperator,
    CloseRunOperator,
    GatherOperator,
    ReleaseOperator,
    SnakemakeOperator,
)
from gdi_operators.runs import USED_TICKET
from gdi_operators.triggers import deferral_race
from tests.support.operators_flow import admit, deferred, event_of, world  # noqa: F401
from tests.support.operators_world import WORKFLOW, World
from tests.support.results_kit import release_of, told

ITEM = {"node": "node-a", "run": "r"}


def change(world: World, **fields: Any) -> None:
    """Another version lies in the catalogue from now on."""
    folder = world.folder / "workflows" / "probe"
    (folder / "Snakefile").write_text("# a comment\n")
    (folder / "workflow.yaml").write_text(yaml.safe_dump({**WORKFLOW, **fields}))


def test_a_change_of_the_catalogue_does_no_harm_to_a_run_under_way(world: World) -> None:
    world.nodes[0].release = release_of(told(100, 6, 40))
    items = admit(world, mode="ok")
    other = [{**WORKFLOW["releases"][0], "path": "out/other.json"}]  # type: ignore[index]
    change(world, version="2", releases=other, parameters={}, required=[])
    results = [
        ReleaseOperator(task_id="release", workflow="probe", item=i, release="counts").execute(world.context(mode="ok"))
        for i in items
    ]
    assert [n.asked[0]["path"] for n in world.nodes] == ["out/counts.json"] * 2
    assert {n.asked[0]["digest"] for n in world.nodes} == {world.broker.runs[world.run].digest}
    done = GatherOperator(task_id="gather", workflow="probe", releases=results).execute(world.context(mode="ok"))
    kept = Path(done["folder"]) / "workflow"
    assert (kept / "Snakefile").read_text() == "" and yaml.safe_load((kept / "workflow.yaml").read_text()) == WORKFLOW
    # Cleared when all is over: the next attempt is of the version that the run was admitted with.
    with DAG("probe"):
        CloseRunOperator(task_id="close", workflow="probe").execute(world.context())
    used = {"ticket": USED_TICKET, "datasets": ["DS-A", "DS-B"], "mode": "ok"}
    assert admit(world, conf=used, try_number=2)[0]["attempt"] == 2
    assert len({a["digest"] for a in world.broker.admissions}) == 1


def test_where_the_admitted_version_is_nowhere_it_is_said(world: World) -> None:
    items = admit(world, mode="ok")
    kept = world.folder / "results" / world.run / "workflow"
    (kept / "Snakefile").write_text("# somebody edited what was kept")
    change(world)
    release = ReleaseOperator(task_id="release", workflow="probe", item=items[0], release="counts")
    with pytest.raises(AirflowFailException, match=r"admitted with sha256:\w+, which was not kept.*Start a new run"):
        release.execute(world.context(mode="ok"))


@pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}")
def test_a_pod_that_starts_after_the_change_gets_the_admitted_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferral_race, "SECONDS", 0.0)
    world.start_host()
    items, context = admit(world, mode="ok"), world.context(mode="ok")
    for number, item in enumerate(items):
        operator = SnakemakeOperator(task_id="analyse", workflow="probe", item=item, poll=0.1, grace=5)
        event = event_of(deferred(lambda o=operator: o.execute(context)))
        assert operator.resume(context, event)["node"] == item["node"]
        if number == 0:
            change(world)


@pytest.fixture
def dag() -> Iterator[DAG]:
    """The catalogue's, as far as it matters here."""
    with DAG("probe") as made:
        admitted = AdmitRunOperator(task_id="admit", workflow="probe")
        analyse = SnakemakeOperator.partial(task_id="analyse", workflow="probe").expand(item=[ITEM, ITEM])
        release = ReleaseOperator.partial(task_id="release", workflow="probe").expand(item=[ITEM], release=["counts"])
        gather = GatherOperator(task_id="gather", workflow="probe", releases=[])
        admitted >> analyse >> release >> gather >> CloseRunOperator(task_id="close", workflow="probe")
    yield made


DONE = {"admit": "success", "analyse_0": "success", "analyse_1": "success", "release_0": "success", "gather": "success"}
MADE: dict[tuple[str, int], Any] = {
    ("admit", -1): [],
    ("analyse", 0): {},
    ("analyse", 1): {},
    ("release", 0): {},
    ("gather", -1): {},
}


@pytest.mark.parametrize(
    ("states", "made", "named"),
    [
        ({"analyse_1": "success", "release_0": "skipped", "gather": "skipped"}, 2, "analyse[1]"),  # in the middle
        ({"release_0": "skipped", "gather": "skipped"}, 3, "gather, release[0]"),  # between two steps
        ({}, 4, "gather"),
        (
            {"analyse_0": "skipped", "analyse_1": "skipped", "release_0": "skipped", "gather": "skipped"},
            1,
            "analyse[0]",
        ),
    ],
)
def test_a_run_that_is_marked_a_success_by_hand_is_cancelled_and_says_so(
    world: World, dag: DAG, states: dict[str, str], made: int, named: str
) -> None:
    admit(world, mode="ok")
    close: Any = dag.get_task("close")
    results = dict(list(MADE.items())[:made])
    with pytest.raises(AirflowFailException, match=r"marked the run, or .*by hand") as said:
        close.execute(world.context(states={**DONE, **states}, results=results))
    assert named in str(said.value)
    assert world.broker.runs[world.run].outcome == "cancelled" and [n.closed for n in world.nodes] == [[1], [1]]


def test_a_run_whose_steps_all_made_something_is_a_success(world: World, dag: DAG) -> None:
    admit(world, mode="ok")
    close: Any = dag.get_task("close")
    assert close.execute(world.context(states=DONE, results=MADE))["outcome"] == "success"


@pytest.mark.parametrize("name", ["release", "publish"])
def test_a_node_that_is_not_needed_releases_nothing_and_the_run_is_a_success(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    admit(world, mode="ok")
    with DAG("probe"):
        release = ReleaseOperator.partial(task_id=name, workflow="probe").expand(item=[ITEM], release=["counts"])
        close = CloseRunOperator(task_id="close", workflow="probe")
        release >> GatherOperator(task_id="gather", workflow="probe", releases=[]) >> close
    results = {(name, 0): {}, ("gather", -1): {}}
    context = world.context(
        states={f"{name}_0": "success", f"{name}_1": "skipped", "gather": "success"}, results=results
    )
    monkeypatch.setattr(needed, "read", lambda _: needed.AtLeast(at_least=1))
    assert close.execute(context)["outcome"] == "success"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({("analyse", 0): {"node": "node-a"}}, "no job has made it"),
        (
            {("analyse", 1): {"node": "node-b"}},
            r"analysis of node-a \(task analyse\) was marked by hand and made nothing",
        ),
        ({}, r"analysis of node-a \(task analyse\) was marked by hand"),
    ],
)
def test_a_release_says_that_the_analysis_was_marked_by_hand(
    world: World, made: dict[tuple[str, int], Any], said: str
) -> None:
    item = admit(world, mode="ok")[0]
    world.nodes[0].absent = True
    with DAG("probe"):
        analyse = SnakemakeOperator.partial(task_id="analyse", workflow="probe").expand(item=[ITEM, ITEM])
        release = ReleaseOperator(task_id="release", workflow="probe", item=item, release="counts")
        analyse >> release
    with pytest.raises(AirflowFailException, match=said):
        release.execute(world.context(mode="ok", results=made))
