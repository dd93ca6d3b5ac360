"""One catalogue read from its URL: the document there, and what it links to at the same server, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from gdi.kit.bounded_read import BoundedAsyncClient, TooLargeError
from gdi.kit.tls import authorities

MAX_DOCUMENT = 8 * 1024 * 1024
MAX_BYTES = 32 * 1024 * 1024  # of all documents of one reading
MAX_DOCUMENTS = 1000
MEMORY = 400 * 1024 * 1024  # of the process that parses; 10,000 datasets of eleven statements need half of it
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
    """`records`: as `documents.read` gives them. `problems`: what of the catalogue could not be read."""

    records: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


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
        while left:
            documents = []
            for start in range(0, len(left), AT_ONCE):
                found = await asyncio.gather(*(self._document(url) for url in left[start : start + AT_ONCE]))
                size += sum(len(one["text"]) for one in found if isinstance(one, dict))
                harvest.problems += [one for one in found if isinstance(one, str)]
                documents += [one for one in found if isinstance(one, dict)]
                if size > MAX_BYTES:
                    harvest.problems.append(f"more than {MAX_BYTES} bytes together: the rest was not read")
                    break
            catalogs, members = await self._take(documents, claims, harvest)
            if first in left and harvest.problems and not (harvest.records or catalogs or members):
                raise HarvestError(harvest.problems[0])
            follow = _followed(first, [*catalogs, *members], seen)
            if len(seen) + len(follow) > MAX_DOCUMENTS:
                harvest.problems.append(f"more than {MAX_DOCUMENTS} documents: the rest was not read")
            left = [] if size > MAX_BYTES else follow[: MAX_DOCUMENTS - len(seen)]
            seen |= set(left)
        return harvest

    async def _take(
        self, documents: list[dict[str, str]], claims: list[str], harvest: Harvest
    ) -> tuple[list[str], list[str]]:
        """Puts what the documents say into `harvest`; gives the links to catalogues and to datasets."""
        if not documents:
            return [], []
        answers = await self._parsed(documents, claims)
        for document, answer in zip(documents, answers, strict=True):
            if "error" in answer:
                harvest.problems.append(f"{document['url']}: {answer['error']}")
        good = [answer for answer in answers if "error" not in answer]
        harvest.records += [record for answer in good for record in answer["datasets"]]
        return [u for a in good for u in a["catalogs"]], [u for a in good for u in a["members"]]

    async def _document(self, url: str) -> dict[str, str] | str:
        """A document's text and format, or what is wrong with it."""
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
            return {"url": url, "format": form, "text": answer.content.decode()}
        except UnicodeDecodeError:
            return f"{url}: is not UTF-8"

    async def _parsed(self, documents: list[dict[str, str]], claims: list[str]) -> list[dict[str, Any]]:
        """By a process of its own (`documents`), which gets no environment of ours. HarvestError where it died."""
        request = await asyncio.to_thread(_encoded, {"claims": claims, "documents": documents})
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
            answer, _ = await process.communicate(request)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            why = "too long" if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL) else "more than it may"
            raise HarvestError(f"{documents[0]['url']}: reading what it says takes {why}")
        answers: list[dict[str, Any]] = await asyncio.to_thread(json.loads, answer)
        return answers


def _encoded(request: dict[str, Any]) -> bytes:
    return json.dumps(request).encode()


def _followed(first: str, links: list[str], seen: set[str]) -> list[str]:
    """Those at the server that the operator named, each once; others are nobody's choice but the document's."""
    found = dict.fromkeys(link.partition("#")[0] for link in links)
    return [link for link in found if link not in seen and _origin(link) == _origin(first)]


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "", None, None
