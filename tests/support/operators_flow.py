"""A run's steps as its operators take them, for tests of several of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from gdi_operators.operators import (
    AdmitRunOperator,
)
from gdi_operators.settings import settings
from tests.support.operators_world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield made
    made.close()
    settings.cache_clear()


def admit(world: World, **more: Any) -> list[dict[str, Any]]:
    return AdmitRunOperator(task_id="admit", workflow="probe").execute(world.context(**more))


def deferred(call: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        call()
    return caught.value


def event_of(waiting: TaskDeferred) -> dict[str, Any]:
    """What the trigger yields, run as the triggerer would: made anew from its serialised form."""

    async def first() -> dict[str, Any]:
        _, kwargs = waiting.trigger.serialize()
        trigger = type(waiting.trigger)(**json.loads(json.dumps(kwargs)))
        async with asyncio.timeout(300):
            async for event in trigger.run():
                return dict(event.payload)
        raise AssertionError("no event")

    return asyncio.run(first())
