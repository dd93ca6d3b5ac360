"""What is counted of a request, and which headers its answer gets."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI, Response
from starlette.types import Scope

from gdi.kit.measured import Headers, Measured, method, route

SEEN: list[tuple[str, str, int]] = []


def _observe(scope: Scope, status: int, seconds: float) -> None:
    assert 0 <= seconds < 60
    SEEN.append((method(scope), route(scope), status))


def _headers(scope: Scope) -> Headers:
    return [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


@pytest.fixture
def client() -> httpx.AsyncClient:
    SEEN.clear()
    app = FastAPI()

    @app.get("/runs/{run}")
    async def run(run: str) -> Response:
        if run == "broken":
            raise RuntimeError("broken")
        return Response("x", headers={"Cache-Control": "max-age=60"} if run == "own" else {})

    app.add_middleware(Measured, observe=_observe, headers=_headers)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://t")


async def test_no_label_holds_what_a_stranger_chose(client: httpx.AsyncClient) -> None:
    async with client:
        for verb, path in (("GET", "/runs/a"), ("GET", "/runs/b"), ("GET", "/x/y"), ("BREW", "/runs/a")):
            await client.request(verb, path)
    assert SEEN == [
        ("GET", "/runs/{run}", 200),
        ("GET", "/runs/{run}", 200),
        ("GET", "unknown", 404),
        ("other", "/runs/{run}", 405),
    ]


async def test_an_answer_that_breaks_is_counted_and_a_header_of_its_own_stays(client: httpx.AsyncClient) -> None:
    async with client:
        assert (await client.get("/runs/a")).headers["cache-control"] == "no-store"
        own = await client.get("/runs/own")
        assert own.headers.get_list("cache-control") == ["max-age=60"]
        assert own.headers["x-content-type-options"] == "nosniff"
        assert (await client.get("/runs/broken")).status_code == 500
    assert SEEN[-1] == ("GET", "/runs/{run}", 500)
