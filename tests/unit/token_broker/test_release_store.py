"""Releases on their way into the store: a node that is slow, or breaks off, keeps no other node's release waiting."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from threading import Event

import pytest

from gdi.contracts.orders import StoredRelease
from gdi.kit.problem import ProblemError
from gdi.result_store.folder import FolderStore
from token_broker.orders import release_store
from token_broker.orders.release_store import ReleaseStore

RUN, MOST = "r-" + "0" * 20, 1024 * 1024
DATA = b"counts"
SHA = hashlib.sha256(DATA).hexdigest()


async def whole(data: bytes = DATA) -> AsyncIterator[bytes]:
    yield data


async def never() -> AsyncIterator[bytes]:
    yield b"c"
    await asyncio.sleep(3600)


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.01)


async def put(store: ReleaseStore, node: str, body: AsyncIterator[bytes], sha256: str = SHA) -> StoredRelease:
    total = len(DATA)
    return await store.put(RUN, node, "counts", sha256, offset=0, total=total, chunk_sha256=SHA, body=body)


async def test_a_node_that_never_ends_its_chunks_keeps_no_other_waiting(tmp_path: Path) -> None:
    store = ReleaseStore(FolderStore(tmp_path), MOST)
    slow = [asyncio.create_task(put(store, "node-b", never(), f"{i:064x}")) for i in range(40)]
    await until(lambda: any(users == len(slow) for _, users in store._locks.values()))  # all of them, for its place
    try:
        assert (await asyncio.wait_for(put(store, "node-a", whole()), 5)).complete
    finally:
        for task in slow:
            task.cancel()
        await asyncio.wait(slow)


async def test_a_chunk_that_does_not_come_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_store, "CHUNK_WAIT", 0.05)
    store = ReleaseStore(FolderStore(tmp_path), MOST)
    with pytest.raises(ProblemError) as slow:
        await asyncio.wait_for(put(store, "node-a", never()), 5)
    assert slow.value.problem.status == 503, "the node tries again"
    assert (await put(store, "node-a", whole())).complete


async def test_a_proof_that_nobody_waited_for_says_nothing_of_the_next_upload(tmp_path: Path) -> None:
    class Slow(FolderStore):
        go = Event()

        def complete(self, key: str, sha256: str) -> None:
            self.go.wait(60)
            super().complete(key, sha256)

    folder = Slow(tmp_path)
    store = ReleaseStore(folder, MOST)
    part = tmp_path / "releases" / RUN / "node-a" / f"counts-{SHA}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"others")  # as many bytes, and not those
    gone = asyncio.create_task(
        store.put(RUN, "node-a", "counts", SHA, offset=6, total=6, chunk_sha256="", body=whole())
    )
    await until(lambda: bool(store._proofs))
    gone.cancel()
    await asyncio.wait([gone])
    folder.go.set()
    await until(lambda: not part.exists() and not store._proofs)
    assert (await put(store, "node-a", whole())).complete
