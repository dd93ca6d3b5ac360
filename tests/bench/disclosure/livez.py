"""How long `/livez` of a gateway and of a broker takes while each of the attacks runs that once stopped them (issue 15,
part 5): one attack after another, 10 s each, as fast as its clients are answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from gdi.contracts import broker_api as m
from gdi.local_federation.openbao import OpenBao, running
from tests.bench.disclosure.figure import Figure, at_most
from tests.support import broker_kit
from tests.support.broker_planted import event, planted
from tests.support.gateway_world import Run, World

SECONDS, MOST = 10.0, 250.0  # ms
TASKS = "/ga4gh/tes/v1/tasks"
LARGE = [{"image": "gdi-task:1", "command": ["true", *["x" * 250_000] * 4]}]  # nearly 1 MiB, which a task may have
TOO_LARGE = [{"image": "gdi-task:1", "command": ["true", *["x" * 250_000] * 30]}]  # 7.5 MB
MEASURE = """
import json, sys, time, urllib.request
until, taken = time.monotonic() + float(sys.argv[2]), []
while time.monotonic() < until:
    before = time.monotonic()
    urllib.request.urlopen(sys.argv[1] + "/livez", timeout=60).read()
    taken.append(time.monotonic() - before)
    time.sleep(0.02)
print(json.dumps(taken))
"""
Attack = Callable[[], None]


def figures() -> Iterator[Figure]:
    yield from _gateway()
    yield from _broker()


def _gateway() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            world.policy(max_tasks_per_run=1_000_000, max_run_bytes=2**40)
            run = world.new_run()
            for _ in range(10):  # more than one page of the TES
                run.submit(executors=LARGE)
            for name, attack in {"idle": _rest, **_at_gateway(world, run)}.items():
                yield at_most(f"livez-p99-gateway-{name}", _p99(world.url, attack), "ms", MOST)
        finally:
            world.close()


def _at_gateway(world: World, run: Run) -> dict[str, Attack]:
    word = [{"image": "gdi-task:1", "command": ["eyJ" * 8192]}]
    pool, client = ThreadPoolExecutor(40), httpx.Client(trust_env=False, timeout=60)

    def forty() -> None:
        """One client and one token: a stranger's own CPU time is not the gateway's."""
        headers = {"Authorization": f"Bearer {run.token('tasks workspace')}"}
        list(pool.map(lambda _: client.post(world.url + TASKS, json=run.task(), headers=headers), range(40)))

    def close() -> None:
        other = world.new_run()
        for _ in range(3):
            other.submit(executors=LARGE)
        other.call("POST", f"/runs/{other.id}/close", json={"attempt": 1}, scope="close")

    def typo() -> None:
        world.policy(flor=3)
        httpx.get(world.url + "/readyz", trust_env=False, timeout=60)

    return {
        "command-word": lambda: _ignored(run.call("POST", TASKS, json={"executors": word})),
        "tasks-too-large": lambda: _ignored(run.call("POST", TASKS, json=run.task(executors=TOO_LARGE))),
        "large-tasks-listed": lambda: _ignored(run.call("GET", TASKS, params={"view": "FULL", "page_size": 1000})),
        "large-tasks-closed": close,
        "forty-creates-at-once": forty,
        "refusals": lambda: _ignored(run.call("GET", "/workspace/r-" + "0" * 20)),
        "anonymous": lambda: _ignored(run.call("GET", f"/workspace/{run.id}", token="")),
        "readyz": lambda: _ignored(httpx.get(world.url + "/readyz", trust_env=False, timeout=60)),
        "typo-in-the-policy": typo,
    }


def _broker() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        server = OpenBao(Path(folder) / "openbao", broker_kit.PORTS.take(), broker_kit.PORTS.take())
        with running(server):
            world = broker_kit.World(Path(folder) / "world", server)
            world.start_broker()
            try:
                for name, attack in {"idle": _rest, **_at_broker(world)}.items():
                    yield at_most(f"livez-p99-broker-{name}", _p99(world.url(), attack), "ms", MOST)
            finally:
                world.stop()


def _at_broker(world: broker_kit.World) -> dict[str, Attack]:
    user = world.user("alice")
    grant, run = world.started(user)
    planted(world, run.id, 100_000_000)
    used = world.assertion("node-a")
    sequence = iter(range(2, 1_000_000))
    airflow = world.airflow()

    def read() -> None:
        after = 0
        while True:
            query = {"after": after, "limit": 1000}
            page = m.EventPage.model_validate_json(airflow._http.get(f"/v1/runs/{run.id}/events", params=query).content)
            if not page.events:
                return
            after = page.next_after

    def write() -> None:
        batch = m.EventBatch(source="airflow", events=[event(next(sequence), 12_000)])
        airflow._http.post(f"/v1/runs/{run.id}/events", content=batch.model_dump_json())

    def tickets() -> None:
        body = {"workflow": "allele-frequency", "parameters": world.parameters()}
        user._http.post(f"/v1/grants/{grant.id}/tickets", json=body)

    def ask(path: str, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        httpx.get(world.url() + path, headers=headers, trust_env=False, timeout=60)

    return {
        "100-MB-of-events-read": read,
        "events-written": write,
        "tickets": tickets,
        "assertion-served-again": lambda: ask(f"/v1/runs/{run.id}", used),
        "callbacks": lambda: ask("/connect/callback?state=x&code=y"),
        "readyz": lambda: ask("/readyz"),
    }


def _rest() -> None:
    """No attack: what the machine's other work costs."""
    time.sleep(0.05)


def _ignored(_: object) -> None:
    """Answers are not what is measured."""


def _p99(url: str, attack: Attack) -> float:
    """Milliseconds that all but a hundredth of the answers took. They are measured in a process of its own: the
    attack's clients keep this one busy.
    """
    over = threading.Event()

    def hammer() -> None:
        while not over.is_set():
            attack()

    thread = threading.Thread(target=hammer, daemon=True)
    thread.start()
    argv = [sys.executable, "-c", MEASURE, url, str(SECONDS)]
    taken = json.loads(subprocess.run(argv, check=True, capture_output=True, timeout=600).stdout)
    over.set()
    thread.join(60)
    return 1000 * float(np.quantile(taken, 0.99))
