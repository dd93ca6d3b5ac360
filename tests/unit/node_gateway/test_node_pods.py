"""Run tokens are the node's own to give: to the newest pod that its agent started, while its order goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request

from gdi.contracts.ids import make_pod_name
from gdi.contracts.orders import OrderClaims
from gdi.contracts.run_token import SNAKEMAKE_SCOPE, TYPE
from gdi.contracts.tokens import TokenRequest
from gdi.kit.jose import SigningKey, verify
from gdi.kit.problem import ProblemError
from node_gateway.audit import Audit
from node_gateway.db.store import GatewayDatabase
from node_gateway.node_orders import NodeOrder, NodeOrders
from node_gateway.policy import PolicyFile
from node_gateway.workloads.service import NodePods, PodIssuer

NODE, AUDIENCE, ISSUER = "node-a", "https://gateway.node-a", "https://host.node-a"
SUBJECT, RUN = "system:serviceaccount:gdi:snakemake", "r-" + "0" * 20
KEY, HOST, STRANGER = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()


class World:
    """A node's orders and pods over a database of its own."""

    def __init__(self, folder: Path) -> None:
        self.database = GatewayDatabase.open(f"sqlite+aiosqlite:///{folder / 'gateway.db'}")
        self.orders = NodeOrders(self.database)
        (folder / "jwks.json").write_text(json.dumps({"keys": [HOST.jwk()]}))
        (folder / "policy.yaml").write_text("placement: node\n")
        issuer = PodIssuer(ISSUER, folder / "jwks.json", SUBJECT)
        policy, audit = PolicyFile(folder / "policy.yaml"), Audit(self.database)
        self.pods = NodePods(NODE, AUDIENCE, KEY, issuer, self.orders, policy, None, audit)  # type: ignore[arg-type]

    async def running(self, attempt: int = 1, generation: int = 1, uid: str = "uid-1") -> NodeOrder:
        claims = OrderClaims(
            jti=f"{attempt:032x}",
            sub="alice",
            run=RUN,
            attempt=attempt,
            node=NODE,
            kind="analyse",
            workflow="counts",
            digest="sha256:" + "0" * 64,
            datasets=["EGAD1"],
            deadline=time.time() + 3600,
        )
        await self.orders.add(claims, 1)
        order = await self.orders.get(RUN, "analyse", attempt)
        assert order is not None
        pod = make_pod_name(RUN, NODE, attempt, generation)
        return await self.orders.change(
            order, state="running", pod=pod, pod_uid=uid, pod_generation=generation, access_ends_at=time.time() + 1000
        )

    async def token(self, pod: str, uid: str = "uid-1", key: SigningKey = HOST, **changes: Any) -> str:
        bound = {"pod": {"name": pod, "uid": uid}}
        claims = {"iss": ISSUER, "aud": "token-broker", "sub": SUBJECT, "kubernetes.io": bound, **changes}
        identity = key.sign(claims, lifetime=60)
        http = Request({"type": "http", "headers": [(b"authorization", f"Bearer {identity}".encode())]})
        return (await self.pods.token(http, RUN, TokenRequest(audience=AUDIENCE))).token


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    made = World(tmp_path)
    await made.database.create()
    yield made
    await made.database.close()


async def refused(call: Any) -> str:
    with pytest.raises(ProblemError) as caught:
        await call
    return caught.value.slug


async def test_the_newest_pod_gets_the_nodes_own_token(world: World) -> None:
    order = await world.running(generation=3)
    claims = verify(await world.token(str(order.pod)), [KEY.jwk()], issuer=NODE, audience=AUDIENCE, typ=TYPE)
    assert (claims["scope"], claims["generation"], claims["wl"]) == (SNAKEMAKE_SCOPE, 3, order.pod)
    assert claims["exp"] <= order.deadline


async def test_other_pods_get_none(world: World) -> None:
    order = await world.running(generation=2)
    pod = str(order.pod)
    assert await refused(world.token(pod, key=STRANGER)) == "unauthenticated"
    assert await refused(world.token(pod, sub="system:serviceaccount:gdi:airflow")) == "unauthenticated"
    assert await refused(world.token(pod, iss="https://cluster.test")) == "unauthenticated"
    assert await refused(world.token(pod, uid="uid-2")) == "wrong-uid"
    assert await refused(world.token(make_pod_name(RUN, NODE, 1, 1))) == "workload-fenced"
    assert await refused(world.token("r-" + "1" * 20 + "-node-a-1-1")) == "workload-unknown"


async def test_a_pod_of_an_order_that_is_over_or_of_an_earlier_attempt_gets_none(world: World) -> None:
    first = await world.running()
    await world.running(attempt=2)
    assert await refused(world.token(str(first.pod))) == "workload-fenced"
    second = await world.orders.get(RUN, "analyse", 2)
    assert second is not None
    await world.orders.change(second, state="cancelled")
    assert await refused(world.token(str(second.pod))) == "run-closed"


async def test_a_token_ends_with_the_access(world: World) -> None:
    order = await world.running()
    await world.orders.change(order, access_ends_at=time.time() + 0.5)
    assert await refused(world.token(str(order.pod))) == "access-ended"


async def test_what_is_over_stays_as_it_is(world: World) -> None:
    order = await world.running()
    ended = await world.orders.change(order, state="succeeded")
    assert (await world.orders.change(ended, state="failed")).state == "succeeded"
    assert (await world.orders.change(ended, reported=True)).reported
    assert await world.orders.unfinished() == []
