"""The store behind one thread of its own: the event loop never waits for the disk, and SQLite sees one caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from gdi.local_federation.tes.store import StandInTasks

P = ParamSpec("P")
T = TypeVar("T")


class StandInDatabase:
    """`await database.run(Store.create, owner, task, None)`: one call, one transaction, in the order of the calls."""

    def __init__(self, store: StandInTasks) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")

    async def run(self, call: Callable[Concatenate[StandInTasks, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Shielded: a caller that is cancelled leaves a whole transaction behind, and waits for it."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(self._store, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._store.close()
