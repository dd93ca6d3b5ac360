"""`sda://DATASET/path[#credential]` from the archive (SDA download API v1) or the node's gateway in front of it:
streamed, decrypted, verified.

`GET /s3/DATASET/path`, or `/s3-encrypted/…` with `Client-Public-Key: base64(PEM)` where the path ends in `.c4gh`, as
Funnel does.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import httpx

from gdi.contracts.urls import SdaUrl, UrlError
from gdi.funnel.crypt4gh import MAGIC, MAX_HEADER, SEALED, Body, DamagedError, Key, packets
from gdi.kit.bounded_read import first
from gdi.kit.secret_files import read_secret
from gdi.kit.settings import SettingsError
from gdi.kit.tls import authorities
from gdi.local_federation.tes.config import ArchiveConfig
from gdi.local_federation.tes.transfer import (
    CHUNK,
    Budget,
    TransferError,
    TryAgainError,
    copy,
    printable,
    with_retry,
)

TIMEOUT = httpx.Timeout(60, connect=10)


class ArchiveReader:
    """Fetches for this node, with its Crypt4GH key. Thread-safe: a connection of its own for each fetch, no cookies
    kept between users.
    """

    def __init__(self, settings: ArchiveConfig) -> None:
        self._settings = settings
        read_secret(settings.secret_key_file)  # mode and presence
        try:
            self._key = Key.load(settings.secret_key_file)
            public = settings.public_key_file.read_bytes()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"archive: the Crypt4GH keys {settings.secret_key_file}, {settings.public_key_file}: {error}"
            ) from None
        self.public = base64.b64encode(public).decode()
        url = urlsplit(settings.url)
        self._socket = unquote(url.netloc) if url.scheme == "http+unix" else None
        self.base = ("http://gateway" + url.path if self._socket else settings.url).rstrip("/")

    def fetch(self, url: str, token: str | None, target: Path, budget: Budget) -> None:
        """Writes the plaintext to `target`. TransferError naming the URL without fragment; StoppedError when
        cancelled.
        """
        plain, has, credential = url.rpartition("#")
        if not has:
            plain, credential = url, token or ""
        named = sda_url(plain)
        with_retry(lambda: self._attempt(named, credential, target, budget), budget, self._settings.retry_seconds)

    @property
    def patience(self) -> float:
        """Seconds for which an archive that is away is waited for."""
        return self._settings.retry_seconds

    def client(self) -> httpx.Client:
        """To be closed by who asked for it."""
        transport = httpx.HTTPTransport(uds=self._socket, verify=authorities()) if self._socket else None
        return httpx.Client(transport=transport, timeout=TIMEOUT, trust_env=False, verify=authorities())

    def decrypt(self, name: str, source: IO[bytes], file: IO[bytes], budget: Budget) -> None:
        """A whole Crypt4GH file to plain data. TransferError."""
        _decrypt(name, self._key, source, _Sink(file, budget))

    def _attempt(self, named: SdaUrl, credential: str, target: Path, budget: Budget) -> None:
        name, encrypted = str(named), named.path.endswith(".c4gh")
        headers = {"Accept-Encoding": "identity"}
        if credential:
            headers["Authorization"] = f"Bearer {credential}"
        if encrypted:
            headers["Client-Public-Key"] = self.public
        where = f"{self.base}/{'s3-encrypted' if encrypted else 's3'}/{named.url_path}"
        began = False
        try:
            with (
                self.client() as client,
                client.stream("GET", where, headers=headers) as answer,
            ):
                if answer.status_code != 200:
                    raise _refusal(name, answer)
                began = True
                with target.open("wb") as file:
                    self._receive(name, encrypted, answer, file, budget)
        except httpx.TransportError as error:
            problem = (
                f"{printable(name)}: {'the transfer was cut' if began else 'the archive did not answer'}:"
                f" {type(error).__name__}"
            )
            raise TryAgainError(problem, attempts=5 if began else None) from None
        except httpx.HTTPError as error:
            raise TransferError(f"{printable(name)}: {type(error).__name__}") from None

    def _receive(self, name: str, encrypted: bool, answer: httpx.Response, file: IO[bytes], budget: Budget) -> None:
        source = io.BufferedReader(_Body(answer.iter_raw(64 * 1024)), CHUNK)
        sink = _Sink(file, budget)
        if encrypted:
            if source.peek(len(MAGIC))[: len(MAGIC)] != MAGIC:
                raise TransferError(
                    f"{printable(name)}: not a Crypt4GH file; the archive said:"
                    f" {printable(source.read(2000).decode(errors='replace'))}"
                )
            _decrypt(name, self._key, source, sink)
        else:
            copy(source, sink, budget)  # type: ignore[arg-type]  # the sink is all of a file that copy uses
        expected = re.sub(r'^W/|"', "", answer.headers.get("etag", "")).lower()
        if re.fullmatch(r"[0-9a-f]{64}", expected) and expected != sink.digest.hexdigest():
            raise TransferError(
                f"{printable(name)}: the checksum of the decrypted file is not the archive's; the file is damaged"
            )


def _decrypt(name: str, key: Key, source: IO[bytes], sink: _Sink) -> None:
    try:
        header = source.read(16)
        for _ in range(int.from_bytes(header[12:16], "little")):
            length = source.read(4)
            size = int.from_bytes(length, "little")
            if len(header) + size > MAX_HEADER:
                raise DamagedError(f"its header is longer than {MAX_HEADER} bytes")
            header += length + source.read(max(0, size - 4))
        body = Body(packets(header)[0], key)
        while segment := source.read(SEALED):
            sink.write(body.open(segment))
        body.end()
    except DamagedError as error:
        raise TransferError(f"{printable(name)}: not decryptable with this node's key, or damaged: {error}") from None


def _refusal(name: str, answer: httpx.Response) -> TransferError:
    problem = (
        f"{printable(name)}: the archive answered {answer.status_code}:"
        f" {printable(first(answer.iter_raw(1024), 1000).decode(errors='replace'))}"
    )
    if answer.status_code in (429, 500, 503, 504):
        return TryAgainError(problem)
    return TryAgainError(problem, attempts=3) if answer.status_code == 502 else TransferError(problem)


def sda_url(url: str) -> SdaUrl:
    """The file that a task's input names, its credential cut off. TransferError where it names none."""
    try:
        return SdaUrl.parse(url)
    except UrlError as error:
        raise TransferError(f"{printable(url)}: {error.why}") from None


class _Body(io.RawIOBase):
    """An HTTP body as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # a writable buffer: collections.abc.Buffer is Python 3.12
        while not self._rest:
            try:
                self._rest = memoryview(next(self._chunks))
            except StopIteration:
                return 0
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Sink:
    """Writes, hashes and counts."""

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        self._file = file
        self._budget = budget
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._budget.take(len(data))
        self.digest.update(data)
        return self._file.write(data)
