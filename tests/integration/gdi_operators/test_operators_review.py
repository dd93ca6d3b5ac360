"""A release that waits for a person: no worker, an address to go to, on within seconds, and whatever goes wrong on the
way is told or waited out.
"""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from gdi.runner.sandbox import why_not
from gdi_operators.links.review import ReviewLink
from gdi_operators.operators import ReleaseOperator
from gdi_operators.triggers import release as trigger
from tests.support.operators_flow import admit, deferred, event_of, world  # noqa: F401
from tests.support.operators_world import World

pytestmark = [pytest.mark.long, pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}")]


def waiting_release(world: World, **more: Any) -> tuple[ReleaseOperator, Any]:
    item = admit(world, mode="ok")[0]
    world.nodes[0].reviews = 1
    operator = ReleaseOperator(task_id="release", workflow="probe", item=item, release="counts", **more)
    return operator, deferred(lambda: operator.execute(world.context(mode="ok")))


def test_the_task_goes_on_when_the_node_has_decided_and_asks_no_worker_before(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trigger, "EARLY", 0.05)
    operator, waiting = waiting_release(world)
    world.nodes[0].review_states = ["awaiting-review"] * 3
    event = event_of(waiting)
    assert (event["kind"], event["message"]) == ("decided", "published") and len(world.nodes[0].asked) == 1
    assert operator.resume(world.context(mode="ok"), event)["node"] == "node-a"
    assert world.nodes[0].asked[0]["review"] is False


def test_nothing_of_a_token_is_in_the_trigger_that_is_stored(world: World) -> None:
    _, waiting = waiting_release(world)
    assert "token-for" not in json.dumps(waiting.trigger.serialize())


def test_a_gateway_that_is_away_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "PAUSE", 0.05)
    _, waiting = waiting_release(world)
    world.nodes[0].review_states = ["away", "awaiting-review", "away", "refused"]
    assert event_of(waiting)["message"] == "refused" and world.nodes[0].review_states == []


def test_a_refusal_fails_the_task_with_the_reviewers_reason(world: World) -> None:
    operator, waiting = waiting_release(world)
    world.nodes[0].refuse = ["a person of the node looked at it and refused it: too few people"]
    with pytest.raises(AirflowFailException, match=r"node node-a refused the release counts: .*too few people"):
        operator.resume(world.context(mode="ok"), event_of(waiting))


def test_a_gateway_that_will_not_tell_is_asked_by_a_worker_which_gets_the_reason(world: World) -> None:
    operator, waiting = waiting_release(world)
    world.nodes[0].review_states = ["forbidden"]
    event = event_of(waiting)
    assert event["kind"] == "refused" and "forbidden" in event["message"]
    assert operator.resume(world.context(mode="ok"), event)["name"] == "counts"


def test_nobody_waits_for_ever(world: World) -> None:
    operator, waiting = waiting_release(world, review_timeout=timedelta(seconds=0.5))
    world.nodes[0].reviews, world.nodes[0].review_states = 1, ["awaiting-review"] * 100_000
    event = event_of(waiting)
    assert event["kind"] == "late" and len(world.nodes[0].review_states) > 99_990, "and nobody asks without pause"
    with pytest.raises(AirflowFailException, match="Nobody at node-a decided"):
        operator.resume(world.context(mode="ok"), event)


def test_the_link_leads_to_the_node_of_the_plan_and_nowhere_else(world: World) -> None:
    operator, _ = waiting_release(world)
    key = SimpleNamespace(
        dag_id=world.context(mode="ok")["dag_run"].dag_id, run_id=world.context(mode="ok")["dag_run"].run_id
    )
    assert ReviewLink().get_link(operator, ti_key=key) == f"{world.nodes[0].served.url}/review/{world.run}/counts"
    operator.item = {**operator.item, "gateway_url": "javascript:alert(1)"}
    assert ReviewLink().get_link(operator, ti_key=key) == ""
