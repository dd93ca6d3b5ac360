"""What S3 holds is asked by folders: the number of requests does not grow with the files of one folder, and what was
made since is seen at once.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, ReadTimeoutError
from snakemake_storage_plugin_s3 import StorageObject

from snakemake_tes_auth.files.s3_folders import ListedObject, ListingError, S3Listings, quick_time
from tests.support.faults import Fault
from tests.support.s3_faults import S3Proxy, listings
from tests.support.s3_fixtures import server  # noqa: F401
from tests.support.s3_server import ACCESS, REGION, SECRET, S3Server, enforced

HINT = "look at snakemake_tes_auth/files/s3_folders.py before raising the plugin's version"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "quick"),
    [
        ("2026-01-01T12:00:00.000Z", True),
        ("2026-01-01T12:00:00Z", True),
        ("2026-01-01T13:00:00+01:00", True),
        ("Thu, 01 Jan 2026 12:00:00 GMT", False),
        ("2026-01-01T12:00:00", False),
        ("1767268800", False),
    ],
)
def test_times_of_a_listing_are_read_at_once_others_as_botocore_does(text: str, quick: bool) -> None:
    asked: list[str] = []

    def otherwise(value: str) -> datetime:
        asked.append(value)
        return NOON

    assert quick_time(otherwise)(text) == NOON and asked == ([] if quick else [text])


class Bucket:
    """`list_objects_v2` of a boto3 client, a thousand keys a page."""

    def __init__(self, *keys: str) -> None:
        self.keys, self.calls = {key: 1 for key in keys}, 0

    def list_objects_v2(
        self, *, Bucket: str, Prefix: str = "", Delimiter: str = "", ContinuationToken: str = ""
    ) -> dict[str, Any]:
        self.calls += 1
        found: list[tuple[str, bool]] = []
        for key in sorted(k for k in self.keys if k.startswith(Prefix)):
            rest = key.removeprefix(Prefix)
            name = Prefix + rest.partition(Delimiter)[0] + Delimiter if Delimiter and Delimiter in rest else key
            if (name, name != key) not in found[-1:]:
                found.append((name, name != key))
        start = int(ContinuationToken or 0)
        page = found[start : start + 1000]
        answer: dict[str, Any] = {
            "Contents": [{"Key": k, "Size": self.keys[k], "LastModified": NOON} for k, below in page if not below],
            "CommonPrefixes": [{"Prefix": k} for k, below in page if below],
        }
        return {**answer, "NextContinuationToken": str(start + 1000)} if start + 1000 < len(found) else answer


def test_5000_files_of_a_folder_cost_a_few_requests() -> None:
    bucket = Bucket(*(f"p/in/{i}" for i in range(5000)), "p/other/x")
    folders = S3Listings(bucket, "b")
    assert all(folders.find(f"p/in/{i}") == ListedObject(1, NOON.timestamp()) for i in range(5000))
    assert bucket.calls <= 10
    assert all(folders.find(f"p/out/{i}") is None for i in range(5000))
    assert bucket.calls <= 20


def test_1500_outputs_that_were_just_made_are_seen_by_one_listing() -> None:
    bucket = Bucket()
    folders = S3Listings(bucket, "b")
    names = [f"p/out/{i}" for i in range(1500)]
    assert not any(folders.find(n) for n in names)
    bucket.keys.update(dict.fromkeys(names, 7))
    for name in names:
        folders.forget(name)
    before = bucket.calls
    assert all(folders.find(n) == ListedObject(7, NOON.timestamp()) for n in names) and bucket.calls - before <= 8


def test_a_file_alone_is_asked_for_by_itself_also_in_a_large_folder() -> None:
    bucket = Bucket(*(f"p/{i}" for i in range(50_000)))
    folders = S3Listings(bucket, "b")
    assert folders.find("p/77") and folders.find("p/none") is None and bucket.calls == 2


def test_a_folder_is_what_lies_below_it_and_is_gone_with_it() -> None:
    bucket = Bucket("p/d/a", "p/d/sub/b", "p/d2", "p/e/")
    folders = S3Listings(bucket, "b")
    assert folders.find("p/d") == ListedObject(2, NOON.timestamp(), folder=True)
    assert folders.find("p/d2") == ListedObject(1, NOON.timestamp())
    assert folders.find("p/e") is None, "a marker alone is no folder, as the plugin sees it"
    del bucket.keys["p/d/a"], bucket.keys["p/d/sub/b"]
    folders.forget("p/d")
    assert folders.find("p/d") is None


def test_a_folder_that_a_task_made_within_another_is_there() -> None:
    bucket = Bucket("p/x/old")
    folders = S3Listings(bucket, "b")
    assert all(folders.find(f"p/{i}") is None for i in range(9)) and folders.find("p/new") is None
    bucket.keys["p/new/a"] = 3
    folders.forget("p/new/a")
    assert folders.find("p/new/a") == ListedObject(3, NOON.timestamp()) and folders.find("p/new") is not None


# --- beside a real S3 server --------------------------------------------------------------------


def real(url: str, bucket: str, keys: tuple[str, str] = (ACCESS, SECRET), seconds: float = 60) -> S3Listings:
    config = Config(s3={"addressing_style": "path"}, read_timeout=seconds, retries={"max_attempts": 0}, proxies={})
    client = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        region_name=REGION,
        config=config,
    )
    return S3Listings(client, bucket)


def test_a_listing_of_three_pages_answers_for_all_its_files_and_odd_names(server: S3Server) -> None:
    bucket = f"b-{uuid.uuid4().hex}"
    odd = ["p/in/a b", "p/in/a+b", "p/in/100%", "p/in/%20", "p/in/ü-日本", "p/in/a#b", "p/in/a?b=c&d", "p/in/sub/x"]
    server.bucket(bucket, dict.fromkeys([*(f"p/in/{i:04}" for i in range(2050)), *odd], b"abc"))
    folders = real(server.url, bucket)
    for key in (*(f"p/in/{i:04}" for i in range(2050)), *odd):
        found = folders.find(key)
        assert found is not None and found.size == 3, key
    assert folders.find("p/in/2050") is None and folders.find("p/in/sub") == folders.find("p/in/sub")
    assert folders.requests <= 12


def test_a_refusal_and_a_missing_bucket_are_not_taken_for_a_missing_file(server: S3Server) -> None:
    bucket = f"b-{uuid.uuid4().hex}"
    server.bucket(bucket, {"p/a": b"x"})
    stranger = server.stranger(bucket)
    with enforced():
        for keys, code in ((stranger, "AccessDenied"), ((ACCESS, SECRET), "InvalidAccessKeyId")):
            with pytest.raises(ClientError) as refused:
                real(server.url, bucket, keys).find("p/none")
            assert refused.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError) as missing:
        real(server.url, "no-such-bucket-here").find("p/a")
    assert missing.value.response["Error"]["Code"] == "NoSuchBucket"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("away", wanted=listings), BotoCoreError),
        (Fault("status", wanted=listings), ClientError),
        (Fault("slow", value=9, wanted=listings), ReadTimeoutError),
        (Fault("cut", wanted=listings), ClientError),
        (Fault("lost", wanted=listings), ConnectionClosedError),
        (Fault("truncate", wanted=listings), ClientError),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_an_answer_that_did_not_come_whole_is_an_error_and_asked_for_anew(
    server: S3Server, fault: Fault, error: type[Exception]
) -> None:
    bucket = f"b-{uuid.uuid4().hex}"
    server.bucket(bucket, {"p/a": b"x"})
    with S3Proxy(server.url) as proxy:
        folders = real(proxy.url, bucket, seconds=3 if fault.kind == "slow" else 60)
        proxy.faults.append(fault)
        with pytest.raises(error):
            folders.find("p/a")
        assert folders.find("p/a") is not None and folders.find("p/b") is None


def test_a_bucket_of_another_region_is_an_error(server: S3Server) -> None:
    bucket = f"b-{uuid.uuid4().hex}"
    server.bucket(bucket, {"p/a": b"x"})
    with S3Proxy(server.url, region="us-west-2", hint=False) as proxy, pytest.raises(ClientError) as refused:
        real(proxy.url, bucket).find("p/a")
    assert refused.value.response["Error"]["Code"] == "AuthorizationHeaderMalformed"


def test_a_listing_that_begins_again_ends_with_a_sentence(server: S3Server) -> None:
    class Endless(Bucket):
        def list_objects_v2(self, **request: Any) -> dict[str, Any]:
            return {**super().list_objects_v2(**{**request, "ContinuationToken": ""}), "NextContinuationToken": "1"}

    folders = S3Listings(Endless("p/d/a", "p/d/b"), "bucket")
    with pytest.raises(ListingError, match="s3://bucket/p/d/ has no end"):
        folders.find("p/d")


@pytest.mark.parametrize("name", ["exists", "mtime", "size", "is_dir", "store_object", "remove", "inventory"])
def test_the_plugin_has_what_is_replaced(name: str) -> None:
    assert callable(getattr(StorageObject, name, None)), HINT
