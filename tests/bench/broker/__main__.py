"""`python -m tests.bench.broker [PART …]`: rounds, kills, instant, speed, before, beacons, grants. One line a figure,
beside its target; exit code 1 where one is short of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import psutil

from gdi.contracts import broker_api as m
from gdi.local_federation.openbao import OpenBao, running
from tests.bench.broker.beacons import beacons
from tests.bench.broker.grants import grants
from tests.bench.figures import exit_code, figure
from tests.support.broker_kit import PORTS, SNAKEMAKE, wait_for
from tests.support.postgres_kit import PostgresWorld, running_postgres
from tests.support.refresh_kills import end_access_token, killed_between_answer_and_write, refreshes

ROUNDS = int(os.environ.get("GDI_BENCH_ROUNDS", "1000"))
KILLS = int(os.environ.get("GDI_BENCH_KILLS", "200"))
BEFORE = os.environ.get("GDI_BENCH_BEFORE", "HEAD~1")
CALLERS, REPLICAS, CLIENTS = 100, 3, 16
ACCESS, FRESH = 6, 4.5  # seconds that access tokens live; that are asked for
ROOT = Path(__file__).parents[3]
Call = tuple[str, str, Callable[[], dict[str, str]], Any]  # method, URL, headers for one request, body


class Crowd(PostgresWorld):
    """Three replicas on one PostgreSQL; the last of them may run another commit's files."""

    older: Path | None = None

    def more_ports(self) -> None:
        self.ports.append(PORTS.take())
        self.operations.append(PORTS.take())

    def environment(self, replica: int = 0) -> dict[str, str]:
        found = super().environment(replica)
        return {**found, "PYTHONPATH": str(self.older)} if self.older and replica == REPLICAS - 1 else found

    def question(self, run: m.Run, replica: int, min_ttl: float = 5) -> Call:
        """A gateway's for a user's token."""
        url = f"{self.url(replica)}/v1/runs/{run.id}/node-tokens"
        proof = lambda: {"Authorization": f"Bearer {self.assertion('node-a')}"}  # noqa: E731
        return "POST", url, proof, {"audience": "sda", "min_ttl": min_ttl}


@contextmanager
def crowd(
    replicas: int = REPLICAS,
    access: int = 600,
    older: Path | None = None,
    refresh: int = 3600,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Crowd]:
    with tempfile.TemporaryDirectory(prefix="gdi-b-") as folder, running_postgres() as postgres:
        bao = OpenBao(Path(folder) / "bao", PORTS.take(), PORTS.take())
        with running(bao):
            found = {"LEASE_SECONDS": "5", "PROVIDER_TIMEOUT": "2"} if access < 600 else {}
            place, env = Path(folder) / "world", {**found, **more}
            world = Crowd(place, bao, postgres, replicas=replicas, access=access, refresh=refresh, broker_env=env)
            try:
                world.more_ports()
                world.older = older
                for replica in range(replicas):
                    world.start_broker(replica)
                yield world
            finally:
                world.stop()


async def one(session: aiohttp.ClientSession, call: Call) -> int:
    method, url, headers, body = call
    async with session.request(method, url, headers=headers(), json=body) as answer:
        await answer.read()
        return answer.status


async def together(calls: list[Call]) -> list[int]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return list(await asyncio.gather(*(one(session, call) for call in calls)))


async def rate(call: Call, seconds: float = 4.0) -> tuple[float, list[float]]:
    """Answers a second that CLIENTS get who ask again and again, and how long each waited (seconds)."""
    took: list[float] = []
    async with aiohttp.ClientSession() as session:
        for _ in range(CLIENTS):
            assert await one(session, call) == 200
        began = time.perf_counter()

        async def client() -> None:
            while (now := time.perf_counter()) < began + seconds:
                assert await one(session, call) == 200
                took.append(time.perf_counter() - now)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return len(took) / (time.perf_counter() - began), took


def rounds() -> bool:
    """In each round the access token is too old for everybody, at once, at all replicas."""
    with crowd(access=ACCESS) as world:
        alice = world.user()
        grant, run = world.started(alice)
        before, failed = refreshes(world), 0
        for _ in range(ROUNDS):
            time.sleep(ACCESS - FRESH + 0.2)
            calls = [world.question(run, n % REPLICAS, FRESH) for n in range(CALLERS)]
            failed += sum(status != 200 for status in asyncio.run(together(calls)))
        stats, redeemed = world.stats(), refreshes(world) - before
        found = world.user().get_grant(grant.id)
    text = f"{ROUNDS} rounds of {CALLERS} callers at {REPLICAS} replicas, strict rotation: {redeemed} redemptions of"
    text += f" {found.refreshes} refresh tokens, families revoked {stats.get('reuse_detected', 0)}, failed {failed}"
    good = redeemed == found.refreshes >= ROUNDS and not stats.get("reuse_detected", 0) and not failed
    return figure(f"{text} (each once, 0, 0)", good)


def kills() -> bool:
    """SIGKILL of one replica after the other while tokens are renewed."""
    chance = random.Random(int(os.environ.get("GDI_BENCH_SEED", "19")))
    with crowd(access=ACCESS) as world:
        alice, over = world.user(), threading.Event()
        pairs = [world.started(alice) for _ in range(4)]

        def gateway(run: m.Run) -> None:
            while not over.is_set():
                try:
                    asyncio.run(together([world.question(run, n, FRESH) for n in range(REPLICAS)]))
                except aiohttp.ClientError:
                    time.sleep(0.05)

        gateways = [threading.Thread(target=gateway, args=(run,)) for _, run in pairs]
        for thread in gateways:
            thread.start()
        for number in range(KILLS):
            time.sleep(chance.uniform(0, 2.0))
            replica = number % REPLICAS
            world.brokers[replica].kill()
            world.brokers[replica].start(world.url(replica) + "/readyz")
        over.set()
        for thread in gateways:
            thread.join()
        for _, run in pairs:
            wait_for("it serves", lambda run=run: asyncio.run(together([world.question(run, 0)])) == [200])
        user = world.user()
        lost = sum(user.get_grant(grant.id).state != "active" for grant, _ in pairs)
        stats, redeemed = world.stats(), refreshes(world)
    text = f"{KILLS} SIGKILLs of brokers, {redeemed} refreshes: grants lost {lost}, families revoked"
    return figure(f"{text} {stats.get('reuse_detected', 0)} (0, 0)", not lost and not stats.get("reuse_detected", 0))


def instant() -> bool:
    """The one instant between the provider's answer and our write, when the last access token has ended, too."""
    with crowd(1, access=ACCESS) as world:
        grant, run = world.started(world.user())
        time.sleep(ACCESS - FRESH + 0.2)
        killed_between_answer_and_write(world, lambda: world.node_token("node-a", run.id, min_ttl=FRESH))
        end_access_token(world, grant.id)
        world.brokers[0].start(world.url() + "/readyz")
        answer = wait_for("it is said", lambda: (a := world.node_token("node-a", run.id)).status_code == 403 and a)
        said, revoked = answer.json(), world.stats().get("reuse_detected", 0)
    good = said.get("state") == "dead" and "consent again" in said.get("action", "") and not revoked
    return figure(f"killed between the provider's answer and our write: said once, {said.get('action')!r}", good)


def speed() -> bool:
    """`POST …/tokens` beside the same server's /livez, in turns."""
    with crowd(1) as world:
        _, run = world.started(world.user())
        world.workload(run, "pod-1")
        identity = world.identity(SNAKEMAKE, "pod-1", "uid-1")
        body = m.TokenRequest(audience=world.audience(run), min_ttl=65).model_dump()
        url = f"{world.url()}/v1/runs/{run.id}/tokens"
        tokens: Call = ("POST", url, lambda: {"Authorization": f"Bearer {identity}"}, body)
        alive: Call = ("GET", f"{world.url()}/livez", dict, None)
        asyncio.run(rate(tokens, 1))
        turns = [(asyncio.run(rate(tokens)), asyncio.run(rate(alive))) for _ in range(3)]
    share = statistics.median(mine[0] / floor[0] for mine, floor in turns)
    p99 = statistics.quantiles([t for mine, _ in turns for t in mine[1]], n=100)[98] * 1000
    mine, floor = (statistics.median(t[n][0] for t in turns) for n in (0, 1))
    text = f"POST …/tokens from memory, {CLIENTS} clients: {mine:.0f}/s, /livez {floor:.0f}/s: {share:.2f} of it (0.5)"
    return figure(f"{text}, p99 {p99:.0f} ms", share >= 0.5)


def before() -> bool:
    """CPU for a node token at hand, beside the files of the commit before."""
    with tempfile.TemporaryDirectory(prefix="gdi-o-") as folder:
        older = Path(folder) / "older"
        subprocess.run(["git", "worktree", "add", "--detach", older, BEFORE], cwd=ROOT, check=True, capture_output=True)
        try:
            with crowd(older=older) as world:
                _, run = world.started(world.user())
                costs: dict[int, list[float]] = {0: [], REPLICAS - 1: []}
                for _ in range(6):
                    for replica, found in costs.items():
                        popen = world.brokers[replica].popen
                        assert popen is not None
                        process = psutil.Process(popen.pid)
                        asyncio.run(rate(world.question(run, replica), 0.5))
                        used = -sum(process.cpu_times()[:2])
                        _, took = asyncio.run(rate(world.question(run, replica), 2))
                        found.append((used + sum(process.cpu_times()[:2])) / (len(took) + CLIENTS) * 1000)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", older], cwd=ROOT, check=True, capture_output=True)
    mine, theirs = (min(found) for found in costs.values())
    text = f"node token at hand: {mine:.2f} ms of CPU, {theirs:.2f} ms at {BEFORE}"
    return figure(f"{text} (not above; 3 % is noise)", mine <= 1.03 * theirs)


PARTS: dict[str, Callable[[], bool]] = {
    "rounds": rounds,
    "kills": kills,
    "instant": instant,
    "speed": speed,
    "before": before,
    "beacons": beacons,
    "grants": partial(grants, crowd),
}

if __name__ == "__main__":
    sys.exit(exit_code(PARTS, sys.argv[1:]))
