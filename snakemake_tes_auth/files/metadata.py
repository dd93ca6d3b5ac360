"""Existence, size and time of files, by way of the gateway: the workspace by one listing and by what finished tasks
reported, inputs by HEAD. No content.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import ValidationError
from tes.models import Task

from gdi.contracts.gateway_api import Datasets, ObjectFile, StoredFile, WorkspaceListing
from gdi.contracts.urls import DrsUrl, HtsgetUrl, SdaUrl, StorageUrl, WorkspaceUrl
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.retry import Refusal, error_of, persist

MAX_PAGES = 10_000
PAGE = 1000  # files on a page of the gateway's listing
MISS_TTL = 0.3  # seconds a "does not exist" is believed: Snakemake asks several times in a row
INPUT_TTL = 300.0  # an archive's file does not change under a run
MAX_MISSES = 100_000


@dataclass(frozen=True)
class FileInfo:
    """`size` in bytes, None where only the file's task said that it is there; `mtime` in epoch seconds."""

    size: int | None
    mtime: float


@dataclass
class ExpectedFiles:
    """Files that a COMPLETE task was to make: `task` is its id, so that it can be asked for their sizes."""

    task: dict[str, str] = field(default_factory=dict)
    requests: int = 0  # tasks asked for sizes since the last listing

    def forget(self, path: str) -> None:
        self.task.pop(path, None)


class FileMetadata:
    """What the gateway says about files of one run.

    The workspace is listed once. From then on a file is there when it was listed, or when a task that declares it as
    output is COMPLETE (a TES uploads before it says so, and our own tasks check their outputs). `verify` finds out at
    the end whether that was true. `task` reads one task, for its outputs' sizes.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        run: str,
        *,
        patience: RetryPolicy,
        say: Callable[[str], None],
        name: str,
        task: Callable[[str], Awaitable[Task]] | None = None,
    ) -> None:
        self._http = http
        self._run = run
        self._patience = patience
        self._say = say
        self._name = name
        self._task = task
        self._files: dict[str, FileInfo] | None = None
        self._directories: dict[str, FileInfo] = {}
        self._closed: set[str] = set()  # directories of which the node tells that they are there, and no more
        self._open: set[str] = (
            set()
        )  # directories that a task made: what is in them is not known before the next listing
        self._expected = ExpectedFiles()
        self._misses: dict[str, float] = {}
        self._inputs: dict[StorageUrl, tuple[float, FileInfo | None]] = {}
        self._lock = asyncio.Lock()
        self.requests = 0

    def known(self, query: StorageUrl) -> FileInfo | None:
        """What is known of a file without asking anyone, None where nothing is; from any thread."""
        if query.read_only:
            at, found = self._inputs.get(query, (-1e9, None))
            return found if time.monotonic() - at < INPUT_TTL else None
        if self._files is None or query.owner != self._run:
            return None
        return self._files.get(query.path) or self._directories.get(query.path)

    async def info(self, query: StorageUrl) -> FileInfo | None:
        """The file's size (None: see `size`) and time, None where it does not exist. Refusal where the dataset is not
        this run's.
        """
        return await (self._input(query) if query.read_only else self._workspace(query))

    async def size(self, query: StorageUrl) -> int | None:
        """The file's size in bytes, None where it does not exist. Asks the task that made it, or lists the workspace
        where that costs less in the long run.
        """
        info = await self.info(query)
        if info is None or info.size is not None:
            return info.size if info else None
        async with self._lock:  # what one caller finds out serves those who waited for it
            info = self.known(query)
            if info is not None and info.size is None:
                # As with skis: rent (ask a task) until that has cost as much as buying (a listing, which serves all
                # files).
                if self._task is None or self._expected.requests >= math.ceil(len(self._files or ()) / PAGE):
                    await self._relist()
                else:
                    self._expected.requests += 1
                    await self._ask_task(query.path)
        info = await self.info(query)
        if info is not None and info.size is None:  # its task does not say
            async with self._lock:
                await self._relist()
            info = await self.info(query)
        return info.size if info else None

    async def _ask_task(self, path: str) -> None:
        """Sizes of all outputs of the task that made `path`, as the TES reports them
        (`logs[].outputs[].size_bytes`).
        """
        assert self._task is not None and self._files is not None
        try:
            task = await self._task(self._expected.task[path])
        except (ProblemError, KeyError):
            return
        prefix = str(WorkspaceUrl(self._run, ""))
        for output in (o for log in task.logs or [] for o in log.outputs or []):
            name, size = output.url or "", output.size_bytes
            known = self._files.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
            if known is not None and known.size is None and size is not None:
                self._files[name.removeprefix(prefix)] = FileInfo(size, known.mtime)

    async def listing(self) -> dict[str, FileInfo]:
        """Every file of the run's workspace that is known, by path; directories appear as what lies in them. The first
        call lists.
        """
        if self._files is None:
            async with self._lock:
                if self._files is None:
                    await self._relist()
        assert self._files is not None
        return self._files

    async def is_folder(self, query: StorageUrl) -> bool:
        """Whether files lie below this name in the run's workspace."""
        self._own(query)
        await self.listing()
        return query.path in self._directories

    async def within(self, query: StorageUrl) -> dict[str, int]:
        """The files of a folder of the workspace, by path below it, with their sizes; from a new listing where a task
        made the folder since the last one.
        """
        self._own(query)
        await self.listing()
        if query.path in self._open:
            async with self._lock:
                await self._relist()
        if query.path in self._closed:
            raise Refusal(
                f"{query}: names in a folder stay at this node. Declare each file as an output of its own, or run the"
                " workflow at a node of placement `node`, where Snakemake is inside"
            )
        top = query.path + "/"
        return {p.removeprefix(top): i.size or 0 for p, i in (await self.listing()).items() if p.startswith(top)}

    async def _relist(self) -> list[str]:
        """Reads the whole listing; what had been believed before it began and is not in it is believed no more, and
        returned.
        """
        before = set(self._expected.task)
        everything = await self._list()
        closed = {file.path: FileInfo(0, file.mtime) for file in everything.values() if file.folder}
        listed = {path: FileInfo(f.size, f.mtime) for path, f in everything.items() if not f.folder}
        # A file of a task that ended meanwhile need not be in it.
        listed.update(
            {
                p: i
                for p, i in (self._files or {}).items()
                if p in self._expected.task and p not in before and p not in listed
            }
        )
        directories = _directories(listed | closed) | closed
        lost = sorted(p for p in before if p not in listed and p not in directories and p in self._expected.task)
        for path in before:
            self._expected.forget(path)
        self._expected.requests = 0
        self._directories = directories
        self._closed = set(closed)
        self._files = listed
        self._open.clear()
        self._misses.clear()
        return lost

    def produced(self, outputs: Iterable[tuple[str, bool]], task: str, when: float) -> None:
        """A task is COMPLETE: its outputs (path, whether it is a directory) are there since `when` (epoch seconds).
        From any thread.
        """
        if self._files is None:
            return  # not listed yet: the listing will show them
        for path, directory in outputs:
            info = FileInfo(0 if directory else None, when)
            if directory:
                self._directories[path] = info
                self._open.add(path)
            else:
                self._files[path] = info
            self._expected.task[path] = task
            self._misses.pop(path, None)
            for parent in _parents(path):
                if parent not in self._directories or self._directories[parent].mtime < when:
                    self._directories[parent] = FileInfo(0, when)

    async def verify(self) -> list[str]:
        """The files that COMPLETE tasks were to make and that are not there; one listing, none where nothing was only
        believed.
        """
        async with self._lock:
            return await self._relist() if self._expected.task else []

    async def absent(self, queries: Iterable[StorageUrl]) -> list[str]:
        """Which of these files were only believed to be there and are not, each asked for by itself."""
        own = (q for q in queries if q.scheme == "workspace" and q.owner == self._run)
        missing = [
            q
            for q in own
            if q.path in self._expected.task
            and q.path not in self._open
            and await self._head(f"/workspace/{q.url_path}") is None
        ]
        for query in missing:
            self._drop(query.path)
        return [str(query) for query in missing]

    async def remove(self, query: StorageUrl) -> None:
        """`DELETE /workspace/{run}/{path}`; a file that is not there is no error."""
        self._own(query)
        try:
            await self._call("DELETE", f"/workspace/{query.url_path}")
        except ProblemError as error:
            if error.problem.status != 404:
                raise
        self._drop(query.path)

    def _drop(self, path: str) -> None:
        self._expected.forget(path)
        if self._files is None:
            return
        self._files.pop(path, None)
        if path in self._directories:
            del self._directories[path]
            self._closed.discard(path)
            self._open.discard(path)
            for inner in [p for p in self._files if p.startswith(path + "/")]:
                del self._files[inner]

    def _own(self, query: StorageUrl) -> None:
        if query.owner != self._run:
            raise Refusal(
                f"{query} is in the workspace of another run; a workflow may name its own run's workspace only"
            )

    async def _workspace(self, query: StorageUrl) -> FileInfo | None:
        self._own(query)
        listing = await self.listing()
        found = listing.get(query.path) or self._directories.get(query.path)
        if found is not None or time.monotonic() - self._misses.get(query.path, -1e9) < MISS_TTL:
            return found
        answer = await self._head(f"/workspace/{query.url_path}")
        if answer is None:
            if len(self._misses) > MAX_MISSES:
                self._misses.clear()
            self._misses[query.path] = time.monotonic()
        else:
            listing[query.path] = answer
        return answer

    async def _input(self, query: StorageUrl) -> FileInfo | None:
        at, known = self._inputs.get(query, (-1e9, None))
        if time.monotonic() - at < (INPUT_TTL if known else MISS_TTL):
            return known
        try:
            answer = await (
                self._object(query) if isinstance(query, DrsUrl) else self._head(f"/datasets/{query.url_path}")
            )
        except ProblemError as error:
            if error.problem.status == 403:
                detail = error.problem.detail if error.slug != "http-error" else "the node's gateway refused it"
                if isinstance(query, DrsUrl):
                    raise Refusal(f"AccessDenied: {query}: {detail}") from None
                dataset = query.dataset if isinstance(query, SdaUrl | HtsgetUrl) else query.owner
                raise Refusal(
                    f"AccessDenied: {query}: no access to dataset {dataset}: {detail}", dataset=dataset
                ) from None
            raise
        self._inputs[query] = (time.monotonic(), answer)
        return answer

    async def _object(self, query: DrsUrl) -> FileInfo | None:
        """The file that a DRS object is, by the node's own look."""
        try:
            answer = await self._call("GET", f"/drs/{query.url_path}")
            found = ObjectFile.model_validate_json(answer.content)
        except ProblemError as error:
            if error.problem.status == 404 and error.slug == "not-found":
                return None
            raise
        except ValidationError:
            raise ProblemError(502, "bad-answer", f"{self._name} answered GET /drs with something else.") from None
        return FileInfo(found.size, found.modified or 0.0)

    async def described(self) -> Datasets:
        """The run's datasets as the node's operator describes them."""
        answer = await self._call("GET", "/datasets")
        try:
            return Datasets.model_validate_json(answer.content)
        except ValidationError:
            raise ProblemError(502, "bad-answer", f"{self._name} answered GET /datasets with something else.") from None

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
            return FileInfo(
                int(answer.headers["content-length"]), parsedate_to_datetime(changed).timestamp() if changed else 0.0
            )
        except (KeyError, ValueError):
            raise ProblemError(
                502, "bad-answer", f"{self._name} answered HEAD {path} without a usable Content-Length."
            ) from None

    async def _list(self) -> dict[str, StoredFile]:
        found: dict[str, StoredFile] = {}
        params: dict[str, Any] = {"prefix": ""}
        seen: set[str] = set()
        for _ in range(MAX_PAGES):
            answer = await self._call("GET", f"/workspace/{self._run}", params=params)
            try:
                page = WorkspaceListing.model_validate_json(answer.content)
            except ValidationError:
                raise ProblemError(
                    502, "bad-answer", f"{self._name} answered the workspace's listing with something else."
                ) from None
            found |= {file.path: file for file in page.files}
            token = page.next_page_token
            if not token:
                return found
            if token in seen:
                raise ProblemError(
                    502, "bad-answer", f"{self._name} gave the same page of the workspace's listing twice."
                )
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


def _parents(path: str) -> Iterable[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _directories(listing: dict[str, FileInfo]) -> dict[str, FileInfo]:
    """A directory is there when something lies in it; its time is that of its newest file, its size 0 as Snakemake
    wants it.
    """
    found: dict[str, FileInfo] = {}
    for name, info in listing.items():
        for parent in _parents(name):
            if parent not in found or found[parent].mtime < info.mtime:
                found[parent] = FileInfo(0, info.mtime)
    return found
