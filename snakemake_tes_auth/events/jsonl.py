"""JSON lines to a file or to standard output, from a thread of their own: a full pipe or a slow disk delays nobody."""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

MAX_QUEUE = 50_000


class JsonLines:
    """`path` "-" is standard output. A file is continued. OSError where it cannot be opened."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        plain = path != "-" and self._path.is_file()  # a pipe has no past
        self._out = sys.stdout if path == "-" else self._path.open("a")
        if plain and self._cut():
            self._out.write("\n")
        self._queue: deque[str] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._write, name="tes-auth-events", daemon=True)
        self._thread.start()

    def _cut(self) -> bool:
        """Whether the last line was cut off in the middle, by a kill."""
        with self._path.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - 1))
            return size > 0 and handle.read(1) != b"\n"

    def put(self, event: dict[str, Any]) -> None:
        """Queues one event. Where nobody takes them the newest are dropped and counted: order holds."""
        with self._wake:
            if len(self._queue) >= MAX_QUEUE:
                self.dropped += 1
                return
            self._queue.append(json.dumps(event, default=str))
            self._wake.notify()

    def _write(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                batch = list(self._queue)
            try:
                self._out.write("\n".join(batch) + "\n")
                self._out.flush()
            except (OSError, ValueError):  # the disk is full, the reader has gone, the stream was closed
                with self._wake:
                    self.dropped += len(self._queue)
                    self._queue.clear()
                continue
            with self._wake:
                for _ in batch:
                    self._queue.popleft()

    def close(self, timeout: float) -> bool:
        """Waits until all is written, at most `timeout` seconds; whether it was."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        if self._out is not sys.stdout:
            self._out.close()
        return self.dropped == 0
