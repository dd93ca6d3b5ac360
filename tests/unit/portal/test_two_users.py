"""Two users over every operation that the OpenAPI documents list: what one made, the other neither finds nor changes. A
new route is covered by itself, as soon as it is in the document.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gdi.contracts.run_endings import Standing
from gdi.portal.wes.routes import PREFIX
from tests.support.portal_world import DATASETS, WORKFLOW, PortalWorld, portal_world

METHODS = ("get", "post", "put", "patch", "delete")
PUBLIC = {"GET /v1/workflows", "GET /v1/workflows/{name}", "GET /v1/sign-in", f"GET {PREFIX}/service-info"}
SECRET = "study-of-alice-5f1c"  # in a tag, and the mark of everything of hers
STARTS = {("POST", "/v1/runs"), ("POST", f"{PREFIX}/runs"), ("POST", "/v1/preflight"), ("POST", "/v1/grants")}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PortalWorld]:
    async with portal_world(tmp_path) as made:
        yield made


async def operations(world: PortalWorld) -> list[tuple[str, str]]:
    """(method, path) of all that the documents of the API and of WES list."""
    found: list[tuple[str, str]] = []
    for document, prefix in (("/openapi.json", ""), (f"{PREFIX}/openapi.json", PREFIX)):
        answer = await world.nobody.get(document)
        assert answer.status_code == 200, document
        for path, ways in answer.json()["paths"].items():
            whole = path if path.startswith(prefix) else prefix + path
            found += [(way.upper(), whole) for way in ways if way in METHODS]
    return found


def filled(path: str, names: dict[str, str]) -> str:
    """The path with Alice's own ids. A parameter that nobody knows yet fails here: name it in `names`."""
    return re.sub(r"\{([a-z_]+)(?::path)?\}", lambda m: names[m[1]], path)


async def test_nothing_of_the_others_over_every_operation(world: PortalWorld) -> None:
    world.airflow.ends_with = Standing(standing="succeeded", sentence="Done.")
    run = await world.started(tags={"study": SECRET})
    grant = world.consent().id
    names = {"run": run, "run_id": run, "grant": grant, "name": "answer.tsv", "task_id": "x", "stream": "stdout"}
    listed = await operations(world)
    assert len(listed) >= 22, listed
    assert {("GET", "/v1/runs/{run}/crate"), ("POST", f"{PREFIX}/runs/{{run_id}}/cancel")} <= set(listed)
    grants, runs = dict(world.broker.grants), dict(world.airflow.runs)
    for method, path in listed:
        of_workflow = {"name": WORKFLOW} if path.startswith("/v1/workflows") else {}
        address = filled(path, names | of_workflow)
        answers: dict[str, httpx.Response] = {}
        for who, client in (("bob", world.bob), ("nobody", world.nobody)):
            more: dict[str, Any] = {"json": {}} if method in ("POST", "PUT", "PATCH") else {}
            answers[who] = await client.request(method, address, **more)
        name = f"{method} {path}"
        text = answers["bob"].text
        for mark in (SECRET, run, grant):
            if mark not in address:
                assert mark not in text, f"{name} tells of Alice: {text[:300]}"
        assert SECRET not in text, name
        if name not in PUBLIC:
            assert answers["nobody"].status_code == 401, f"{name} answers without a token"
        if {"{run}", "{run_id}", "{grant}"} & set(re.findall(r"\{[a-z_]+\}", path)):
            assert answers["bob"].status_code in (403, 404), f"{name}: {answers['bob'].status_code} {text[:200]}"
            own = await world.alice.get(address) if method == "GET" and "{task_id}" not in path else None
            assert own is None or own.status_code == 200, f"{name} is not there for Alice either: {own}"
    assert (world.broker.grants, world.airflow.runs) == (grants, runs), "something of Alice's was changed, or started"
    assert world.airflow.stopped == []


async def test_a_key_and_a_tag_of_the_others_lead_nowhere(world: PortalWorld) -> None:
    world.consent()
    headers = {"Idempotency-Key": "the-same"}
    first = await world.alice.post("/v1/runs", json=world.start(tags={"study": SECRET}), headers=headers)
    world.broker.entitled["bob@lifescience-ri.eu"] = set(DATASETS.values())
    consent = {"days": 1}
    second = await world.bob.post("/v1/runs", json=world.start(consent=consent), headers=headers)
    assert first.json()["id"] != second.json()["id"], "a key is its user's own"
    found = await world.bob.get("/v1/runs", params={"tag": f"study:{SECRET}"})
    assert found.json()["runs"] == []
    assert SECRET not in json.dumps((await world.bob.get(f"{PREFIX}/runs")).json())
