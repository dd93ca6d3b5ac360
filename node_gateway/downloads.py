"""An archive's answer to a download: what its first bytes and its status say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from gdi.contracts.task_errors import DenialClass
from gdi.contracts.urls import SdaUrl
from gdi.kit.bounded_read import afirst
from gdi.kit.problem import ProblemError
from node_gateway.listed_files import Listed
from node_gateway.redaction import redact

MAGIC = b"crypt4gh"


class SdaRefusal(Exception):
    """Why the archive's data cannot be had: the text is fit for a user."""

    def __init__(self, error_class: DenialClass, reason: str) -> None:
        super().__init__(reason)
        self.error_class = error_class
        self.reason = reason

    def problem(self, dataset: str) -> ProblemError:
        """For who asks what the archive has: 403 where it does not open the dataset, else 502."""
        status, slug = (403, "access-denied") if self.error_class == "AccessDenied" else (502, "archive-error")
        action = "Ask for access to the dataset, or see the node's operator."
        return ProblemError(status, slug, self.reason, action=action, dataset=dataset)


@dataclass
class Download:
    """An open answer whose first bytes are Crypt4GH's. `chunks` raises httpx.HTTPError where it is cut off; `close`
    always.
    """

    headers: dict[str, str]
    chunks: AsyncIterator[bytes]
    answer: httpx.Response
    header_length: int | None = None  # of the Crypt4GH header, where the first bytes tell
    packets: int = 0  # in that header

    async def close(self) -> None:
        await self.answer.aclose()


async def denial_of(answer: httpx.Response, file: SdaUrl) -> tuple[DenialClass, str]:
    """(error class, sentence) for a status that is not 200; the archive's own words are short plain text."""
    try:
        words = await afirst(answer.aiter_raw(1024), 400)
    except httpx.HTTPError:
        words = b""
    text = redact(words.decode(errors="replace"), 100).strip()
    if "encryption error" in text:  # the archive itself could not read the stored file as Crypt4GH
        return "NotCrypt4GH", f"{file} is not a Crypt4GH file that the archive can read ({text})."
    return (
        "ArchiveError",
        f"The archive answered {answer.status_code} for {file}{f' ({text})' if text.isprintable() and text else ''}.",
    )


def header_length(first: bytes) -> int | None:
    """The length of the Crypt4GH header (magic, version, packets), None where `first` does not hold all the packets'
    lengths.
    """
    if len(first) < 16:
        return None
    count, at = int.from_bytes(first[12:16], "little"), 16
    for _ in range(min(count, 1000)):
        if at + 4 > len(first):
            return None
        at += int.from_bytes(first[at : at + 4], "little")
    return at if count <= 1000 else None


def has_checksum(download: Download, listed: Listed) -> bool:
    """An ETag of another form says nothing; one of another value was refused before."""
    return bool(listed.checksum) and len(download.headers.get("etag", "").removeprefix("W/").strip('"')) == len(
        listed.checksum
    )


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""  # makes this an async generator


async def joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """An answer of which the first bytes were looked at."""
    if first:
        yield first
    async for chunk in rest:
        yield chunk
