"""`make bench-portal`: what the portal's own work costs, between the tests' broker and Airflow in memory, in one
process.

Prints a line for each figure, with its target. How long a start takes against Airflow's own trigger needs a real
Airflow, and is `tests.bench.portal_start`; `ARGS=start` measures that alone.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from gdi.contracts import broker_api as m
from gdi.contracts.ids import make_run_id
from gdi.contracts.run_endings import Standing
from gdi.portal.db.store import runs
from tests.bench import portal_start
from tests.support.portal_world import ALICE, TOKENS, WORKFLOW, PortalWorld, portal_world

RUNS, TASKS, WATCHERS = 10_000, 10_000, 200
ASKED = 60  # times for a p95
WES = "/ga4gh/wes/v1"
EVERY = 5.0  # seconds between two looks of a watcher at a run


def figure(what: str, value: float, unit: str, target: float | None) -> bool:
    good = target is None or value <= target
    wanted = "" if target is None else f"  target {target:g} {unit}{'' if good else '  MISSED'}"
    print(f"{what:<62}{value:>10.1f} {unit}{wanted}", flush=True)
    return good


async def p95(client: httpx.AsyncClient, path: str) -> float:
    """Milliseconds."""
    took = []
    for _ in range(ASKED):
        began = time.perf_counter()
        (await client.get(path)).raise_for_status()
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[int(0.95 * ASKED)]


def row(number: int) -> dict[str, object]:
    name = f"api-{number}"
    return {
        "id": make_run_id(WORKFLOW, name),
        "owner": ALICE,
        "request_hash": "",
        "dag_id": WORKFLOW,
        "dag_run_id": name,
        "workflow": WORKFLOW,
        "title": "Allele frequencies",
        "version": "1.0.0",
        "digest": "sha256:" + "a" * 64,
        "datasets": ["EGAD50000000001", "EGAD50000000002"],
        "parameters": {"regions": 4},
        "tags": {"n": str(number % 7)},
        "started_by": "api",
        "created_at": time.time() - number,
        "ended_at": time.time(),
        "in_airflow": True,
        "standing": "succeeded",
        "sentence": "The answer is there.",
        "next_step": "",
        "fault": "",
        "looked_at": 0.0,
    }


async def pages(world: PortalWorld) -> bool:
    async with world.door.store.write() as c:
        for at in range(0, RUNS, 500):
            await c.execute(runs.insert(), [row(n) for n in range(at, at + 500)])
    good = figure("10,000 runs: first page of the API, p95", await p95(world.alice, "/v1/runs"), "ms", 200)
    good &= figure("10,000 runs: first page of WES, p95", await p95(world.alice, f"{WES}/runs"), "ms", 200)
    path = "/v1/runs?tag=n:3&state=succeeded&page_size=100"
    return good & figure("10,000 runs: filtered by tag and state, p95", await p95(world.alice, path), "ms", 200)


async def tasks(world: PortalWorld) -> bool:
    run = await world.started()
    world.broker.run(await world.dag_run(run))
    world.broker.jobs[run] = [m.Job(node="node-a", job=f"j{n}", rule="count", state="done") for n in range(TASKS)]
    return figure("WES tasks of 10,000: first page, p95", await p95(world.alice, f"{WES}/runs/{run}/tasks"), "ms", 200)


async def starts(world: PortalWorld) -> bool:
    began = time.perf_counter()
    for _ in range(50):
        await world.started()
    return figure("a start: the portal's own part, mean", (time.perf_counter() - began) / 50 * 1000, "ms", None)


async def watching(world: PortalWorld, seconds: float = 20) -> bool:
    """Each watcher has a run of their own, and looks at it and at its jobs."""
    mine = []
    for number in range(WATCHERS):
        TOKENS[f"token-{number}"] = f"user{number}@example.org"
        name = f"api-watched-{number}"
        known = world.broker.run(name, user=f"user{number}@example.org")
        world.airflow.put(name, Standing(standing="running", sentence="4 of 16 jobs are done.", attempt=1))
        mine.append((world.client(f"token-{number}"), known.id))

    async def watch(client: httpx.AsyncClient, run: str, until: float) -> None:
        await asyncio.sleep(int(run[2:], 16) % 100 / 100 * EVERY)
        while time.monotonic() < until:
            for path in (f"/v1/runs/{run}", f"/v1/runs/{run}/jobs?after=7"):
                (await client.get(path)).raise_for_status()
            await asyncio.sleep(EVERY)

    await asyncio.gather(*(watch(client, run, time.monotonic() + EVERY) for client, run in mine))  # warm
    world.broker.calls.clear()
    world.airflow.calls.clear()
    began = time.monotonic()
    await asyncio.gather(*(watch(client, run, began + seconds) for client, run in mine))
    took = time.monotonic() - began
    good = figure("200 people watching runs: requests a second at the broker", len(world.broker.calls) / took, "/s", 50)
    # each question about a run at Airflow's api-server is two of its own to the broker
    standings = sum("/gdi/data/standing" in call for call in world.airflow.calls) / took
    figure("  and those that Airflow's api-server makes for them", 2 * standings, "/s", None)
    return good & figure("  memory of this process, all parts", psutil.Process().memory_info().rss / 1e6, "MB", None)


async def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with portal_world(Path(folder)) as world:
            good = [await part(world) for part in (pages, tasks, starts, watching)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    failed = 0 if sys.argv[1:] == ["start"] else asyncio.run(main())
    sys.exit(failed or not portal_start.main())
