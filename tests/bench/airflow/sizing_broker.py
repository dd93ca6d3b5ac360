"""One broker replica on PostgreSQL and OpenBao: its CPU time for each kind of call that a federation makes all the
time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil

from gdi.contracts import broker_api as m
from gdi.local_federation.openbao import OpenBao, running
from tests.bench.airflow.report import row
from tests.support.broker_kit import PORTS, SNAKEMAKE
from tests.support.postgres_kit import PostgresWorld, running_postgres

CALLS, CLIENTS = 400, 4
Body = Callable[[int], dict[str, Any] | None]


def measure(work: Path) -> None:
    bao = OpenBao(work / "openbao", PORTS.take(), PORTS.take())
    with running_postgres() as postgres, running(bao):
        world = PostgresWorld(work / "world", bao, postgres, replicas=1)
        try:
            _of(world)
        finally:
            world.stop()


def _of(world: PostgresWorld) -> None:
    broker = world.start_broker()
    assert broker.popen is not None
    process = psutil.Process(broker.popen.pid)
    _, run = world.started(world.user())
    world.workload(run, "pod-1")
    job = {"time": 1.0, "kind": "job", "rule": "one", "state": "done", "wildcards": {"region": "chr1"}}

    def pod() -> str:
        return world.identity(SNAKEMAKE, "pod-1", "uid-1")

    def gateway() -> str:
        return world.assertion("node-a")

    audience = m.TokenRequest(audience=world.audience(run), min_ttl=65).model_dump()

    def events(n: int) -> dict[str, Any]:
        return {
            "source": "pod-1",
            "events": [{**job, "seq": 10 * n + i + 1, "job": f"job-{10 * n + i}"} for i in range(10)],
        }

    calls: dict[str, tuple[str, str, Callable[[], str], Body]] = {
        "run_token": ("POST", "tokens", pod, lambda n: audience),
        "node_token": ("POST", "node-tokens", gateway, lambda n: {"audience": "sda", "min_ttl": 5}),
        "run_by_its_gateway": ("GET", "", gateway, lambda n: None),
        "ten_events": ("POST", "events", pod, events),
        "progress": ("GET", "progress", world.identity, lambda n: None),
    }
    for name, (method, path, who, body) in calls.items():
        _call(world, run.id, method, path, who, body, 20)  # keys, caches and connections are there
        cpu, began = sum(process.cpu_times()[:2]), time.monotonic()
        _call(world, run.id, method, path, who, body, CALLS, begin=10_000)
        used, took = sum(process.cpu_times()[:2]) - cpu, time.monotonic() - began
        row(f"broker_cpu_per_{name}", 1000 * used / CALLS, "ms")
        row(f"broker_{name}_of_one_core", CALLS / used, "1/s")
        row(f"broker_{name}_seen", CALLS / took, "1/s")  # a wall time: of this machine, with whatever else it did
    row("broker_memory", process.memory_full_info().uss / 1e6, "MB")


def _call(
    world: PostgresWorld,
    run: str,
    method: str,
    path: str,
    who: Callable[[], str],
    body: Body,
    count: int,
    *,
    begin: int = 0,
) -> None:
    url = f"/v1/runs/{run}/{path}".rstrip("/")

    def some(first: int) -> None:
        with httpx.Client(
            base_url=world.url(), trust_env=False, timeout=60, limits=httpx.Limits(keepalive_expiry=1)
        ) as http:  # the broker ends idle ones
            for n in range(begin + first, begin + count, CLIENTS):
                http.request(method, url, json=body(n), headers={"Authorization": f"Bearer {who()}"}).raise_for_status()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(some, range(CLIENTS)))
