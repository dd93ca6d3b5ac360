"""What strangers can make a gateway hold, write or wait for is bounded. Each limit: its effect where it is off, its end
where it is on.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from gdi.kit.jose import SigningKey
from node_gateway.agent.own_gateway import OwnGateway
from tests.support.gateway_world import NODE, World, c4gh, slug, wait, world_fixture  # noqa: F401

TASKS = "/ga4gh/tes/v1/tasks"
LARGE = [{"image": "gdi-task:1", "command": ["true", "x" * 250_000]}]  # with its inputs below 1 MiB
PAGE = 8 * 1024 * 1024  # node_gateway.tasks.tes_client.MAX_PAGE


def test_a_command_like_a_token_of_a_quarter_mebibyte_does_not_hold_the_gateway(world: World) -> None:
    """With the old pattern one word of 24 KiB held it for 36 s."""
    run = world.new_run()
    body = run.task(executors=[{"image": "gdi-task:1", "command": ["true", *["eyJ" * 80_000] * 3]}])
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(run.call, "POST", TASKS, json=body | {"tags": {"gdi-job": f"j{i}"}}) for i in range(3)]
        slowest = 0.0
        while not all(one.done() for one in sent):
            began = time.perf_counter()
            assert httpx.get(world.url + "/livez", trust_env=False, timeout=60).status_code == 200
            slowest = max(slowest, time.perf_counter() - began)
    assert {one.result().status_code for one in sent} == {200}
    assert slowest < 10, "one such word alone took more than an hour before"


def test_forty_creates_at_once_make_as_many_tasks_as_the_run_may_have(world: World) -> None:
    made: dict[int, int] = {}
    try:
        for most in (40, 3):
            world.policy(max_tasks_per_run=most)
            run = world.new_run()
            with ThreadPoolExecutor(40) as pool:
                answers = list(pool.map(lambda _, run=run: run.call("POST", TASKS, json=run.task()), range(40)))
            made[most] = sum(task["tags"].get("gdi-run") == run.id for task in world.tes.tasks.values())
            assert [a.status_code for a in answers].count(200) == made[most]
            assert {slug(a) for a in answers if a.status_code != 200} == (set() if most == 40 else {"too-many-tasks"})
    finally:
        world.policy()
    assert made == {40: 40, 3: 3}


def test_a_task_and_a_run_are_bounded_in_bytes(world: World) -> None:
    run = world.new_run()
    task = run.task(executors=[{"image": "gdi-task:1", "command": ["true", *["x" * 250_000] * 5]}])
    try:
        world.policy(max_task_bytes=8 * 1024 * 1024)
        assert run.call("POST", TASKS, json=task).status_code == 200, "the limit is what stops it"
        world.policy()
        refused = run.call("POST", TASKS, json=task | {"tags": {"gdi-job": "second"}})
        assert refused.status_code == 413 and slug(refused) == "too-large"
        world.policy(max_run_bytes=2_000_000)
        run.submit(executors=LARGE)
        refused = run.call("POST", TASKS, json=run.task(executors=LARGE))
        assert refused.status_code == 200 or slug(refused) == "too-many-bytes"
        refused = run.call("POST", TASKS, json=run.task(executors=[{**LARGE[0], "command": ["x" * 250_000] * 4}]))
        assert refused.status_code == 403 and slug(refused) == "too-many-bytes"
        assert run.submit(), "a small one still fits"
    finally:
        world.policy()


def test_a_task_of_ten_thousand_inputs_passes_where_the_policy_allows_as_many(world: World) -> None:
    run = world.new_run()
    inputs = [{"url": f"workspace://{run.id}/in/{i}.txt", "path": f"/gdi/work/in/{i}.txt"} for i in range(10_000)]
    try:
        world.policy(max_inputs=9_999)
        assert slug(run.call("POST", TASKS, json=run.task(inputs=inputs))) == "too-many-files"
        world.policy(max_inputs=10_000)
        began = time.perf_counter()
        task = run.submit(inputs=inputs)
        made = time.perf_counter() - began
        known = run.get(task)["inputs"]
        print(f"10,000 inputs: created in {made:.2f} s, read in {time.perf_counter() - began - made:.2f} s")
    finally:
        world.policy()
    assert [one["url"] for one in known] == [one["url"] for one in inputs]
    assert len({one["url"] for one in world.tes.tasks[task]["inputs"]}) == 10_000


def test_a_task_of_ten_thousand_files_of_the_archive_may_read_each_of_them_and_no_other(world: World) -> None:
    run, body = world.new_run(datasets=("DS-B",)), c4gh(10)
    names = [f"many/{number:05}.vcf.gz.c4gh" for number in range(10_001)]
    files = {("DS-B", name): body for name in names}
    world.sda.files.update(files)
    world.sda.sizes.update(dict.fromkeys(files, 10))
    inputs = [{"url": f"sda://DS-B/{name}", "path": f"/gdi/work/{name}"} for name in names[:-1]]
    try:
        world.policy(max_inputs=10_000)
        task = run.submit(inputs=inputs)
        assert [one["url"] for one in run.get(task)["inputs"]] == [one["url"] for one in inputs]
        capability = world.tes.capability(task)
        for name in (names[0], names[5_000], names[-2]):
            assert world.read(f"/s3-encrypted/DS-B/{name}", capability).content == body
        assert world.read(f"/s3-encrypted/DS-B/{names[-1]}", capability).status_code == 403
    finally:
        world.policy()
        for key in files:
            del world.sda.files[key], world.sda.sizes[key]


def test_a_run_whose_tasks_fill_more_than_a_page_is_listed_and_closed(world: World) -> None:
    run = world.new_run()
    large = [{"image": "gdi-task:1", "command": ["true", *["x" * 250_000] * 4]}]
    tasks = [run.submit(executors=large) for _ in range(10)]
    whole = json.dumps([world.tes.tasks[t] for t in tasks])
    assert len(whole) > PAGE, "one page cannot have them all"
    seen: list[str] = []
    token = ""
    while True:
        answer = run.call("GET", TASKS, params={"view": "FULL", "page_size": 1000, "page_token": token})
        assert answer.status_code == 200, answer.text[:300]
        seen += [t["id"] for t in answer.json()["tasks"]]
        if not (token := answer.json().get("next_page_token", "")):
            break
    assert sorted(seen) == sorted(tasks)
    closed = run.call("POST", f"/runs/{run.id}/close", json={"attempt": 1}, scope="close")
    assert closed.status_code == 200 and closed.json()["cancelled"] == 10, closed.text
    assert {world.tes.tasks[t]["state"] for t in tasks} == {"CANCELED"}


def test_a_run_is_closed_by_the_gateways_own_records_where_the_tes_lists_nothing(world: World) -> None:
    run = world.new_run()
    tasks = [run.submit() for _ in range(3)]
    world.tes.unlisted = True
    try:
        answer = run.call("POST", f"/runs/{run.id}/close", json={"attempt": 1}, scope="close")
    finally:
        world.tes.unlisted = False
    assert answer.status_code == 200 and answer.json()["cancelled"] == 3
    assert {world.tes.tasks[t]["state"] for t in tasks} == {"CANCELED"}


def test_refusals_are_counted_after_the_tenth_of_a_kind(world: World) -> None:
    run = world.new_run()
    bad = run.task(executors=[{"image": "evil:1", "command": ["x"]}])
    before = world.log.stat().st_size
    for _ in range(105):
        assert slug(run.call("POST", TASKS, json=bad)) == "forbidden-image"
    entries = [e for e in world.audit(run.id) if not e["allowed"]]
    assert [e["action"] for e in entries] == ["request"] * 10 + ["refusals-counted"]
    assert "100 in all" in entries[-1]["what"]
    assert world.log.stat().st_size - before < 30_000
    assert slug(run.call("POST", TASKS, json=run.task(outputs=[{"url": "s3://x/y", "path": "/gdi/work/x"}])))
    assert world.refusals(run.id)[-1].startswith("forbidden-location"), "another kind is written"


def test_anonymous_requests_fill_neither_audit_nor_log(world: World) -> None:
    before, entries = world.log.stat().st_size, len(world.audit())
    began = time.monotonic()
    with httpx.Client(base_url=world.url, trust_env=False, timeout=60) as stranger:
        for _ in range(800):
            assert stranger.get(TASKS).status_code == 401
    most = 200 + 5 * (time.monotonic() - began) + 10  # the burst, and five a second
    assert len(world.audit()) - entries <= most < 800
    assert world.log.stat().st_size - before <= most * 400


def test_an_anonymous_readyz_asks_nobody_and_metrics_are_not_public(world: World) -> None:
    looks = len(world.tes.infos)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx.get(world.url + "/readyz", trust_env=False), range(60)))
    assert {a.status_code for a in answers} == {200} and {a.text for a in answers} == {'{"status":"ok"}'}
    assert len(world.tes.infos) - looks < 20, "the gateway looks by itself, each five seconds"
    looks = len(world.tes.infos)
    world.ready()
    assert len(world.tes.infos) > looks, "an operator's question is asked on"
    assert httpx.get(world.url + "/metrics", trust_env=False).status_code == 404


def test_the_nodes_own_agent_alone_learns_which_part_is_away(world: World) -> None:
    async def told(key: SigningKey) -> dict[str, str]:
        gateway = OwnGateway(world.url, key, NODE, world.url)
        try:
            return await gateway.health()
        finally:
            await gateway.aclose()

    seen = asyncio.run(told(world.gateway_key))
    assert {"gateway", "tes", "archive", "storage", "database", "policy"} <= set(seen)
    assert (seen["gateway"], seen["tes"], seen["database"]) == ("ok", "ok", "ok")
    assert asyncio.run(told(SigningKey.generate())) == {"gateway": "ok"}
    assert world.new_run().call("GET", "/health").status_code == 401
    world.policy(floor="none")
    try:
        wait(lambda: asyncio.run(told(world.gateway_key))["policy"] == "not as it should be", what="a word without why")
    finally:
        world.policy()


def test_a_typo_in_the_policy_keeps_the_last_good_one_and_the_gateway_ready(world: World) -> None:
    run = world.new_run()
    try:
        world.policy(flor=3)
        run.submit()
        assert httpx.get(world.url + "/readyz", trust_env=False).status_code == 200
        assert "flor" in world.ready()["policy"]
        with world.inside() as client:
            assert "gdi_gateway_policy_problem 1.0" in client.get("/metrics").text
        assert "flor" in world.log.read_text()
    finally:
        world.policy()
    assert world.ready()["policy"] == "ok"
    with world.inside() as client:
        assert "gdi_gateway_policy_problem 0.0" in client.get("/metrics").text
