"""SeaweedFS, the S3 of the local federation, as a process of a test."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import boto3
from botocore.config import Config

from gdi.kit.secret_files import write_private
from tests.support.processes import die_with_parent, free_ports, stop
from tests.support.waiting import wait_for


class Weed:
    """A real SeaweedFS with one key pair, and a bucket for each of `buckets`, whose first `put` and `get` speak of."""

    def __init__(self, folder: Path, buckets: Sequence[str] = ("workspace",)) -> None:
        self.bucket = buckets[0]
        self.access, self.secret = "s3-access-4711", secrets.token_hex(16)
        keys = {"access_key": self.access, "secret_key": self.secret}
        self.credentials = write_private(folder / "s3-keys.json", json.dumps(keys))
        identity = {
            "name": "tes",
            "credentials": [{"accessKey": self.access, "secretKey": self.secret}],
            "actions": ["Admin"],
        }
        config = write_private(folder / "identities.json", json.dumps({"identities": [identity]}))
        (folder / "weed").mkdir()
        ports = free_ports(8)
        self.port = ports[0]
        names = [
            "s3.port",
            "s3.port.grpc",
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
        ]
        weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
        argv = [
            weed,
            "-logtostderr",
            "server",
            f"-dir={folder / 'weed'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
        ]
        argv += [
            "-master.volumeSizeLimitMB=64",
            "-volume.max=60",  # each new bucket is a collection with volumes of its own
            "-filer",
            f"-filer.localSocket={folder / 'f.sock'}",
            "-s3",
            "-s3.iam=false",
        ]
        argv += [
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={config}",
            *(f"-{n}={p}" for n, p in zip(names, ports, strict=True)),
        ]
        self.process = subprocess.Popen(
            argv, stdout=subprocess.DEVNULL, stderr=(folder / "weed.log").open("w"), preexec_fn=die_with_parent
        )
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(
                connect_timeout=30, read_timeout=60, retries={"max_attempts": 0}, s3={"addressing_style": "path"}
            ),
        )

        def ready() -> bool:
            assert self.process.poll() is None, "SeaweedFS ended"
            try:
                for bucket in buckets:
                    self.client.create_bucket(Bucket=bucket)
                    self.client.put_object(Bucket=bucket, Key="ready", Body=b"")
                    self.client.delete_object(Bucket=bucket, Key="ready")
            except Exception as error:
                return "BucketAlready" in str(error)
            return True

        wait_for("SeaweedFS", ready)

    @property
    def url(self) -> str:
        return self.endpoint

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, key: str, data: bytes) -> str:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)
        return f"s3://{self.bucket}/{key}"

    def get(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [str(o["Key"]) for page in pages for o in page.get("Contents", [])]

    def close(self) -> None:
        stop(self.process, signal.SIGKILL)  # it takes its time on SIGTERM, and nothing of it is kept
