"""Free TCP ports below the ephemeral range, each held by an abstract unix socket: two federations started at once never
pick the same one.
"""

from __future__ import annotations

import random
import socket

FIRST, LAST = (
    20_000,
    31_999,
)  # below Linux's ephemeral range, so that no outgoing connection takes a port between choosing and binding


class Ports:
    """Ports held until `release` or the end of this process, whichever comes first; nothing is left on disk."""

    def __init__(self) -> None:
        self._locks: list[socket.socket] = []

    def take(self) -> int:
        """A port that nobody listens on and no other federation of this machine holds. OSError where all are taken."""
        for port in random.sample(range(FIRST, LAST), 2000):
            lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                lock.bind(f"\0gdi-port-{port}")
            except OSError:
                lock.close()
                continue
            if _free(port):
                self._locks.append(lock)
                return port
            lock.close()
        raise OSError(f"no free TCP port between {FIRST} and {LAST} on 127.0.0.1; stop what listens there")

    def hold(self, port: int) -> None:
        """Takes a known port (of a federation that is started again). OSError where it is not free any more."""
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        lock.bind(f"\0gdi-port-{port}")
        if not _free(port):
            lock.close()
            raise OSError(f"port {port} is taken by another program")
        self._locks.append(lock)

    def release(self) -> None:
        for lock in self._locks:
            lock.close()
        self._locks.clear()


def _free(port: int) -> bool:
    for host in ("127.0.0.1", "0.0.0.0"):  # noqa: S104
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
