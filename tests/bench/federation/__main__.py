"""`python -m tests.bench.federation [PART …]`: kills, waiting, preflight, nodes, cancel, memory, start, launcher. One
line a figure, beside its target; exit code 1 where one is short of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil

from gdi.broker_client.node_agent import NodeAgentClient
from gdi.contracts.nodes import Heartbeat, PreflightReply, PreflightRequest
from gdi.local_federation.openbao import OpenBao, running
from tests.bench.federation import nodes as many
from tests.bench.federation import start as whole
from tests.bench.figures import exit_code, figure
from tests.support.agent_process import NodeStandIn, agent_of
from tests.support.broker_kit import PORTS
from tests.support.node_agent import PACK, PACK_DIGEST, AgentWorld
from tests.support.postgres_kit import PostgresWorld, running_postgres

W = TypeVar("W", bound=AgentWorld)
KILLS = int(os.environ.get("GDI_BENCH_KILLS", "10"))
AGENTS = int(os.environ.get("GDI_BENCH_AGENTS", "1000"))
NODES = 24
ROOT = Path(__file__).parents[3]


class ManyNodes(AgentWorld):
    """node-a and node-b, and `more` nodes with agents, which share node-a's key; each has a dataset."""

    more = NODES - 1

    def enrolment(self) -> dict[str, Any]:
        document = super().enrolment()
        first = document["nodes"][0]
        for number in range(self.more):
            name = f"n-{number}"
            mine = {"id": name, "gateway_url": f"http://127.0.0.1:1/{name}", "datasets": [f"EGADN{number:06d}"]}
            mine |= {"sda_audience": f"http://sda.{name}", "tes_audience": f"http://tes.{name}"}
            document["nodes"].append({**first, **mine})
        self.node_keys |= {f"n-{number}": self.node_keys["node-a"] for number in range(self.more)}
        return document


@contextmanager
def world_of(kind: Callable[..., W], **env: str) -> Iterator[W]:
    with tempfile.TemporaryDirectory(prefix="gdi-b-") as folder:
        bao = OpenBao(Path(folder) / "bao", PORTS.take(), PORTS.take())
        with running(bao):
            world = kind(Path(folder) / "world", bao, broker_env=env)
            world.start_broker()
            try:
                yield world
            finally:
                world.stop()


def kills() -> bool:
    """Orders go on while agent and broker are killed at random instants."""
    chance = random.Random(int(os.environ.get("GDI_BENCH_SEED", "16")))
    with world_of(AgentWorld) as world, tempfile.TemporaryDirectory(prefix="gdi-n-") as folder:
        alice, node = world.user("alice"), NodeStandIn(Path(folder))
        agent = agent_of(world, node)
        agent.start(world.url() + "/livez")
        with world.airflow() as airflow:
            airflow.put_workflow(PACK_DIGEST, PACK)
        runs, killed = [], 0
        while killed < KILLS:
            grant = world.grant(alice)
            run = world.admit(world.ticket(alice, grant.id), digest=PACK_DIGEST)
            world.order(run)
            runs.append(run)
            time.sleep(chance.uniform(0, 2.5))
            if killed % 2:
                world.brokers.pop().kill()
                world.start_broker()
            else:
                agent.kill()
                agent.start(world.url() + "/livez")
            killed += 1
        end = time.monotonic() + 180
        states: dict[str, str] = {}
        with world.airflow() as airflow:
            while time.monotonic() < end:
                states = {run.id: airflow.order(run.id, "node-a", "analyse", 1).state for run in runs}
                if set(states.values()) == {"succeeded"}:
                    break
                time.sleep(1)
        agent.stop()
        node.stop()
        lost = sum(state != "succeeded" for state in states.values())
        log = (Path(folder) / "agent.log").read_text()
        for run_id in [run_id for run_id, state in states.items() if state != "succeeded"]:
            mine = [line for line in log.splitlines() if run_id in line]
            print(f"lost: {run_id} is {states[run_id]}", *mine[-10:], sep="\n  ", flush=True)
        twice = sum(count > 1 for count in node.started.values())
    return figure(
        f"{KILLS} SIGKILLs of agent or broker, {len(runs)} orders: lost {lost}, done twice {twice} (0, 0)",
        not lost + twice,
    )


def waiting() -> bool:
    """Many agents wait at one broker; an order reaches its agent."""

    class Crowd(PostgresWorld, ManyNodes):
        more = AGENTS

    with running_postgres() as postgres, world_of(partial(Crowd, postgres=postgres, replicas=1)) as world:
        alice = world.user("alice")
        broker = psutil.Process(world.brokers[0].popen.pid)  # type: ignore[union-attr]
        grant = world.grant(alice, mode="standing")
        runs = [world.admit(world.ticket(alice, grant.id)) for _ in range(12)]

        async def crowd() -> tuple[float, list[float]]:
            took: list[float] = []
            put: dict[str, float] = {}
            waiting_ones: set[str] = set()

            async def agent(name: str) -> None:
                async with NodeAgentClient(world.url(), lambda: world.assertion(name)) as client:
                    after = 0
                    await client.work(name, after=after, wait=0)
                    waiting_ones.add(name)
                    while True:
                        work = await client.work(name, after=after, wait=25)
                        after = work.next_after
                        took.extend(time.monotonic() - put[i.status.run] for i in work.items if i.status.run in put)

            names = ["node-a", *(f"n-{number}" for number in range(AGENTS - 1))]
            tasks = [asyncio.create_task(agent(name)) for name in names]
            while len(waiting_ones) < len(names):  # a thousand clients' start is this process's own work
                await asyncio.sleep(0.5)
            await asyncio.sleep(30)
            before, began = broker.cpu_times(), time.monotonic()
            for run in runs:
                put[run.id] = time.monotonic()
                await asyncio.to_thread(world.order, run)
                await asyncio.sleep(2.5)
            now = broker.cpu_times()
            spent = (now.user + now.system - before.user - before.system) / (time.monotonic() - began)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return spent, took

        cpu, took = asyncio.run(crowd())
        memory = broker.memory_info().rss / 1e6
    p95 = statistics.quantiles(took, n=20)[-1] if len(took) > 1 else float("inf")
    print(f"order to agent, s: {' '.join(f'{one:.2f}' for one in took)}")
    text = (
        f"{AGENTS} agents wait at a broker on PostgreSQL: {cpu:.2f} cores (0.5), {memory:.0f} MB;"
        f" order to agent p95 {p95:.2f} s (2)"
    )
    return figure(text, cpu <= 0.5 and p95 <= 2 and len(took) == len(runs))


def nodes() -> bool:
    """24 gateways and 24 agents with keys and databases of their own: dead, slow, unwilling, late and back again."""
    with (
        tempfile.TemporaryDirectory(prefix="gdi-s-") as store,
        world_of(many.RealNodes, RESULT_STORE=store) as world,
    ):
        return all([figure(*row) for row in many.nodes(world, Path(store))])


def cancel() -> bool:
    """From asking for an order's end to its pod's stop; the pod then cancels its tasks."""
    with world_of(AgentWorld) as world:
        took = many.cancel(world, int(os.environ.get("GDI_BENCH_STOPS", "20")))
    p95 = statistics.quantiles(took, n=20)[-1]
    return figure(
        f"an order's end asked for to its pod's stop: p95 {p95:.2f} s of {len(took)} (10 with its tasks)", p95 <= 10
    )


def memory() -> bool:
    with world_of(AgentWorld) as world:
        gateway, agent = many.memory(world)
    text = f"an idle node: gateway {gateway:.0f} MB, agent {agent:.0f} MB, both {gateway + agent:.0f} MB (150)"
    return figure(text, gateway + agent <= 150)


def preflight() -> bool:
    """All nodes are asked; one was up a moment ago and is dead."""
    with world_of(ManyNodes) as world:
        names = ["node-a", *(f"n-{number}" for number in range(NODES - 1))]
        datasets = ["EGAD00000000001", *(f"EGADN{number:06d}" for number in range(NODES - 1))]
        for dataset in datasets[1:]:
            world.entitle("alice", dataset)
        with world.airflow() as airflow:
            airflow.put_workflow(PACK_DIGEST, PACK)
        alice = world.user("alice")

        async def nodes() -> list[float]:
            async def agent(name: str, dead: bool) -> None:
                async with NodeAgentClient(world.url(), lambda: world.assertion(name)) as client:
                    await client.beat(name, Heartbeat(version="1", placement="node", time=time.time()))
                    after = 0
                    while not dead:
                        work = await client.work(name, after=after, wait=20)
                        after = work.next_after
                        for question in work.questions:
                            await client.answer(question.id, name, PreflightReply(admitted=True))

            tasks = [asyncio.create_task(agent(name, name == "n-7")) for name in names]
            await asyncio.sleep(5)
            took = []
            for _ in range(5):
                began = time.monotonic()
                request = PreflightRequest(workflow="allele-frequency", datasets=datasets)
                answer = await asyncio.to_thread(alice.preflight, request)
                took.append(time.monotonic() - began)
                silent = [n.node for n in answer.nodes if n.admitted is None]
                assert len(answer.nodes) == NODES and silent == ["n-7"], silent
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return took

        took = asyncio.run(nodes())
    return figure(
        f"preflight over {NODES} nodes, one dead: p95 {max(took):.1f} s (10), the dead one named", max(took) <= 10
    )


def start() -> bool:
    """Trigger to first TES task in both placements beside a bare Snakemake, and a stop to the last task's end."""
    times, stops = (int(os.environ.get(f"GDI_BENCH_{name}", most)) for name, most in (("STARTS", "5"), ("ENDS", "10")))
    with tempfile.TemporaryDirectory(prefix="gdi-b-") as work, whole.both_placements(Path(work) / "f") as driver:
        bare, ours = whole.starts(driver, Path(work), times)
        good = True
        for placement, took in ours.items():
            factor = took / bare
            text = f"placement {placement}: trigger to first TES task {took:.2f} s, a bare snakemake {bare:.2f} s"
            good &= figure(f"{text}: {factor:.2f} times (3), medians of {times}", factor < 3)
        ends = whole.stops(driver, stops)
        figure(f"Airflow's scheduler while nothing runs: {whole.idle_scheduler(driver):.2f} cores")
    p95 = statistics.quantiles(ends, n=20)[-1]
    text = f"a run's stop at the portal to its last TES task's end: p95 {p95:.1f} s of {len(ends)} (10)"
    return figure(f"{text}: {' '.join(f'{one:.1f}' for one in ends)}", p95 <= 10) and good


def launcher() -> bool:
    """What `plugins/` has of launching, for comparison over time."""
    files = subprocess.run(
        ["git", "ls-files", "plugins/gdi_operators"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    words = ("launcher", "pods.py", "kubernetes/", "snakemake")
    mine = [f for f in files.stdout.split() if f.endswith(".py") and any(word in f for word in words)]
    orders = [f for f in files.stdout.split() if "node_order" in f]
    count = {
        key: sum(len((ROOT / f).read_text().splitlines()) for f in some)
        for key, some in (("pods", mine), ("orders", orders))
    }
    return figure(f"lines in plugins/: {count['pods']} for pods, {count['orders']} for orders", True)


PARTS: dict[str, Callable[[], bool]] = {
    "kills": kills,
    "waiting": waiting,
    "preflight": preflight,
    "nodes": nodes,
    "cancel": cancel,
    "memory": memory,
    "start": start,
    "launcher": launcher,
}

if __name__ == "__main__":
    sys.exit(exit_code(PARTS, sys.argv[1:]))
