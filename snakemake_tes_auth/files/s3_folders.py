"""Snakemake's S3 plugin asks for each file by itself, two to five times. Here a folder is listed once, and what it
shows answers for its files: the number of requests does not grow with the files of one folder.

Leans on snakemake-storage-plugin-s3 0.3.6 (tests/unit/snakemake_tes_auth/test_s3_folders.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

SINGLES = 3  # files of one folder that are looked for by themselves before it is listed, for each page of its listing
PAGES = 200  # of a folder's listing, of a thousand files each; a larger folder's files are looked for one by one
WHOLE_PAGES = 5000  # of all that lies below a folder that is an input or output itself
MISS_TTL = 0.3  # seconds that "is not there" is believed after it was looked for by itself
LISTED_TTL = 20.0  # seconds that a listing's silence is believed, while nothing was made


class ListingError(Exception):
    """A folder whose listing cannot be read to its end."""

    def __init__(self, bucket: str, folder: str, why: str) -> None:
        super().__init__(
            f"The listing of s3://{bucket}/{folder}/ has no end ({why}). Ask who runs the S3 server, or put fewer than"
            f" {WHOLE_PAGES * 1000:,} files into one folder."
        )


@dataclass(frozen=True)
class ListedObject:
    """One file, or a folder (`folder`: what lies below it has this size and time)."""

    size: int
    mtime: float
    folder: bool = False


@dataclass
class ListedFolder:
    """What is known of one folder: files by key; when it was listed; which of its names something was made of since."""

    entries: dict[str, ListedObject] = field(default_factory=dict)
    subfolders: set[str] = field(default_factory=set)
    listed: float = -1e9
    stale: set[str] = field(default_factory=set)
    misses: dict[str, float] = field(default_factory=dict)
    singles: int = 0
    pages: int = 1  # of its last listing
    too_large: bool = False


class S3Listings:
    """The folders of one bucket, by a boto3 client. From any thread."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket
        self._folders: dict[str, ListedFolder] = {}
        self._lock = threading.RLock()
        self.requests = 0

    def find(self, key: str) -> ListedObject | None:
        """What lies there, None where nothing does. botocore's ClientError where the bucket may not be listed."""
        with self._lock:
            folder = self._folders.setdefault(key.rpartition("/")[0], ListedFolder())
            if (known := folder.entries.get(key)) is not None:
                return known
            if key in folder.subfolders and key not in folder.stale:
                return self._whole(key, folder)
            now = time.monotonic()
            if key not in folder.stale and now - folder.listed < LISTED_TTL:
                return None
            if now - folder.misses.get(key, -1e9) < MISS_TTL:
                return None
            # As with skis: rent (ask for one) until that has cost as much as buying (a listing, which serves all).
            if folder.too_large or max(folder.singles, len(folder.stale)) < SINGLES * folder.pages:
                folder.singles += 1
                return self._single(key, folder)
            self._list(key.rpartition("/")[0], folder)
            folder.singles = 0
            if folder.too_large:
                return self._single(key, folder)
            return folder.entries.get(key) or (self._whole(key, folder) if key in folder.subfolders else None)

    def forget(self, key: str) -> None:
        """Something was made or removed there: what was known of it, and of what lies below, counts no more."""
        with self._lock:
            folder = self._folders.setdefault(key.rpartition("/")[0], ListedFolder())
            folder.entries.pop(key, None)
            folder.subfolders.discard(key)
            folder.misses.pop(key, None)
            folder.stale.add(key)
            for name in [n for n in self._folders if n == key or n.startswith(key + "/")]:
                del self._folders[name]
            # Its parents may have come to be with it.
            if parent := key.rpartition("/")[0]:
                above = self._folders.setdefault(parent.rpartition("/")[0], ListedFolder())
                if parent not in above.subfolders:
                    above.stale.add(parent)

    def _single(self, key: str, folder: ListedFolder) -> ListedObject | None:
        entries, subfolders, _ = self._page(key, "/", "")
        folder.stale.discard(key)
        if key in entries:
            folder.entries[key] = entries[key]
            return entries[key]
        if key in subfolders:
            folder.subfolders.add(key)
            return self._whole(key, folder)
        folder.misses[key] = time.monotonic()
        folder.stale.add(key)
        return None

    def _list(self, name: str, folder: ListedFolder) -> None:
        found: dict[str, ListedObject] = {}
        subfolders: set[str] = set()
        token, folder.pages = "", 0
        for _ in range(PAGES):
            folder.pages += 1
            entries, more, token = self._page(name + "/" if name else "", "/", token)
            found.update(entries)
            subfolders |= more
            if not token:
                break
        folder.too_large = bool(token)
        folder.entries, folder.subfolders = found, subfolders
        folder.stale.clear()
        folder.misses.clear()
        folder.listed = -1e9 if token else time.monotonic()

    def _whole(self, key: str, folder: ListedFolder) -> ListedObject | None:
        """A folder's size and newest time, from all that lies below it."""
        size, mtime, token, there = 0, 0.0, "", False
        seen: set[str] = set()
        while True:
            entries, _, token = self._page(key + "/", "", token)
            if token in seen or len(seen) >= WHOLE_PAGES:
                raise ListingError(self._bucket, key, "it begins again" if token in seen else "it does not end")
            seen.add(token)
            for name, entry in entries.items():
                if not name.endswith("/"):
                    there, size, mtime = True, size + entry.size, max(mtime, entry.mtime)
            if not token:
                break
        if not there:
            folder.misses[key] = time.monotonic()
            folder.subfolders.discard(key)
            return None
        folder.entries[key] = ListedObject(size, mtime, folder=True)
        return folder.entries[key]

    def _page(self, prefix: str, delimiter: str, token: str) -> tuple[dict[str, ListedObject], set[str], str]:
        self.requests += 1
        request = {"Bucket": self._bucket, "Prefix": prefix, "Delimiter": delimiter, "ContinuationToken": token}
        answer = self._client.list_objects_v2(**{k: v for k, v in request.items() if v})
        entries = {
            str(o["Key"]): ListedObject(int(o["Size"]), o["LastModified"].timestamp())
            for o in answer.get("Contents", [])
        }
        subfolders = {str(p["Prefix"]).rstrip("/") for p in answer.get("CommonPrefixes", [])}
        return entries, subfolders, str(answer.get("NextContinuationToken") or "")


def quick_time(otherwise: Callable[[Any], datetime]) -> Callable[[Any], datetime]:
    """Reads ISO 8601 times with a zone, which S3's listings have, at once; anything else as botocore does. Its dateutil
    takes a millisecond for each file of a listing, most of what a listing costs.
    """

    def read(value: Any) -> datetime:
        if isinstance(value, str):
            try:
                found = datetime.fromisoformat(value)
            except ValueError:
                return otherwise(value)
            if found.tzinfo is not None:
                return found
        return otherwise(value)

    return read


_buckets: dict[tuple[int, str], S3Listings] = {}
_installed = False


def install() -> None:
    """From now on the S3 plugin's objects answer out of listed folders; nothing where the plugin is not there."""
    global _installed
    try:
        from botocore import parsers
        from botocore.exceptions import ClientError
        from snakemake_storage_plugin_s3 import StorageObject
    except ImportError:
        return
    if _installed:
        return
    _installed = True
    parsers.DEFAULT_TIMESTAMP_PARSER = quick_time(parsers.DEFAULT_TIMESTAMP_PARSER)
    by_itself: dict[str, Any] = {name: getattr(StorageObject, name) for name in ("exists", "mtime", "size", "is_dir")}
    changing: dict[str, Any] = {name: getattr(StorageObject, name) for name in ("store_object", "remove")}

    def folders(stored: Any) -> S3Listings:
        at = (id(stored.provider), str(stored.bucket))
        if at not in _buckets:
            _buckets[at] = S3Listings(stored.provider.s3c.meta.client, str(stored.bucket))
        return _buckets[at]

    def answered(name: str, what: Any) -> Any:
        def ask(stored: Any) -> Any:
            try:
                found = folders(stored).find(stored.key)
            except ClientError:  # who may not list may still ask for a file
                return by_itself[name](stored)
            return what(found) if found is not None or name in ("exists", "is_dir") else by_itself[name](stored)

        return ask

    def changed(name: str) -> Any:
        def change(stored: Any) -> Any:
            try:
                return changing[name](stored)
            finally:
                folders(stored).forget(stored.key)

        return change

    async def inventory(stored: Any, cache: Any) -> None:
        """The folder is listed when it is looked for."""

    StorageObject.exists = answered("exists", lambda e: e is not None)
    StorageObject.is_dir = answered("is_dir", lambda e: e is not None and e.folder)
    StorageObject.mtime = answered("mtime", lambda e: e.mtime)
    StorageObject.size = answered("size", lambda e: e.size)
    StorageObject.store_object, StorageObject.remove = changed("store_object"), changed("remove")
    StorageObject.inventory = inventory
    StorageObject.forget_metadata = lambda stored: folders(stored).forget(stored.key)
