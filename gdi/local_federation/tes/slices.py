"""`htsget://reads|variants/DATASET/ID?…[#credential]` (as Funnel has it) from the node's gateway, or from an htsget
server: the ticket's blocks put together, decrypted where they are Crypt4GH.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from gdi.contracts.htsget import MEDIA_TYPE, HtsgetRequest, HtsgetTicket
from gdi.contracts.urls import HtsgetUrl, UrlError
from gdi.funnel.crypt4gh import MAGIC
from gdi.funnel.slices import MAX_TICKET, SliceError, data_of
from gdi.kit.bounded_read import TooLargeError, first, read
from gdi.local_federation.tes.archive import ArchiveReader
from gdi.local_federation.tes.transfer import CHUNK, Budget, TransferError, TryAgainError, printable, with_retry


class SliceReader:
    """Through the reader of whole files, which has the address, the key and how long to try."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive

    def fetch(self, url: str, token: str | None, target: Path, budget: Budget) -> None:
        """Writes the slice to `target`. TransferError naming the URL without fragment; StoppedError when cancelled."""
        plain, has, credential = url.rpartition("#")
        if not has:
            plain, credential = url, token or ""
        name = printable(plain)
        try:
            request = HtsgetUrl.parse(plain).request
        except UrlError as error:
            raise TransferError(f"{name}: {error.why}") from None
        if request is None:
            raise TransferError(f"{name}: this node asks its own htsget server only; write htsget://reads/DATASET/ID")
        parts = target.with_name(target.name + ".parts")
        try:
            with_retry(lambda: self._attempt(name, request, credential, parts, budget), budget, self._archive.patience)
            self._finish(name, parts, target, budget)
        finally:
            parts.unlink(missing_ok=True)

    def _attempt(self, name: str, request: HtsgetRequest, credential: str, parts: Path, budget: Budget) -> None:
        headers = {"Client-Public-Key": self._archive.public, "Accept": MEDIA_TYPE}
        if credential:
            headers["Authorization"] = f"Bearer {credential}"
        url = f"{self._archive.base}/{request.target.removesuffix('?')}"
        try:
            with self._archive.client() as client, parts.open("wb") as file:
                for block in self._ticket(name, client, url, headers).htsget.urls:
                    if block.url.startswith("data:"):
                        content = data_of(block.url)
                        budget.take(len(content))
                        file.write(content)
                    elif urlsplit(block.url).scheme in ("http", "https"):
                        self._block(name, client, block.url, block.headers or {}, file, budget)
                    else:
                        raise TransferError(f"{name}: the ticket has a URL that is neither data nor http")
        except httpx.TransportError as error:
            raise TryAgainError(f"{name}: the transfer was cut: {type(error).__name__}", attempts=5) from None
        except (httpx.HTTPError, httpx.InvalidURL, SliceError) as error:
            raise TransferError(f"{name}: {error if isinstance(error, SliceError) else type(error).__name__}") from None

    def _ticket(self, name: str, client: httpx.Client, url: str, headers: dict[str, str]) -> HtsgetTicket:
        with client.stream("GET", url, headers=headers) as answer:
            if answer.status_code != 200:
                raise _refusal(name, answer)
            try:
                return HtsgetTicket.model_validate_json(read(answer, MAX_TICKET))
            except (ValidationError, TooLargeError):
                raise TransferError(f"{name}: the htsget server sent no usable ticket") from None

    def _block(
        self, name: str, client: httpx.Client, url: str, headers: dict[str, str], file: IO[bytes], budget: Budget
    ) -> None:
        with client.stream("GET", url, headers={**headers, "Accept-Encoding": "identity"}) as answer:
            if answer.status_code not in (200, 206):
                raise _refusal(name, answer)
            for chunk in answer.iter_raw(CHUNK):
                budget.take(len(chunk))
                file.write(chunk)

    def _finish(self, name: str, parts: Path, target: Path, budget: Budget) -> None:
        with parts.open("rb") as file:
            encrypted = file.read(len(MAGIC)) == MAGIC
        if encrypted:
            with parts.open("rb") as file, target.open("wb") as out:
                self._archive.decrypt(name, file, out, budget)
        else:
            parts.replace(target)


def _refusal(name: str, answer: httpx.Response) -> TransferError:
    words = printable(first(answer.iter_raw(1024), 1000).decode(errors="replace"))
    problem = f"{name}: the htsget server answered {answer.status_code}: {words}"
    return TryAgainError(problem) if answer.status_code in (429, 500, 502, 503, 504) else TransferError(problem)
