"""Rows of real processes: 24 nodes, each a gateway and an agent, of which one is killed, one refuses, one is slow and
one comes back; a stop on its way; memory when idle. Snakemake is simulated by a pod that has its gateway make one task.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gdi.contracts import broker_api as m
from gdi.contracts import orders as o
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.kit.jose import SigningKey
from gdi.releases import signature
from gdi.releases.allele_counts.table import FORMAT
from gdi.releases.registry import kind_of
from gdi.result_store.folder import FolderStore
from gdi.result_store.model import release_key
from tests.bench.federation.gateways import SharedNodes, node_of, shared_nodes
from tests.support.agent_process import NodeStandIn, agent_of, gateway_of
from tests.support.broker_kit import USERS, Process
from tests.support.gateway_world import World as GatewayWorld
from tests.support.node_agent import PACK, PACK_DIGEST, AgentWorld
from tests.support.waiting import wait_for

NODES = 24
KILLED, REFUSING, SLOW, BACK = "n-5", "n-11", "n-17", "n-20"  # BACK is killed, too, and starts again
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
    """What a node's task counts: numbers of its own at common sites."""
    number = int(name[2:])
    sites = []
    for site in range(SITES):
        hom_ref, het, hom_alt = 100 + number, 40 + (site * 7 + number * 13) % 50, 20 + site % 9
        row = {"chrom": "2", "pos": 1000 + site, "ref": "A", "alt": "G", "hom_ref": hom_ref, "het": het}
        row |= {"hom_alt": hom_alt, "ac": het + 2 * hom_alt, "an": 2 * (hom_ref + het + hom_alt)}
        sites.append(row | dict.fromkeys(("hemi_ref", "hemi_alt", "half_missing", "missing"), 0))
    return json.dumps({"format": FORMAT, "sites": sites}).encode()


@dataclass
class NodeProcesses:
    """A node: its launcher in this process, gateway and agent each in one of their own."""

    launcher: NodeStandIn
    gateway: Process
    agent: Process

    def start(self, url: str) -> None:
        """Nothing is waited for; `url` answers already."""
        for process in (self.gateway, self.agent):
            process.start(url)

    def kill(self) -> None:
        for process in (self.agent, self.gateway):
            process.kill()

    def stop(self) -> None:
        for process in (self.agent, self.gateway):
            process.stop()
        self.launcher.stop()

    def memory(self) -> float:
        """Of both, in MB (PSS)."""
        pids = [process.popen.pid for process in (self.gateway, self.agent) if process.popen is not None]
        return sum(float(psutil.Process(pid).memory_full_info().pss) for pid in pids) / 1e6


def nodes(world: RealNodes, store: Path) -> list[tuple[str, bool]]:
    """The rows' texts, and whether they are good."""
    for name in world.names:
        world.entitle("alice", world.dataset(name))
    datasets = [world.dataset(name) for name in world.names]
    alice = world.user("alice")
    with world.airflow() as airflow:
        airflow.put_workflow(PACK_DIGEST, PACK)
    with ExitStack() as stack:
        shared = stack.enter_context(shared_nodes(counts_of))
        found = started(world, shared, stack)
        grant = world.grant(alice, datasets=datasets)
        parameters = world.parameters(datasets=datasets)
        run = world.admit(world.ticket(alice, grant.id, parameters), digest=PACK_DIGEST, parameters=parameters)
        began = time.monotonic()
        airflow = stack.enter_context(world.airflow())

        def put(name: str, kind: o.OrderKind, **more: Any) -> None:
            values = {"attempt": 1, "deadline": run.opened_at + 3600, "parameters": parameters, **more}
            airflow.put_order(run.id, name, kind, o.OrderRequest(**values))

        def wait(some: list[str], kind: o.OrderKind) -> dict[str, o.OrderStatus]:
            end = time.monotonic() + 600
            while True:
                heard = {name: airflow.order(run.id, name, kind, 1) for name in some}
                if all(s.state in o.ENDED_ORDER for s in heard.values()) or time.monotonic() > end:
                    return heard
                time.sleep(0.5)

        for name in world.names:
            put(name, "analyse")
        for name in (KILLED, BACK):
            launcher = found[name].launcher
            wait_for(f"a pod at {name}", lambda launcher=launcher: launcher.started[run.id, 1], 120)
            found[name].kill()
        found[BACK].launcher.lasts = 1
        found[BACK].start(world.url() + "/livez")
        analysed = wait([name for name in world.names if name != KILLED], "analyse")
        done = [name for name, status in analysed.items() if status.state == "succeeded"]
        for name in done:
            put(name, "release", releases=[RELEASE])
        released = wait(done, "release")
        last = airflow.order(run.id, KILLED, "analyse", 1).state
        took = time.monotonic() - began
        equal, refused = merged(world, run, done, released, store), analysed[REFUSING]
        memory = max(node.memory() for name, node in found.items() if name != KILLED)
        good = equal and len(done) == NODES - 2 and refused.state == "refused" and last not in o.ENDED_ORDER
        twice = [name for name, node in found.items() if node.launcher.started[run.id, 1] > 1]
        first = (
            f"{NODES} gateways and agents, {KILLED} killed ({last}), {REFUSING} refused ({refused.reason}), {SLOW}"
            f" slow, {BACK} killed and back: answers of {len(done)} complete and equal to pooled: {equal}, done twice"
            f" {len(twice)}, tasks {sum(shared.made.values())}; {took:.0f} s; a node's two processes at most"
            f" {memory:.0f} MB"
        )
        put(KILLED, "release", releases=[RELEASE])
        airflow.close_run(run.id, m.CloseRequest(attempt=1, outcome="success", late=[KILLED]))
        found[KILLED].launcher.lasts = 1
        found[KILLED].start(world.url() + "/livez")
        (part,) = wait_for("the late part", lambda: airflow.late_parts().parts, 300, every=1)
        released[KILLED] = part.release
        late = merged(world, run, [*done, KILLED], released, store)
        second = f"the killed node is back after the close: the answer of {len(done) + 1} equal to pooled: {late}"
        return [(first, good and not twice), (second, late)]


def started(world: RealNodes, shared: SharedNodes, stack: ExitStack) -> dict[str, NodeProcesses]:
    found = {}
    for name in world.names:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"gdi-{name}-")))
        key = SigningKey.generate()
        launcher = node_of(folder, name, key, RELEASE.path)
        launcher.lasts = {KILLED: 3600.0, BACK: 3600.0, SLOW: 20.0}.get(name, launcher.lasts)
        more: dict[str, Any] = {"releases": {"kinds": [RELEASE.kind]}}
        more |= {"veto": {"users": [USERS["alice"]]}} if name == REFUSING else {}
        settings = shared.settings(folder, name, key)
        agent = agent_of(world, launcher, world.dataset(name), settings=settings, **more)
        found[name] = NodeProcesses(launcher, gateway_of(agent), agent)
        stack.callback(found[name].stop)
        found[name].start(world.url() + "/livez")
    alice = world.user("alice")
    wait_for("all agents are heard", lambda: sum(n.life == "up" for n in alice.nodes().nodes) >= NODES, 600, every=2)
    return found


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
            pooled[site["pos"]] = (ac + site["ac"], an + site["an"])
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
