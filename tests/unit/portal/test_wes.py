"""WES 1.1: every answer is one that the published OpenAPI knows; what clients send is taken; what is wrong is named."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gdi.contracts import broker_api as m
from gdi.contracts.run_endings import STANDINGS, RunStanding, Standing
from gdi.contracts.workflow_files import files_of
from gdi.portal.wes.states import NEVER, WAITING_TAG, state_of
from tests.support import wes_schema
from tests.support.portal_world import ALICE, BOB, DATASETS, ORIGIN, PROJECT, WORKFLOW, PortalWorld, portal_world

WES = wes_schema.PREFIX
PARAMS = {"datasets": list(DATASETS.values()), "regions": 4}
FIELDS = {"workflow_url": WORKFLOW, "workflow_type": "SMK", "workflow_type_version": "9"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PortalWorld]:
    async with portal_world(tmp_path) as made:
        yield made


async def ask(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    """The answer, held against the specification."""
    answer = await client.request(method, WES + path, **options)
    wes_schema.check(answer)
    return answer


async def submitted(world: PortalWorld, **changed: str) -> str:
    world.consent()
    data = {**FIELDS, "workflow_params": json.dumps(PARAMS), **changed}
    answer = await ask(world.alice, "POST", "/runs", files={k: (None, v) for k, v in data.items()})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["run_id"])


def parts(kind: str | None, filename: str | None, **changed: Any) -> list[tuple[str, Any]]:
    fields = {**FIELDS, "workflow_params": json.dumps(PARAMS), "tags": "{}", **changed}
    return [(k, (filename, v, kind) if kind else (filename, v)) for k, v in fields.items()]


@pytest.mark.parametrize(
    "sent",
    [
        {"files": parts(None, None)},
        {"files": parts("application/json", None)},
        {"files": parts("application/json", "blob")},
        {"files": parts(None, "blob")},
        {"data": {**FIELDS, "workflow_params": json.dumps(PARAMS)}},
        {"json": {**FIELDS, "workflow_params": PARAMS}},
        {"json": {**FIELDS, "workflow_params": json.dumps(PARAMS), "tags": None, "workflow_engine_parameters": {}}},
        {"files": parts(None, None, tags="", workflow_engine_parameters="{}")},
        {"files": parts(None, None, workflow_engine="snakemake", workflow_engine_version="9.27.1")},
        {"files": parts(None, None, workflow_url=f"http://127.0.0.1:8081/v1/workflows/{WORKFLOW}")},
        {"files": parts(None, None, workflow_url=f"{WORKFLOW}@1.0.0")},
    ],
    ids=[
        "text",
        "typed",
        "typed-file",
        "file",
        "urlencoded",
        "json",
        "json-texts",
        "empty",
        "engine",
        "url",
        "version",
    ],
)
@pytest.mark.parametrize("path", ["/runs", "/runs/"])
async def test_a_run_is_taken_in_every_form_that_clients_send(
    world: PortalWorld, sent: dict[str, Any], path: str
) -> None:
    world.consent()
    answer = await ask(world.alice, "POST", path, **sent)
    assert answer.status_code == 200, answer.text
    conf = next(iter(world.airflow.runs.values()))["conf"]
    assert {k: v for k, v in conf.items() if k != "ticket"} == PARAMS


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"workflow_url": ""}, "workflow_url: is needed"),
        ({"workflow_url": "https://github.com/x/y"}, "'https://github.com/x/y' is not approved"),
        ({"workflow_url": "../../etc/passwd"}, "'../../etc/passwd' is not approved"),
        ({"workflow_url": f"{WORKFLOW}@0.0.1"}, "no version '0.0.1'"),
        ({"workflow_type": "CWL"}, "workflow_type: 'CWL'"),
        ({"workflow_type_version": "1.0"}, "workflow_type_version: '1.0'"),
        ({"workflow_engine": "cwltool"}, "workflow_engine: 'cwltool'"),
        ({"workflow_engine_version": "9"}, "workflow_engine: is needed"),
        ({"workflow_params": "no json"}, "workflow_params: is no JSON"),
        ({"workflow_params": "[1]"}, "workflow_params: must be a JSON object"),
        ({"workflow_params": "{}"}, "datasets must be a list"),
        ({"workflow_params": json.dumps({"datasets": ["a b"]})}, "datasets"),
        ({"workflow_params": json.dumps({**PARAMS, "regions": "x"})}, "regions"),
        ({"tags": json.dumps({"a": {"b": 1}})}, "tags: 'a'"),
        ({"workflow_engine_parameters": json.dumps({"cores": "8"})}, "'cores' is not known"),
    ],
)
async def test_what_is_wrong_with_a_request_is_named(world: PortalWorld, changed: dict[str, str], says: str) -> None:
    world.consent()
    answer = await ask(world.alice, "POST", "/runs", files=parts(None, None, **changed))
    assert answer.status_code == 400 and says in answer.json()["msg"], answer.text
    assert world.airflow.runs == {}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", "./x", "same"])
async def test_attachments_with_such_names_are_refused_by_name(world: PortalWorld, name: str) -> None:
    world.consent()
    files = [*parts(None, None), ("workflow_attachment", (name, b"x")), ("workflow_attachment", (name, b"y"))]
    answer = await ask(world.alice, "POST", "/runs", files=files)
    assert answer.status_code == 400 and repr(name) in answer.json()["msg"], answer.text


def crate(**changed: bytes) -> bytes:
    folder, made = PROJECT / "workflows" / WORKFLOW, io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("ro-crate-metadata.json", "{}")
        for name in files_of(folder):
            file.writestr(f"workflow/{name}", changed.get(name, (folder / name).read_bytes()))
    return made.getvalue()


async def test_a_crate_of_an_approved_version_runs_and_another_is_refused_by_name(world: PortalWorld) -> None:
    world.consent()

    async def send(data: bytes) -> httpx.Response:
        attached = ("workflow_attachment", ("mine.crate.zip", data, "application/zip"))
        return await ask(
            world.alice, "POST", "/runs", files=[*parts(None, None, workflow_url="mine.crate.zip"), attached]
        )

    assert (await send(crate())).status_code == 200
    refused = await send(crate(Snakefile=b"rule evil: shell: 'id'"))
    assert refused.status_code == 400 and "'mine.crate.zip'" in refused.json()["msg"]
    assert "not approved" in refused.json()["msg"]
    for broken in (b"PK\x03\x04nonsense", zipped({"x": b"1"}), zipped({"ro-crate-metadata.json": b"{}"})):
        assert (await send(broken)).status_code == 400
    assert len(world.airflow.runs) == 1


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return made.getvalue()


async def test_the_workflows_own_files_may_be_attached_too(world: PortalWorld) -> None:
    world.consent()
    folder = PROJECT / "workflows" / WORKFLOW
    attached = [("workflow_attachment", (name, (folder / name).read_bytes())) for name in files_of(folder)]
    answer = await ask(world.alice, "POST", "/runs", files=[*parts(None, None, workflow_url="Snakefile"), *attached])
    assert answer.status_code == 200, answer.text


async def test_a_megabyte_of_parameters_reaches_airflow_or_is_named(world: PortalWorld) -> None:
    world.consent()
    big = json.dumps({**PARAMS, "nonsense": "x" * 1_100_000})
    for sent in ({"files": parts(None, None, workflow_params=big)}, {"data": {**FIELDS, "workflow_params": big}}):
        answer = await ask(world.alice, "POST", "/runs", **sent)
        assert answer.status_code == 400 and "nonsense" in answer.json()["msg"] and len(answer.text) < 5000


async def test_without_consent_or_token_nothing_starts_and_the_error_says_why(world: PortalWorld) -> None:
    answer = await ask(world.alice, "POST", "/runs", files=parts(None, None))
    assert answer.status_code == 403 and "consent" in answer.json()["msg"]
    for method, path in sorted(wes_schema.operations()):
        where = path.replace("{run_id}", "r-" + "0" * 20).replace("{task_id}", "t")
        answer = await ask(world.nobody, method, where)
        assert answer.status_code == (200 if path == "/service-info" else 401), (method, path)
    assert (
        await ask(world.alice, "POST", "/runs", content=b"x", headers={"content-type": "text/x"})
    ).status_code == 400
    given = parts(None, None, workflow_engine_parameters=json.dumps({"consent_days": "2"}))
    assert (await ask(world.alice, "POST", "/runs", files=given)).status_code == 200


EXPECTED = {
    ("starting", "", False): "QUEUED",
    ("queued", "", False): "QUEUED",
    ("admitting", "", False): "INITIALIZING",
    ("running", "", False): "RUNNING",
    ("waiting", "", False): "RUNNING",
    ("stopping", "", False): "RUNNING",
    ("stopping", "", True): "CANCELING",
    ("succeeded", "", False): "COMPLETE",
    ("empty", "", False): "COMPLETE",
    ("failed", "workflow", False): "EXECUTOR_ERROR",
    ("failed", "system", False): "SYSTEM_ERROR",
    ("refused", "access", False): "SYSTEM_ERROR",
    ("stopped", "", True): "CANCELED",
}


@pytest.mark.parametrize(("standing", "fault", "stopped"), EXPECTED, ids=lambda v: str(v) or "none")
async def test_each_state_is_reached_by_a_run_that_stands_so(
    world: PortalWorld, standing: RunStanding, fault: str, stopped: bool
) -> None:
    run = await submitted(world, tags=json.dumps({"paper": "x"}))
    if stopped:
        assert (await ask(world.alice, "POST", f"/runs/{run}/cancel")).json() == {"run_id": run}
    if standing not in ("starting", "queued"):
        made = Standing(standing=standing, sentence=f"It is {standing}.", fault=fault)  # type: ignore[arg-type]
        world.airflow.put(await world.dag_run(run), made, "running" if standing in ("stopping",) else "failed")
        world.door.watch._known.clear()
    status = (await ask(world.alice, "GET", f"/runs/{run}/status")).json()
    (listed,) = (await ask(world.alice, "GET", "/runs")).json()["runs"]
    log = (await ask(world.alice, "GET", f"/runs/{run}")).json()
    assert {status["state"], listed["state"], log["state"]} == {EXPECTED[standing, fault, stopped]}
    assert (WAITING_TAG in listed["tags"]) == (standing == "waiting") and listed["tags"]["paper"] == "x"


def test_of_the_eleven_states_each_is_reached_or_never_with_a_reason() -> None:
    schema = set(wes_schema.document()["components"]["schemas"]["State"]["enum"])
    assert set(EXPECTED.values()) | set(NEVER) == schema and not set(EXPECTED.values()) & set(NEVER)
    assert {standing for standing, _, _ in EXPECTED} == set(STANDINGS)
    assert all(reason for reason in NEVER.values())
    assert state_of("failed", "workflow", True) == "EXECUTOR_ERROR"


async def test_runs_are_paged_as_clients_page(world: PortalWorld) -> None:
    made = [await submitted(world) for _ in range(5)]
    listed: list[str] = []
    token = ""
    while True:
        page = (await ask(world.alice, "GET", "/runs", params={"page_size": "2", "page_token": token})).json()
        listed += [r["run_id"] for r in page["runs"]]
        token = page["next_page_token"]
        if token == "":
            break
    assert listed == made[::-1]
    for size in ("", "100000000000000"):
        page = (await ask(world.alice, "GET", "/runs/", params={"page_size": size})).json()
        assert len(page["runs"]) == 5 and page["next_page_token"] == ""
    for wrong in ({"page_size": "0"}, {"page_size": "-1"}, {"page_size": "ten"}, {"page_token": "§"}):
        assert (await ask(world.alice, "GET", "/runs", params=wrong)).status_code == 400, wrong


async def test_ten_thousand_tasks_are_paged(world: PortalWorld) -> None:
    run = await submitted(world)
    known = world.broker.run(await world.dag_run(run))
    assert known.id == run
    made = [
        m.Job(node="node-a", job=f"j{n}", rule="count", state="done", exit_code=0, ended_at=1.0) for n in range(10_000)
    ]
    world.broker.jobs[run] = made
    found: list[str] = []
    token, first = "", 0.0
    while True:
        began = time.perf_counter()
        asked = {"page_size": 2000, "page_token": token}
        page = (await world.alice.get(f"{WES}/runs/{run}/tasks", params=asked)).json()
        first = first or time.perf_counter() - began
        found += [t["id"] for t in page["task_logs"]]
        token = page["next_page_token"]
        if not token:
            break
    assert found == [f"node-a.j{n}" for n in range(10_000)]
    one = (await ask(world.alice, "GET", f"/runs/{run}/tasks/node-a.j7777")).json()
    assert (one["id"], one["name"], one["exit_code"]) == ("node-a.j7777", "count", 0)
    assert (await ask(world.alice, "GET", f"/runs/{run}/tasks/none")).status_code == 404
    log = (await ask(world.alice, "GET", f"/runs/{run}")).json()
    assert len(log["task_logs"]) == 100 and log["task_logs_url"].endswith(f"/runs/{run}/tasks")


async def test_a_runs_log_has_its_request_and_outputs_as_urls_of_this_server(world: PortalWorld) -> None:
    run = await submitted(world, tags=json.dumps({"a": "b"}))
    log = (await ask(world.alice, "GET", f"/runs/{run}")).json()
    assert log["request"]["workflow_params"] == PARAMS and log["request"]["tags"] == {"a": "b"}
    assert log["request"]["workflow_url"] == WORKFLOW and log["outputs"] == {} and log["task_logs"] == []
    ended = Standing(standing="succeeded", sentence="The answer is there.", ended_at=time.time())
    world.airflow.put(await world.dag_run(run), ended, "success")
    world.door.watch._known.clear()
    log = (await ask(world.alice, "GET", f"/runs/{run}")).json()
    assert log["state"] == "COMPLETE" and log["run_log"]["exit_code"] == 0
    assert all(isinstance(url, str) for url in log["outputs"].values()) and "answer.tsv" in log["outputs"]
    shown = json.dumps(log)
    assert "8082" not in shown and "8080" not in shown and "node-a.example" not in shown
    for url in [*log["outputs"].values(), log["run_log"]["stderr"], log["run_log"]["stdout"], log["task_logs_url"]]:
        assert url.startswith("http://127.0.0.1:8081/")
        got = await world.alice.get(url.removeprefix("http://127.0.0.1:8081"))
        assert got.status_code == 200, url


async def test_nothing_of_the_others_in_any_operation(world: PortalWorld) -> None:
    run = await submitted(world)
    for method, path in sorted(wes_schema.operations()):
        if "{run_id}" not in path:
            continue
        where = path.replace("{run_id}", run).replace("{task_id}", "node-a.x")
        theirs = await world.bob.request(method, WES + where)
        assert theirs.status_code == 404 and ALICE not in theirs.text and WORKFLOW not in theirs.text, (method, path)
        assert theirs.json()["status_code"] == 404
    assert (await ask(world.bob, "GET", "/runs")).json()["runs"] == []
    assert world.airflow.stopped == []
    world.consent(BOB)
    info = (await ask(world.bob, "GET", "/service-info")).json()
    assert sum(info["system_state_counts"].values()) == 0
    assert sum((await ask(world.alice, "GET", "/service-info")).json()["system_state_counts"].values()) == 1


async def test_head_and_preflight_need_no_special_care_of_clients(world: PortalWorld) -> None:
    run = await submitted(world)
    for path in ("/service-info", "/runs", "/runs/", f"/runs/{run}", f"/runs/{run}/status", f"/runs/{run}/tasks"):
        answer = await world.alice.head(WES + path)
        assert (answer.status_code, answer.content) == (200, b""), path
    asks = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    assert (await world.nobody.options(WES + "/runs", headers=asks)).status_code == 200
    for wrong in ("/nothing", "/runs/../x", "/runs/r-1/unknown", "/runs/a%0Db%0A/status"):
        answer = await world.alice.get(WES + wrong)
        assert answer.status_code == 404 and set(answer.json()) == {"msg", "status_code"}
    assert (await world.alice.put(WES + "/runs")).json()["status_code"] == 405


async def test_service_info_is_true(world: PortalWorld) -> None:
    info = (await ask(world.nobody, "GET", "/service-info")).json()
    (versions,) = [v["workflow_type_version"] for v in info["workflow_type_versions"].values()]
    assert info["supported_wes_versions"] == ["1.1.0"] and set(info["workflow_type_versions"]) == {"SMK"}
    for version in versions:
        assert (await submitted(world, workflow_type_version=version)).startswith("r-")
    assert {p["name"] for p in info["default_workflow_engine_parameters"]} == {"grant", "consent_days"}
