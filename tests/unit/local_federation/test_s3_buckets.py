"""A local node's S3 gets its buckets once, however often the node starts, and nothing of the start stays in them."""

from __future__ import annotations

import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from gdi.kit.secret_files import Secrets
from gdi.local_federation.layout import Layout
from gdi.local_federation.parts import s3
from tests.support.faults import Fault
from tests.support.s3_faults import S3Proxy
from tests.support.s3_server import s3_server

PARTS = ("", "_grpc", "_master", "_master_grpc", "_volume", "_volume_grpc", "_filer", "_filer_grpc")


def layout(folder: Path, url: str, node: str) -> Layout:
    port = urlsplit(url).port
    assert port is not None
    return Layout(folder, [node], ports={f"{node}/s3{part}": port for part in PARTS})


def test_a_node_that_starts_again_keeps_its_buckets_and_what_they_hold(tmp_path: Path) -> None:
    node = f"node-{uuid.uuid4().hex[:8]}"
    with s3_server() as server:
        settle = s3.service(layout(tmp_path, server.url, node), Secrets(tmp_path / "secrets"), node).settle
        assert settle is not None
        settle()
        for bucket in (s3.workspace_bucket(node), s3.release_bucket(node)):
            server.client().put_object(Bucket=bucket, Key="kept", Body=b"x")
        settle()
        for bucket in (s3.workspace_bucket(node), s3.release_bucket(node)):
            listed = server.client().list_objects_v2(Bucket=bucket)
            assert [each["Key"] for each in listed["Contents"]] == ["kept"]


def test_a_server_that_refuses_ends_the_start(tmp_path: Path) -> None:
    node = f"node-{uuid.uuid4().hex[:8]}"
    with s3_server() as server, S3Proxy(server.url) as proxy:
        settle = s3.service(layout(tmp_path, proxy.url, node), Secrets(tmp_path / "secrets"), node).settle
        assert settle is not None
        proxy.faults.append(Fault("status", times=9, value=403))
        with pytest.raises(ClientError):
            settle()
        assert node not in str(server.client().list_buckets())
