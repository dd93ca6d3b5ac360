"""Releases as nodes push them: into a folder of the coordinator's, in chunks, each with its SHA-256. Nothing of one is
held in memory. What arrived whole lies under its own SHA-256 and never changes; Airflow reads it there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from gdi.contracts.orders import StoredRelease
from gdi.kit.problem import ProblemError

CHUNK = 8 * 1024 * 1024  # bytes at most
PART = ".part"
MAX_FILES = 60  # of a node in a run: a node is not to fill the store


class ReleaseStore:
    """`folder` None: this broker takes none. `most`: bytes of all that a node pushes for a run."""

    def __init__(self, folder: Path | None, most: int) -> None:
        self._folder, self._most = folder, most
        self._locks: dict[Path, asyncio.Lock] = {}

    async def offset(self, run: str, node: str, name: str, sha256: str) -> StoredRelease:
        """How much of it is here."""
        whole = self._place(run, node, name, sha256)
        part = whole.with_name(whole.name + PART)
        if await asyncio.to_thread(whole.is_file):
            return StoredRelease(offset=whole.stat().st_size, complete=True)
        return StoredRelease(offset=part.stat().st_size if part.is_file() else 0, complete=False)

    async def put(
        self,
        run: str,
        node: str,
        name: str,
        sha256: str,
        *,
        offset: int,
        total: int,
        chunk_sha256: str,
        body: AsyncIterator[bytes],
    ) -> StoredRelease:
        """The next chunk, which ends the release where it is the last. 409 `wrong-offset` with the offset that there
        is; 413; 422 `wrong-hash` where chunk or whole are not what was said: of the whole nothing stays.
        """
        whole = self._place(run, node, name, sha256)
        part = whole.with_name(whole.name + PART)
        async with self._locks.setdefault(whole, asyncio.Lock()):
            here = await self.offset(run, node, name, sha256)
            if here.complete:
                return here
            if here.offset != offset:
                raise ProblemError(
                    409,
                    "wrong-offset",
                    f"The release {name} has {here.offset} bytes here.",
                    action="Go on there.",
                    offset=here.offset,
                )
            await asyncio.to_thread(self._room, whole.parent, total - offset)
            await _append(part, offset, min(CHUNK, total - offset), chunk_sha256, body)
            size = part.stat().st_size
            if size < total:
                return StoredRelease(offset=size, complete=False)
            if await asyncio.to_thread(_sha256, part) != sha256:
                part.unlink()
                raise ProblemError(
                    422, "wrong-hash", f"The release {name} is not what its checksum says.", action="Push it anew."
                )
            part.rename(whole)
            return StoredRelease(offset=size, complete=True)

    def _place(self, run: str, node: str, name: str, sha256: str) -> Path:
        if self._folder is None:
            raise ProblemError(
                409, "no-release-store", "This broker has no RELEASE_STORE.", action="The broker's operator sets it."
            )
        return self._folder / run / node / f"{name}-{sha256}"

    def _room(self, folder: Path, more: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        files = [path.stat().st_size for path in folder.iterdir()]
        if len(files) > MAX_FILES or sum(files) + more > self._most:
            raise ProblemError(
                413,
                "too-large",
                f"A node may push {self._most} bytes in {MAX_FILES} files for a run.",
                action="Release less.",
            )


async def _append(part: Path, offset: int, most: int, sha256: str, body: AsyncIterator[bytes]) -> None:
    """One chunk at the end of the file; none of it where it is not what was said."""
    total, size = hashlib.sha256(), 0
    good = False
    file = await asyncio.to_thread(part.open, "ab")
    try:
        async for piece in body:
            size += len(piece)
            if size > most:
                break
            total.update(piece)
            await asyncio.to_thread(file.write, piece)
        good = 0 < size <= most and total.hexdigest() == sha256
    finally:
        if not good:
            file.flush()
            file.truncate(offset)
        file.close()
    if size > most:
        raise ProblemError(413, "too-large", f"A chunk has at most {most} bytes here.", action="Send less at once.")
    if not good:
        raise ProblemError(422, "wrong-hash", "The chunk is not what its checksum says.", action="Send it again.")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
