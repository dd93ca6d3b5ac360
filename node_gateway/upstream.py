"""HTTP to the node's own servers: no cookies kept between users, no proxy or netrc from the environment, no redirects,
answers of bounded size.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from gdi.kit import bounded_read
from gdi.kit.tls import authorities
from gdi.kit.tracing import aadd_header
from node_gateway.redaction import redact

REST = 30.0  # seconds


class TooLarge(Exception):
    """An answer above its bound."""


class NotJson(Exception):
    """An answer that is not the JSON it should be."""


def client(
    base_url: str,
    *,
    auth: httpx.Auth | None = None,
    read_timeout: float = 30,
    connections: int = 100,
    others: Sequence[str] = (),
) -> httpx.AsyncClient:
    """A client for one server, or for several that serve the same (`others`). The SDA's `sda_session_key` cookie would
    let one user's visas serve another: no cookie is ever accepted.
    """
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=20)
    plain = httpx.AsyncHTTPTransport(verify=authorities(), trust_env=False, limits=limits)
    return httpx.AsyncClient(
        headers=bounded_read.CODINGS,
        base_url=base_url,
        auth=auth,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(read_timeout, connect=5, pool=30),
        event_hooks={"request": [aadd_header]} if base_url else {},  # the node's own servers, no stranger's
        transport=SeveralServers(plain, [base_url, *others]) if others else plain,
    )


class SeveralServers(httpx.AsyncBaseTransport):
    """Requests without a body go to the first server that is not known to be down, then to the next: where one cannot
    be reached, or says 502, 503 or 504. A server that was down is asked last for `REST` seconds.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, urls: Sequence[str]) -> None:
        self._transport = transport
        self._urls = [httpx.URL(url.rstrip("/") + "/") for url in urls]
        self._down = [-1e9] * len(urls)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.removeprefix(self._urls[0].raw_path)
        order = sorted(range(len(self._urls)), key=lambda n: time.monotonic() - self._down[n] < REST)
        for number in order:
            base, last = self._urls[number], number == order[-1]
            request.url = base.copy_with(raw_path=base.raw_path + path)
            request.headers["Host"] = base.netloc.decode("ascii")
            try:
                answer = await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.RemoteProtocolError, httpx.ReadError):
                self._down[number] = time.monotonic()
                if last:
                    raise
                continue
            if answer.status_code not in (502, 503, 504) or last:
                return answer
            self._down[number] = time.monotonic()
            await answer.aclose()
        raise AssertionError("the last server's answer or error ends the loop")

    async def aclose(self) -> None:
        await self._transport.aclose()


@dataclass(frozen=True)
class UpstreamAnswer:
    """A whole answer: `path` is the request's, for messages; `content` may hold anything the server chose to send."""

    path: str
    status: int
    headers: httpx.Headers
    content: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def text(self, limit: int = 300) -> str:
        return redact(self.content[: limit * 4].decode(errors="replace"), limit).strip()

    def json(self) -> Any:  # any JSON value: callers check its shape
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            raise NotJson(f"{self.path} answered {self.status} with something that is not JSON") from None


async def fetch(
    http: httpx.AsyncClient, method: str, path: str, *, max_bytes: int, **request: Any
) -> UpstreamAnswer:  # request: httpx's own arguments
    """The answer with its body, at most `max_bytes` (TooLarge). httpx.HTTPError where the server is away."""
    async with http.stream(method, path, **request) as answer:
        try:
            body = await bounded_read.aread(answer, max_bytes)
        except bounded_read.TooLargeError:
            raise TooLarge(f"{path} answered more than {max_bytes} bytes") from None
        return UpstreamAnswer(path, answer.status_code, answer.headers, body)
