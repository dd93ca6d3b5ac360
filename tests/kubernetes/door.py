"""Doors between this machine's loopback and the cluster's network: a `Door` leads in (to the API server, a service), a
`Hatch` out (to a stand-in).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.kubernetes.cluster import Cluster

CHUNK = 64 * 1024


class _Relay:
    """A listening socket; each connection to it is joined with one that `dial` makes. Threads, as a namespace belongs
    to a thread.
    """

    def __init__(self, listener: socket.socket, dial: Callable[[], socket.socket]) -> None:
        self._listener, self._dial = listener, dial
        self.port = int(listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> _Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        try:
            far = self._dial()
        except OSError:
            near.close()
            return
        for side in (near, far):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_pump, args=(far, near), daemon=True).start()
        _pump(near, far)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Door(_Relay):
    """127.0.0.1:`port` of this machine leads to `address`:`target` in the cluster's network."""

    def __init__(self, cluster: Cluster, address: str, target: int, port: int = 0) -> None:
        def dial() -> socket.socket:
            with cluster.network():
                return socket.create_connection((address, target), timeout=10)

        super().__init__(socket.create_server(("127.0.0.1", port)), lambda: _patient(dial()))


class Hatch(_Relay):
    """`address`:`port` in the cluster's network (a node's address, which pods reach) leads to 127.0.0.1:`target` of
    this machine.
    """

    def __init__(self, cluster: Cluster, address: str, target: int) -> None:
        with cluster.network():
            listener = socket.create_server((address, 0))
        super().__init__(listener, lambda: _patient(socket.create_connection(("127.0.0.1", target), timeout=10)))


def _patient(connection: socket.socket) -> socket.socket:
    connection.settimeout(None)
    return connection
