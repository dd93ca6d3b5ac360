"""A node whose only way out is TCP 443, in a network namespace that proves it: orders, visas' keys, reports, events and
releases need nothing else, and nothing of the node listens for the outside. Needs root.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdi.contracts import orders as o
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.contracts.nodes import PreflightRequest
from gdi.local_federation.openbao import OpenBao
from tests.kubernetes.pki import Authority
from tests.support.agent_process import NodePlace, agent_of
from tests.support.border import BROKER, KEYS, NODE, Border, border
from tests.support.broker_kit import DATASETS, Process
from tests.support.node_agent import PACK, PACK_DIGEST, AgentWorld
from tests.support.waiting import wait_for

pytestmark = pytest.mark.system
pytest_plugins = ["tests.support.broker_fixtures"]
RELEASE = ReleaseRequest(name="allele-counts", path="release/allele_counts.json", kind="allele-counts")
BODY = b"numbers, signed by the node " * 400_000  # 11 MB: more than one chunk


@pytest.fixture(scope="module")
def world(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentWorld]:
    folder = tmp_path_factory.mktemp("outbound")
    made = AgentWorld(folder, openbao, broker_env={"RESULT_STORE": str(folder / "store")})
    made.start_broker()
    with made.airflow() as airflow:
        airflow.put_workflow(PACK_DIGEST, PACK)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def shut() -> Iterator[Border]:
    with border() as made:
        yield made


def doors(world: AgentWorld, shut: Border, folder: Path) -> None:
    """443 of the edge leads to the broker, with TLS; 443 of its second address to the visas' key sets, which the node
    knows by a loopback address. Between namespaces bytes go by unix sockets.
    """
    authority = Authority(folder)
    authority.issue("broker", "broker", addresses=(BROKER,))
    broker, keys = str(folder / "broker.sock"), str(folder / "keys.sock")
    relay = "tests.support.border"
    shut.run(None, relay, broker, world.url().removeprefix("http://"))
    shut.run(None, relay, keys, f"127.0.0.1:{world.aai_port}")
    tls = (str(folder / "broker.crt"), str(folder / "broker.key"))
    shut.run(shut.edge, relay, f"{BROKER}:443", broker, *tls)
    shut.run(shut.edge, relay, f"{KEYS}:443", keys)
    shut.run(shut.node, relay, f"127.0.0.1:{world.aai_port}", f"{KEYS}:443")


@pytest.fixture(scope="module")
def agent(world: AgentWorld, shut: Border, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("node")
    doors(world, shut, folder)
    place = NodePlace(folder, "node-a", 18080)
    made = agent_of(world, place, command=shut.within(shut.node), broker_url=f"https://{BROKER}")
    made.env["SSL_CERT_FILE"] = str(folder / "ca.crt")
    (folder / "release").write_bytes(BODY)
    shut.run(shut.node, "tests.support.agent_process", str(folder), "18080")
    made.start(world.url() + "/livez")
    alice = world.user("alice")
    wait_for("the agent is heard", lambda: next(n for n in alice.nodes().nodes if n.node == "node-a").life == "up", 120)
    yield made
    made.stop()


def test_the_only_place_that_the_node_reaches_is_443_of_the_edge(
    world: AgentWorld, shut: Border, agent: Process
) -> None:
    others = [(BROKER, port) for port in (22, 53, 80, 8080, 8443, world.ports[0], world.aai_port)]
    outside = [("192.0.2.1", 443), ("198.51.100.7", 443), ("127.0.0.1", world.ports[0])]
    assert shut.reached([(BROKER, 443), (KEYS, 443), *others, *outside]) == [(BROKER, 443), (KEYS, 443)]


def test_nothing_of_the_node_listens_for_the_outside(shut: Border, agent: Process) -> None:
    assert shut.listeners() == []
    assert shut.ask(shut.edge, f"import socket; s = socket.socket(); print(s.connect_ex(('{NODE}', 18080)))") != "0\n"


def test_a_run_from_order_to_release_needs_nothing_else(world: AgentWorld, agent: Process) -> None:
    alice = world.user("alice")
    found = alice.preflight(PreflightRequest(workflow="allele-frequency", datasets=[DATASETS["node-a"]]))
    assert [n.admitted for n in found.nodes if n.node == "node-a"] == [True]
    run = world.admit(world.ticket(alice, world.grant(alice).id), digest=PACK_DIGEST)
    with world.airflow() as airflow:

        def done(kind: o.OrderKind, **more: object) -> o.OrderStatus:
            world.order(run, kind, **more)
            ended = lambda: airflow.order(run.id, "node-a", kind, 1).state in o.ENDED_ORDER  # noqa: E731
            wait_for(f"the order {kind} ends", ended, 120)
            return airflow.order(run.id, "node-a", kind, 1)

        analysed = done("analyse")
        assert analysed.state == "succeeded", analysed
        released = done("release", releases=[RELEASE])
        assert released.state == "succeeded", released
    sha256 = hashlib.sha256(BODY).hexdigest()
    assert [one.sha256 for one in released.released] == [sha256]
    file = world.folder / "store" / "releases" / run.id / "node-a" / f"allele-counts-{sha256}"
    assert file.read_bytes() == BODY


def test_a_border_that_was_shut_for_a_moment_loses_no_order(world: AgentWorld, shut: Border, agent: Process) -> None:
    alice = world.user("alice")
    shut.call("-n", shut.edge, "link", "set", "in", "down")
    run = world.admit(world.ticket(alice, world.grant(alice).id), digest=PACK_DIGEST)
    world.order(run)
    time.sleep(2)
    with world.airflow() as airflow:
        assert airflow.order(run.id, "node-a", "analyse", 1).state == "waiting"
        shut.call("-n", shut.edge, "link", "set", "in", "up")
        ended = lambda: airflow.order(run.id, "node-a", "analyse", 1).state == "succeeded"  # noqa: E731
        wait_for("the order ends", ended, 180)
