"""moto's S3 as a server of this process: for clients that speak HTTP, and behind a fault proxy."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from moto import settings
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.authorization import ActionAuthenticatorMixin
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

REGION = "eu-north-1"
ACCESS, SECRET = "test-access", "test-secret"  # moto takes any


@dataclass(frozen=True)
class S3Server:
    """A server at `url`. Its state is that of the process: each test takes a bucket name of its own."""

    url: str

    def client(self, service: str = "s3") -> Any:  # boto3 makes its clients' types at run time
        return boto3.client(
            service,
            endpoint_url=self.url,
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )

    def bucket(self, name: str, objects: dict[str, bytes] | None = None) -> None:
        client = self.client()
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # not by HTTP: some tests put a thousand
        for key, content in (objects or {}).items():
            store.put_object(name, key, content)

    def stranger(self, name: str) -> tuple[str, str]:
        """The keys of a user who may do nothing."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        keys = iam.create_access_key(UserName=name)["AccessKey"]
        return keys["AccessKeyId"], keys["SecretAccessKey"]


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()


@contextlib.contextmanager
def enforced() -> Iterator[None]:
    """Within it moto checks keys, signatures and policies: all are refused that it does not know."""
    before = settings.INITIAL_NO_AUTH_ACTION_COUNT
    settings.INITIAL_NO_AUTH_ACTION_COUNT, ActionAuthenticatorMixin.request_count = 0, 0
    try:
        yield
    finally:
        settings.INITIAL_NO_AUTH_ACTION_COUNT = before
