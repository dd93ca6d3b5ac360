"""Existence, size and time of files, by way of the gateway: workspace files by listing, inputs by HEAD. Never any content."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from gdi_common.problem import ProblemError
from snakemake_tes_auth.queries import Query
from snakemake_tes_auth.retry import Patience, Refused, error_of, persist

MAX_PAGES = 10_000
MISS_TTL = 0.3  # seconds a "does not exist" is believed: Snakemake asks several times in a row
INPUT_TTL = 300.0  # an archive's file does not change under a run


@dataclass(frozen=True)
class FileInfo:
    """`size` in bytes, `mtime` in epoch seconds."""

    size: int
    mtime: float


class Metadata:
    """What the gateway says about files of one run. The workspace's listing is kept until `changed` says that something new may be there."""

    def __init__(self, http: httpx.AsyncClient, run: str, *, patience: Patience, say: Callable[[str], None], name: str) -> None:
        self._http = http
        self._run = run
        self._patience = patience
        self._say = say
        self._name = name
        self._listing: dict[str, FileInfo] | None = None
        self._directories: dict[str, FileInfo] = {}
        self._misses: dict[str, float] = {}
        self._inputs: dict[Query, tuple[float, FileInfo | None]] = {}
        self._lock = asyncio.Lock()
        self.requests = 0

    async def info(self, query: Query) -> FileInfo | None:
        """The file's size and time, None where it does not exist. Refused where the dataset is not this run's."""
        return await (self._input(query) if query.scheme == "sda" else self._workspace(query))

    async def listing(self) -> dict[str, FileInfo]:
        """Every file of the run's workspace, by path; directories appear as what lies in them."""
        async with self._lock:
            if self._listing is None:
                self._listing = await self._list()
                self._directories = _directories(self._listing)
                self._misses.clear()
            return self._listing

    def changed(self) -> None:
        """Something was written: what is known to exist stays known, what did not exist is asked for again."""
        self._listing = None
        self._misses.clear()

    async def remove(self, query: Query) -> None:
        """`DELETE /workspace/{run}/{path}`; a file that is not there is no error."""
        self._own(query)
        try:
            await self._call("DELETE", f"/workspace/{query.url_path}")
        except ProblemError as error:
            if error.problem.status != 404:
                raise
        if self._listing is not None:
            for path in [p for p in self._listing if p == query.path or p.startswith(query.path + "/")]:
                del self._listing[path]

    def _own(self, query: Query) -> None:
        if query.owner != self._run:
            raise Refused(f"{query} is in the workspace of another run; a workflow may name its own run's workspace only")

    async def _workspace(self, query: Query) -> FileInfo | None:
        self._own(query)
        listing = await self.listing()
        found = listing.get(query.path) or self._directories.get(query.path)
        if found is not None or time.monotonic() - self._misses.get(query.path, -1e9) < MISS_TTL:
            return found
        answer = await self._head(f"/workspace/{query.url_path}")
        if answer is None:
            if len(self._misses) > 100_000:
                self._misses.clear()
            self._misses[query.path] = time.monotonic()
        else:
            listing[query.path] = answer
        return answer

    async def _input(self, query: Query) -> FileInfo | None:
        at, known = self._inputs.get(query, (-1e9, None))
        if time.monotonic() - at < (INPUT_TTL if known else MISS_TTL):
            return known
        try:
            answer = await self._head(f"/datasets/{query.url_path}")
        except ProblemError as error:
            if error.problem.status == 403:
                detail = error.problem.detail if error.slug != "http-error" else "the node's gateway refused it"
                raise Refused(f"AccessDenied: {query}: no access to dataset {query.owner}: {detail}", dataset=query.owner) from None
            raise
        self._inputs[query] = (time.monotonic(), answer)
        return answer

    async def _head(self, path: str) -> FileInfo | None:
        try:
            answer = await self._call("HEAD", path)
        except ProblemError as error:
            if error.problem.status == 404:
                return None
            raise
        try:
            # An archive need not know when a file came: it is then older than anything made from it.
            changed = answer.headers.get("last-modified")
            return FileInfo(int(answer.headers["content-length"]), parsedate_to_datetime(changed).timestamp() if changed else 0.0)
        except (KeyError, ValueError):
            raise ProblemError(502, "bad-answer", f"{self._name} answered HEAD {path} without a usable Content-Length.") from None

    async def _list(self) -> dict[str, FileInfo]:
        found: dict[str, FileInfo] = {}
        params: dict[str, Any] = {"prefix": ""}
        seen: set[str] = set()
        for _ in range(MAX_PAGES):
            answer = await self._call("GET", f"/workspace/{self._run}", params=params)
            try:
                body = answer.json()
                for entry in body["files"]:
                    found[str(entry["path"])] = FileInfo(int(entry["size"]), float(entry["mtime"]))
                token = body.get("next_page_token")
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ProblemError(502, "bad-answer", f"{self._name} answered the workspace's listing with something else.") from None
            if not token:
                return found
            if token in seen:
                raise ProblemError(502, "bad-answer", f"{self._name} gave the same page of the workspace's listing twice.")
            seen.add(token)
            params = {"prefix": "", "page_token": token}
        raise ProblemError(502, "bad-answer", f"the workspace's listing has more than {MAX_PAGES} pages.")

    async def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            self.requests += 1
            answer = await self._http.request(method, path, **arguments)
            if not answer.is_success:
                raise error_of(answer)
            return answer

        return await persist(once, what=self._name, patience=self._patience, say=self._say)


def _directories(listing: dict[str, FileInfo]) -> dict[str, FileInfo]:
    """A directory is there when something lies in it; its time is that of its newest file, its size 0 as Snakemake wants it."""
    found: dict[str, FileInfo] = {}
    for name, info in listing.items():
        parent = name.rpartition("/")[0]
        while parent:
            if parent not in found or found[parent].mtime < info.mtime:
                found[parent] = FileInfo(0, info.mtime)
            parent = parent.rpartition("/")[0]
    return found
