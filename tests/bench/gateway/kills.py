"""SIGKILL of the gateway at random instants while tasks are made and releases asked for."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter

import httpx

from gdi.contracts.tes import FINAL
from tests.bench.figures import figure
from tests.bench.gateway.rig import world_of
from tests.support import gateway_releases as releases
from tests.support.gateway_world import Run, World

KILLS = int(os.environ.get("GDI_BENCH_KILLS", "100"))
PATIENCE = 60  # seconds until a request must have had an answer


def until_answered(world: World, run: Run, method: str, path: str, scope: str, body: object) -> httpx.Response:
    """As a client of a gateway that may be away does: the same again."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            answer = run.call(method, path, scope=scope, json=body)
            if answer.status_code < 500:
                return answer
        except httpx.HTTPError:
            pass
        assert time.monotonic() < end, f"{method} {path} had no answer in {PATIENCE} s"
        time.sleep(0.05)


class Load:
    """Four clients: three make tasks, each a job of its own; one asks for releases, each of a run of its own."""

    def __init__(self, world: World) -> None:
        self.world, self.over = world, threading.Event()
        self.run = world.new_run()
        self.tasks: dict[str, str] = {}  # job → the task's id that its client heard
        self.released: dict[str, Run] = {}
        self.faults: list[str] = []
        self.threads = [threading.Thread(target=self.guarded, args=(self.create,)) for _ in range(3)]
        self.threads.append(threading.Thread(target=self.guarded, args=(self.release,)))

    def guarded(self, work: object) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            try:
                work(number)  # type: ignore[operator]
            except Exception as error:
                self.faults.append(repr(error)[:300])

    def create(self, number: int) -> None:
        body = self.run.task()
        answer = until_answered(self.world, self.run, "POST", "/ga4gh/tes/v1/tasks", "tasks workspace", body)
        answer.raise_for_status()
        self.tasks[body["tags"]["gdi-job"]] = answer.json()["id"]

    def release(self, number: int) -> None:
        run = self.world.new_run(datasets=(f"RV-{number}",))
        rows = [releases.row(1000 + n) for n in range(20)]
        self.world.s3.put(f"{run.id}/release.json", releases.table(rows))
        self.released[run.id] = run
        path, scope = f"/releases/{run.id}", "releases close"
        answer = until_answered(self.world, run, "POST", path, scope, releases.request(run))
        assert answer.status_code == 200, answer.text

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def kills() -> bool:
    chance = random.Random(int(os.environ.get("GDI_BENCH_SEED", "19")))
    with world_of() as world:
        with Load(world) as load:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0, 0.8))
                world.kill()
                world.start()
        load.run.call("GET", "/ga4gh/tes/v1/tasks").raise_for_status()  # what was cut off is looked for
        live = Counter(t["tags"]["gdi-job"] for t in world.tes.tasks.values() if t["state"] not in FINAL)
        lost = [job for job, task in load.tasks.items() if world.tes.tasks[task]["state"] in FINAL]
        doubled = [job for job, count in live.items() if count > 1]
        half = [run for run in load.released.values() if not whole(run)]
        world.stop()
        chain = world.command("audit", "verify")
        print(*dict.fromkeys(load.faults), sep="\n", end="\n" if load.faults else "")
    text = f"{KILLS} SIGKILLs, {len(load.tasks):,} tasks, {len(load.released)} releases: tasks lost {len(lost)},"
    text += f" doubled {len(doubled)}, releases half published {len(half)}, chain broken {int(bool(chain.returncode))}"
    nothing = not (lost or doubled or half or chain.returncode or load.faults)
    return figure(f"{text}, clients that failed {len(load.faults)} (0, 0, 0, 0, 0)", nothing)


def whole(run: Run) -> bool:
    """Whether asking again gives one release, whose published bytes are those that were signed."""
    asked = run.call("POST", f"/releases/{run.id}", scope="releases close", json=releases.request(run))
    fetched = releases.fetch(run)
    good = asked.status_code == fetched.status_code == 200
    return good and hashlib.sha256(fetched.content).hexdigest() == asked.json()["sha256"]
