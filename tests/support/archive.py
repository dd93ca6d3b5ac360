"""An archive's download API with one file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from tests.support.bare_rig import IMAGE, Bare, bare  # noqa: F401
from tests.support.wire import BoundHandler
from tests.support.wires import SDA

TOKEN = "user-token-4711"


class Archive:
    """The listing of an SDA download service, v1."""

    def __init__(self, token: str = TOKEN) -> None:
        self.asked: list[str] = []
        archive = self

        class Handler(BoundHandler):
            wire = SDA

            def do_GET(self) -> None:
                archive.asked.append(self.path)
                if self.headers.get("Authorization") != f"Bearer {token}":
                    self.answer(401, b"unauthorised", "text/plain")
                elif self.path != "/metadata/datasets/DS1/files":
                    self.answer(404, b"dataset not found", "text/plain")
                else:  # one file, and two that are none
                    file = {"fileId": "1", "filePath": "DS1/a b.txt.c4gh", "decryptedFileSize": 5}
                    self.answer(200, [file, {"filePath": 7}, 3], fault=True)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def archive() -> Iterator[Archive]:
    made = Archive()
    yield made
    made.http.shutdown()
    made.http.server_close()
