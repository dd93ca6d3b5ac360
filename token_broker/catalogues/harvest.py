"""One catalogue read from its URL: the document there, and what it links to at the same server, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from gdi.contracts.ids import is_dataset_id
from gdi.kit.bounded_read import BoundedAsyncClient, TooLargeError, acollect
from gdi.kit.tls import authorities
from token_broker.catalogues.bounds import MAX_DOCUMENTS, MOST_KEPT
from token_broker.catalogues.links import origin

MAX_DOCUMENT = 8 * 1024 * 1024
MAX_BATCH = MAX_DOCUMENT  # of documents that one process parses
MAX_ANSWER = 2 * MAX_BATCH  # of what it says
MAX_BYTES = 32 * 1024 * 1024  # of all documents of one reading
MEMORY = 200 * 1024 * 1024  # of the process that parses, in the broker's own pod; enough for 5,000 of eleven statements
WITHIN = 120.0  # seconds for all of it
TIMEOUT, AT_ONCE = 10.0, 4  # seconds of silence; requests
FORMATS = {"text/turtle": "turtle", "application/ld+json": "json-ld"}
SUFFIXES = {".ttl": "turtle", ".jsonld": "json-ld"}  # of a file whose server knows no such types
PLAIN = ("text/plain", "application/octet-stream", "")
ACCEPT = {"Accept": "text/turtle, application/ld+json;q=0.5", "User-Agent": "gdi-token-broker"}


class HarvestError(Exception):
    """Nothing could be read. In words, with what to do."""


@dataclass
class Harvest:
    """`records`: as `documents.read` gives them, of each dataset the first. `problems`: what of the catalogue could not
    be read. `more`: there were more datasets than are kept.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    more: bool = False
    _known: set[str] = field(default_factory=set)

    @property
    def full(self) -> bool:
        return len(self.records) >= MOST_KEPT

    def add(self, record: dict[str, Any]) -> None:
        dataset = str(record["id"])
        if dataset in self._known or not is_dataset_id(dataset):
            return
        if self.full:
            self.more = True
            return
        self._known.add(dataset)
        self.records.append(record)


@dataclass(frozen=True)
class Document:
    """As it was sent: UTF-8 in `content`."""

    url: str
    form: str
    content: bytes


class Links:
    """Where more of a catalogue is: documents at the server that the operator named, which nobody has read. Catalogues
    stand before datasets.
    """

    def __init__(self, server: tuple[str, str | None, int | None], seen: Set[str]) -> None:
        self._server, self._seen = server, seen
        self._catalogs: dict[str, None] = {}
        self._members: dict[str, None] = {}

    def add(self, catalogs: Iterable[str], members: Iterable[str]) -> None:
        for kept, links in ((self._catalogs, catalogs), (self._members, members)):
            for link in links:
                if len(kept) > MAX_DOCUMENTS:
                    break
                if link not in self._seen and link not in kept and origin(link) == self._server:
                    kept[link] = None

    def all(self) -> list[str]:
        return list(self._catalogs | self._members)


class Harvester:
    """Reads catalogues; no token goes to them: what they tell is public."""

    def __init__(self, *, within: float = WITHIN, memory: int = MEMORY, python: str = sys.executable) -> None:
        self._within, self._memory, self._python = within, memory, python
        self._http = BoundedAsyncClient(
            max_answer=MAX_DOCUMENT,
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=AT_ONCE),
            trust_env=False,
            verify=authorities(),
            headers=ACCEPT,
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def read(self, url: str, claims: Sequence[str]) -> Harvest:
        """What the catalogue at `url` says of the datasets that `claims` covers. HarvestError where its first document
        cannot be read, or all of it takes too long.
        """
        try:
            async with asyncio.timeout(self._within):
                return await self._walk(url, list(claims))
        except TimeoutError:
            raise HarvestError(f"was not read within {self._within:g} s") from None

    async def _walk(self, first: str, claims: list[str]) -> Harvest:
        harvest, seen, left, size = Harvest(), {first}, [first], 0
        server = origin(first)
        while left:
            links, batch, weight = Links(server, seen), list[Document](), 0
            for start in range(0, len(left), AT_ONCE):
                found = await asyncio.gather(*(self._document(url) for url in left[start : start + AT_ONCE]))
                for one in found:
                    if isinstance(one, str):
                        harvest.problems.append(one)
                        continue
                    if batch and weight + len(one.content) > MAX_BATCH:
                        await self._take(batch, claims, harvest, links)
                        batch, weight = [], 0
                    batch.append(one)
                    weight += len(one.content)
                    size += len(one.content)
                if size > MAX_BYTES or harvest.full:
                    break
            await self._take(batch, claims, harvest, links)
            follow = links.all()
            if first in left and harvest.problems and not (harvest.records or follow):
                raise HarvestError(harvest.problems[0])
            if size > MAX_BYTES:
                harvest.problems.append(f"more than {MAX_BYTES} bytes together: the rest was not read")
            if harvest.more or (harvest.full and follow):
                harvest.problems.append(f"more than {MOST_KEPT} datasets: the rest was not read")
            elif len(seen) + len(follow) > MAX_DOCUMENTS:
                harvest.problems.append(f"more than {MAX_DOCUMENTS} documents: the rest was not read")
            left = [] if size > MAX_BYTES or harvest.full else follow[: MAX_DOCUMENTS - len(seen)]
            seen |= set(left)
        return harvest

    async def _take(self, documents: list[Document], claims: list[str], harvest: Harvest, links: Links) -> None:
        """Puts what the documents say into `harvest`, and where they lead into `links`."""
        if not documents:
            return
        for document, answer in zip(documents, await self._parsed(documents, claims), strict=True):
            if "error" in answer:
                harvest.problems.append(f"{document.url}: {answer['error']}")
                continue
            for record in answer["datasets"]:
                harvest.add(record)
            links.add(answer["catalogs"], answer["members"])

    async def _document(self, url: str) -> Document | str:
        """A document, or what is wrong with it."""
        try:
            answer = await self._http.get(url)
        except TooLargeError:
            return f"{url}: larger than {MAX_DOCUMENT} bytes"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"{url}: cannot be reached ({type(error).__name__})"
        if answer.is_redirect:
            return f"{url}: leads elsewhere, which is not followed; enrol the URL where it is"
        if answer.status_code != 200:
            return f"{url}: answered {answer.status_code}"
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        path = urlsplit(url).path
        form = FORMATS.get(kind) or (SUFFIXES.get(path[path.rfind(".") :]) if kind in PLAIN and "." in path else None)
        if form is None:
            return f"{url}: answered {kind[:60] or 'no type'} and not Turtle or JSON-LD"
        try:
            answer.content.decode()  # not kept: with one letter of the higher planes a text has four times the bytes
        except UnicodeDecodeError:
            return f"{url}: is not UTF-8"
        return Document(url, form, answer.content)

    async def _parsed(self, documents: list[Document], claims: list[str]) -> list[dict[str, Any]]:
        """By a process of its own (`documents`), which gets no environment of ours. HarvestError where it died, or says
        too much.
        """
        request = await asyncio.to_thread(_encoded, documents, claims)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            self._python,
            *("-I", "-m", "token_broker.catalogues.documents", str(self._memory)),
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        )
        try:
            answer = await _exchanged(process, request)
        except TooLargeError:
            raise HarvestError(f"{documents[0].url}: what it says is more than {MAX_ANSWER} bytes") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await _ended(process)
        if process.returncode != 0:
            why = "too long" if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL) else "more than it may"
            raise HarvestError(f"{documents[0].url}: reading what it says takes {why}")
        answers: list[dict[str, Any]] = await asyncio.to_thread(json.loads, answer)
        return answers


def _encoded(documents: list[Document], claims: list[str]) -> bytes:
    texts = [{"url": one.url, "format": one.form, "text": one.content.decode()} for one in documents]
    return json.dumps({"claims": claims, "documents": texts}, ensure_ascii=False).encode()


async def _exchanged(process: asyncio.subprocess.Process, request: bytes) -> bytes:
    """What the process answers, which reads all before it writes. TooLargeError beyond MAX_ANSWER."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: its return code says so
        process.stdin.write(request)
        await process.stdin.drain()
    process.stdin.close()
    answer = await acollect(_parts(process.stdout), MAX_ANSWER)
    await process.wait()
    return answer


async def _ended(process: asyncio.subprocess.Process) -> None:
    """asyncio tells of a process's end only after its pipe's, which nobody reaches who stopped reading."""
    assert process.stdout is not None
    async for _ in _parts(process.stdout):
        pass
    await process.wait()


async def _parts(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while part := await stream.read(65536):
        yield part
