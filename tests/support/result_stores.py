"""Result stores for tests: a folder, moto's S3, and SeaweedFS, the real server of the test federation."""

from __future__ import annotations

import io
import secrets
from pathlib import Path

from gdi.result_store.folder import FolderStore
from gdi.result_store.model import ResultStore
from gdi.result_store.s3 import S3Store
from tests.support.s3_server import ACCESS, REGION, SECRET, S3Server
from tests.support.weed import Weed

MIB = 1024 * 1024
RUN = "r-" + "0" * 20


def in_folder(folder: Path) -> FolderStore:
    return FolderStore(folder / "store")


def on_moto(server: S3Server) -> S3Store:
    bucket = f"store-{secrets.token_hex(6)}"
    server.bucket(bucket)
    return S3Store(bucket, "gdi", endpoint=server.url, region=REGION, credentials=(ACCESS, SECRET))


def on_weed(weed: Weed) -> S3Store:
    """A prefix of its own in Weed's bucket."""
    url, keys = f"http://127.0.0.1:{weed.port}", (weed.access, weed.secret)
    return S3Store(weed.bucket, secrets.token_hex(6), endpoint=url, region="us-east-1", credentials=keys)


def append(store: ResultStore, key: str, data: bytes, offset: int = 0, *, last: bool = True) -> None:
    store.append(key, io.BytesIO(data), offset=offset, size=len(data), last=last)


def read(store: ResultStore, key: str, limit: int = 100 * MIB) -> tuple[bytes, str]:
    into = io.BytesIO()
    sha256 = store.fetch(key, into, limit)
    return into.getvalue(), sha256
