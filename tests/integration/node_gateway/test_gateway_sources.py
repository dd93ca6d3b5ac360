"""A workflow's files in the workspace: named by their hash, for the run's own tasks, never written by a task nor read
by anyone outside.
"""

from __future__ import annotations

import asyncio
import hashlib
import os

import httpx
import pytest

from tests.support.gateway_world import World, world_fixture  # noqa: F401

DATA = b"print('hello')\n"
SHA = hashlib.sha256(DATA).hexdigest()


def test_a_source_is_stored_once_under_its_hash_and_a_task_may_read_it(world: World) -> None:
    run = world.new_run()
    path = f"/workspace/{run.id}/.gdi/sources/{SHA}"
    assert [run.call("PUT", path, content=DATA).status_code for _ in range(2)] == [204, 204]
    assert world.s3.client.get_object(Bucket="workspace", Key=f"{run.id}/.gdi/sources/{SHA}")["Body"].read() == DATA
    task = run.submit(inputs=[{"url": f"workspace://{run.id}/.gdi/sources/{SHA}", "path": "/gdi/workflow/a.py"}])
    assert world.tes.tasks[task]["inputs"][0]["url"] == f"s3://workspace/{run.id}/.gdi/sources/{SHA}"
    assert [e["action"] for e in world.audit(run.id)].count("source-stored") == 1
    assert run.call("GET", path).status_code == 405 and run.call("GET", f"/workspace/{run.id}").json()["files"] == []


@pytest.mark.parametrize(
    ("sha", "data", "status"),
    [
        (SHA, DATA + b"x", 422),
        (SHA, b"", 422),
        ("0" * 63, DATA, 422),
        (SHA.upper(), DATA, 422),
        ("..", DATA, 405),
        ("x" * 64, DATA, 422),
        ("big", os.urandom(4 * 1024 * 1024 + 1), 413),
        ("huge", b"0" * (9 * 1024 * 1024), 413),
    ],
)
def test_another_content_than_the_name_says_or_too_much_of_it_is_not_stored(
    world: World, sha: str, data: bytes, status: int
) -> None:
    run = world.new_run()
    name = hashlib.sha256(data).hexdigest() if sha in ("big", "huge") else sha
    assert run.call("PUT", f"/workspace/{run.id}/.gdi/sources/{name}", content=data).status_code in (status, 404, 413)
    assert "Contents" not in world.s3.client.list_objects_v2(Bucket="workspace", Prefix=f"{run.id}/")


def test_nobody_writes_another_runs_sources_nor_other_places_that_way(world: World) -> None:
    run, other = world.new_run(), world.new_run()
    answer = run.call("PUT", f"/workspace/{other.id}/.gdi/sources/{SHA}", content=DATA)
    assert answer.status_code == 403 and answer.json()["type"].endswith("other-run")
    assert run.call("PUT", f"/workspace/{run.id}/out/x", content=DATA).status_code == 405
    assert httpx.put(f"{world.url}/workspace/{run.id}/.gdi/sources/{SHA}", content=DATA).status_code == 401


def test_a_task_cannot_write_or_anyone_remove_a_source(world: World) -> None:
    run = world.new_run()
    run.call("PUT", f"/workspace/{run.id}/.gdi/sources/{SHA}", content=DATA)
    refused = run.call(
        "POST",
        "/ga4gh/tes/v1/tasks",
        json=run.task(outputs=[{"url": f"workspace://{run.id}/.gdi/sources/{SHA}", "path": "/gdi/work/x"}]),
    )
    assert refused.status_code == 403 and refused.json()["type"].endswith("forbidden-location")
    assert run.call("DELETE", f"/workspace/{run.id}/.gdi/sources/{SHA}").status_code == 403


async def test_a_run_cannot_fill_the_workspace_with_sources(world: World) -> None:
    """Many at once, each as large as may be: no more than 64 MiB in all."""
    run = world.new_run()
    headers = {"Authorization": f"Bearer {run.token()}"}
    async with httpx.AsyncClient(base_url=world.url, headers=headers, timeout=60, trust_env=False) as http:

        async def put(i: int) -> int:
            data = i.to_bytes(4, "big") * (1024 * 1024)
            return (
                await http.put(f"/workspace/{run.id}/.gdi/sources/{hashlib.sha256(data).hexdigest()}", content=data)
            ).status_code

        statuses = await asyncio.gather(*(put(i) for i in range(18)))
    assert sorted(statuses) == [204] * 16 + [403] * 2
