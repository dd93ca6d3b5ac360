"""A download that breaks off goes on by range (RFC 9110 §14): the reader notices nothing.

Only behind the Crypt4GH header, which an archive writes anew for each request; the segments after it are the stored
ones. The archive must answer 206 for exactly the bytes that are missing, of the same length, and of the same ETag where
it has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import httpx

log = logging.getLogger(__name__)
TRIES = 5  # in a row without a byte between them
PAUSE = 0.2  # seconds, doubled with each try
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
Again = Callable[[int], Awaitable[httpx.Response | None]]  # byte → the open answer from there, None where it is another


async def resumed(chunks: AsyncIterator[bytes], header_length: int | None, again: Again) -> AsyncGenerator[bytes, None]:
    """The chunks, and after a break those that are missing. httpx.HTTPError where it cannot go on: the first one."""
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
                if header_length is None or sent < header_length:
                    raise
                if answer is not None:
                    await answer.aclose()
                    answer = None
                while answer is None:
                    if tries == TRIES:
                        raise broken from None
                    await asyncio.sleep(PAUSE * 2**tries)
                    tries += 1
                    with contextlib.suppress(httpx.HTTPError):
                        answer = await again(sent)
                log.info("a download that broke off goes on at byte %d", sent)
                chunks = answer.aiter_raw()
    finally:
        if answer is not None:
            await answer.aclose()


async def rest(
    answer: httpx.Response, start: int, total: int, etag: str = "", end: int | None = None
) -> httpx.Response | None:
    """The open answer where it is bytes from `start` to `end` (None: all that follow) of `total` (of this ETag); else
    None, and it is closed.
    """
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    numbers = found.groups() if found else ()
    same = not etag or answer.headers.get("etag", etag) == etag
    whole = answer.status_code == 206 and numbers == (str(start), str((end or total) - 1), str(total))
    if whole and same and "content-encoding" not in answer.headers:
        return answer
    await answer.aclose()
    return None
