"""HTTP to the node's own servers: no cookies kept between users, no proxy or netrc from the environment, no redirects,
answers of bounded size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from gdi.kit import bounded_read
from gdi.kit.tls import authorities
from node_gateway.redaction import redact


class TooLarge(Exception):
    """An answer above its bound."""


class NotJson(Exception):
    """An answer that is not the JSON it should be."""


def client(
    base_url: str, *, auth: httpx.Auth | None = None, read_timeout: float = 30, connections: int = 100
) -> httpx.AsyncClient:
    """A client for one server. The SDA's `sda_session_key` cookie would let one user's visas serve another: no cookie
    is ever accepted.
    """
    return httpx.AsyncClient(
        base_url=base_url,
        auth=auth,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        trust_env=False,
        verify=authorities(),
        follow_redirects=False,
        timeout=httpx.Timeout(read_timeout, connect=5, pool=30),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=20),
    )


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
