"""Datasets whose ids are DOIs or URLs at each door of the portal: as they are, never encoded, never cut."""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.portal_pages import PageVisitor, with_pages
from tests.support.portal_world import DATASETS, WORKFLOW, PortalWorld, portal_world

IDS = {"node-a": "10.5072/gdi-a", "node-b": "https://doi.org/10.5072/gdi.(b)?v=2"}
NAMED = list(IDS.values())


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PortalWorld]:
    for node, dataset in IDS.items():
        monkeypatch.setitem(DATASETS, node, dataset)
    async with portal_world(tmp_path, **with_pages(tmp_path)) as made:
        yield made


def conf(world: PortalWorld) -> Any:
    """Of the one run that Airflow got."""
    [run] = world.airflow.runs.values()
    return run["conf"]["datasets"]


async def sent_by_wes(world: PortalWorld) -> httpx.Response:
    world.consent()
    params = json.dumps({"datasets": NAMED, "regions": 4})
    fields = {"workflow_url": WORKFLOW, "workflow_type": "SMK", "workflow_type_version": "9", "workflow_params": params}
    return await world.alice.post("/ga4gh/wes/v1/runs", files={k: (None, v) for k, v in fields.items()})


async def sent_by_api(world: PortalWorld) -> httpx.Response:
    world.consent()
    return await world.alice.post("/v1/runs", json=world.start(), headers={"Idempotency-Key": "k-1234567890"})


@pytest.mark.parametrize("send", [sent_by_wes, sent_by_api])
async def test_a_run_keeps_the_ids_of_its_datasets(world: PortalWorld, send: Any) -> None:
    answer = await send(world)
    assert answer.status_code in (200, 201, 202), answer.text
    assert conf(world) == NAMED
    shown = (await world.alice.get("/v1/runs")).json()["runs"]
    assert [one["datasets"] for one in shown] == [NAMED]


async def test_lists_checks_and_pages_show_them_as_they_are(world: PortalWorld) -> None:
    listed = (await world.alice.get("/v1/datasets")).json()["datasets"]
    assert sorted(one["id"] for one in listed) == sorted(NAMED)
    checked = await world.alice.post("/v1/preflight", json={**world.start()})
    assert checked.status_code == 200, checked.text
    visitor = await PageVisitor(world, "token-alice").sign_in("secret-of-alice")
    for page in (await visitor.get("/datasets"), await visitor.get(f"/workflows/{WORKFLOW}")):
        for dataset in NAMED:
            assert html.escape(dataset) in page
