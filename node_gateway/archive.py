"""The node's SDA (download API v1), asked with the user's own token: which datasets and files there are, and a file as
Crypt4GH for one key.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import httpx

from gdi.contracts.task_errors import DenialClass
from gdi.contracts.urls import SdaUrl
from node_gateway.downloads import (
    MAGIC,
    Download,
    SdaRefusal,
    denial_of,
    has_checksum,
    header_length,
    joined,
    nothing,
)
from node_gateway.keys import PublicKey
from node_gateway.listed_files import Files, Listed, http_date, sealed, why_another
from node_gateway.resumption import Again, rest, resumed
from node_gateway.sections import LEAD, SEALED_SEGMENT, Lead, Selection, body, header_with, selected
from node_gateway.upstream import NotJson, TooLarge, UpstreamAnswer, client, fetch

MAX_LISTING = 64 * 1024 * 1024
NOT_BY_ID = (400, 404, 405, 501)  # what an archive answers that has no Crypt4GH by a file's id
Fresh = Callable[[], Awaitable[str]]
NO_MORE: Mapping[str, str] = MappingProxyType({})


class SdaClient:
    """`url`: the archive's download service; `others`: further servers of it, asked where one is down."""

    passed_headers: tuple[str, ...] = ("etag", "last-modified", "content-length")  # v1's ETag is the file's checksum

    def __init__(self, url: str, *, prefix: str, key: PublicKey, others: Sequence[str] = ()) -> None:
        self._http = client(url, read_timeout=60, others=others)
        self._below = httpx.URL(url).raw_path.decode("ascii").rstrip("/")
        self._prefix = prefix
        self._key = key

    async def aclose(self) -> None:
        await self._http.aclose()

    async def datasets(self, token: str) -> set[str]:
        """The datasets this user's visas open now. SdaRefusal where the archive does not say."""
        answer = await self._get("/metadata/datasets", token)
        if answer.status in (401, 403):
            return set()
        value = self._json(answer)
        if not isinstance(value, list):
            raise SdaRefusal("ArchiveError", "The archive's list of datasets is not a list.")
        return {d for d in value if isinstance(d, str)}

    async def files(self, dataset: str, token: str) -> list[Listed]:
        """The dataset's files. SdaRefusal: AccessDenied where it is not (or no longer) open to the user."""
        answer = await self._get(f"/metadata/datasets/{quote_part(dataset)}/files", token)
        if answer.status in (401, 403, 404):
            raise await self._why(SdaUrl.of(dataset, ""), answer.status, token)
        value = self._json(answer)
        if not isinstance(value, list):
            raise SdaRefusal("ArchiveError", f"The archive's list of files of {dataset} is not a list.")
        return [Listed.of(f) for f in value if isinstance(f, dict) and isinstance(f.get("filePath"), str)]

    async def last_modified(self, file: SdaUrl, listed: Listed, token: str) -> float | None:
        """By a HEAD on the file; None where the archive does not say, or speaks of another file."""
        try:
            answer = await fetch(self._http, "HEAD", self._path(file), max_bytes=0, headers=self._headers(token))
        except (httpx.HTTPError, TooLarge):
            return None
        if not answer.ok or why_another(listed, {"etag": answer.headers.get("etag", "")}, None, 0):
            return None
        return http_date(answer.headers.get("last-modified", ""))

    async def open(
        self, file: SdaUrl, listed: Listed, files: Files, token: str, method: str = "GET", fresh: Fresh | None = None
    ) -> Download:
        """The listed file re-encrypted to the TES's key, by its id; by its path where the archive has no Crypt4GH by
        id (SDA's v1), and then only where its checksum or the other `files` of the listing tell that it is that file.
        Nothing has been sent on yet when this raises SdaRefusal. With `fresh`, which gives a token, a download that
        breaks off goes on by range.
        """
        download = await self._open(file, listed, files, token, method)
        if fresh is not None and method == "GET":
            again = self._again(download, fresh)
            if again is not None:
                download.chunks = resumed(download.chunks, download.header_length, again)
        return download

    async def open_section(
        self,
        file: SdaUrl,
        listed: Listed,
        files: Files,
        token: str,
        ranges: Sequence[tuple[int, int]],
        fresh: Fresh,
    ) -> Download:
        """As `open`, of the file only these ranges (bytes of the decrypted file), which an edit list cuts out of the
        segments that are fetched. Of an archive that gives no ranges, all is read, and the section passed on.
        SdaRefusal, also where the header has more than one packet, of which one may be an edit list.
        """
        selection = Selection.of(ranges)
        lead = await self._lead(file, listed, files, token)
        try:
            header = header_with(lead.header, selection.edits, self._key.raw)
            if header is None:
                raise _many_packets(file)
        except BaseException:
            await lead.answer.aclose()
            raise

        async def fetch(start: int, end: int) -> httpx.Response | None:
            headers = self._headers(await fresh()) | {"Range": f"bytes={start + lead.before}-{end + lead.before - 1}"}
            answer = await self._stream("GET", lead.path, headers | lead.condition)
            return await rest(answer, start + lead.before, lead.before + lead.size, lead.etag, end + lead.before)

        length = len(header) + sum(end - start for start, end in selection.spans(lead.size))
        parts = body(selection, lead, fetch) if lead.others is None else selected(selection, lead.size, lead.others)
        return Download({"content-length": str(length)}, joined(header, parts), lead.answer, len(header), 2)

    async def _lead(self, file: SdaUrl, listed: Listed, files: Files, token: str) -> Lead:
        """Header and first segment, and how the others are had. SdaRefusal."""
        download = await self._open(file, listed, files, token, "GET", {"Range": f"bytes=0-{LEAD - 1}"})
        try:
            if listed.size <= 0:
                raise SdaRefusal("ArchiveError", f"The archive does not say how large {file} is.")
            part, chunks = download.answer.status_code == 206, download.chunks
            start, size = b"", sealed(listed.size)
            async for chunk in chunks:
                start += chunk
                if not part and header_length(start) is not None:
                    break
            before, etag = header_length(start), download.headers.get("etag", "")
            if part and before is None and len(start) == LEAD:
                raise _many_packets(file)
            if before is None or before > len(start) or (part and len(start) != min(LEAD, before + size)):
                raise SdaRefusal("Truncated", f"The beginning of {file} did not come whole.")
        except httpx.HTTPError:
            await download.close()
            raise SdaRefusal("Truncated", f"The archive's answer for {file} broke off at its beginning.") from None
        except BaseException:
            await download.close()
            raise
        if not part:
            return Lead(start[:before], b"", size, "", before, "", download.answer, joined(start[before:], chunks))
        await download.close()
        path = download.answer.url.raw_path.decode("ascii").removeprefix(self._below)
        first = start[before : before + SEALED_SEGMENT]
        first = first if len(first) in (SEALED_SEGMENT, size) else b""
        return Lead(start[:before], first, size, path, before, etag, download.answer)

    def _again(self, download: Download, fresh: Fresh) -> Again | None:
        """How the rest of a download is had; None where nothing tells its place."""
        length, etag = download.headers.get("content-length", ""), download.headers.get("etag", "")
        path = download.answer.url.raw_path.decode("ascii").removeprefix(self._below)
        if not length.isdecimal() or not etag.startswith('"'):
            return None

        async def again(start: int) -> httpx.Response | None:
            headers = self._headers(await fresh()) | {"Range": f"bytes={start}-", "If-Range": etag}
            return await rest(await self._stream("GET", path, headers), start, int(length), etag)

        return again

    async def _stream(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        return await self._http.send(self._http.build_request(method, path, headers=headers), stream=True)

    async def _open(
        self, file: SdaUrl, listed: Listed, files: Files, token: str, method: str, more: Mapping[str, str] = NO_MORE
    ) -> Download:
        """`more`: headers of the request, such as a range."""
        if listed.id:
            answer = await self._ask(f"/files/{quote_part(listed.id)}", token, method, more)
            if answer.status_code not in NOT_BY_ID:
                return await self._closing(answer, file, listed, token, method)
            await answer.aclose()
        another = files.may_be_another(listed)
        try:
            answer = await self._ask(self._path(file), token, method, more)
            download = await self._closing(answer, file, listed, token, method)
        except SdaRefusal as refused:
            if another and refused.error_class == "NotFound":
                raise SdaRefusal(
                    "ArchiveError",
                    f"The archive lists {file}, but does not find it by that path: it takes letters such as + ( [ for"
                    " a pattern. Its operator has to serve files by id, or to rename the file.",
                ) from None
            raise
        if another and not has_checksum(download, listed):
            await download.close()
            raise SdaRefusal(
                "ArchiveError",
                f"The archive gives {file} by its path only, which other files may match too, and no checksum of it.",
            )
        return download

    async def _ask(self, path: str, token: str, method: str, more: Mapping[str, str] = NO_MORE) -> httpx.Response:
        try:
            return await self._stream(method, path, {**self._headers(token), **more})
        except httpx.HTTPError as error:
            raise SdaRefusal("ArchiveError", f"The archive does not answer ({type(error).__name__}).") from None

    async def _closing(self, answer: httpx.Response, file: SdaUrl, listed: Listed, token: str, method: str) -> Download:
        try:
            download = await self._opened(answer, file, token, method)
            if why := why_another(listed, download.headers, download.header_length, download.packets):
                kind: DenialClass = "Truncated" if "missing" in why else "ArchiveError"
                raise SdaRefusal(kind, f"{file} is damaged in the archive, or another file came: {why}.")
            return download
        except BaseException:
            await answer.aclose()
            raise

    async def _opened(self, answer: httpx.Response, file: SdaUrl, token: str, method: str) -> Download:
        if answer.status_code in (400, 401, 403, 404):
            raise await self._why(file, answer.status_code, token)
        if answer.status_code not in (200, 206 if "range" in answer.request.headers else 200):
            raise SdaRefusal(*await denial_of(answer, file))
        headers = {k: answer.headers[k] for k in self.passed_headers if k in answer.headers}
        if answer.status_code == 206:  # of the whole file, for whoever holds it against the listing
            headers["content-length"] = answer.headers.get("content-range", "").rpartition("/")[2]
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise SdaRefusal(
                "ArchiveError",
                f"The archive sent {file} with a content encoding, which Crypt4GH files have no use for.",
            )
        if method == "HEAD":
            return Download(headers, nothing(), answer)
        chunks = answer.aiter_raw(256 * 1024)
        first = b""
        try:
            while len(first) < len(MAGIC):
                first += await anext(chunks)
        except (StopAsyncIteration, httpx.HTTPError):
            if not first or MAGIC.startswith(first):
                raise SdaRefusal(
                    "Truncated", f"The archive's answer for {file} ended after {len(first)} bytes."
                ) from None
        if not first.startswith(MAGIC):
            raise await self._not_crypt4gh(file, first, token)
        packets = int.from_bytes(first[12:16], "little") if len(first) >= 16 else 0
        return Download(headers, joined(first, chunks), answer, header_length(first), packets)

    async def _not_crypt4gh(self, file: SdaUrl, first: bytes, token: str) -> SdaRefusal:
        if re.match(rb"\s*(\xef\xbb\xbf)?\s*<", first):
            # Archives before v3.1.51 answer so for a dataset that is not open to the user.
            if await self._still_lists(file.dataset, token) is False:
                return _withdrawn(file.dataset)
            return SdaRefusal("ArchiveError", f"The archive answered with XML instead of {file}.")
        return SdaRefusal("NotCrypt4GH", f"{file} is not a Crypt4GH file.")

    async def _why(self, file: SdaUrl, status: int, token: str) -> SdaRefusal:
        """Tells access withdrawn from a missing file: does the archive still list the dataset for this user?"""
        listed = await self._still_lists(file.dataset, token)
        if listed is None:
            return SdaRefusal(
                "AccessDenied",
                f"Access to {file.dataset} was withdrawn or the file does not exist (the archive answered {status}).",
            )
        if not listed:
            return _withdrawn(file.dataset)
        if status == 404:
            return SdaRefusal(
                "NotFound",
                f"{file} does not exist in the archive."
                if file.path
                else f"The archive has no files of {file.dataset}.",
            )
        if status == 400:
            return SdaRefusal("ArchiveError", f"The archive does not accept the request for {file}.")
        return SdaRefusal("AccessDenied", f"The archive refuses {file} ({status}), though it lists the dataset.")

    async def _still_lists(self, dataset: str, token: str) -> bool | None:
        """None where the archive does not say."""
        try:
            return dataset in await self.datasets(token)
        except SdaRefusal:
            return None

    def _path(self, file: SdaUrl) -> str:
        return f"/{self._prefix}/{quote_part(file.dataset)}/{urllib.parse.quote(file.path)}"

    def _headers(self, token: str) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {token}",
            "Client-Public-Key": self._key.header,
            "X-C4GH-Public-Key": self._key.header,  # the name in SDA's v2
            "Accept-Encoding": "identity",
        }

    async def _get(self, path: str, token: str) -> UpstreamAnswer:
        try:
            return await fetch(
                self._http, "GET", path, max_bytes=MAX_LISTING, headers={"Authorization": f"Bearer {token}"}
            )
        except (httpx.HTTPError, TooLarge) as error:
            raise SdaRefusal("ArchiveError", f"The archive does not answer rightly ({type(error).__name__}).") from None

    @staticmethod
    def _json(answer: UpstreamAnswer) -> Any:  # any JSON value
        if answer.status != 200:
            raise SdaRefusal("ArchiveError", f"The archive answered {answer.status} for {answer.path}.")
        try:
            return answer.json()
        except NotJson as error:
            raise SdaRefusal("ArchiveError", f"The archive: {error}.") from None

    async def alive(self) -> bool:
        try:
            return (await fetch(self._http, "GET", "/metadata/datasets", max_bytes=64 * 1024, timeout=3)).status < 500
        except (httpx.HTTPError, TooLarge):
            return False


def _many_packets(file: SdaUrl) -> SdaRefusal:
    return SdaRefusal(
        "ArchiveError",
        f"{file} has more than one header packet, so perhaps an edit list: of such a file no section can be had. The"
        " node's operator leaves its index out of the descriptor.",
    )


def _withdrawn(dataset: str) -> SdaRefusal:
    return SdaRefusal(
        "AccessDenied", f"Access to {dataset} was withdrawn: the archive does not open it to this user any more."
    )


def quote_part(part: str) -> str:
    """As one segment of a URL's path."""
    return urllib.parse.quote(part, safe="")
