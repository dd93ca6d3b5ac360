"""Workspaces are emptied after the node's own retention, never a run's that lives or of which nothing is known, and
safely twice at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.gateway_world import Run, World, world_fixture  # noqa: F401

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def policy(world: World) -> Iterator[None]:
    world.policy(retention_days=1)
    yield
    world.policy()


def ended(world: World, *, hours_ago: float, files: int = 3) -> Run:
    run = world.new_run()
    run.submit()
    for n in range(files):
        world.s3.put(f"{run.id}/out/{n}.json", b"x")
    world.broker.runs[run.id] |= {"state": "closed", "outcome": "success", "closed_at": time.time() - hours_ago * 3600}
    return run


def files(world: World, run: Run) -> int:
    return int(world.s3.client.list_objects_v2(Bucket="workspace", Prefix=run.id + "/").get("KeyCount", 0))


def tidy(world: World) -> dict[str, int]:
    with world.inside() as inside:
        answer = inside.post("/housekeeping")
    assert answer.status_code == 200, answer.text
    found: dict[str, int] = answer.json()["emptied"]
    return found


def test_a_run_is_emptied_once_its_retention_is_over_and_not_before(world: World) -> None:
    old, young = ended(world, hours_ago=25), ended(world, hours_ago=23)
    emptied = tidy(world)
    assert emptied[old.id] == 3 and young.id not in emptied
    assert (files(world, old), files(world, young)) == (0, 3)
    assert any(e["action"] == "workspace-emptied" for e in world.audit(old.id))
    assert old.id not in tidy(world)


def test_what_lives_or_is_not_known_is_kept(world: World) -> None:
    living, unknown = ended(world, hours_ago=99), ended(world, hours_ago=99)
    living.admit(2)
    known = world.broker.runs.pop(unknown.id)
    assert not {living.id, unknown.id} & set(tidy(world)) and files(world, living) == files(world, unknown) == 3
    world.broker.runs[unknown.id] = known
    world.broker.away = True
    try:
        assert tidy(world) == {}
    finally:
        world.broker.away = False
    assert files(world, unknown) == 3


def test_without_a_retention_nothing_is_removed(world: World) -> None:
    run = ended(world, hours_ago=9999)
    world.policy()
    assert tidy(world) == {} and files(world, run) == 3


def test_two_at_once_and_a_kill_in_the_middle_do_no_harm(world: World) -> None:
    run = ended(world, hours_ago=48, files=40)
    results: list[Any] = []

    def ask() -> None:
        try:
            results.append(tidy(world))
        except Exception:
            results.append(None)  # the gateway was killed

    first = threading.Thread(target=ask)
    first.start()
    world.kill()
    first.join(120)
    world.start()
    threads = [threading.Thread(target=ask) for _ in range(2)]
    [t.start() for t in threads]
    [t.join(60) for t in threads]
    assert files(world, run) == 0 and None not in results[1:]


def test_a_run_that_is_opened_again_is_emptied_again_after_its_new_end(world: World) -> None:
    run = ended(world, hours_ago=48)
    tidy(world)
    run.admit(2)
    run.submit()
    world.s3.put(f"{run.id}/again.json", b"x")
    world.broker.runs[run.id] |= {"state": "closed", "closed_at": time.time() - 48 * 3600}
    assert tidy(world)[run.id] == 1 and files(world, run) == 0


def test_nobody_outside_can_ask_for_it(world: World) -> None:
    run = world.new_run()
    assert run.call("POST", "/housekeeping").status_code == 404
