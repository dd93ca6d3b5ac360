"""What the gateway's figures are taken from: the tests' world with a paced archive, or with the stand-in TES, each a
process of its own.
"""

from __future__ import annotations

import base64
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from gdi.local_federation.tes import funnel
from tests.support.funnel_kit import Funnel
from tests.support.gateway_world import KEY, Run, World, wait
from tests.support.processes import die_with_parent, free_port
from tests.support.tes_kit import FakeAai, FakeGateway, private
from tests.support.tes_kit import World as TesWorld
from tests.support.weed import Weed

GIGABIT = 125_000_000  # bytes a second
ROOT = Path(__file__).parents[3]


def spread(times: Sequence[float]) -> str:
    """p50 and p99 of seconds, in milliseconds."""
    cuts = statistics.quantiles(times, n=100)
    return f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


@contextmanager
def process(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-m", *argv], cwd=ROOT, preexec_fn=die_with_parent)
    try:
        yield started
    finally:
        started.kill()
        started.wait(60)


@contextmanager
def world_of(**extra: str) -> Iterator[World]:
    """A gateway whose settings have `extra` beside the tests' own."""
    with tempfile.TemporaryDirectory(prefix="gdi-b-") as folder:
        world = World(Path(folder))
        try:
            world.extra.update({"RUN_CHECK_SECONDS": "5"} | extra)  # the product's own; tests look more often
            world.stop()
            world.policy(max_inputs=10_000, max_tasks_per_run=100_000)
            world.start()
            yield world
        finally:
            world.close()


@contextmanager
def paced_world(files: dict[str, int], rate: float = GIGABIT) -> Iterator[tuple[World, str]]:
    """The world with an archive of these files (bytes of data each), and the archive's URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    sizes = [f"{name}={size}" for name, size in files.items()]
    with (
        process("tests.bench.gateway.paced_archive", str(port), str(rate), *sizes),
        world_of(SDA_URL=url, MAX_STREAMS="16") as world,
    ):
        wait(lambda: answers(url + "/metadata/datasets"), what="the archive's start")
        world.broker.make_token = lambda audience: f"user-{audience}"
        yield world, url


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


def key_header() -> dict[str, str]:
    return {"Client-Public-Key": base64.b64encode(KEY).decode()}


@contextmanager
def stand_in_tes() -> Iterator[tuple[World, str, dict[str, str]]]:
    """The world before the federation's own TES, whose one slot is taken: the TES's URL, and a user's headers there."""
    with tempfile.TemporaryDirectory(prefix="gdi-t-") as name:
        folder, aai = Path(name), FakeAai()
        user = aai.token("alice")
        password = private(folder / "password", "tes-password-of-the-bench")
        config: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": free_port(),
            "slots": 1,
            "state_dir": str(folder / "state"),
            "images": [{"match": "gdi-task:*", "folders": [], "path": "/usr/bin:/bin"}],
            "service_accounts": [{"user": "gateway", "password_file": str(password)}],
            "introspection": {
                "url": aai.issuer + "/introspect",
                "client_id": aai.client_id,
                "client_secret_file": str(private(folder / "client", aai.client_secret)),
                "audience": "tes-audience",
                "cache_seconds": 60,
            },
        }
        (folder / "tes.yaml").write_text(yaml.safe_dump(config))
        url = f"http://127.0.0.1:{config['port']}"
        try:
            with process("gdi.local_federation.tes", "--config", str(folder / "tes.yaml")):
                wait(lambda: answers(url + "/livez"), what="the TES's start")
                with world_of(TES_URL=url, TES_PASSWORD_FILE=str(password)) as world:
                    world.broker.make_token = lambda audience: user
                    headers = {"Authorization": f"Bearer {user}"}
                    blocker = {"executors": [{"image": "gdi-task:1", "command": ["sleep", "3000"]}]}
                    tasks = url + "/ga4gh/tes/v1/tasks"
                    httpx.post(tasks, json=blocker, headers=headers, trust_env=False).raise_for_status()
                    yield world, url, headers
        finally:
            aai.close()


class IdleFunnel(Funnel):
    """Real Funnel as a node runs it, but its tasks wait for ever: they are taken and kept, and run by nobody."""

    def _start(self) -> subprocess.Popen[Any]:
        config = self.home / "funnel.yml"
        config.write_text(config.read_text().replace("Compute: local", "Compute: noop"))
        return super()._start()


@contextmanager
def funnel_tes() -> Iterator[tuple[World, str, dict[str, str]]]:
    """As `stand_in_tes`, before the real Funnel that GDI_FUNNEL names."""
    program = funnel.chosen()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="gdi-f-") as name, tempfile.TemporaryDirectory(prefix="gdi-3-") as s3:
        home, weed = Path(name), Weed(Path(s3))
        around = TesWorld(home, weed, FakeGateway(home, funnel=True), FakeAai())
        tes = IdleFunnel(around, program)
        try:
            user, password = around.aai.token("alice"), private(home / "password", around.service_password)
            with world_of(TES_URL=tes.url, TES_PASSWORD_FILE=str(password)) as world:
                world.broker.make_token = lambda audience: user
                yield world, tes.url, {"Authorization": f"Bearer {user}"}
        finally:
            tes.close()
            around.close()
            weed.close()


def floors() -> dict[str, Callable[[], AbstractContextManager[tuple[World, str, dict[str, str]]]]]:
    """The TESes straight at which the gateway is measured; the last is what the figures are judged by."""
    return {"the stand-in": stand_in_tes, **({"Funnel": funnel_tes} if funnel.chosen() else {})}


def started(world: World, *files: str) -> tuple[Run, str]:
    """A run, and the capability of its task that reads these files."""
    run = world.new_run()
    inputs = [{"url": f"sda://DS-A/{name}", "path": f"/gdi/work/{name}"} for name in files]
    return run, world.tes.capability(run.submit(inputs=inputs))


class Used:
    """CPU seconds that processes used within, and the most memory (MB) that they had together."""

    def __init__(self, *pids: int) -> None:
        self._processes = [p for pid in pids for p in (psutil.Process(pid), *psutil.Process(pid).children())]
        self.cpu, self.memory = -self._cpu(), 0.0

    def _cpu(self) -> float:
        return sum(sum(p.cpu_times()[:2]) for p in self._processes)

    def look(self) -> None:
        self.memory = max(self.memory, sum(p.memory_info().rss for p in self._processes) / 1e6)

    def end(self) -> None:
        self.look()
        self.cpu += self._cpu()


@contextmanager
def used(*pids: int) -> Iterator[Used]:
    found, over = Used(*pids), threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            found.look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
        found.end()


def settled(seconds: float = 1.0) -> None:
    """What was begun before does not count for what comes."""
    time.sleep(seconds)
