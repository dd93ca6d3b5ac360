"""A proxy before a real OpenBao, with answers of its own in place of OpenBao's: pages, redirects, cut JSON, errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from aiohttp import web

PAGE = "<html><body>404 page not found</body></html>"
# Answers of which none is Vault's: status, body. The last three look most like it.
FOREIGN: dict[str, tuple[int, str]] = {
    "404-text": (404, "404 page not found\n"),
    "404-page": (404, PAGE),
    "404-json": (404, '{"message": "no Route matched with those values"}'),
    "404-errors-is-text": (404, '{"errors": "not found"}'),
    "404-empty": (404, ""),
    "307": (307, ""),
    "200-page": (200, PAGE),
    "200-empty": (200, ""),
    "204": (204, ""),
    "cut-json": (200, '{"request_id": "x", "data": {"da'),
    "403-page": (403, PAGE),
    "400-page": (400, PAGE),
    "429": (429, '{"message": "API rate limit exceeded"}'),
    "502": (502, PAGE),
    "503-sealed": (503, '{"errors": ["Vault is sealed"]}'),
    "200-list": (200, "[]"),
    "200-object": (200, "{}"),
    "200-null-data": (200, '{"data": null}'),
    "200-data-is-text": (200, '{"data": "x"}'),
}


@dataclass
class Fault:
    """The next `times` requests of `method` whose path matches `path` get `answer`; `after`: OpenBao has them first."""

    method: str
    path: str
    answer: tuple[int, str]
    times: int = 1
    after: bool = False

    def takes(self, method: str, path: str) -> bool:
        if self.times <= 0 or self.method != method or not re.search(self.path, path):
            return False
        self.times -= 1
        return True


@dataclass
class VaultProxy:
    upstream: str
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)  # method and path of each request

    def count(self, method: str, path: str) -> int:
        return sum(m == method and bool(re.search(path, p)) for m, p in self.log)

    async def handle(self, request: web.Request) -> web.Response:
        method, path = request.method, request.path
        self.log.append((method, path))
        fault = next((f for f in self.faults if f.takes(method, path)), None)
        if fault is not None and not fault.after:
            return self._own(fault)
        async with httpx.AsyncClient(base_url=self.upstream, trust_env=False, timeout=30) as http:
            headers = {k: v for k, v in request.headers.items() if k.lower().startswith("x-vault")}
            found = await http.request(method, request.raw_path, headers=headers, content=await request.read())
        if fault is not None:
            return self._own(fault)
        return web.Response(
            status=found.status_code,
            body=found.content,
            headers={"content-type": found.headers.get("content-type", "application/json")},
        )

    def _own(self, fault: Fault) -> web.Response:
        status, body = fault.answer
        kind = "text/html" if body.startswith("<") else "application/json"
        headers = {"content-type": kind} | ({"location": self.url + "/v1/elsewhere"} if status == 307 else {})
        return web.Response(status=status, body=body.encode(), headers=headers)


@asynccontextmanager
async def vault_proxy(upstream: str) -> AsyncIterator[VaultProxy]:
    proxy = VaultProxy(upstream)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield proxy
    finally:
        await runner.cleanup()
