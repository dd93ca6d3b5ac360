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
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

import httpx

from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.problem import ProblemError
from gdi.kit.tls import authorities

SECONDS, MAX_ANSWER = 10.0, 64 * 1024
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that IANA gives to the Internet
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # as DNS64 answers where there is no IPv4
# What a node of this network may be reached by from there all the same: 6to4 (an IPv4 address is in it), documentation.
NOT_CALLED = [ipaddress.IPv6Network(name) for name in ("2002::/16", "3fff::/20")]
# A name server that answers late holds these threads, not those by which the broker finds Vault, database and provider.
AT_ONCE = 16
LOOKUPS, FREE = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook-lookup"), threading.BoundedSemaphore(AT_ONCE)


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
    if host is None or not url.isprintable() or not (private or url.startswith("https://")):
        raise ProblemError(422, "bad-notice", "A webhook's address begins with https://.", action="Correct it.")
    addresses = await _addresses(host, port)
    if not private and not all(_public(address) for address in addresses):
        raise ProblemError(
            422,
            "bad-notice",
            "The webhook lies in a private network, which the broker does not call.",
            action="Choose another.",
        )
    return addresses[0]


async def _addresses(host: str, port: int) -> list[str]:
    """ProblemError 422 where it has none; 429 where too many hosts are looked up at once."""
    if not FREE.acquire(blocking=False):
        why = "Too many webhooks' hosts are looked up at once."
        raise ProblemError(429, "too-many-requests", why, action="Send it again in a minute.", retry_after=60)
    lookup = asyncio.get_running_loop().run_in_executor(LOOKUPS, _found, host, port)
    lookup.add_done_callback(lambda done: done.cancelled() or done.exception())  # also where nobody waits any more
    try:
        return await asyncio.wait_for(asyncio.shield(lookup), SECONDS)
    except (OSError, TimeoutError, ValueError):
        raise ProblemError(422, "bad-notice", "The webhook's host has no address.", action="Correct it.") from None


def _found(host: str, port: int) -> list[str]:
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    finally:
        FREE.release()


def _public(address: str) -> bool:
    """By NAT64 an IPv4 address is called: that one must be public. Not so: the local NAT64 (`64:ff9b:1::`), site-local
    and IPv4-compatible addresses, which lead into this network as well.
    """
    found: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    if found in NAT64:
        found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    elsewhere = found.version == 6 and (found not in GLOBAL_UNICAST or any(found in one for one in NOT_CALLED))
    return found.is_global and not found.is_multicast and not elsewhere


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
