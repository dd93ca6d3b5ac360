"""Rows of real agent processes: 24 nodes of which one is killed and one refuses, a stop on its way, memory when idle.
Snakemake is simulated (a pod that lasts a second), and gateways stand in but for the one whose memory is measured.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from gdi.contracts import orders as o
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.kit.jose import SigningKey
from gdi.releases import signature
from gdi.releases.registry import kind_of
from gdi.result_store.folder import FolderStore
from gdi.result_store.model import release_key
from tests.support.agent_process import NodeStandIn, agent_of
from tests.support.broker_kit import USERS, Process
from tests.support.gateway_world import World as GatewayWorld
from tests.support.node_agent import PACK, PACK_DIGEST, AgentWorld
from tests.support.waiting import wait_for

NODES = 24
KILLED, REFUSING = "n-5", "n-11"
SITES = 200
RELEASE = ReleaseRequest(name="allele-counts", path="release/allele_counts.json", kind="allele-counts")


class RealNodes(AgentWorld):
    """`NODES` nodes with agents besides the two of the world, each with a key and a dataset of its own."""

    names = tuple(f"n-{number}" for number in range(NODES))

    @staticmethod
    def dataset(name: str) -> str:
        return f"EGADN{int(name[2:]):06d}"

    def enrolment(self) -> dict[str, Any]:
        document = super().enrolment()
        first = document["nodes"][0]
        for name in self.names:
            key = self.node_keys.setdefault(name, SigningKey.generate())
            mine = {"id": name, "gateway_url": f"http://127.0.0.1:1/{name}", "datasets": [self.dataset(name)]}
            mine |= {"sda_audience": f"http://sda.{name}", "tes_audience": f"http://tes.{name}"}
            document["nodes"].append({**first, **mine, "public_key": key.jwk()})
        return document


def counts_of(name: str) -> bytes:
    """A node's release: numbers of its own at common sites."""
    number = int(name[2:])
    sites = []
    for site in range(SITES):
        ac, an = 30 + (site * 7 + number * 13) % 50, 400 + 2 * number
        row = {"chrom": "22", "pos": 1000 + site, "ref": "A", "alt": "G", "ac_min": ac, "ac_max": ac}
        sites.append(row | {"an_min": an, "an_max": an, "reason": ""})
    unlisted = {"ac_max": 8, "an_max": 400, "reason": "small"}
    body = {"format": "gdi-allele-counts-released/1", "unlisted": unlisted, "sites": sites, "withheld": {}}
    return json.dumps(body).encode()


def nodes(world: RealNodes, store: Path) -> tuple[str, bool]:
    """The row's text, and whether it is good."""
    for name in world.names:
        world.entitle("alice", world.dataset(name))
    datasets = [world.dataset(name) for name in world.names]
    alice = world.user("alice")
    with world.airflow() as airflow:
        airflow.put_workflow(PACK_DIGEST, PACK)
    with ExitStack() as stack:
        agents = started(world, stack)
        grant = world.grant(alice, datasets=datasets)
        parameters = world.parameters(datasets=datasets)
        run = world.admit(world.ticket(alice, grant.id, parameters), digest=PACK_DIGEST, parameters=parameters)
        began = time.monotonic()
        with world.airflow() as airflow:

            def put(name: str, kind: o.OrderKind, **more: Any) -> None:
                values = {"attempt": 1, "deadline": run.opened_at + 3600, "parameters": parameters, **more}
                airflow.put_order(run.id, name, kind, o.OrderRequest(**values))

            def wait(some: list[str], kind: o.OrderKind) -> dict[str, o.OrderStatus]:
                end = time.monotonic() + 300
                while True:
                    found = {name: airflow.order(run.id, name, kind, 1) for name in some}
                    if all(s.state in o.ENDED_ORDER for s in found.values()) or time.monotonic() > end:
                        return found
                    time.sleep(0.5)

            for name in world.names:
                put(name, "analyse")
            time.sleep(0.5)
            agents[KILLED].kill()
            others = [name for name in world.names if name != KILLED]
            analysed = wait(others, "analyse")
            done = [name for name, status in analysed.items() if status.state == "succeeded"]
            for name in done:
                put(name, "release", releases=[RELEASE])
            released = wait(done, "release")
            last = airflow.order(run.id, KILLED, "analyse", 1).state
        took = time.monotonic() - began
        memory = [
            psutil.Process(a.popen.pid).memory_info().rss / 1e6 for n, a in agents.items() if n != KILLED and a.popen
        ]
        for agent in agents.values():
            agent.stop()
    equal = merged(world, run, done, released, store)
    refused = analysed[REFUSING]
    good = equal and len(done) == NODES - 2 and refused.state == "refused" and last not in o.ENDED_ORDER
    return (
        f"{NODES} agent processes, {KILLED} killed ({last}), {REFUSING} refused ({refused.reason}): answers of"
        f" {len(done)} complete and equal to pooled: {equal}, {took:.0f} s; an agent at most {max(memory):.0f} MB",
        good,
    )


def started(world: RealNodes, stack: ExitStack) -> dict[str, Process]:
    agents = {}
    for name in world.names:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"gdi-{name}-")))
        node = NodeStandIn(folder, name, key=world.node_keys[name], release=counts_of(name))
        stack.callback(node.stop)
        node.lasts = 3600 if name == KILLED else node.lasts
        more = {"veto": {"users": [USERS["alice"]]}} if name == REFUSING else {}
        agents[name] = agent_of(world, node, world.dataset(name), **more)
        agents[name].start(world.url() + "/livez")
        stack.callback(agents[name].stop)
    alice = world.user("alice")
    wait_for("all agents are heard", lambda: sum(n.life == "up" for n in alice.nodes().nodes) >= NODES, 300, every=1)
    return agents


def merged(world: RealNodes, run: Any, done: list[str], released: dict[str, o.OrderStatus], store: Path) -> bool:
    """Whether the answer of those nodes, read from the store and proven, is what their people pooled would give."""
    half, read = kind_of("allele-counts").coordinator(), {}
    for name in done:
        (one,) = released[name].released
        into = io.BytesIO()
        sha256 = FolderStore(store).fetch(release_key(run.id, name, one.name, one.sha256), into, 10**8)
        part = one.model_dump(mode="json") | {"node": name}
        where = {"run": run.id, "digest": run.digest, "workflow": run.workflow, "attempt": run.attempt}
        signature.check_sha256(sha256, part, public_key=world.node_keys[name].jwk(), **where)
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(into.getvalue())
            read[name] = half.read(name, Path(file.name))
    with tempfile.NamedTemporaryFile("r") as table:
        half.write_table(half.merge(read, done), Path(table.name))
        lines = [line.split("\t") for line in Path(table.name).read_text().splitlines()]
    rows = {int(line[1]): (int(line[4]), int(line[5])) for line in lines[1:]}
    pooled: dict[int, tuple[int, int]] = {}
    for name in done:
        for site in json.loads(counts_of(name))["sites"]:
            ac, an = pooled.get(site["pos"], (0, 0))
            pooled[site["pos"]] = (ac + site["ac_min"], an + site["an_min"])
    return rows == pooled and len(rows) == SITES


def cancel(world: AgentWorld, times: int) -> list[float]:
    """Seconds from asking for an order's end to its pod's stop, at a connected agent."""
    alice, took = world.user("alice"), []
    with world.airflow() as airflow, tempfile.TemporaryDirectory(prefix="gdi-c-") as folder:
        airflow.put_workflow(PACK_DIGEST, PACK)
        node = NodeStandIn(Path(folder))
        node.lasts = 3600
        agent = agent_of(world, node)
        agent.start(world.url() + "/livez")
        for _ in range(times):
            run = world.admit(world.ticket(alice, world.grant(alice).id), digest=PACK_DIGEST)
            world.order(run)
            end = time.monotonic() + 120
            while not node.started[run.id, 1]:
                assert time.monotonic() < end, "the order was not started"
                time.sleep(0.05)
            time.sleep(1)
            began = time.monotonic()
            airflow.cancel_order(run.id, "node-a", "analyse", 1, "the user ended it")
            name = next(pod for pod in node.pods if pod.startswith(run.id))
            while name not in node.stopped:
                assert time.monotonic() < began + 60, "the pod was not stopped"
                time.sleep(0.02)
            took.append(node.stopped[name] - began)
        agent.stop()
        node.stop()
    return took


def memory(world: AgentWorld) -> tuple[float, float]:
    """(gateway, agent) in MB, resident, a minute after their start."""
    with tempfile.TemporaryDirectory(prefix="gdi-m-") as folder:
        node = NodeStandIn(Path(folder))
        agent = agent_of(world, node)
        agent.start(world.url() + "/livez")
        (Path(folder) / "gateway").mkdir()
        gateway = GatewayWorld(Path(folder) / "gateway")
        try:
            time.sleep(45)
            assert gateway.process is not None and agent.popen is not None
            sizes = [psutil.Process(pid).memory_full_info().pss / 1e6 for pid in (gateway.process.pid, agent.popen.pid)]
        finally:
            gateway.close()
            agent.stop()
            node.stop()
    return sizes[0], sizes[1]
