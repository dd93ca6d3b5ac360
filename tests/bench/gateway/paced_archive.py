"""An archive as SDA's v1 download service answers, in a process of its own (`python -m` this module, `PORT RATE
FILE=SIZE …`). All its bodies together leave at RATE bytes a second. Whatever token comes is good.

What it sends has the shape of Crypt4GH: a header with one packet, then zeros by `sendfile`, which cost next to nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from node_gateway.listed_files import sealed
from tests.support.wire import BoundHandler
from tests.support.wires import SDA

DATASET = "DS-A"
CHECKSUM = "a" * 64
PART, LOOP = 256 * 1024, 16 * 1024 * 1024  # of a `sendfile`; of the file that is sent again and again
HEADER = b"crypt4gh" + b"".join(n.to_bytes(4, "little") for n in (1, 1, 108)) + b"\0" * 104


class Pace:
    """All bodies share one line of `rate` bytes a second."""

    def __init__(self, rate: float) -> None:
        self._rate, self._next, self._lock = rate, 0.0, threading.Lock()

    def wait(self, size: int) -> None:
        with self._lock:
            self._next = max(self._next, time.monotonic() - 0.05) + size / self._rate
            until = self._next
        time.sleep(max(0.0, until - time.monotonic()))


class PacedArchive(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, rate: float, files: dict[str, int], zeros: BinaryIO) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.pace, self.files, self.zeros = Pace(rate), files, zeros

    def handle_error(self, request: object, client_address: object) -> None:
        """Who looks at a beginning only (the gateway, for nginx) closes the connection."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BoundHandler):
    wire = SDA
    server: PacedArchive

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path)
        if path == "/metadata/datasets":
            return self.answer(200, [DATASET])
        if path == f"/metadata/datasets/{DATASET}/files":
            rows = [
                {"filePath": n, "fileId": n, "decryptedFileSize": s, "decryptedFileChecksum": CHECKSUM}
                for n, s in self.server.files.items()
            ]
            return self.answer(200, rows)
        if path.startswith("/files/"):
            return self.answer(400, b"downloading encrypted data is not supported", "text/plain")
        size = self.server.files.get(path.removeprefix(f"/s3-encrypted/{DATASET}/"))
        if size is None:
            return self.answer(404, b"file not found", "text/plain")
        rest = sealed(size)
        self.send_response(200)
        self.send_header("Content-Length", str(len(HEADER) + rest))
        self.send_header("ETag", f'"{CHECKSUM}"')
        self.end_headers()
        self.wfile.write(HEADER)
        while self.command == "GET" and rest:
            part = min(PART, rest)
            self.server.pace.wait(part)
            done = 0
            while done < part:
                done += os.sendfile(self.connection.fileno(), self.server.zeros.fileno(), 0, part - done)
            rest -= part
        return None


def main() -> None:
    port, rate, *files = sys.argv[1:]
    with tempfile.TemporaryFile(dir=Path("/dev/shm") if Path("/dev/shm").is_dir() else None) as zeros:
        zeros.truncate(LOOP)
        sizes = {name: int(size) for name, _, size in (f.partition("=") for f in files)}
        PacedArchive(int(port), float(rate), sizes, zeros).serve_forever()


if __name__ == "__main__":
    main()
