"""An S3 for a file's tests, and the fault proxy before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.s3_faults import S3Proxy
from tests.support.s3_server import S3Server, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def proxy(server: S3Server) -> Iterator[S3Proxy]:
    with S3Proxy(server.url) as proxy:
        yield proxy
