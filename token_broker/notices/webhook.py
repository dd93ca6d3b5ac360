"""A person's webhook: which addresses may be called, and the call itself, signed as standard-webhooks 1.0 says
(https://www.standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import socket
from urllib.parse import urlsplit, urlunsplit

import httpx

from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.problem import ProblemError
from gdi.kit.tls import authorities

SECONDS, MAX_ANSWER = 10.0, 64 * 1024


class NotDelivered(Exception):
    """Why a notice did not arrive, in words for its owner. `forever`: another try would not help."""

    def __init__(self, why: str, *, forever: bool = False) -> None:
        super().__init__(why)
        self.forever = forever


def signature(key: bytes, notice: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`."""
    mac = hmac.new(key, f"{notice}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(mac).decode()}"


async def check_url(url: str, *, private: bool) -> str:
    """The IP address to call. ProblemError 422 for an address that a stranger may not have the broker call: without
    TLS, or of this network (`private` allows both).
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = None, 0
    if host is None or not (private or url.startswith("https://")):
        raise ProblemError(422, "bad-notice", "A webhook's address begins with https://.", action="Correct it.")
    try:
        loop = asyncio.get_running_loop()
        found = await asyncio.wait_for(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), SECONDS)
    except (OSError, TimeoutError, UnicodeError):
        raise ProblemError(422, "bad-notice", "The webhook's host has no address.", action="Correct it.") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not private and not all(_public(address) for address in addresses):
        raise ProblemError(
            422,
            "bad-notice",
            "The webhook lies in a private network, which the broker does not call.",
            action="Choose another.",
        )
    return addresses[0]


def _public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not (mapped or found).is_multicast


async def post(url: str, key: bytes, notice: str, timestamp: int, body: bytes, *, private: bool) -> None:
    """NotDelivered where no 2xx came. The address that was checked is the one that is called; redirects are not
    followed.
    """
    try:
        address = await check_url(url, private=private)
    except ProblemError as problem:
        raise NotDelivered(str(problem.problem.detail)) from None
    parts = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    called = urlunsplit(parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}"))
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "webhook-id": notice,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(key, notice, timestamp, body),
    }
    try:
        async with BoundedAsyncClient(
            timeout=SECONDS, trust_env=False, verify=authorities(), max_answer=MAX_ANSWER, follow_redirects=False
        ) as client:
            extensions = {"sni_hostname": parts.hostname} if parts.scheme == "https" else {}
            answer = await asyncio.wait_for(
                client.post(called, content=body, headers=headers, extensions=extensions), 2 * SECONDS
            )
    except (httpx.HTTPError, TimeoutError, OSError, ValueError) as error:
        raise NotDelivered(f"The webhook does not answer ({type(error).__name__}).") from None
    if answer.status_code == 410:
        raise NotDelivered("The webhook says that it is gone (410).", forever=True)
    if not answer.is_success:
        raise NotDelivered(f"The webhook answered {answer.status_code}.")
