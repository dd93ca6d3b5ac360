"""The client of DRS servers, where time is what goes wrong; tests/integration/node_gateway/test_gateway_drs.py has the
rest.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest

from gdi.contracts.urls import DrsUrl
from gdi.kit.problem import ProblemError
from node_gateway import drs
from node_gateway.drs import DrsClient
from node_gateway.settings import Settings
from tests.support.drs_server import drs_object
from tests.support.wire import answers_of
from tests.support.wires import DRS

OBJECT = DrsUrl.parse("drs://drs.archive.example/x")
SERVERS = {"drs.archive.example": "https://drs.archive.example/ga4gh/drs/v1/objects/"}


async def test_a_server_that_does_not_end_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drs, "ANSWER_SECONDS", 0.05)
    client, over = DrsClient(SERVERS), asyncio.Event()

    async def never(_: httpx.Request) -> httpx.Response:
        await over.wait()
        raise AssertionError("it was given up")

    client._http = httpx.AsyncClient(transport=httpx.MockTransport(never))
    with pytest.raises(ProblemError, match="cannot be reached") as slow:
        await client.object(OBJECT, "token")
    assert (slow.value.problem.status, slow.value.slug) == (503, "archive-away")


async def test_a_server_that_is_away_is_told_without_the_token() -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route with secret-token")

    client = DrsClient(SERVERS)
    client._http = httpx.AsyncClient(transport=answers_of(DRS, away))
    with pytest.raises(ProblemError) as gone:
        await client.object(OBJECT, "secret-token")
    assert gone.value.slug == "archive-away" and "secret-token" not in str(gone.value)


async def test_a_servers_address_may_end_with_a_slash_and_the_name_has_no_case() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json=drs_object("x", 5, "A" * 64))

    client = DrsClient(SERVERS)
    client._http = httpx.AsyncClient(transport=answers_of(DRS, answer))
    found = await client.object(DrsUrl.parse("drs://DRS.archive.example/x"), "token")
    assert asked == ["https://drs.archive.example/ga4gh/drs/v1/objects/x"]
    assert found.size == 5 and found.checksums_of(64) == {"a" * 64} and not found.checksums_of(32)


async def test_where_the_operator_names_no_server_every_object_is_refused() -> None:
    assert Settings.model_fields["drs_servers"].default == {}
    with pytest.raises(ProblemError, match="DRS_SERVERS") as refused:
        await DrsClient({}).object(OBJECT, "token")
    assert refused.value.problem.status == 403
