"""The page *Nodes* says of each node what the broker last heard, and makes nothing of what a node says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request

from gdi.contracts.nodes import Nodes, NodeStatus
from gdi_operators import node_pages
from gdi_operators.jobs.api import Unavailable

NOW = 1_000_000.0
REQUEST = Request({"type": "http", "root_path": "/airflow/gdi", "headers": []})
UP = NodeStatus(
    node="node-a",
    life="up",
    placement="node",
    seen_at=NOW - 7,
    version="0.2",
    health={"gateway": "ok", "launcher": "<b>full</b>"},
    free_slots=3,
    clock_off=-42.0,
    orders={"running": 2, "waiting": 1},
    limits=["A person looks at each release.", "Only releases of the kind allele-counts leave."],
)


def test_a_row_says_what_is_known() -> None:
    assert node_pages.row_of(UP, NOW) == (
        "node-a",
        "up",
        "7 seconds ago",
        "the node",
        "2 running, 1 waiting, 3 free",
        "0.2",
        "launcher: <b>full</b>; its clock is 42 s behind",
        "A person looks at each release. Only releases of the kind allele-counts leave.",
    )
    never = NodeStatus(node="node-b", life="never-seen", placement="node")
    assert node_pages.row_of(never, NOW) == ("node-b", "never seen", "", "the node", "", "", "", "")
    other = never.model_copy(update={"placement": "coordinator"})
    assert node_pages.row_of(other, NOW)[1:4] == ("not asked", "", "the coordinator")
    assert node_pages.row_of(UP.model_copy(update={"seen_at": NOW - 3 * 86_400}), NOW)[2] == "3 days ago"


async def test_what_a_node_says_is_text_and_a_broker_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answer: list[Any] = [Nodes(nodes=[UP])]

    async def nodes() -> Nodes:
        if isinstance(answer[0], Exception):
            raise answer[0]
        return Nodes.model_validate(answer[0])

    @asynccontextmanager
    async def asking() -> AsyncIterator[Any]:
        yield SimpleNamespace(nodes=nodes)

    monkeypatch.setattr(node_pages, "asking", asking)
    page = await node_pages.nodes(REQUEST)
    text = bytes(page.body).decode()
    assert (
        page.status_code == 200
        and 'href="/airflow/gdi/assets/' in text
        and "&lt;b&gt;full&lt;/b&gt;" in text
        and "<b>" not in text
        and text.count("<script") == 1  # ours, which dresses the page as Airflow is
    )
    answer[0] = Unavailable("The broker does not answer (<x>).")
    page = await node_pages.nodes(REQUEST)
    assert page.status_code == 503 and "&lt;x&gt;" in bytes(page.body).decode()
    answer[0] = Nodes(nodes=[])
    assert "No node is enrolled" in bytes((await node_pages.nodes(REQUEST)).body).decode()


def test_the_page_is_for_who_is_signed_in_and_stands_in_the_menu() -> None:
    from fastapi.testclient import TestClient

    from gdi_operators.pages import create_app
    from gdi_operators.plugin import GdiPlugin

    assert TestClient(create_app()).get("/nodes").status_code == 401
    (entry,) = [view for view in GdiPlugin.external_views if view["name"] == "Nodes"]
    assert (entry["href"], entry["destination"]) == ("/gdi/nodes", "nav")
