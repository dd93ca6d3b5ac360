"""The API for people and portals: what is refused and how, starts that are sent twice, whose runs are whose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gdi.contracts import broker_api as m
from gdi.contracts.run_endings import Standing
from gdi.kit.problem import ProblemError
from tests.support.portal_world import ALICE, BOB, DATASETS, ORIGIN, WORKFLOW, PortalWorld, portal_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PortalWorld]:
    async with portal_world(tmp_path) as made:
        yield made


def slug(answer: object) -> str:
    body = answer.json()  # type: ignore[attr-defined]
    assert answer.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    assert body["action"], "an error says what to do next"
    return str(body["type"]).removeprefix("urn:gdi:problem:")


async def test_nothing_is_told_without_a_token(world: PortalWorld) -> None:
    assert (await world.nobody.get("/v1/workflows")).status_code == 200
    for path in ("/v1/me", "/v1/datasets", "/v1/nodes", "/v1/grants", "/v1/runs", "/v1/runs/r-" + "0" * 20):
        answer = await world.nobody.get(path)
        assert (answer.status_code, slug(answer)) == (401, "unauthenticated"), path
    assert (await world.client("stolen").get("/v1/runs")).status_code == 401


async def test_a_start_without_consent_says_so_and_starts_nothing(world: PortalWorld) -> None:
    answer = await world.alice.post("/v1/runs", json=world.start())
    assert (answer.status_code, slug(answer)) == (403, "consent-needed")
    assert world.airflow.runs == {} and (await world.alice.get("/v1/runs")).json()["runs"] == []


@pytest.mark.parametrize(
    ("changed", "status", "what"),
    [
        ({"workflow": "no-such"}, 404, "workflow-unknown"),
        ({"parameters": {"regions": "many"}}, 422, "bad-parameters"),
        ({"parameters": {"undeclared": 1}}, 422, "bad-parameters"),
        ({"datasets": [DATASETS["node-a"]] * 2}, 422, "bad-datasets"),
        ({"datasets": []}, 422, "invalid-request"),
        ({"digest": "sha256:" + "0" * 64}, 409, "workflow-changed"),
        ({"grant": "g-" + "0" * 32}, 403, "grant-not-yours"),
        ({"surprise": 1}, 422, "invalid-request"),
    ],
)
async def test_what_is_wrong_with_a_start_is_said_when_it_is_given(
    world: PortalWorld, changed: dict[str, object], status: int, what: str
) -> None:
    world.consent()
    answer = await world.alice.post("/v1/runs", json=world.start(**changed))
    assert (answer.status_code, slug(answer)) == (status, what)
    assert world.airflow.runs == {}


async def test_a_start_sent_again_is_one_run_also_after_airflow_was_away(world: PortalWorld) -> None:
    world.consent()
    world.airflow.fail = [500, 500]
    key = {"Idempotency-Key": "mine-1"}
    first = await world.alice.post("/v1/runs", json=world.start(), headers=key)
    again = await world.alice.post("/v1/runs", json=world.start(), headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"] and again.json()["repeated"]
    assert len(world.airflow.runs) == 1
    other = await world.alice.post("/v1/runs", json=world.start(parameters={"regions": 5}), headers=key)
    assert (other.status_code, slug(other)) == (409, "idempotency-mismatch")
    world.consent(BOB)
    bobs = await world.bob.post("/v1/runs", json=world.start(), headers=key)
    assert bobs.status_code == 201 and bobs.json()["id"] != first.json()["id"]


async def test_the_same_start_sent_twice_at_once_is_one_run(world: PortalWorld) -> None:
    world.consent()
    sent = [world.alice.post("/v1/runs", json=world.start(), headers={"Idempotency-Key": "k"}) for _ in range(8)]
    answers = await asyncio.gather(*sent)
    assert {a.status_code for a in answers} <= {200, 201} and len({a.json()["id"] for a in answers}) == 1
    assert len(world.airflow.runs) == 1


async def test_a_start_is_few_questions_and_two_transactions(world: PortalWorld) -> None:
    """What it costs beside Airflow's own trigger (`make bench-portal ARGS=start`)."""
    world.consent()
    await world.alice.get("/v1/me")
    world.broker.calls.clear()
    world.airflow.calls.clear()
    statements: list[str] = []
    engine = world.door.store.engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", lambda _, __, statement, *___: statements.append(statement[:6]))
    assert (await world.alice.post("/v1/runs", json=world.start())).status_code == 201
    assert [call.partition(" ")[0] for call in world.broker.calls] == ["GET", "POST"], "which grant, and its ticket"
    assert world.airflow.calls == ["POST /auth/token", f"POST /api/v2/dags/{WORKFLOW}/dagRuns"]
    assert [found for found in statements if found.split()[0] != "BEGIN"] == ["INSERT", "UPDATE"]


async def test_a_ticket_that_is_refused_leaves_no_run_and_a_broker_that_is_away_one_to_send_again(
    world: PortalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.consent()

    def failing(error: ProblemError) -> None:
        async def ticket(*_: object) -> m.Ticket:
            raise error

        monkeypatch.setattr(world.door.broker, "ticket", ticket)

    failing(ProblemError(403, "dataset-not-granted", "The grant does not cover it.", action="Give consent."))
    key = {"Idempotency-Key": "k"}
    refused = await world.alice.post("/v1/runs", json=world.start(), headers=key)
    assert (refused.status_code, slug(refused)) == (403, "dataset-not-granted")
    assert (await world.alice.get("/v1/runs")).json()["runs"] == []
    failing(ProblemError(503, "broker-away", "It is away.", action="Send it again."))
    away = await world.alice.post("/v1/runs", json=world.start(), headers=key)
    assert (away.status_code, slug(away)) == (503, "broker-away")
    monkeypatch.undo()
    again = await world.alice.post("/v1/runs", json=world.start(), headers=key)
    assert (again.status_code, again.json()["state"]) == (200, "queued")
    assert len(world.airflow.runs) == 1 and len((await world.alice.get("/v1/runs")).json()["runs"]) == 1


async def test_a_run_that_is_stopped_on_its_way_to_airflow_is_stopped_there(
    world: PortalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.consent()
    start = world.door.airflow.start

    async def stopped(*what: Any) -> None:
        (run,) = (await world.alice.get("/v1/runs")).json()["runs"]
        assert (await world.alice.post(f"/v1/runs/{run['id']}/cancel")).json()["state"] == "stopped"
        await start(*what)

    monkeypatch.setattr(world.door.airflow, "start", stopped)
    answer = await world.alice.post("/v1/runs", json=world.start())
    assert (answer.status_code, answer.json()["state"]) == (201, "stopping")
    await world.door.watch.look()
    (run,) = (await world.alice.get("/v1/runs")).json()["runs"]
    assert run["state"] == "stopped" and len(world.airflow.stopped) == 1


async def test_the_conf_has_the_ticket_and_the_parameters_and_nothing_of_the_user(world: PortalWorld) -> None:
    await world.started()
    ((dag, _),) = world.airflow.runs
    conf = next(iter(world.airflow.runs.values()))["conf"]
    assert dag == WORKFLOW
    assert conf == {"ticket": "gdit_1", "datasets": list(DATASETS.values()), "regions": 4}
    (_, request) = world.broker.tickets[0]
    assert request.dag_run_id is not None, "the ticket serves for this run only"


async def test_consent_may_be_given_with_the_start(world: PortalWorld) -> None:
    answer = await world.alice.post("/v1/runs", json=world.start(consent={"days": 2, "once": True}))
    assert answer.status_code == 201
    (grant,) = world.broker.grants.values()
    assert (grant.mode, grant.datasets) == ("once", list(DATASETS.values()))


async def test_runs_are_listed_newest_first_page_by_page_and_filtered(world: PortalWorld) -> None:
    made = [await world.started(tags={"n": str(n % 2)}) for n in range(5)]
    listed, token = [], ""
    while True:
        page = (await world.alice.get("/v1/runs", params={"page_size": 2, "page_token": token})).json()
        listed += [r["id"] for r in page["runs"]]
        token = page["next_page_token"]
        if not token:
            break
    assert listed == made[::-1]
    odd = (await world.alice.get("/v1/runs", params={"tag": "n:1"})).json()["runs"]
    assert [r["id"] for r in odd] == [made[3], made[1]]
    assert (await world.alice.get("/v1/runs", params={"state": "succeeded"})).json()["runs"] == []
    assert len((await world.alice.get("/v1/runs", params={"dataset": DATASETS["node-a"]})).json()["runs"]) == 5
    assert (await world.alice.get("/v1/runs", params={"workflow": "another"})).json()["runs"] == []
    wrong = await world.alice.get("/v1/runs", params={"page_token": "%%%"})
    assert (wrong.status_code, slug(wrong)) == (422, "bad-page-token")


async def test_runs_that_a_schedule_or_airflow_started_are_listed_too(world: PortalWorld) -> None:
    world.broker.run("recurring__2026-11-30T06:00:00Z__g-1")
    world.broker.run("manual__x")
    world.broker.run("manual__bob", user=BOB)
    runs = (await world.alice.get("/v1/runs")).json()["runs"]
    assert sorted(r["by"] for r in runs) == ["airflow", "schedule"]


async def test_how_a_run_stands_comes_from_airflow_and_stays_when_it_is_away(world: PortalWorld) -> None:
    run = await world.started()
    name = await world.dag_run(run)
    nodes = [{"node": n, "state": "running", "done": 2, "total": 8} for n in DATASETS]
    world.airflow.put(name, Standing(standing="running", sentence="4 of 16 jobs.", attempt=1, nodes=nodes))
    shown = (await world.alice.get(f"/v1/runs/{run}")).json()
    assert (shown["state"], shown["jobs_done"], shown["jobs_total"]) == ("running", 4, 16)
    assert shown["parameters"] == {"regions": 4}
    world.airflow.put(name, Standing(standing="succeeded", sentence="There.", ended_at=time.time()), "success")
    await world.door.watch.look()
    listed = (await world.alice.get("/v1/runs")).json()["runs"][0]
    assert (listed["state"], listed["sentence"]) == ("succeeded", "There.") and listed["ended_at"]


async def test_a_run_that_is_stopped_is_stopped_in_airflow(world: PortalWorld) -> None:
    run = await world.started()
    answer = await world.alice.post(f"/v1/runs/{run}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "stopping")
    assert world.airflow.stopped == [await world.dag_run(run)]
    await world.door.watch.look()
    assert (await world.alice.get(f"/v1/runs/{run}")).json()["state"] == "stopped"
    assert (await world.alice.post(f"/v1/runs/{run}/cancel")).json()["state"] == "stopped"
    assert len(world.airflow.stopped) == 1


async def test_a_start_that_never_arrived_ends_with_a_reason(
    world: PortalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.consent()
    monkeypatch.setattr("gdi.portal.airflow.START_PATIENCE", 0.0)
    world.airflow.fail = [503] * 5
    answer = await world.alice.post("/v1/runs", json=world.start(), headers={"Idempotency-Key": "lost"})
    assert (answer.status_code, slug(answer)) == (503, "airflow-away")
    (run,) = (await world.alice.get("/v1/runs")).json()["runs"]
    assert run["state"] == "starting"
    monkeypatch.setattr("gdi.portal.watch.LOST_AFTER", 0.0)
    await world.door.watch.look()
    (run,) = (await world.alice.get("/v1/runs")).json()["runs"]
    assert (run["state"], run["sentence"]) == ("failed", "The start did not arrive at Airflow.")


async def test_run_again_is_a_new_run_of_the_same(world: PortalWorld) -> None:
    run = await world.started(tags={"paper": "x"})
    answer = await world.alice.post(f"/v1/runs/{run}/again")
    assert answer.status_code == 201 and answer.json()["id"] != run
    shown = (await world.alice.get(f"/v1/runs/{answer.json()['id']}")).json()
    assert (shown["parameters"], shown["tags"]) == ({"regions": 4}, {"paper": "x"})


async def test_results_files_and_crate_have_this_servers_urls(world: PortalWorld) -> None:
    run = await world.started()
    name = await world.dag_run(run)
    empty = (await world.alice.get(f"/v1/runs/{run}/results")).json()
    assert (empty["files"], empty["crate"]) == ([], None)
    assert (await world.alice.get(f"/v1/runs/{run}/crate")).status_code == 404
    world.airflow.put(name, Standing(standing="succeeded", sentence="There."), "success")
    found = (await world.alice.get(f"/v1/runs/{run}/results")).json()
    for file in found["files"]:
        got = await world.alice.get(file["url"])
        assert got.content == world.airflow.files[file["name"]]
    assert (await world.alice.get(found["crate"])).content == b"PK-crate"
    assert (await world.alice.get(f"/v1/runs/{run}/files/../../etc/passwd")).status_code == 404


async def test_datasets_nodes_and_preflight_say_what_may_be_used(world: PortalWorld) -> None:
    found = (await world.bob.get("/v1/datasets")).json()["datasets"]
    assert [d["access"]["state"] for d in found] == ["granted", "refused"]
    assert [n["state"] for n in (await world.bob.get("/v1/nodes")).json()["nodes"]] == ["up", "away"]
    body = {"workflow": WORKFLOW, "datasets": [*DATASETS.values(), "EGAD9"], "parameters": {"regions": "x"}}
    checked = (await world.bob.post("/v1/preflight", json=body)).json()
    assert not checked["ready"] and checked["unknown_datasets"] == ["EGAD9"] and checked["mistakes"]
    assert [(n["node"], n["ready"]) for n in checked["nodes"]] == [("node-a", True), ("node-b", False)]


async def test_a_schedule_is_checked_when_it_is_given(world: PortalWorld) -> None:
    body = {
        "workflows": [WORKFLOW],
        "datasets": [DATASETS["node-a"]],
        "expires_at": time.time() + 86400,
        "schedule": {
            "workflow": WORKFLOW,
            "parameters": {"datasets": [DATASETS["node-a"]], "regions": "x"},
            "cron": "0 3 * * *",
        },
    }
    answer = await world.alice.post("/v1/grants", json=body)
    assert (answer.status_code, slug(answer)) == (422, "bad-parameters")
    body["schedule"]["parameters"] = {"datasets": [DATASETS["node-b"]]}  # type: ignore[index]
    answer = await world.alice.post("/v1/grants", json=body)
    assert (answer.status_code, slug(answer)) == (422, "bad-schedule")


async def test_nothing_of_one_user_is_the_others(world: PortalWorld) -> None:
    """Every call of the API that names a run or a grant, as OpenAPI lists them."""
    grant = world.consent(ALICE).id
    run = await world.started()
    schema = (await world.nobody.get("/openapi.json")).json()
    seen = 0
    for path, methods in schema["paths"].items():
        if "{run}" not in path and "{grant}" not in path:
            continue
        for method in methods:
            where = path.replace("{run}", run).replace("{grant}", grant).replace("{name}", "answer.tsv")
            theirs = await world.bob.request(method, where)
            assert theirs.status_code in (403, 404), (method, path)
            assert ALICE not in theirs.text and WORKFLOW not in theirs.text
            seen += 1
    assert seen >= 9
    assert (await world.bob.get("/v1/runs")).json()["runs"] == []
    assert (await world.bob.get("/v1/grants")).json()["grants"] == []
    assert world.airflow.stopped == []


async def test_other_origins_are_answered_as_the_operator_lists_them(world: PortalWorld) -> None:
    asks = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    allowed = await world.nobody.options("/v1/runs", headers=asks)
    assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == ORIGIN
    chooses = await world.nobody.options("/v1/notices", headers={**asks, "Access-Control-Request-Method": "PUT"})
    assert chooses.status_code == 200
    refused = await world.nobody.options("/v1/runs", headers={**asks, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in refused.headers
    answer = await world.alice.get("/v1/runs", headers={"Origin": ORIGIN})
    assert "access-control-allow-credentials" not in answer.headers


async def test_head_is_get_without_a_body(world: PortalWorld) -> None:
    for path in ("/v1/workflows", "/v1/runs", "/docs"):
        answer = await world.alice.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path


async def test_the_docs_page_has_no_script_and_every_call(world: PortalWorld) -> None:
    page = (await world.nobody.get("/docs")).text
    schema = (await world.nobody.get("/openapi.json")).json()
    assert "<script" not in page and "https://" not in page.replace("https://json-schema.org", "")
    assert all(path in page for path in schema["paths"])
    assert {"lsAai", "lsAaiSignIn"} <= set(schema["components"]["securitySchemes"])


async def test_each_body_has_an_example_that_is_taken_as_it_stands(world: PortalWorld) -> None:
    schema = (await world.nobody.get("/openapi.json")).json()
    seen = set()
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                name = content["schema"]["$ref"].rpartition("/")[2]
                seen.add(name)
                (example,) = schema["components"]["schemas"][name]["examples"]
                answer = await world.alice.request(method, path, json=example)
                assert answer.is_success, (path, answer.text)
    assert len(seen) == 4 and len(world.airflow.runs) == 1


async def test_a_broker_that_is_away_is_said_and_known_runs_stay(world: PortalWorld) -> None:
    await world.started()
    world.broker.away = True
    world.door.broker._callers.clear()
    answer = await world.alice.get("/v1/runs")
    assert answer.status_code == 503 and slug(answer)
