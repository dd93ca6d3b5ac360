"""SDA's download API v2: datasets and files in pages, files by id, problem+json (RFC 9457) for what is refused.

Source: neicnordic/sensitive-data-archive, sda/cmd/download/swagger_v2.yml. What is missing is refused like what is not
open (403), and its ETag is of the re-encrypted file, so it tells nothing of the listed checksum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from gdi.contracts.urls import SdaUrl
from gdi.funnel.crypt4gh import MAX_HEADER
from gdi.kit.bounded_read import afirst
from node_gateway.archive import MAX_LISTING, NO_MORE, Fresh, SdaClient, quote_part
from node_gateway.downloads import Download, SdaRefusal, header_length
from node_gateway.listed_files import Files, Listed, sealed
from node_gateway.redaction import redact
from node_gateway.resumption import Again, rest
from node_gateway.sections import Lead
from node_gateway.upstream import NotJson, TooLarge, UpstreamAnswer, fetch

PAGE = 1000
MAX_PAGES = 10_000


class SdaV2Client(SdaClient):
    """As `SdaClient`, of which it is the other generation."""

    passed_headers = ("content-length",)

    async def datasets(self, token: str) -> set[str]:
        found = await self._pages("/datasets", "datasets", token)
        return {d for d in found if isinstance(d, str)}

    async def files(self, dataset: str, token: str) -> list[Listed]:
        found = await self._pages(f"/datasets/{quote_part(dataset)}/files", "files", token, dataset)
        return [_listed(f) for f in found if isinstance(f, dict) and isinstance(f.get("filePath"), str)]

    async def last_modified(self, file: SdaUrl, listed: Listed, token: str) -> float | None:
        """The archive does not say."""
        return None

    async def alive(self) -> bool:
        try:
            return (await fetch(self._http, "GET", "/service-info", max_bytes=64 * 1024, timeout=3)).status < 500
        except (httpx.HTTPError, TooLarge):
            return False

    async def _open(
        self, file: SdaUrl, listed: Listed, files: Files, token: str, method: str, more: Mapping[str, str] = NO_MORE
    ) -> Download:
        answer = await self._ask(f"/files/{quote_part(listed.id)}", token, method, more)
        return await self._closing(answer, file, listed, token, method)

    async def _lead(self, file: SdaUrl, listed: Listed, files: Files, token: str) -> Lead:
        """The header by itself, the segments by their own endpoint."""
        path = f"/files/{quote_part(listed.id)}"
        download = await self._opened(await self._ask(f"{path}/header", token, "GET"), file, token, "GET")
        try:
            header = await afirst(download.chunks, MAX_HEADER)
        except httpx.HTTPError:
            header = b""
        finally:
            await download.close()
        if listed.size <= 0 or not header or len(header) != header_length(header):
            raise SdaRefusal("Truncated", f"The header of {file} did not come whole.")
        return Lead(header, b"", sealed(listed.size), f"{path}/content", 0, "", download.answer)

    def _again(self, download: Download, fresh: Fresh) -> Again | None:
        """By the segments' own endpoint, whose bytes are the same for every reader."""
        length, header = download.headers.get("content-length", ""), download.header_length
        if not length.isdecimal() or header is None:
            return None
        path = f"{download.answer.url.raw_path.decode('ascii').removeprefix(self._below)}/content"
        total = int(length) - header

        async def again(start: int) -> httpx.Response | None:
            headers = {"Authorization": f"Bearer {await fresh()}", "Accept-Encoding": "identity"}
            headers["Range"] = f"bytes={start - header}-"
            return await rest(await self._stream("GET", path, headers), start - header, total)

        return again

    async def _why(self, file: SdaUrl, status: int, token: str) -> SdaRefusal:
        if status == 401:
            return SdaRefusal("ArchiveError", f"The archive does not accept the user's token for {file}.")
        return await super()._why(file, status, token)

    def _headers(self, token: str) -> dict[str, str]:
        """One header with the key: two are a mistake there (KEY_CONFLICT)."""
        headers = super()._headers(token)
        del headers["Client-Public-Key"]
        return headers

    async def _pages(self, path: str, name: str, token: str, dataset: str = "") -> list[Any]:  # JSON of any kind
        """All pages' items. SdaRefusal: AccessDenied where the dataset is not open; ArchiveError where the pages do not
        end, or are more than MAX_LISTING bytes.
        """
        found: list[Any] = []
        page, size = "", 0
        for _ in range(MAX_PAGES):
            parameters = {"pageSize": str(PAGE), **({"pageToken": page} if page else {})}
            answer = await self._page(path, parameters, token)
            if answer.status in (401, 403):
                raise _refused(answer, dataset)
            value = self._json(answer)
            if not isinstance(value, dict) or not isinstance(value.get(name), list):
                raise SdaRefusal("ArchiveError", f"The archive's answer for {path} has no list of {name}.")
            found += value[name]
            size += len(answer.content)
            following = value.get("nextPageToken")
            if not following:
                return found
            if following == page or not isinstance(following, str) or size > MAX_LISTING:
                break
            page = following
        raise SdaRefusal("ArchiveError", f"The archive's pages of {path} do not end.")

    async def _page(self, path: str, parameters: dict[str, str], token: str) -> UpstreamAnswer:
        headers = {"Authorization": f"Bearer {token}"}
        try:
            return await fetch(self._http, "GET", path, max_bytes=MAX_LISTING, params=parameters, headers=headers)
        except (httpx.HTTPError, TooLarge) as error:
            raise SdaRefusal("ArchiveError", f"The archive does not answer rightly ({type(error).__name__}).") from None


def _listed(file: dict[str, Any]) -> Listed:
    """A v2 entry by the names of v1."""
    checksums = [c for c in file.get("checksums") or [] if isinstance(c, dict)]
    sha256 = next((c.get("checksum") for c in checksums if str(c.get("type", "")).lower() == "sha256"), "")
    size = file.get("decryptedSize")
    return Listed.of({**file, "decryptedFileSize": size, "decryptedFileChecksum": sha256})


def _refused(answer: UpstreamAnswer, dataset: str) -> SdaRefusal:
    """What the archive says in problem+json is told, bounded and without secrets."""
    try:
        value = answer.json()
    except NotJson:
        value = None
    detail = (
        redact(str(value.get("detail") or value.get("title") or ""), 200).strip() if isinstance(value, dict) else ""
    )
    words = f" ({detail})" if detail and detail.isprintable() else ""
    if answer.status == 401:
        return SdaRefusal("ArchiveError", f"The archive does not accept the user's token{words}.")
    named = f"{dataset} is not (or no longer) open to this user" if dataset else "No dataset is open to this user"
    return SdaRefusal("AccessDenied", f"{named}: access was withdrawn, or there is no such dataset{words}.")
