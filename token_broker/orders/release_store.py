"""Releases as nodes push them, into the coordinator's store (gdi.result_store): in chunks, each with its SHA-256.
Nothing of one is held in memory. What arrived whole lies under its own SHA-256 and never changes; Airflow reads it
there.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from tempfile import SpooledTemporaryFile
from typing import IO, TypeVar

from gdi.contracts.orders import StoredRelease
from gdi.kit.named_lock import Locks, NamedLock
from gdi.kit.problem import ProblemError
from gdi.result_store.model import (
    CHUNK,
    RELEASES,
    TORN_AFTER,
    NothingStoredError,
    ResultStore,
    StoreAwayError,
    WrongChunkError,
    WrongHashError,
    WrongOffsetError,
    release_key,
)

log = logging.getLogger(__name__)
R = TypeVar("R")
MAX_FILES = 60  # of a node in a run: a node is not to fill the store
THREADS = 4  # calls to the store at once
PLACES = 6  # chunks that lie here on their way, of as many nodes: 48 MiB, of 64 that the chart gives
CHUNK_WAIT = 300.0  # seconds in which a chunk must have come
SPOOL = 1024 * 1024  # bytes of a chunk in memory; the rest of it lies in an unnamed file
PROOF_WAIT = 20.0  # seconds that an answer waits for the proof of a whole release; the node asks again


class ReleaseStore:
    """`store` None: this broker takes none. `most`: bytes of all that a node pushes for a run."""

    def __init__(self, store: ResultStore | None, most: int) -> None:
        self._store, self._most = store, most
        self._locks: Locks = {}
        self._proofs: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(PLACES)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store")

    async def offset(self, run: str, node: str, name: str, sha256: str) -> StoredRelease:
        """How much of it is here."""
        key = release_key(run, node, name, sha256)
        here = await self._call(lambda store: store.upload(key))
        return StoredRelease(offset=here.offset, complete=here.complete)

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
        """The next chunk, which ends the release where it is the last; none where all are here and only the proof is
        missing. 409 `wrong-offset` with the offset that there is; 413; 422 `wrong-hash` where chunk or whole are not
        what was said: of the whole nothing stays.
        """
        key = release_key(run, node, name, sha256)
        async with NamedLock(self._locks, key):
            try:
                here = await self._call(lambda store: store.upload(key))
                if here.complete:
                    return StoredRelease(offset=here.offset, complete=True)
                if here.offset != offset:
                    raise WrongOffsetError(here.offset)
                if offset < total:
                    await self._room(f"{RELEASES}/{run}/{node}/", total - offset)
                    offset += await self._chunk(key, offset, total, chunk_sha256, body)
                if offset < total:
                    return StoredRelease(offset=offset, complete=False)
                return StoredRelease(offset=total, complete=await self._proven(key, name, sha256))
            except WrongOffsetError as wrong:
                raise ProblemError(
                    409,
                    "wrong-offset",
                    f"The release {name} has {wrong.offset} bytes here.",
                    action="Go on there.",
                    offset=wrong.offset,
                ) from None

    async def sweep(self) -> None:
        """Aborts what nobody went on with for a week."""
        if self._store is None:
            return
        if torn := await self._call(lambda store: store.sweep(time.time() - TORN_AFTER)):
            log.info("%d uploads into the result store were torn, and are swept", torn)

    async def _chunk(self, key: str, offset: int, total: int, sha256: str, body: AsyncIterator[bytes]) -> int:
        """Its size in bytes."""
        most = min(CHUNK, total - offset)
        node = key.split("/")[2]
        # One chunk of a node at a time: who sends without an end keeps one place, and not for ever.
        async with NamedLock(self._locks, f"node {node}"), self._places:
            with SpooledTemporaryFile(max_size=SPOOL) as spool:
                try:
                    async with asyncio.timeout(CHUNK_WAIT):
                        size = await _spooled(spool, most, sha256, body)
                except TimeoutError:
                    raise ProblemError(
                        503, "slow-chunk", f"The chunk did not come within {CHUNK_WAIT:g} s.", action="Send it again."
                    ) from None
                spool.seek(0)
                last = offset + size == total
                await self._call(lambda store: store.append(key, spool, offset=offset, size=size, last=last))
        return size

    async def _proven(self, key: str, name: str, sha256: str) -> bool:
        """Whether the whole was proven within PROOF_WAIT; the proof goes on."""
        proof = self._proofs.get(key)
        if proof is None:
            proof = self._proofs[key] = asyncio.create_task(self._call(lambda store: store.complete(key, sha256)))
            proof.add_done_callback(lambda task: self._heard(key, task))
        await asyncio.wait({proof}, timeout=PROOF_WAIT)
        if not proof.done():
            return False
        try:
            proof.result()
        except (WrongHashError, NothingStoredError):
            raise ProblemError(
                422, "wrong-hash", f"The release {name} is not what its checksum says.", action="Push it anew."
            ) from None
        return True

    def _heard(self, key: str, proof: asyncio.Task[None]) -> None:
        """What it proved holds for what was there: the next upload is proven anew."""
        del self._proofs[key]
        if not proof.cancelled():
            proof.exception()  # heard, also if nobody waits

    async def _room(self, prefix: str, more: int) -> None:
        files, size = await self._call(lambda store: store.usage(prefix))
        if files > MAX_FILES or size + more > self._most:
            raise ProblemError(
                413,
                "too-large",
                f"A node may push {self._most} bytes in {MAX_FILES} files for a run.",
                action="Release less.",
            )

    async def _call(self, call: Callable[[ResultStore], R]) -> R:
        if self._store is None:
            raise ProblemError(
                409, "no-result-store", "This broker has no RESULT_STORE.", action="The broker's operator sets it."
            )
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call, self._store)
        except StoreAwayError as error:
            raise ProblemError(
                503, "store-away", f"The coordinator cannot keep releases now: {error}.", action="It is tried again."
            ) from None
        except WrongChunkError as error:
            raise ProblemError(422, "wrong-chunk", str(error), action="Send chunks of 8 MiB.") from None


async def _spooled(spool: IO[bytes], most: int, sha256: str, body: AsyncIterator[bytes]) -> int:
    """A chunk's bytes, of which none count where they are not what was said."""
    total, size = hashlib.sha256(), 0
    async for piece in body:
        size += len(piece)
        if size > most:
            raise ProblemError(413, "too-large", f"A chunk has at most {most} bytes here.", action="Send less at once.")
        total.update(piece)
        await asyncio.to_thread(spool.write, piece) if size > SPOOL else spool.write(piece)
    if not size or total.hexdigest() != sha256:
        raise ProblemError(422, "wrong-hash", "The chunk is not what its checksum says.", action="Send it again.")
    return size
