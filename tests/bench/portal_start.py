"""`make bench-portal ARGS=start`: a start through the portal's API to its answer, against Airflow's own trigger, on a
real Airflow api-server (no scheduler); the broker is the tests' own, in memory. Target: 1.5 times.

The two take turns, so that whatever else the machine does is the same for both; the medians are compared.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import httpx
from fastapi import FastAPI

from gdi.kit.secret_files import write_private
from gdi.portal.app import create_app
from gdi.portal.db.store import PortalDatabase, meta
from gdi.portal.door import open_door
from tests.support.portal_world import ALICE, DATASETS, WORKFLOW, FakeAirflow, FakeBroker, PortalWorld, settings
from tests.support.ui_world import Airflow
from tests.support.wire import bind
from tests.support.wires import GATEWAY

STARTS, WARM = 40, 5
TARGET = 1.5


async def measure(folder: Path, airflow: Airflow) -> float:
    """How many times as long the portal takes."""
    broker = FakeBroker()
    chosen = settings(folder, airflow_url=airflow.url, airflow_user="admin")
    store = PortalDatabase.open(chosen.database_url)
    async with store.engine.begin() as connection:
        await connection.run_sync(meta.create_all)
    transport = httpx.ASGITransport(app=broker.app)
    door = await open_door(
        chosen, store=store, broker=transport, gateways=httpx.ASGITransport(app=bind(FastAPI(), GATEWAY))
    )
    world = PortalWorld(door, broker, FakeAirflow(), create_app(door))
    world.consent(ALICE)
    headers = {"Authorization": airflow.http.headers["authorization"]}
    took: dict[str, list[float]] = {"portal": [], "trigger": []}
    async with httpx.AsyncClient(base_url=airflow.url, headers=headers, timeout=60, trust_env=False) as direct:
        for number in range(WARM + STARTS):
            body = {"dag_run_id": f"bench-{number}", "logical_date": None, "conf": {"datasets": [*DATASETS.values()]}}
            for name, call in (
                ("trigger", lambda body=body: direct.post(f"/api/v2/dags/{WORKFLOW}/dagRuns", json=body)),
                ("portal", lambda: world.alice.post("/v1/runs", json=world.start())),
            ):
                began = time.perf_counter()
                (await call()).raise_for_status()
                if number >= WARM:
                    took[name].append(time.perf_counter() - began)
    await door.close()
    medians = {name: statistics.median(times) * 1000 for name, times in took.items()}
    times = medians["portal"] / medians["trigger"]
    print(f"Airflow's own trigger, median of {STARTS}: {medians['trigger']:.0f} ms")
    print(f"a start through the API, median of {STARTS}: {medians['portal']:.0f} ms, {times:.2f} times", end="")
    print(f"  target {TARGET} times{'' if times <= TARGET else '  MISSED'}", flush=True)
    return times


def main() -> bool:
    """Whether it is within the target."""
    with tempfile.TemporaryDirectory() as folder:
        write_private(Path(folder) / "airflow-password", "pw")
        airflow = Airflow(Path(folder), "http://127.0.0.1:1")
        try:
            return asyncio.run(measure(Path(folder), airflow)) <= TARGET
        finally:
            airflow.close()
