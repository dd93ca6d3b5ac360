"""An agent that starts Snakemake as pods, over a stand-in of the API server: killed between creation and pin, pods that
ended, vanished or were exchanged, a stop, an image that never comes.
"""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from gdi.contracts.ids import make_pod_name
from gdi.contracts.orders import OrderClaims
from gdi.contracts.packed_workflow import unpacked
from gdi.kit.problem import ProblemError
from gdi.kit.settings import SettingsError
from gdi.pods.config import PodConfig
from gdi.pods.manifest import GATE
from node_gateway.agent import duties as agent_duties
from node_gateway.agent.cluster_api import ClusterAccount, ClusterApi
from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.duties import Duties, EndRequest, OrderEnd
from node_gateway.agent.judge import Judge
from node_gateway.agent.pod_launcher import PodLauncher
from node_gateway.db.store import GatewayDatabase
from node_gateway.node_orders import NodeOrder, NodeOrders
from tests.support.cluster_stand_in import StandIn, container, now
from tests.support.node_agent import PACK, PACK_DIGEST
from tests.support.operators_world import Served

RUN = "r-" + "1" * 20
GATEWAY = "http://node-a-gateway-runs.gdi-node.svc:8080"


def name(generation: int = 1) -> str:
    return make_pod_name(RUN, "node-a", 1, generation)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[StandIn, str]]:
    cluster = StandIn()
    server = Served(cluster.app())
    yield cluster, server.url
    server.stop()


@dataclass
class Broker:
    """What it answers to a question for a workflow's files, in turn; the last one for good."""

    answers: list[bytes | Exception] = field(default_factory=lambda: [PACK])
    requests: int = 0

    async def workflow(self, _: str) -> bytes:
        self.requests += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class World:
    folder: Path
    broker: Broker
    cluster: StandIn
    duties: Duties
    orders: NodeOrders
    launcher: PodLauncher
    wish: EndRequest = field(default_factory=EndRequest)

    async def order(self) -> NodeOrder:
        found = await self.orders.get(RUN, "analyse", 1)
        assert found is not None
        return found

    slow_broker: float = 0  # seconds for which it hears nothing
    looks: int = 0  # how often an analysis said that it is alive

    async def analyse(self) -> OrderEnd:
        async def alive(now: bool = False) -> None:
            self.looks += 1
            await asyncio.sleep(self.slow_broker)

        return await self.duties.analyse(await self.order(), self.wish, alive)

    @property
    def starts(self) -> list[str]:
        """Pods that were let go."""
        return [n for n, pod in self.cluster.pods.items() if not pod["spec"]["schedulingGates"]]


@pytest.fixture
async def world(served: tuple[StandIn, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    cluster, url = served
    cluster.__init__()  # type: ignore[misc]  # as new
    monkeypatch.setattr(agent_duties, "POLL", 0.02)
    monkeypatch.setattr(agent_duties, "PLACE_POLL", 0.02, raising=False)
    unpacked(PACK).write(tmp_path / PACK_DIGEST.replace(":", "-"))
    (tmp_path / PACK_DIGEST.replace(":", "-")).with_suffix(".pack").write_bytes(PACK)
    database = GatewayDatabase.open(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}")
    await database.create()
    orders = NodeOrders(database)
    config = PodConfig(image="gdi-snakemake:1", broker_url=GATEWAY, mark_seconds=0.01, start_timeout=1)
    api = ClusterApi(ClusterAccount(url, None, None), "gdi-runs")
    launcher = PodLauncher(api, config, tmp_path, "node-a", tmp_path / "keys.json")
    nothing = cast(Any, None)
    broker = Broker()
    judge = Judge("node-a", tmp_path, *[nothing] * 7, broker=cast(Any, broker))
    duties = Duties("node-a", "https://node-a.example.org", orders, launcher, nothing, nothing, judge.restore)
    claims = OrderClaims.model_construct(
        run=RUN,
        kind="analyse",
        attempt=1,
        jti="n" * 32,
        sub="alice",
        workflow="allele-frequency",
        digest=PACK_DIGEST,
        datasets=["EGAD00000000001"],
        deadline=time.time() + 3600,
    )
    await orders.add(claims, 1)
    made = World(tmp_path, broker, cluster, duties, orders, launcher)
    await orders.change(await made.order(), state="running", parameters={"regions": 4}, approved=True)
    yield made
    await launcher.aclose()
    await database.close()


async def soon(check: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not check():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def beside(world: World, *steps: Callable[[], Awaitable[None]]) -> OrderEnd:
    """The analysis, while the cluster does `steps`."""
    working = asyncio.create_task(world.analyse())
    for step in steps:
        await step()
    return await asyncio.wait_for(working, 30)


async def killed(world: World, when: Callable[[], object]) -> None:
    """An agent that dies when that is true; its pods go on."""
    working = asyncio.create_task(world.analyse())
    await soon(when)
    working.cancel()
    await asyncio.wait([working])


def step(world: World, action: Callable[[], object], when: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        await soon(when)
        action()

    return run


async def test_a_pod_is_held_until_its_uid_is_pinned_and_has_the_gateway_for_a_broker(world: World) -> None:
    seen: dict[str, Any] = {}
    real = world.launcher.start

    async def start(pod: str) -> Any:
        order = await world.order()
        seen.update(pinned=order.pod_uid, gates=list(world.cluster.pods[pod]["spec"]["schedulingGates"]))
        return await real(pod)

    world.launcher.start = start  # type: ignore[method-assign]
    world.cluster.ends_at_once = True
    assert (await world.analyse()).state == "succeeded"
    pod = world.cluster.pods[name()]
    assert seen == {"pinned": pod["metadata"]["uid"], "gates": [{"name": GATE}]}
    config = world.cluster.maps[name()]
    assert f'"broker_url":"{GATEWAY}"' in config["data"]["run.json"]
    assert f'"gateway_url":"{GATEWAY}"' in config["data"]["run.json"]
    assert '"audience":"https://node-a.example.org"' in config["data"]["run.json"]
    assert config["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


async def test_an_agent_that_dies_between_creation_and_pin_finds_its_pod(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object, **__: object) -> NodeOrder:
        raise RuntimeError("killed")

    with monkeypatch.context() as broken:
        broken.setattr(world.orders, "change", dies)
        with pytest.raises(RuntimeError):
            await world.analyse()
    assert world.cluster.created == [name()] and not world.starts
    world.cluster.ends_at_once = True
    assert (await world.analyse()).state == "succeeded"
    assert world.cluster.created == [name()]


async def test_an_agent_that_dies_before_the_pods_files_are_given_gives_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(world.launcher, "_give_files", None)
        with pytest.raises(TypeError):
            await world.analyse()
    assert not world.cluster.maps
    world.cluster.ends_at_once = True
    assert (await world.analyse()).state == "succeeded"
    assert list(world.cluster.maps) == [name()] and world.cluster.created == [name()]


async def test_a_finished_pod_is_never_started_anew(world: World) -> None:
    await killed(world, lambda: world.starts)
    world.cluster.end(name(), 0)
    assert (await world.analyse()).state == "succeeded"
    assert world.cluster.created == [name()]


async def test_a_pod_that_was_pinned_and_is_gone_is_replaced_under_the_next_name(world: World) -> None:
    await killed(world, lambda: world.starts)
    world.cluster.evict(name())
    world.cluster.ends_at_once = True
    assert (await world.analyse()).state == "succeeded"
    assert world.cluster.created == [name(1), name(2)]


def lose_files(world: World) -> None:
    """As an agent finds its folder in a new pod."""
    shutil.rmtree(place := world.folder / PACK_DIGEST.replace(":", "-"))
    place.with_suffix(".pack").unlink()


def damage_files(world: World) -> None:
    """As an agent leaves them that is killed while it writes."""
    (world.folder / PACK_DIGEST.replace(":", "-") / "Snakefile").unlink()


@pytest.mark.parametrize("harm", [lose_files, damage_files], ids=["none of them", "one of them"])
async def test_a_lost_pod_is_replaced_by_an_agent_whose_folder_has_not_the_workflow(
    world: World, harm: Callable[[World], None]
) -> None:
    await killed(world, lambda: world.starts)
    first = world.cluster.maps[name()]["data"]
    harm(world)
    world.broker.answers.insert(0, httpx.ConnectError("away"))
    world.broker.answers.insert(1, ProblemError(503, "database-away", "not now"))
    world.cluster.evict(name())
    world.cluster.ends_at_once = True
    assert (await world.analyse()).state == "succeeded"
    assert world.cluster.created == [name(1), name(2)] and world.broker.requests == 3  # none for the first
    second = world.cluster.maps[name(2)]["data"]
    assert {k: v for k, v in second.items() if k != "run.json"} == {k: v for k, v in first.items() if k != "run.json"}


async def test_files_of_another_digest_start_no_pod(world: World) -> None:
    lose_files(world)
    world.broker.answers = [PACK + b"z\0001\0z"]
    with pytest.raises(RefusedOrder, match="another digest") as refused:
        await world.analyse()
    assert refused.value.reason == "workflow-files" and not world.cluster.created
    world.broker.answers = [ProblemError(404, "workflow-unknown", "Nobody uploaded it.")]
    with pytest.raises(ProblemError, match="uploaded"):
        await world.analyse()
    assert not world.cluster.created


async def test_orders_of_one_workflow_do_not_write_its_files_under_each_other(world: World) -> None:
    lose_files(world)
    await asyncio.gather(*(world.duties.restore(PACK_DIGEST) for _ in range(5)))
    assert world.broker.requests == 1


async def test_another_pod_of_the_same_name_is_not_ours_and_is_never_stopped(world: World) -> None:
    await killed(world, lambda: world.starts)
    world.cluster.pods[name()]["metadata"]["uid"] = "a-strangers"
    world.cluster.run(name())
    world.cluster.ends_at_once = True
    assert (await world.analyse()).state == "succeeded"
    assert world.cluster.created == [name(1), name(2)] and not world.cluster.deleted
    await world.launcher.stop(name(), "cancel", 1, uid="another")
    assert name() in world.cluster.pods


async def test_a_strangers_pod_under_the_name_of_one_to_come_is_left_alone(world: World) -> None:
    meta = {"name": name(), "uid": "a-strangers", "creationTimestamp": now()}
    spec = {"schedulingGates": [], "containers": [{"name": "theirs"}]}
    world.cluster.pods[name()] = {"metadata": meta, "spec": spec, "status": {"phase": "Running"}}
    world.cluster.ends_at_once = True
    assert (await asyncio.wait_for(world.analyse(), 10)).state == "succeeded"
    assert world.cluster.created == [name(2)] and not world.cluster.deleted
    assert (await world.order()).pod_uid != "a-strangers", "it gets no token of the run"


async def test_no_more_analyses_are_at_work_than_the_operator_lets(world: World) -> None:
    world.cluster.ends_at_once = True
    world.duties.max_runs = 1
    world.duties.at_work.add((RUN, "analyse", 7))
    waiting = asyncio.create_task(world.analyse())
    await soon(lambda: world.looks > 5)
    assert not world.cluster.created and not waiting.done()
    world.duties.at_work.clear()
    assert (await asyncio.wait_for(waiting, 10)).state == "succeeded"
    assert not world.duties.at_work
    world.duties.at_work.add((RUN, "analyse", 7))
    world.wish.set("the user ended it")
    assert (await world.analyse()).state == "cancelled", "it has a pod, and is looked after at once"
    await world.orders.change(await world.order(), pod=None)
    before = list(world.cluster.created)
    end = await asyncio.wait_for(world.analyse(), 10)
    assert (end.state, end.reason, world.cluster.created) == ("cancelled", "the user ended it", before)


async def test_pods_of_another_node_in_the_namespace_are_not_tidied_away(world: World) -> None:
    world.cluster.ends_at_once = True
    await world.analyse()
    long_ago = "2020-01-01T00:00:00Z"
    theirs = copy.deepcopy(world.cluster.pods[name()])
    theirs["metadata"] |= {"name": "theirs", "labels": {**theirs["metadata"]["labels"], "gdi-node": "node-b"}}
    world.cluster.pods["theirs"] = theirs
    for pod in world.cluster.pods.values():
        pod["metadata"]["creationTimestamp"] = long_ago
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = long_ago
    await world.launcher.tidy("")
    assert list(world.cluster.pods) == ["theirs"]


async def test_a_pod_that_is_exchanged_while_it_is_watched_is_lost(world: World) -> None:
    def exchange() -> None:
        world.cluster.pods[name()]["metadata"]["uid"] = "a-strangers"

    def second() -> None:
        world.cluster.run(name(2))
        world.cluster.end(name(2), 0)

    end = await beside(
        world, step(world, exchange, lambda: world.starts), step(world, second, lambda: name(2) in world.starts)
    )
    assert end.state == "succeeded"


async def test_a_stop_marks_the_pod_and_gives_it_time_to_cancel_its_tasks(world: World) -> None:
    def stop() -> None:
        world.cluster.run(name())
        world.wish.set("the user ended it")

    end = await beside(world, step(world, stop, lambda: world.starts))
    assert (end.state, end.reason) == ("cancelled", "the user ended it")
    ((pod, grace, marks),) = world.cluster.deleted
    assert (pod, grace, marks["gdi-stop"]) == (name(), 55, "cancel")


async def test_a_broker_that_is_slow_to_hear_keeps_no_stop_waiting(world: World) -> None:
    world.slow_broker = 600
    await test_a_stop_marks_the_pod_and_gives_it_time_to_cancel_its_tasks(world)


async def test_pods_that_are_lost_are_replaced_and_one_that_fails_is_not(world: World) -> None:
    def lose(number: int) -> Callable[[], None]:
        return lambda: world.cluster.end(name(number), 75)

    def fail() -> None:
        world.cluster.end(name(3), 1)

    end = await beside(
        world,
        step(world, lose(1), lambda: name(1) in world.starts),
        step(world, lambda: world.cluster.evict(name(2)), lambda: name(2) in world.starts),
        step(world, fail, lambda: name(3) in world.starts),
    )
    assert end.state == "failed" and world.cluster.created == [name(1), name(2), name(3)]


async def test_an_image_that_never_comes_fails_the_order_and_says_so(world: World) -> None:
    def waits() -> None:
        waiting = container({"waiting": {"reason": "ErrImageNeverPull", "message": "no such image"}})
        world.cluster.set(name(), phase="Pending", containerStatuses=[waiting])

    end = await beside(world, step(world, waits, lambda: world.starts))
    assert end.state == "failed" and "ErrImageNeverPull: no such image" in end.detail
    assert [pod for pod, *_ in world.cluster.deleted] == [name()]


async def test_a_cluster_that_is_away_or_full_is_waited_for_and_one_that_refuses_is_not(world: World) -> None:
    world.cluster.down = True
    world.cluster.ends_at_once = True

    def back() -> None:
        world.cluster.down = False
        world.cluster.refuse = (403, "Forbidden", "pods is forbidden: exceeded quota: runs")

    def room() -> None:
        world.cluster.refuse = None

    away = world.cluster.turned_away
    end = await beside(
        world,
        step(world, back, lambda: world.cluster.turned_away > away),
        step(world, room, lambda: world.cluster.turned_away > away + 2),
    )
    assert end.state == "succeeded"
    world.cluster.refuse = (422, "Invalid", "Pod is invalid")
    await world.orders.change(await world.order(), pod=None, pod_uid=None, pod_generation=9)
    with pytest.raises(ProblemError) as refused:
        await world.analyse()
    assert refused.value.slug == "launcher-refused" and "Pod is invalid" in refused.value.problem.detail


async def test_what_lives_is_counted_by_node(world: World) -> None:
    assert await world.launcher.live() == 0
    await killed(world, lambda: world.starts)
    assert await world.launcher.live() == 1
    world.cluster.end(name(), 0)
    assert await world.launcher.live() == 0


async def test_the_gateway_gets_the_clusters_keys_without_a_token_of_the_cluster(world: World, tmp_path: Path) -> None:
    await world.launcher.upkeep()
    assert json.loads((tmp_path / "keys.json").read_text()) == {"keys": [{"kty": "RSA", "kid": "of-the-cluster"}]}
    world.cluster.down = True
    with pytest.raises(ProblemError):
        await world.launcher.upkeep()
    assert (tmp_path / "keys.json").is_file()


def test_outside_a_cluster_it_is_said() -> None:
    with pytest.raises(SettingsError, match="KUBERNETES_SERVICE_HOST"):
        ClusterAccount.of_pod({}, Path("/x"))
    found = ClusterAccount.of_pod({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}, Path("/x"))
    assert found.url == "https://[fd00::1]:6443"
