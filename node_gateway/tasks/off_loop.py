"""Work on what may be large, beside the event loop: only where it is, as a thread's turn costs more than small work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SMALL = 64 * 1024  # bytes: a millisecond or so of JSON


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """What `work` on something of `size` bytes gives; in a thread where that is not small."""
    return work() if size < SMALL else await asyncio.to_thread(work)
