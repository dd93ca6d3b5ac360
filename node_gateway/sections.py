"""A section of an archive's file for the TES: the header that the archive encrypts to the TES's key, with an edit list
beside it, and of the body the segments that the section lies in. The gateway can read none of it: an edit list is
sealed with the reader's public key alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise

import httpx

from gdi.funnel.crypt4gh import DamagedError, edit_list, header_of, packets
from node_gateway.listed_files import SEALED, SEGMENT
from node_gateway.resumption import resumed

SEALED_SEGMENT = SEGMENT + SEALED  # bytes
GAP = 1  # segments between two ranges that are fetched along rather than asked for anew
MOST_RUNS = 1000  # requests to the archive for one section: beyond it the narrowest gaps are fetched along
LEAD = 1024  # bytes: a header of one packet has 124, of eight 880
Fetch = Callable[[int, int], Awaitable[httpx.Response | None]]  # bytes [start, end) of the body as it is stored


@dataclass(frozen=True)
class Selection:
    """`runs`: segments `[first, end)` that are fetched; `edits`: of what they hold, bytes left out and kept, in
    turns.
    """

    runs: list[tuple[int, int]]
    edits: list[int]

    @classmethod
    def of(cls, ranges: Sequence[tuple[int, int]]) -> Selection:
        """Of ranges of the decrypted file that rise and do not touch."""
        runs = _joined([(start // SEGMENT, -(-end // SEGMENT)) for start, end in ranges], GAP)
        if len(runs) > MOST_RUNS:
            gaps = sorted(after - end for (_, end), (after, _) in pairwise(runs))
            runs = _joined(runs, gaps[-MOST_RUNS])
        edits, at, before, number = [], 0, 0, 0
        for start, end in ranges:
            while start >= runs[number][1] * SEGMENT:
                before += (runs[number][1] - runs[number][0]) * SEGMENT
                number += 1
            place = before + start - runs[number][0] * SEGMENT
            edits += [place - at, end - start]
            at = place + end - start
        return cls(runs, edits)

    def spans(self, size: int) -> list[tuple[int, int]]:
        """Bytes `[start, end)` of the stored body, which has `size`."""
        return [(first * SEALED_SEGMENT, min(end * SEALED_SEGMENT, size)) for first, end in self.runs]


def _joined(runs: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Those with at most so many segments between them as one; they begin in rising order."""
    found: list[tuple[int, int]] = []
    for first, end in runs:
        if found and first <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((first, end))
    return found


@dataclass(frozen=True)
class Lead:
    """A file's beginning: its `header`, the `first` segment (empty where it did not come whole), and how the others are
    had: by ranges of `path`, `before` bytes behind those of the stored body, which has `size`.
    """

    header: bytes
    first: bytes
    size: int
    path: str
    before: int
    etag: str
    answer: httpx.Response
    others: AsyncIterator[bytes] | None = None  # the whole stored body, where the archive gave more than was asked for

    @property
    def condition(self) -> dict[str, str]:
        """Headers by which the others are of the same version."""
        return {"If-Range": self.etag} if self.etag.startswith('"') else {}


def header_with(header: bytes, edits: Sequence[int], reader: bytes) -> bytes | None:
    """The header with the edit list; None where it has several packets, of which one may be an edit list already."""
    try:
        found, _ = packets(header)
    except DamagedError:
        return None
    return header_of([*found, edit_list(edits, reader)]) if len(found) == 1 else None


async def body(selection: Selection, lead: Lead, fetch: Fetch) -> AsyncIterator[bytes]:
    """The segments. httpx.HTTPError where the archive does not give the bytes that it was asked for, or breaks off."""
    for start, end in selection.spans(lead.size):
        if start < len(lead.first):
            yield lead.first[start:end]
            start = min(len(lead.first), end)
        if start == end:
            continue
        answer = await fetch(start, end)
        if answer is None:
            raise httpx.ReadError("the archive gave other bytes than it was asked for")

        async def again(sent: int, start: int = start, end: int = end) -> httpx.Response | None:
            return await fetch(start + sent, end)

        try:
            async with aclosing(resumed(answer.aiter_raw(256 * 1024), 0, again)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            await answer.aclose()


async def selected(selection: Selection, size: int, whole: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The segments out of the whole stored body, whose rest is not waited for. httpx.HTTPError where it breaks off."""
    at = 0
    spans = selection.spans(size)
    async for chunk in whole:
        while spans and spans[0][0] < at + len(chunk):
            start, end = spans[0]
            yield chunk[max(0, start - at) : end - at]
            if end > at + len(chunk):
                break
            del spans[0]
        at += len(chunk)
        if not spans:
            return
    if spans:
        raise httpx.ReadError("the archive's answer ended too early")
