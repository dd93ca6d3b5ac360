"""An OAuth server that answers what a test tells it to, right or wrong: a real server on a real port."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web


@dataclass
class Received:
    path: str
    form: dict[str, str]
    headers: dict[str, str]


@dataclass
class ScriptedProvider:
    """`answers` are given in their order, the last one for ever: (status, body, headers), or a handler."""

    url: str = ""
    issuer: str = ""  # in its metadata; `url` where empty
    promises_iss: bool = False  # RFC 9207 §3
    answers: list[Any] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    jwks: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, body: object, status: int = 200, **headers: str) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.answers = [(status, text, {name.replace("_", "-"): value for name, value in headers.items()})]

    def metadata(self) -> dict[str, str | bool]:
        names = ("authorization", "token", "introspection", "revocation", "userinfo")
        return {
            "issuer": self.issuer or self.url,
            "jwks_uri": self.url + "/jwks",
            **{f"{name}_endpoint": f"{self.url}/{name}" for name in names},
            **({"authorization_response_iss_parameter_supported": True} if self.promises_iss else {}),
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(self.metadata())
        if request.path == "/jwks":
            return web.json_response({"keys": self.jwks})
        form = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        self.received.append(Received(request.path, form, dict(request.headers)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            found: web.StreamResponse = await answer(request)
            return found
        status, text, headers = answer
        return web.Response(status=status, text=text, headers={"content-type": "application/json", **headers})


@asynccontextmanager
async def scripted_provider() -> AsyncIterator[ScriptedProvider]:
    provider = ScriptedProvider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()
