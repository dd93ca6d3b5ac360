"""An S3's client, and what boto3 leaves unbounded: bodies that are cut or slow, the search for a bucket's region."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.loaders import JSONFileLoader, Loader
from urllib3.exceptions import HTTPError

CHUNK = 256 * 1024


class BrokenBodyError(Exception):
    """The body was cut or came too slowly. The message names byte counts only."""


@dataclass(frozen=True)
class Pace:
    """The time that a transfer may take: `grace` seconds, and a second for every `rate` bytes."""

    grace: float = 60
    rate: int = 64 * 1024

    def seconds(self, size: int) -> float:
        return self.grace + size / self.rate


PACE = Pace()
_making = Lock()


class _S3Only(JSONFileLoader):  # type: ignore[misc]  # botocore has no types
    """botocore's data without the documentation of each field, and without the endpoints of AWS's other services: 2 MB
    instead of 12.
    """

    def load_file(self, file_path: str) -> Any:  # the JSON of botocore's data
        found = _undocumented(super().load_file(file_path))
        if isinstance(found, dict) and Path(file_path).name == "endpoints":
            for partition in found["partitions"]:
                partition["services"] = {"s3": partition["services"].get("s3", {})}
        return found


def _undocumented(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: "" if key == "documentation" else _undocumented(value) for key, value in found.items()}
    return [_undocumented(value) for value in found] if isinstance(found, list) else found


@cache
def _session(transfers: bool) -> Callable[..., Any]:
    """Makes clients: of one session, so that what botocore knows of S3 is in a process once. It holds no keys."""
    own = botocore.session.Session()
    own.register_component("data_loader", Loader(file_loader=_S3Only(), include_default_search_paths=True))
    if not transfers:
        return own.create_client  # type: ignore[no-any-return]
    import boto3  # for what it adds to a client: 3 MB

    return boto3.session.Session(botocore_session=own).client  # type: ignore[no-any-return]


def s3_client(
    endpoint: str | None,
    region: str,
    credentials: tuple[str, str],
    *,
    connect: float,
    read: float,
    connections: int = 10,
    transfers: bool = False,
) -> Any:  # botocore makes its clients' types at run time
    """Keys are given explicitly: nothing is looked up in the environment, no proxy either. `connect`, `read`: seconds
    of each of three tries; `connections`: that are kept; `transfers`: with boto3's `upload_fileobj` and `copy`.
    `endpoint` None: AWS.
    """
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        connect_timeout=connect,
        read_timeout=read,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=connections,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        proxies={},
    )
    with _making:  # a session serves one thread
        client = _session(transfers)(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=credentials[0],
            aws_secret_access_key=credentials[1],
            config=config,
        )
    bound_redirects(client)
    return client


def bound_redirects(client: Any) -> None:
    """botocore looks for a bucket's region by HEAD of the bucket. Where that is answered by a 301 with no region, it
    asks again until Python's stack is full: hundreds of requests. This HEAD is marked as followed already.
    """

    def mark(params: dict[str, Any], **_: Any) -> None:
        params["context"].setdefault("s3_redirect", {})["redirected"] = True

    client.meta.events.register("before-call.s3.HeadBucket", mark)


def pieces(answer: Mapping[str, Any], pace: Pace, limit: int | None = None) -> Iterator[bytes]:
    """The bytes of boto3's answer to GetObject, as they come. BrokenBodyError where they are not all of them.

    `limit`: what the caller wants at most, in bytes; the time is counted for that much.
    `read` waits for a whole chunk however slowly it comes; `read1` returns what is there, so the time is looked at.
    """
    size = _length(answer)
    end = time.monotonic() + pace.seconds(size if limit is None else min(size, limit))
    count = 0
    with answer["Body"] as raw:  # urllib3's response
        while True:
            try:
                chunk: bytes = raw.read1(CHUNK)
            except HTTPError as error:
                raise BrokenBodyError(
                    f"the object broke off after {count} of {size} bytes ({type(error).__name__})"
                ) from None
            if not chunk:
                break
            count += len(chunk)
            if time.monotonic() > end:
                raise BrokenBodyError(f"the object came too slowly: {count} of {size} bytes until the time was over")
            yield chunk
    if count != size:
        raise BrokenBodyError(f"the object broke off after {count} of {size} bytes")


def _length(answer: Mapping[str, Any]) -> int:
    """The object's size in bytes. Without it a cut body looks like a whole one."""
    size = answer.get("ContentLength")
    if size is None:
        raise BrokenBodyError("the storage did not give the object's length")
    return int(size)
