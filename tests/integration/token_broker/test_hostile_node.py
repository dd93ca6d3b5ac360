"""A hostile node, with a key that is enrolled: it claims another's part, replays what it said, lies about what it
releases, and floods. It gets and changes nothing but its own part, and that part is believed only as far as it is
proven.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gdi.contracts import broker_api as m
from gdi.contracts import orders as o
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.local_federation.openbao import OpenBao
from tests.support.node_agent import AgentWorld, nonce_of

pytest_plugins = ["tests.support.broker_fixtures"]
WANTED = [ReleaseRequest(name="counts", path="out/counts.json", kind="allele-counts")]
BODY = b"these are the counts"
SHA256 = hashlib.sha256(BODY).hexdigest()
PART = {"name": "counts", "sha256": SHA256, "url": "http://x", "signature": "s"}


class TwoAgents(AgentWorld):
    """Both nodes have an agent; the hostile one is node-b."""

    def enrolment(self) -> dict[str, Any]:
        document = super().enrolment()
        for node in document["nodes"]:
            node["placement"] = "node"
        return document


@pytest.fixture(scope="module")
def world(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoAgents]:
    folder = tmp_path_factory.mktemp("hostile")
    made = TwoAgents(folder, openbao, broker_env={"RESULT_STORE": str(folder / "store")})
    made.start_broker()
    yield made
    made.stop()


class HostileNode:
    """What node-b's key is used for, in a run that both nodes have a part in, and that node-a works on."""

    def __init__(self, world: TwoAgents) -> None:
        self.world = world
        self.run: m.Run = world.started(world.user("alice"), mode="standing")[1]
        world.order(self.run)
        self.other = world.find(self.run)
        self.others = world.take(self.other)
        with world.airflow() as airflow:
            for kind, more in (("analyse", {}), ("release", {"releases": WANTED})):
                request = world.request(self.run, **more)
                airflow.put_order(self.run.id, "node-b", kind, request)  # type: ignore[arg-type]
        work = {i.status.kind: i for i in world.work(node="node-b").items if i.status.run == self.run.id}
        self.item = work["analyse"]
        self.own = self.take(self.item)
        self.release = self.take(work["release"])

    def take(self, item: o.WorkItem) -> o.OrderStatus:
        return self.world.agent("node-b", lambda c: c.take(item.status, nonce_of(item)))

    def ask(self, method: str, path: str, token: str | None = None, **more: Any) -> tuple[int, str]:
        """(status, the problem's type or conflict)."""
        headers = {"Authorization": f"Bearer {token or self.world.assertion('node-b')}", **more.pop("headers", {})}
        url = self.world.url() + path.replace("{run}", self.run.id)
        answer = httpx.request(method, url, headers=headers, timeout=60, trust_env=False, **more)
        if answer.is_success:
            return answer.status_code, ""
        problem = answer.json()
        return answer.status_code, str(problem.get("conflict") or problem["type"].rpartition(":")[2])

    def report(self, node: str, kind: str = "analyse", **changes: Any) -> tuple[int, str]:
        body = {"attempt": 1, "generation": 1, "state": "succeeded", **changes}
        return self.ask("POST", f"/v1/runs/{{run}}/orders/{node}/{kind}/report", json=body)

    def push(self, node: str, name: str = "counts", sha256: str = SHA256, total: int = len(BODY)) -> tuple[int, str]:
        own = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
        query = {"sha256": sha256, "offset": 0, "total": total}
        headers = {"Content-Digest": f"sha-256=:{own}:"}
        path = f"/v1/runs/{{run}}/releases/{node}/{name}"
        return self.ask("PUT", path, params=query, content=BODY, headers=headers)

    def events(self, source: str, *events: dict[str, Any]) -> tuple[int, str]:
        return self.ask("POST", "/v1/runs/{run}/events", json={"source": source, "events": list(events)})

    def replayed(self) -> tuple[int, str]:
        token = self.world.assertion("node-b")
        assert self.ask("GET", "/v1/nodes/node-b/work", token)[0] == 200
        return self.ask("GET", "/v1/nodes/node-b/work", token)

    def taken_again(self) -> tuple[int, str]:
        body = {"attempt": 1, "nonce": nonce_of(self.item)}
        return self.ask("POST", "/v1/runs/{run}/orders/node-b/analyse/take", json=body)

    def ended_twice(self) -> tuple[int, str]:
        assert self.report("node-b", state="failed")[0] == 200
        return self.report("node-b", state="succeeded")


DONE = {"seq": 1, "time": 1.0, "kind": "node", "state": "success"}
BEAT = {"version": "1", "placement": "node", "time": 1.0}
# name: (what it does, the answer)
ATTEMPTS: dict[str, tuple[Callable[[HostileNode], tuple[int, str]], tuple[int, str]]] = {
    "reads another's orders": (lambda n: n.ask("GET", "/v1/nodes/node-a/work"), (403, "wrong-node")),
    "takes another's order": (
        lambda n: n.ask(
            "POST", "/v1/runs/{run}/orders/node-a/analyse/take", json={"attempt": 1, "nonce": nonce_of(n.other)}
        ),
        (403, "wrong-node"),
    ),
    "ends another's order": (lambda n: n.report("node-a"), (403, "wrong-node")),
    "looks at another's order": (
        lambda n: n.ask("GET", "/v1/runs/{run}/orders/node-a/analyse?attempt=1"),
        (403, "wrong-node"),
    ),
    "puts an order": (lambda n: n.ask("PUT", "/v1/runs/{run}/orders/node-a/close", json={}), (403, "forbidden")),
    "cancels an order": (
        lambda n: n.ask("DELETE", "/v1/runs/{run}/orders/node-a/analyse?attempt=1"),
        (403, "forbidden"),
    ),
    "releases in another's name": (lambda n: n.push("node-a"), (403, "wrong-node")),
    "says how another is": (lambda n: n.ask("PUT", "/v1/nodes/node-a/status", json=BEAT), (403, "wrong-node")),
    "claims another's dataset in its heartbeat": (
        lambda n: n.ask("PUT", "/v1/nodes/node-b/status", json={**BEAT, "datasets": ["EGAD00000000001"]}),
        (422, "invalid-request"),
    ),
    "tells of another's jobs": (lambda n: n.events(f"{n.run.id}-node-a-1-1", DONE), (403, "wrong-source")),
    "tells of orders": (
        lambda n: n.events(f"{n.run.id}-node-b-1-1", {**DONE, "kind": "order", "order": "analyse"}),
        (403, "wrong-source"),
    ),
    "asks for a user's token of another run": (
        lambda n: n.ask("POST", f"/v1/runs/r-{'0' * 20}/node-tokens", json={"audience": "sda"}),
        (404, "run-unknown"),
    ),
    "closes the run": (
        lambda n: n.ask("DELETE", "/v1/runs/{run}", json={"attempt": 1, "outcome": "success"}),
        (403, "forbidden"),
    ),
    "forgets a late part": (
        lambda n: n.ask("DELETE", "/v1/runs/{run}/late-parts/node-a?attempt=1"),
        (403, "forbidden"),
    ),
    "shows an assertion twice": (HostileNode.replayed, (401, "unauthenticated")),
    "takes its order twice": (HostileNode.taken_again, (409, "order-taken")),
    "speaks as a generation that is fenced": (lambda n: n.report("node-b", generation=9), (409, "order-fenced")),
    "says another end": (HostileNode.ended_twice, (409, "order-over")),
    "says that its order is expired": (lambda n: n.report("node-b", state="expired"), (422, "invalid-request")),
    "brings what has another checksum": (lambda n: n.push("node-b", sha256="0" * 64), (422, "wrong-hash")),
    "brings what nobody asked for": (lambda n: n.push("node-b", name="genotypes"), (404, "order-unknown")),
    "brings more than it said": (lambda n: n.push("node-b", total=3), (413, "too-large")),
    "names a thousand releases": (
        lambda n: n.report("node-b", "release", released=[PART] * 1000),
        (422, "invalid-request"),
    ),
    "says a megabyte": (lambda n: n.report("node-b", detail="x" * 2**20), (422, "invalid-request")),
    "tells an event of a megabyte": (
        lambda n: n.events(f"{n.run.id}-node-b-1-1", {**DONE, "message": "x" * 2**20}),
        (422, "invalid-request"),
    ),
}


@pytest.fixture(scope="module")
def node(world: TwoAgents) -> HostileNode:
    return HostileNode(world)


@pytest.mark.parametrize("name", [name for name in ATTEMPTS if name != "says another end"])
def test_a_hostile_node_gets_nothing_where_it(node: HostileNode, name: str) -> None:
    attempt, expected = ATTEMPTS[name]
    assert attempt(node) == expected
    others = node.world.agent("node-a", lambda c: c.order(node.run.id, "node-a", "analyse", 1))
    assert (others.state, others.generation, others.cancelling) == ("taken", 1, ""), "the other's part is as it was"


def test_its_own_end_is_said_once_and_its_release_is_not_there(node: HostileNode) -> None:
    attempt, expected = ATTEMPTS["says another end"]
    assert attempt(node) == expected
    places = (node.world.folder / "store" / "releases").rglob("counts-*")
    assert [p.name for p in places if not p.name.endswith(".part")] == [], "no byte of it passed for a release"
