"""The gateway in front of the TES: what a run may send, what it gets back, and that a job becomes one task."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.gateway_world import World, slug, wait, world_fixture  # noqa: F401

TASKS = "/ga4gh/tes/v1/tasks"


def test_a_task_reaches_the_tes_as_the_user_rewritten_and_comes_back_without_anything_of_the_node(world: World) -> None:
    run = world.new_run()
    task = run.submit()
    inside = world.tes.tasks[task]
    assert inside["inputs"][0]["url"].startswith("sda://DS-A/cohort.vcf.gz.c4gh#gdic_")
    assert inside["outputs"][0]["url"] == f"s3://workspace/{run.id}/out/a b.json"
    assert (
        inside["tags"]["gdi-run"] == run.id
        and inside["tags"]["gdi-attempt"] == "1"
        and inside["tags"]["gdi-node"] == "node-a"
    )
    assert inside["tags"]["gdi-user"] == "alice@aai"
    inside["logs"] = [
        {
            "logs": [{"exit_code": 0, "stdout": "SECRET-OUT", "stderr": "SECRET-ERR"}],
            "outputs": [
                {"url": f"s3://workspace/{run.id}/out/a b.json", "path": "/gdi/work/out.json", "size_bytes": "12"}
            ],
            "metadata": {"hostname": "internal-host", "cpu_seconds": "1.5"},
            "system_logs": [f"fetched {inside['inputs'][0]['url']}"],
        }
    ]
    for view in ("BASIC", "FULL"):
        seen = run.get(task, view)
        text = json.dumps(seen)
        assert (
            "gdic_" not in text
            and "s3://" not in text
            and "SECRET" not in text
            and "internal-host" not in text
            and "#" not in text
        )
        assert (
            seen["inputs"][0]["url"] == "sda://DS-A/cohort.vcf.gz.c4gh"
            and seen["outputs"][0]["url"] == f"workspace://{run.id}/out/a b.json"
        )
        assert seen["logs"][0]["logs"][0]["exit_code"] == 0 and not seen["logs"][0].get("metadata")
        assert seen["logs"][0]["outputs"] == [
            {"url": f"workspace://{run.id}/out/a b.json", "path": "/gdi/work/out.json", "size_bytes": "4096"}
        ]
    assert run.get(task, "MINIMAL") == {"id": task, "state": "QUEUED"}
    listed = run.call("GET", TASKS, params={"view": "FULL"}).text
    assert task in listed and "gdic_" not in listed and "gdi-intent" not in listed


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    (
        "foreign prefix",
        {"inputs": [{"url": "workspace://r-00000000000000000000/x", "path": "/gdi/work/x"}]},
        "forbidden-location",
    ),
    (
        "foreign output",
        {"outputs": [{"url": "workspace://r-00000000000000000000/x", "path": "/gdi/work/x"}]},
        "forbidden-location",
    ),
    (
        "traversal",
        {"inputs": [{"url": "workspace://RUN/../r-00000000000000000000/x", "path": "/gdi/work/x"}]},
        "forbidden-location",
    ),
    (
        "encoded traversal",
        {"outputs": [{"url": "workspace://RUN/%2e%2e/x", "path": "/gdi/work/x"}]},
        "forbidden-location",
    ),
    ("backslash", {"inputs": [{"url": "workspace://RUN/..\\x", "path": "/gdi/work/x"}]}, "forbidden-location"),
    ("file", {"inputs": [{"url": "file:///etc/passwd", "path": "/gdi/work/x"}]}, "forbidden-location"),
    ("s3 in", {"inputs": [{"url": "s3://workspace/RUN/x", "path": "/gdi/work/x"}]}, "forbidden-location"),
    ("s3 out", {"outputs": [{"url": "s3://workspace/RUN/x", "path": "/gdi/work/x"}]}, "forbidden-location"),
    ("http", {"inputs": [{"url": "http://127.0.0.1:1/x", "path": "/gdi/work/x"}]}, "forbidden-location"),
    ("sda out", {"outputs": [{"url": "sda://DS-A/x.c4gh", "path": "/gdi/work/x"}]}, "forbidden-location"),
    ("other dataset", {"inputs": [{"url": "sda://DS-B/x.c4gh", "path": "/gdi/work/x"}]}, "dataset-not-granted"),
    ("sda traversal", {"inputs": [{"url": "sda://DS-A/../DS-B/x.c4gh", "path": "/gdi/work/x"}]}, "forbidden-location"),
    (
        "own capability",
        {"inputs": [{"url": "sda://DS-A/x.c4gh#gdic_mine", "path": "/gdi/work/x"}]},
        "forbidden-location",
    ),
    ("plaintext", {"inputs": [{"url": "sda://DS-A/x.vcf", "path": "/gdi/work/x"}]}, "forbidden-location"),
    ("query", {"inputs": [{"url": "sda://DS-A/x.c4gh?a=b", "path": "/gdi/work/x"}]}, "forbidden-location"),
    ("neither", {"inputs": [{"path": "/gdi/work/x"}]}, "forbidden-location"),
    ("container path", {"inputs": [{"content": "x", "path": "/etc/passwd"}]}, "forbidden-path"),
    ("container traversal", {"inputs": [{"content": "x", "path": "/gdi/../etc/passwd"}]}, "forbidden-location"),
    (
        "glob",
        {"outputs": [{"url": "workspace://RUN/x", "path": "/gdi/work/x", "path_prefix": "/gdi"}]},
        "forbidden-path",
    ),
    ("volume", {"volumes": ["/etc"]}, "forbidden-path"),
    ("image", {"executors": [{"image": "evil:latest", "command": ["x"]}]}, "forbidden-image"),
    (
        "secret env",
        {"executors": [{"image": "gdi-task:1", "command": ["x"], "env": {"AWS_SECRET_ACCESS_KEY": "x"}}]},
        "forbidden-environment",
    ),
    (
        "token in env",
        {"executors": [{"image": "gdi-task:1", "command": ["x"], "env": {"X": "eyJhbGciOi.eyJzdWIi.c2ln"}}]},
        "forbidden-environment",
    ),
    ("cpu", {"resources": {"cpu_cores": 64}}, "too-large"),
    ("memory", {"resources": {"ram_gb": 1e9}}, "too-large"),
    ("many inputs", {"inputs": [{"content": "x", "path": f"/gdi/work/{i}"} for i in range(21)]}, "too-many-files"),
    ("forged tag", {"tags": {"gdi-job": "j", "gdi-run": "r-00000000000000000000"}}, "forbidden-tag"),
    ("forged intent", {"tags": {"gdi-job": "j", "gdi-intent": "x"}}, "forbidden-tag"),
]


@pytest.mark.parametrize(("changes", "expected"), [(c, s) for _, c, s in HOSTILE], ids=[n for n, _, _ in HOSTILE])
def test_a_hostile_task_is_refused_before_the_tes_sees_it_and_is_in_the_audit(
    world: World, changes: dict[str, Any], expected: str
) -> None:
    run = world.new_run()
    before = len(world.tes.tasks)
    body = json.loads(json.dumps(run.task(**changes)).replace("RUN", run.id))
    answer = run.call("POST", TASKS, json=body)
    assert answer.status_code == 403 and slug(answer) == expected, answer.text
    assert len(world.tes.tasks) == before
    (reason,) = world.refusals(run.id)
    assert reason.startswith(expected)
    assert "gdic_" not in reason and "gdic_" not in answer.text and "eyJ" not in answer.text


@pytest.mark.parametrize(
    "changes",
    [
        {"executors": []},
        {"executors": [{"image": "gdi-task:1", "command": ["x"]}] * 11},
        {"id": "mine"},
        {"tags": {"gdi-job": "a b"}},
        {"resources": {"zones": ["x"]}},
        {"executors": [{"image": "gdi-task:1", "command": ["x" * (256 * 1024 + 1)]}]},
    ],
    ids=[
        "no executor",
        "eleven executors",
        "own id",
        "odd job tag",
        "zones",
        "large command",
    ],
)
def test_a_malformed_task_is_refused_with_what_is_wrong(world: World, changes: dict[str, Any]) -> None:
    answer = world.new_run().call("POST", TASKS, json=world.new_run().task(**changes))
    assert answer.status_code == 422 and answer.json()["detail"]


def test_a_client_that_knows_only_tes_needs_no_tags_and_its_backend_parameters_go_nowhere(world: World) -> None:
    run = world.new_run()
    wish = {"cpu_cores": 1, "backend_parameters": {"VmSize": "x"}, "backend_parameters_strict": False}
    first, second = (run.submit(tags={}, resources=wish) for _ in range(2))
    assert first != second
    assert world.tes.tasks[first]["resources"] == {"cpu_cores": 1}
    strict = run.call("POST", TASKS, json=run.task(resources={**wish, "backend_parameters_strict": True}))
    assert strict.status_code == 400 and slug(strict) == "unsupported-parameters"


def test_another_runs_task_does_not_exist_and_the_look_is_audited(world: World) -> None:
    mine, other = world.new_run(), world.new_run()
    task = mine.submit()
    for method, path in (("GET", f"{TASKS}/{task}"), ("POST", f"{TASKS}/{task}:cancel")):
        answer = other.call(method, path)
        assert answer.status_code == 404 and slug(answer) == "unknown-task"
    assert world.tes.tasks[task]["state"] == "QUEUED"
    assert len(world.refusals(other.id)) == 2
    assert other.call("GET", TASKS, params={"tag_key": "gdi-run", "tag_value": mine.id}).json()["tasks"] == []
    assert mine.call("GET", f"{TASKS}/none").status_code == 404


def test_a_list_is_one_upstream_page_by_tag_and_shows_this_run_only(world: World) -> None:
    run, other = world.new_run(), world.new_run()
    mine = {run.submit() for _ in range(5)}
    other.submit()
    world.tes.lists = 0
    seen: list[str] = []
    token = ""
    for _ in range(3):
        answer = run.call(
            "GET", TASKS, params={"page_size": 2, "page_token": token, "tag_key": "gdi-rule", "tag_value": "count"}
        ).json()
        seen += [t["id"] for t in answer["tasks"]]
        token = answer.get("next_page_token", "")
    assert sorted(seen) == sorted(mine) and not token
    assert world.tes.lists == 3


def test_creating_the_same_job_again_answers_the_same_task(world: World) -> None:
    run = world.new_run()
    task = run.task()
    with ThreadPoolExecutor(4) as pool:
        ids = {run_.json()["id"] for run_ in pool.map(lambda _: run.call("POST", TASKS, json=task), range(4))}
    assert len(ids) == 1
    (first,) = ids
    world.tes.tasks[first]["state"] = "COMPLETE"
    world.s3.put(f"{run.id}/out/a b.json", b"{}")
    assert run.submit(**task) == first, "a complete task whose output is there is believed"
    run.admit(2)
    run.generation = 2
    assert run.submit(**task) == first, "also by the next attempt"
    assert run.submit(**{**task, "tags": {**task["tags"], "gdi-try": "2"}}) != first
    world.s3.client.delete_object(Bucket="workspace", Key=f"{run.id}/out/a b.json")
    again = run.submit(**task)
    assert again != first, "what a finished task wrote was removed: who asks again needs it again"
    world.tes.tasks[again]["state"] = "EXECUTOR_ERROR"
    assert run.submit(**task) not in (first, again), "a failed task does not stand for its job"


def test_a_task_whose_creation_was_cut_off_is_found_again_and_not_made_twice(world: World) -> None:
    run = world.new_run()
    task = run.task()
    world.tes.create_faults = ["lost"]
    answer = run.call("POST", TASKS, json=task)
    assert answer.status_code == 503 and slug(answer) == "tes-away"
    made = [i for i, t in world.tes.tasks.items() if t["tags"].get("gdi-run") == run.id]
    assert len(made) == 1
    assert [t["id"] for t in run.call("GET", TASKS).json()["tasks"]] == made, "the list knows it"
    assert run.submit(**task) == made[0]


def test_a_gateway_killed_between_create_and_record_finds_its_task_and_keeps_its_fence(world: World) -> None:
    run = world.new_run()
    task = run.task()
    world.tes.create_faults = ["lost"]
    assert run.call("POST", TASKS, json=task).status_code == 503
    old = run.token()
    run.generation = 2
    assert run.call("GET", "/datasets").status_code == 200
    world.kill()
    world.start()
    assert slug(run.call("GET", TASKS, token=old)) == "stale-workload", "the fence outlives the process"
    assert run.submit(**task) == next(i for i, t in world.tes.tasks.items() if t["tags"].get("gdi-run") == run.id)


def test_a_task_that_the_tes_refuses_leaves_no_capability(world: World) -> None:
    run = world.new_run()
    world.tes.create_faults = ["refuse"]
    answer = run.call("POST", TASKS, json=run.task())
    assert answer.status_code == 422 and slug(answer) == "tes-rejected" and "gdic_" not in answer.text
    world.tes.create_faults = ["away"]
    assert run.call("POST", TASKS, json=run.task()).status_code == 503
    import sqlite3

    with sqlite3.connect(f"file:{world.folder / 'gateway.db'}?mode=ro", uri=True) as database:
        rows = database.execute("select phase, capability from tasks where run = ?", (run.id,)).fetchall()
    assert rows == [("refused", None), ("refused", None)]


def test_a_run_has_a_bounded_number_of_tasks(world: World) -> None:
    run = world.new_run()
    try:
        world.policy(max_tasks_per_run=2)
        run.submit(), run.submit()
        answer = run.call("POST", TASKS, json=run.task())
        assert answer.status_code == 403 and slug(answer) == "too-many-tasks"
    finally:
        world.policy()


def test_a_changed_policy_holds_at_the_next_request_and_a_broken_one_changes_nothing(world: World) -> None:
    run = world.new_run()
    try:
        world.policy(workflows=["other-workflow"])
        assert slug(run.call("POST", TASKS, json=run.task())) == "forbidden-workflow"
        world.policy(workflows=["allele-frequency@sha256:" + "0" * 64])
        run.submit()
        (world.folder / "policy.yaml").write_text("images: {")
        run.submit()
        assert world.ready()["policy"].startswith("the last good one is in force")
    finally:
        world.policy()
    assert world.ready()["policy"] == "ok"


def test_a_failed_task_tells_class_and_line_but_not_what_it_printed(world: World) -> None:
    run = world.new_run()
    task = run.submit()
    stderr = "patient HG001 has 0/1\nGDI-ERROR class=VcfFormatError line=40\n"
    world.tes.tasks[task] |= {
        "state": "EXECUTOR_ERROR",
        "logs": [{"logs": [{"exit_code": 3, "stderr": stderr, "stdout": "x"}]}],
    }
    unnamed = run.get(task, "FULL")["logs"][0]
    assert unnamed["metadata"] == {"gdi_error_class": "TaskFailed"}, "any workflow may run here: none was approved"
    try:
        world.policy(workflows=["allele-frequency"])
        for view in ("BASIC", "FULL"):
            log = run.get(task, view)["logs"][0]
            assert log["metadata"] == {"gdi_error_class": "VcfFormatError", "gdi_line": "40"}
            assert log["logs"] == [{"exit_code": 1}]
        world.policy(workflows=["allele-frequency"], error_lines=False)
        assert run.get(task, "FULL")["logs"][0]["metadata"] == {"gdi_error_class": "VcfFormatError"}
    finally:
        world.policy()
    assert httpx.get(f"{world.url}/logs/{task}", trust_env=False).status_code == 403
    try:
        world.policy(logs="open")
        answer = httpx.get(f"{world.url}/logs/{task}", trust_env=False)
        assert (
            "HG001" in answer.text
            and answer.headers["content-type"].startswith("text/plain")
            and answer.headers["x-content-type-options"] == "nosniff"
        )
        assert "HG001" in run.get(task, "FULL")["logs"][0]["logs"][0]["stderr"]
    finally:
        world.policy()


@pytest.mark.parametrize(
    "stderr",
    [
        "GDI-ERROR class=<script> line=1",
        "GDI-ERROR class=A line=-1",
        "GDI-ERROR class=" + "A" * 41,
        "x GDI-ERROR class=A line=1",
    ],
)
def test_an_error_line_of_another_form_is_not_told(world: World, stderr: str) -> None:
    run = world.new_run()
    task = run.submit()
    world.tes.tasks[task] |= {"state": "EXECUTOR_ERROR", "logs": [{"logs": [{"exit_code": 1, "stderr": stderr}]}]}
    assert run.get(task)["logs"][0]["metadata"] == {"gdi_error_class": "TaskFailed"}


def test_closing_an_attempt_cancels_what_lives_ends_capabilities_and_shuts_the_door(world: World) -> None:
    run = world.new_run()
    live, done = run.submit(), run.submit()
    capability = world.tes.capability(live)
    world.tes.tasks[done]["state"] = "COMPLETE"
    world.tes.create_faults = ["lost"]
    assert run.call("POST", TASKS, json=run.task()).status_code == 503
    answer = run.call("POST", f"/runs/{run.id}/close", scope="releases close", json={"attempt": 1})
    assert answer.status_code == 200 and answer.json()["cancelled"] == 2, "the one whose creation was cut off as well"
    assert {t["state"] for t in world.tes.tasks.values() if t["tags"].get("gdi-run") == run.id} == {
        "CANCELED",
        "COMPLETE",
    }
    assert slug(run.call("POST", TASKS, json=run.task())) == "run-closed"
    assert world.read("/s3-encrypted/DS-A/cohort.vcf.gz.c4gh", capability).status_code == 401
    assert (
        run.call("POST", f"/runs/{run.id}/close", scope="releases close", json={"attempt": 1}).json()["cancelled"] == 0
    )
    run.admit(2)
    run.generation = 2
    assert run.submit(), "the next attempt opens it again"
    assert run.call("POST", f"/runs/{run.id}/close", json={"attempt": 2}).status_code == 403, "Snakemake may not close"


@pytest.mark.parametrize(
    "case",
    ["none", "garbage", "expired", "foreign key", "other audience", "other issuer", "other type", "no run", "unsigned"],
)
def test_a_token_that_proves_nothing_is_answered_401_and_audited(world: World, case: str) -> None:
    from gdi.kit.jose import SigningKey

    run = world.new_run()
    tokens = {
        "none": "",
        "garbage": "gdic_" + "a" * 43,
        "expired": run.token(iat=int(time.time()) - 100, exp=int(time.time()) - 50),
        "foreign key": run.token(key=SigningKey.generate()),
        "other audience": run.token(aud="http://other"),
        "other issuer": run.token(iss="http://other"),
        "other type": run.token(typ="JWT"),
        "no run": run.token(run="../x"),
        "unsigned": ".".join([*run.token().split(".")[:2], ""]),
    }
    before = len(world.audit())
    answer = run.call("GET", TASKS, token=tokens[case])
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    last = world.audit()[-1]
    assert len(world.audit()) == before + 1 and not last["allowed"]
    assert not tokens[case] or tokens[case] not in json.dumps(last) + answer.text


def test_an_earlier_attempt_an_earlier_workload_another_node_and_a_missing_scope_are_fenced(world: World) -> None:
    run = world.new_run()
    old = run.token()
    run.submit()
    run.generation = 2
    run.submit()
    assert slug(run.call("GET", TASKS, token=old)) == "stale-workload"
    run.admit(2)
    run.generation = 3
    run.submit()
    assert slug(run.call("GET", TASKS, token=old)) == "stale-attempt"
    assert slug(run.call("GET", TASKS, token=run.token(attempt=3))) == "unknown-attempt"
    assert slug(run.call("GET", TASKS, token=run.token(node="node-b"))) == "wrong-node"
    assert slug(run.call("GET", TASKS, scope="releases close")) == "missing-scope"
    assert (
        slug(run.call("POST", f"/releases/{run.id}", json={"name": "x", "path": "x", "check": "allele-counts"}))
        == "missing-scope"
    )
    assert len(world.refusals(run.id)) == 6


def test_a_run_that_the_broker_closed_or_does_not_know_is_refused_within_the_check_interval(world: World) -> None:
    run = world.new_run()
    run.submit()
    looks = world.broker.looks
    run.call("GET", TASKS)
    assert world.broker.looks <= looks + 1, "asked seldom while open"
    run.admit(1, state="closed")
    looks = world.broker.looks
    wait(lambda: run.call("GET", TASKS).status_code == 403, what="the refusal")
    assert world.broker.looks <= looks + 2, "at the next look at the broker"
    del world.broker.runs[run.id]
    assert slug(run.call("GET", TASKS)) == "unknown-run"


def test_a_broker_that_is_away_is_said_to_be_away_and_nothing_is_lost(world: World) -> None:
    run = world.new_run()
    world.broker.away = True
    try:
        answer = run.call("POST", TASKS, json=run.task())
        assert answer.status_code == 503 and slug(answer) == "broker-away"
    finally:
        world.broker.away = False
    assert run.submit()


def test_the_audit_is_a_chain_that_shows_any_change(world: World) -> None:
    import hashlib
    import sqlite3

    previous = "0" * 64
    for entry in world.audit():
        line = json.dumps(
            {k: v for k, v in entry.items() if k not in ("previous", "hash")},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )
        assert entry["previous"] == previous
        previous = hashlib.sha256(f"{previous}\n{line}".encode()).hexdigest()
        assert entry["hash"] == previous
    with sqlite3.connect(world.folder / "gateway.db", timeout=10) as database:
        for statement in ("update audit set line = 'x' where number = 1", "delete from audit where number = 1"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(statement)


def test_operations_can_watch_it_and_sigterm_ends_it_cleanly(world: World) -> None:
    run = world.new_run()
    run.submit()
    with world.inside() as client:
        text = client.get("/metrics").text
    assert "gdi_gateway_tasks_created_total" in text and run.id not in text and "alice" not in text
    assert httpx.get(world.url + "/readyz", trust_env=False).json() == {"status": "ok"}
    assert world.ready() == {
        "database": "ok",
        "broker": "ok",
        "enrolment": "ok",
        "tes": "ok",
        "archive": "ok",
        "storage": "ok",
        "policy": "ok",
        "datasets": "ok",
    }
    assert httpx.get(world.url + "/audit", trust_env=False).status_code == 404, "the audit is inside only"
    assert world.stop() == 0 and not world.socket.exists()
    world.start()
    log = world.log.read_text()
    assert (
        "gdic_" not in log
        and "eyJ" not in log
        and world.tes.password not in log
        and world.s3.secret not in log
        and "Traceback" not in log
    )
