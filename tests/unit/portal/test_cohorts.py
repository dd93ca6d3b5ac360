"""A run's cohort at every door of the portal: chosen in its form, given to its API, to WES, to a schedule, in the
command line; it arrives in the DAG run as it was given, and what no cohort is starts nothing.
"""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gdi.client import shown
from gdi.client.command_line import parameters_of
from gdi.contracts.access import DatasetEntry
from gdi.contracts.cohorts import CohortChoice, EpochCohorts
from gdi.contracts.run_endings import Standing
from tests.support.portal_pages import PageVisitor, hidden, with_pages
from tests.support.portal_world import DATASETS, WORKFLOW, PortalWorld, portal_world

A, B = DATASETS.values()
FEMALE = {"split": "sex", "level": "female"}
WRONG: list[Any] = ["sex=female", {"split": "sex"}, {**FEMALE, "table": "t"}, {"where": "age > 40"}]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PortalWorld]:
    async with portal_world(tmp_path, **with_pages(tmp_path)) as made:
        made.broker.cohorts = {
            A: EpochCohorts(number=1, splits={"sex": ("female", "male")}, variables=("growth",)),
            B: EpochCohorts(number=3, splits={"sex": ("female", "<b>other</b>")}),
        }
        yield made


def given(world: PortalWorld) -> list[Any]:
    """The cohorts of all DAG runs."""
    return [run["conf"].get("cohort") for run in world.airflow.runs.values()]


async def test_a_person_chooses_a_cohort_and_types_none(world: PortalWorld) -> None:
    alice = await PageVisitor(world, "token-alice").sign_in("secret-of-alice")
    assert "sex = female; sex = male; everybody with values for growth" in await alice.get("/datasets")
    form = await alice.get(f"/workflows/{WORKFLOW}")
    assert f"sex = male (only in {A})" in form and "sex = female</option>" in form and "<b>other" not in form
    assert 'name="cohort"' not in await alice.get("/workflows/sample-qc"), "it takes none"
    gwas = await alice.get("/workflows/gwas")
    assert "everybody with values for growth" in gwas and "sex = female" not in gwas
    chosen = {"dataset": [A, B], "p.regions": "3", "cohort": json.dumps(FEMALE)}
    page = (await alice.post(f"/workflows/{WORKFLOW}/check", 200, **chosen)).text
    assert "<dt>Whose numbers?</dt><dd>sex = female</dd>" in page
    start = {"dataset": [A, B], "parameters": html.unescape(hidden(page, "parameters")), "consent": "yes", "days": "1"}
    run = (await alice.post(f"/workflows/{WORKFLOW}/start", **start)).headers["location"]
    assert "<dd>sex = female</dd>" in await alice.get(run)
    again = (await alice.post(f"{run}/again")).headers["location"]
    assert again != run and given(world) == [FEMALE, FEMALE]
    world.airflow.cohort = CohortChoice(split="sex", level="female", epochs={A: 1})
    done = Standing(standing="succeeded", sentence="7 sites were released.", ended_at=1.7e9)
    world.airflow.put(await world.dag_run(run.removeprefix("/runs/")), done, "success")
    world.door.watch._known.clear()
    assert "sex = female, epoch 1" in await alice.get(run), "as the node says"
    back = (await alice.post(f"/workflows/{WORKFLOW}/change", 200, **chosen)).text
    assert "selected>sex = female</option>" in back
    for wrong in ("{", *map(json.dumps, WRONG)):
        page = (await alice.post(f"/workflows/{WORKFLOW}/check", 422, **{**chosen, "cohort": wrong})).text
        assert "Please correct this first:" in page


async def test_an_older_epoch_is_chosen_in_the_form(world: PortalWorld) -> None:
    alice = await PageVisitor(world, "token-alice").sign_in("secret-of-alice")
    form = await alice.get(f"/workflows/{WORKFLOW}")
    assert f'name="epoch.{B}"' in form and f'name="epoch.{A}"' not in form, "A has one epoch only"
    assert "The newest (epoch 3)</option>" in form and '<option value="1">epoch 1</option>' in form
    chosen = {"dataset": [A, B], "p.regions": "3", f"epoch.{B}": "2"}
    back = (await alice.post(f"/workflows/{WORKFLOW}/change", 200, **chosen, cohort=json.dumps(FEMALE))).text
    assert '<option value="2" selected>' in back and "selected>sex = female</option>" in back
    for cohort, wanted in ((FEMALE, {**FEMALE, "epochs": {B: 2}}), (None, {"epochs": {B: 2}})):
        named = {"cohort": json.dumps(cohort)} if cohort else {}
        page = (await alice.post(f"/workflows/{WORKFLOW}/check", 200, **chosen, **named)).text
        sent = {"dataset": [A, B], "parameters": html.unescape(hidden(page, "parameters"))}
        assert "epoch 2</dd>" in page
        await alice.post(f"/workflows/{WORKFLOW}/start", **sent, consent="yes", days="1")
        assert given(world)[-1] == wanted
    for odd, status in (("0", 422), ("-1", 200), ("two", 200), ("9" * 9, 200)):
        await alice.post(f"/workflows/{WORKFLOW}/check", status, **{**chosen, f"epoch.{B}": odd})


async def test_who_may_not_use_a_dataset_is_told_nothing_of_its_cohorts(world: PortalWorld) -> None:
    found = (await world.bob.get("/v1/datasets")).json()["datasets"]
    assert {one["id"]: one["cohorts"] is not None for one in found} == {A: True, B: False}


async def test_api_wes_and_schedules_take_it_and_refuse_what_is_none(world: PortalWorld) -> None:
    with_it = {"regions": 4, "cohort": FEMALE}
    await world.started(parameters=with_it)
    run = {"workflow_url": WORKFLOW, "workflow_type": "SMK", "workflow_type_version": "9"}
    wes = {**run, "workflow_params": json.dumps({"datasets": [A, B], **with_it})}
    assert (await world.alice.post("/ga4gh/wes/v1/runs", data=wes)).status_code == 200
    assert given(world) == [FEMALE, FEMALE]
    grant: dict[str, Any] = {"workflows": [WORKFLOW], "datasets": [A, B], "expires_at": 4e9}
    schedule: dict[str, Any] = {"workflow": WORKFLOW, "cron": "5 4 1 * *"}
    for cohort, status in ((FEMALE, 201), *((wrong, 422) for wrong in WRONG)):
        parameters = {"datasets": [A, B], "cohort": cohort}
        body = {**grant, "schedule": {**schedule, "parameters": parameters}}
        assert (await world.alice.post("/v1/grants", json=body)).status_code == status
    assert [one.parameters["cohort"] for one in world.broker.schedules] == [FEMALE]
    for wrong in WRONG:
        answer = await world.alice.post("/v1/runs", json=world.start(parameters={"cohort": wrong}))
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:gdi:problem:bad-parameters")
        checked = await world.alice.post("/v1/preflight", json=world.start(parameters={"cohort": wrong}))
        assert checked.json()["mistakes"]
        sent = {**wes, "workflow_params": json.dumps({"datasets": [A, B], "cohort": wrong})}
        assert (await world.alice.post("/ga4gh/wes/v1/runs", data=sent)).status_code == 400
    other = world.start(workflow="sample-qc", parameters={"cohort": FEMALE})
    assert (
        "sample-qc takes no cohort but everybody" in (await world.alice.post("/v1/runs", json=other)).json()["detail"]
    )
    assert len(world.airflow.runs) == 2


@pytest.mark.parametrize(
    ("text", "cohort"),
    [
        ("sex=female", FEMALE),
        ("variables:growth", {"variables": "growth"}),
        ("table:smokers", {"table": "smokers"}),
        ("age=40..70", {"split": "age", "level": "40..70"}),
    ],
)
def test_the_command_line_names_it_as_it_lists_it(text: str, cohort: dict[str, str]) -> None:
    assert parameters_of(["regions=4"], text) == {"cohort": cohort, "regions": 4}


@pytest.mark.parametrize("text", ["female", "=female", "sex=", "people:x", ""])
def test_the_command_line_says_how_it_is_written(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write SPLIT=LEVEL"):
        parameters_of(None, text)


def test_the_command_line_lists_what_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    access = {"state": "granted", "sentence": ""}
    cohorts = {"number": 1, "splits": {"sex": ["female", "male"]}, "tables": ["smokers"]}
    entry = DatasetEntry.model_validate({"id": A, "node": "node-a", "access": access, "cohorts": cohorts})
    Console(width=200).print(shown.datasets([entry]))
    assert "cohorts: sex=female, sex=male, table:smokers" in capsys.readouterr().out
