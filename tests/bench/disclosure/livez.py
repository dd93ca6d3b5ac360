"""How long `/livez` of a gateway takes while a command word arrives that once held it for 36 s, and while
refusals do.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np

from tests.bench.disclosure.figure import Figure, at_most
from tests.support.gateway_world import Run, World

SECONDS = 10.0


def _word(run: Run) -> None:
    run.call("POST", "/ga4gh/tes/v1/tasks", json={"executors": [{"image": "gdi-task:1", "command": ["eyJ" * 8192]}]})


def _refusals(run: Run) -> None:
    for _ in range(100):
        run.call("GET", "/workspace/r-" + "0" * 20)


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            for name, attack in {"command-word": _word, "refusals": _refusals}.items():
                yield at_most(f"livez-p99-{name}", 1000 * _p99(world, attack), "ms", 250)
        finally:
            world.close()


def _p99(world: World, attack: Callable[[Run], None]) -> float:
    until, taken, over = time.monotonic() + SECONDS, [], threading.Event()
    run = world.new_run()

    def hammer() -> None:
        while not over.is_set():
            attack(run)

    thread = threading.Thread(target=hammer, daemon=True)
    thread.start()
    with httpx.Client(trust_env=False, timeout=60) as client:
        while time.monotonic() < until:
            before = time.monotonic()
            client.get(world.url + "/livez")
            taken.append(time.monotonic() - before)
            time.sleep(0.02)
    over.set()
    thread.join(60)
    return float(np.quantile(taken, 0.99))
