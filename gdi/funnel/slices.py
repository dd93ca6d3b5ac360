"""htsget for Funnel: the gateway's ticket is followed here, and Funnel gets one URL for the whole slice.

Funnel puts a ticket's blocks together by itself, but ignores the edit list of what comes, and reads on after a segment
that does not open. So its ticket names one block, of this relay, which opens the slice and writes it anew
(gdi/funnel/crypt4gh_proxy.py).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from urllib.parse import unquote_to_bytes

import httpx
from pydantic import ValidationError

from gdi.contracts.htsget import ENDPOINTS, MEDIA_TYPE, HtsgetTicket
from gdi.kit.bounded_read import TooLargeError, aread

WHOLE = "/htsget/whole"
MAX_TICKET = 16 * 1024 * 1024
Send = Callable[[httpx.Request], Awaitable[httpx.Response]]


class SliceError(Exception):
    """The slice cannot be had whole. The text is fit for a log."""


def is_slice(target: str) -> bool:
    """Whether a request is for a ticket, or for the one block of a ticket made here."""
    return any(target.startswith((f"/{endpoint}/", f"{WHOLE}/{endpoint}/")) for endpoint in ENDPOINTS)


async def own_ticket(client: httpx.AsyncClient, send: Send, target: str, headers: dict[str, str], port: int) -> bytes:
    """The HTTP answer to Funnel's request for a ticket: one block of this relay's; else the gateway's error."""
    status, body = await _ask(client, send, target, headers)
    if status == 200:
        found = _ticket(body)
        bearer = {name: value for name, value in headers.items() if name.lower() == "authorization"}
        block = {"url": f"http://127.0.0.1:{port}{WHOLE}{target}", "headers": bearer}
        body = json.dumps({"htsget": {"format": found.htsget.format or "", "urls": [block]}}).encode()
    kind = MEDIA_TYPE if status == 200 else "application/json"
    head = (f"HTTP/1.1 {status} -", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close")
    return "\r\n".join([*head, "", ""]).encode() + body


async def blocks(
    client: httpx.AsyncClient, send: Send, target: str, headers: dict[str, str]
) -> AsyncGenerator[bytes, None]:
    """The bytes of the slice, block after block. SliceError, httpx.HTTPError where one does not come whole."""
    status, body = await _ask(client, send, target.removeprefix(WHOLE), headers)
    if status != 200:
        raise SliceError(f"the gateway answered {status} for the ticket")
    for block in _ticket(body).htsget.urls:
        if block.url.startswith("data:"):
            yield data_of(block.url)
            continue
        url = httpx.URL(block.url)
        if (url.scheme, url.netloc) != (client.base_url.scheme, client.base_url.netloc):
            raise SliceError("the ticket leads past the gateway")
        request = client.build_request("GET", url, headers={**(block.headers or {}), "Accept-Encoding": "identity"})
        answer = await send(request)
        try:
            if answer.status_code not in (200, 206):
                raise SliceError(f"the gateway answered {answer.status_code} for a block")
            async for chunk in answer.aiter_raw(64 * 1024):
                yield chunk
        finally:
            await answer.aclose()


def data_of(url: str) -> bytes:
    """What a `data:` URL holds (RFC 2397). SliceError."""
    kind, _, content = url.partition(",")
    try:
        return base64.b64decode(content, validate=True) if kind.endswith(";base64") else unquote_to_bytes(content)
    except binascii.Error:
        raise SliceError("a data URL of the ticket is no base64") from None


async def _ask(client: httpx.AsyncClient, send: Send, target: str, headers: dict[str, str]) -> tuple[int, bytes]:
    url = client.base_url.copy_with(raw_path=target.encode("latin-1"))
    answer = await send(client.build_request("GET", url, headers=headers))
    try:
        return answer.status_code, await aread(answer, MAX_TICKET)
    except TooLargeError:
        raise SliceError(f"the ticket has more than {MAX_TICKET} bytes") from None
    finally:
        await answer.aclose()


def _ticket(body: bytes) -> HtsgetTicket:
    try:
        return HtsgetTicket.model_validate_json(body)
    except ValidationError:
        raise SliceError("the gateway sent no ticket") from None
