"""Asyncio locks by name, kept only while somebody uses them."""

from __future__ import annotations

import asyncio
import hashlib

Locks = dict[str, tuple[asyncio.Lock, int]]


class NamedLock:
    """An asyncio lock by name that is removed with its last user."""

    def __init__(self, locks: Locks, name: str) -> None:
        self.locks, self.name = locks, hashlib.sha256(name.encode()).hexdigest()

    @property
    def busy(self) -> bool:
        """Whether somebody holds it or waits for it."""
        return self.name in self.locks

    async def __aenter__(self) -> None:
        lock, users = self.locks.get(self.name, (asyncio.Lock(), 0))
        self.locks[self.name] = (lock, users + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.locks[self.name][0].release()
        self._leave()

    def _leave(self) -> None:
        lock, users = self.locks[self.name]
        if users <= 1:
            del self.locks[self.name]
        else:
            self.locks[self.name] = (lock, users - 1)
