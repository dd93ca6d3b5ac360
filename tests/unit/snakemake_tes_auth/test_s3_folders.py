"""What S3 holds is asked by folders: the number of requests does not grow with the files of one folder, and what was
made since is seen at once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from snakemake_storage_plugin_s3 import StorageObject

from snakemake_tes_auth.files.s3_folders import ListedObject, S3Listings

HINT = "look at snakemake_tes_auth/files/s3_folders.py before raising the plugin's version"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


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


@pytest.mark.parametrize("name", ["exists", "mtime", "size", "is_dir", "store_object", "remove", "inventory"])
def test_the_plugin_has_what_is_replaced(name: str) -> None:
    assert callable(getattr(StorageObject, name, None)), HINT
