"""The workflow's own files for tasks: stored once in the workspace under their SHA-256 and named from there, so that
tasks and their lists stay small.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import httpx
from tes.models import Input

from gdi.contracts.urls import SOURCES, WorkspaceUrl
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.retry import error_of, persist
from snakemake_tes_auth.tasks.tasks import CannotRun

MAX_FILE = 4 * 1024 * 1024  # bytes; what the gateway takes (docs/contracts.md)
MAX_STORED = 64 * 1024 * 1024  # bytes that go into a storage of the user's own
MAX_INLINE = 128 * 1024  # bytes of one inline content that every TES must take (TES 1.1, tesInput.content)


class SourceStore(Protocol):
    """Takes a file's bytes and says under which URL a task gets them."""

    limit: int  # bytes of one file

    async def put(self, sha256: str, data: bytes) -> str: ...


class Sources:
    """Files as TES inputs. Each content is stored once per process, also when many jobs ask for it at once. Without a
    store they go in inline.
    """

    def __init__(self, store: SourceStore | None) -> None:
        self._store = store
        self.limit = MAX_INLINE if store is None else store.limit
        self._urls: dict[str, asyncio.Task[str]] = {}
        self._known: dict[Path, tuple[tuple[int, int], str]] = {}

    async def inputs(self, files: Iterable[Path], at: Callable[[Path], str] = str) -> list[Input]:
        """One input for each file, sorted by path; `at` says where the task sees it. CannotRun where a file cannot be
        read or is too large.
        """
        return list(await asyncio.gather(*(self._input(path, at(path)) for path in sorted(set(files)))))

    async def _input(self, path: Path, target: str) -> Input:
        if self._store is None:
            return Input(content=_inline(path), path=target)
        sha256, data = self._read(path)
        task = self._urls.get(sha256)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._urls[sha256] = asyncio.ensure_future(
                self._store.put(sha256, data if data is not None else _bytes(path, self.limit))
            )
        return Input(url=await asyncio.shield(task), path=target)

    def _read(self, path: Path) -> tuple[str, bytes | None]:
        """The file's SHA-256; its bytes too where they had to be read. A file with the same time and size is not read
        again.
        """
        try:
            stat = path.stat()
        except OSError as error:
            raise CannotRun(f"the workflow's file {path} cannot be read: {error.strerror}") from None
        stamp, known = (stat.st_mtime_ns, stat.st_size), self._known.get(path)
        if known is not None and known[0] == stamp and known[1] in self._urls:
            return known[1], None
        data = _bytes(path, self.limit)
        sha256 = hashlib.sha256(data).hexdigest()
        self._known[path] = (stamp, sha256)
        return sha256, data


class GatewayStore:
    """`PUT /workspace/{run}/.gdi/sources/{sha256}`: the gateway checks the hash; nobody outside can read it back."""

    limit = MAX_FILE

    def __init__(
        self, http: httpx.AsyncClient, run: str, *, patience: RetryPolicy, say: Callable[[str], None], server: str
    ) -> None:
        self._http, self._run, self._patience, self._say, self._server = http, run, patience, say, server

    async def put(self, sha256: str, data: bytes) -> str:
        async def once() -> None:
            answer = await self._http.put(
                f"/workspace/{self._run}/{SOURCES}/{sha256}",
                content=data,
                headers={"Content-Type": "application/octet-stream"},
            )
            if not answer.is_success:
                raise error_of(answer)

        try:
            await persist(once, what=self._server, patience=self._patience, say=self._say)
        except ProblemError as error:
            raise CannotRun(f"{self._server} did not take one of the workflow's files: {error}") from None
        return str(WorkspaceUrl(self._run, f"{SOURCES}/{sha256}"))


class StorageStore:
    """Snakemake's default storage, through its own plugin: `<prefix>/.gdi/sources/<sha256>`. Its calls block, so they
    run on threads.
    """

    limit = MAX_STORED

    def __init__(self, provider: Any, prefix: str) -> None:
        self._provider, self._prefix = provider, prefix.rstrip("/")
        self._one = asyncio.Semaphore(4)

    @classmethod
    def of(cls, provider: Any | None, prefix: str) -> StorageStore | None:
        """None where no default storage is given, or one that a TES cannot reach by a URL (a folder of this
        machine).
        """
        return cls(provider, prefix) if provider is not None and "://" in prefix else None

    async def put(self, sha256: str, data: bytes) -> str:
        async with self._one:
            return await asyncio.to_thread(self._put, sha256, data)

    def _put(self, sha256: str, data: bytes) -> str:
        query = f"{self._prefix}/{SOURCES}/{sha256}"
        made = self._provider.object(query)
        try:
            if not made.exists():
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder) / sha256
                    file.write_bytes(data)
                    made.set_local_path(file)
                    made.store_object()
        except Exception as error:  # any storage plugin's own exception
            raise CannotRun(
                f"a file of the workflow could not be stored as {query}: {type(error).__name__}: {str(error)[:300]}"
            ) from None
        return str(made.query)


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as handle:
            if os.fstat(handle.fileno()).st_size > limit:
                raise CannotRun(
                    f"the workflow's file {path} is larger than {limit} bytes; put large files into the image, a"
                    " dataset or the storage"
                )
            return handle.read(limit)
    except OSError as error:
        raise CannotRun(f"the workflow's file {path} cannot be read: {error.strerror}") from None


def _inline(path: Path) -> str:
    data = _bytes(path, MAX_FILE)
    try:
        if len(data) > MAX_INLINE:
            raise CannotRun(
                f"{path} is larger than {MAX_INLINE} bytes, and there is no default storage to put it into: give"
                " --default-storage-provider and -prefix"
            )
        return data.decode()
    except UnicodeDecodeError:
        raise CannotRun(
            f"{path} is not text, and there is no default storage to put it into: give --default-storage-provider and"
            " -prefix"
        ) from None
