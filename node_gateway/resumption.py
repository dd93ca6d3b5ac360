"""A download that breaks off goes on by range (RFC 9110 §14): the reader notices nothing.

Only behind the Crypt4GH header, which an archive writes anew for each request; the segments after it are the stored
ones. The archive must answer 206 for exactly the bytes that are missing, of the same ETag and length.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import httpx

log = logging.getLogger(__name__)
TRIES = 5  # in a row without a byte between them
PAUSE = 0.2  # seconds, doubled with each try
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
Again = Callable[[str, str], Awaitable[httpx.Response]]  # (Range, If-Range) → the open answer


async def resumed(
    chunks: AsyncIterator[bytes], headers: dict[str, str], header_length: int | None, again: Again
) -> AsyncGenerator[bytes, None]:
    """The chunks, and after a break those that are missing. httpx.HTTPError where it cannot go on: the first one."""
    length, etag = headers.get("content-length", ""), headers.get("etag", "")
    total = int(length) if length.isdecimal() else None
    usable = total is not None and header_length is not None and etag.startswith('"')
    sent, tries = 0, 0
    answer: httpx.Response | None = None
    try:
        while True:
            try:
                async for chunk in chunks:
                    yield chunk
                    sent, tries = sent + len(chunk), 0
                return
            except httpx.HTTPError as broken:
                if not usable or sent < (header_length or 0):
                    raise
                if answer is not None:
                    await answer.aclose()
                    answer = None
                while answer is None:
                    if tries == TRIES:
                        raise broken from None
                    await asyncio.sleep(PAUSE * 2**tries)
                    tries += 1
                    answer = await _rest(again, sent, total or 0, etag)
                log.info("a download that broke off goes on at byte %d of %d", sent, total)
                chunks = answer.aiter_raw()
    finally:
        if answer is not None:
            await answer.aclose()


async def _rest(again: Again, sent: int, total: int, etag: str) -> httpx.Response | None:
    """The open answer for what is missing; None where the archive did not give exactly that."""
    try:
        answer = await again(f"bytes={sent}-", etag)
    except httpx.HTTPError:
        return None
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    wanted = (
        answer.status_code == 206
        and found is not None
        and found.groups()
        == (
            str(sent),
            str(total - 1),
            str(total),
        )
    )
    if wanted and answer.headers.get("etag", etag) == etag and "content-encoding" not in answer.headers:
        return answer
    await answer.aclose()
    return None
