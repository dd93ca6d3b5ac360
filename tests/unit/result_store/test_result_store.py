"""One store, as a folder, on moto's S3 and on a real S3 server: uploads that are torn, repeated, sped by another
replica, or not what their checksum says.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gdi.kit.secret_files import write_private
from gdi.kit.settings import SettingsError
from gdi.result_store.folder import FolderStore
from gdi.result_store.location import opened
from gdi.result_store.model import (
    NothingStoredError,
    ResultStore,
    StoreAwayError,
    TooManyBytesError,
    WrongChunkError,
    WrongHashError,
    WrongOffsetError,
    release_key,
)
from gdi.result_store.s3 import S3Store
from tests.support.result_stores import MIB, RUN, append, in_folder, on_moto, on_weed, read
from tests.support.s3_server import ACCESS, REGION, SECRET, S3Server, enforced, s3_server
from tests.support.weed import Weed

DATA = bytes(range(256)) * 4096 * 11  # 11 MiB: three parts of S3
SHA = hashlib.sha256(DATA).hexdigest()
KEY = release_key(RUN, "node-a", "counts", SHA)
PARTS = [(0, 5 * MIB), (5 * MIB, 10 * MIB), (10 * MIB, 11 * MIB)]


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    server = Weed(tmp_path_factory.mktemp("weed"))
    yield server
    server.close()


@pytest.fixture(params=["folder", "moto", "weed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ResultStore:
    if request.param == "folder":
        return in_folder(tmp_path)
    if request.param == "moto":
        return on_moto(request.getfixturevalue("moto"))
    return on_weed(request.getfixturevalue("weed"))


def grown(store: ResultStore, data: bytes = DATA, key: str = KEY) -> None:
    for start, end in PARTS:
        append(store, key, data[start:end], start, last=end == len(data))


def test_a_release_in_chunks_is_seen_when_it_is_whole_and_proven(store: ResultStore) -> None:
    assert store.upload(KEY).offset == 0
    for start, end in PARTS:
        with pytest.raises(WrongOffsetError) as wrong:
            append(store, KEY, b"x", start + 1)
        assert wrong.value.offset == start
        append(store, KEY, DATA[start:end], start, last=end == len(DATA))
        here = store.upload(KEY)
        assert (here.offset, here.complete) == (end, False)
        with pytest.raises(NothingStoredError):
            read(store, KEY)
    assert store.usage(f"releases/{RUN}/node-a/") == (1, len(DATA))
    store.complete(KEY, SHA)
    store.complete(KEY, SHA)  # again: nothing happens
    assert read(store, KEY) == (DATA, SHA)
    here = store.upload(KEY)
    assert (here.offset, here.complete) == (len(DATA), True)
    assert store.usage(f"releases/{RUN}/node-a/") == (1, len(DATA))
    assert store.sweep(time.time() + 60) == 0  # what is whole is nobody's upload
    assert read(store, KEY)[1] == SHA


def test_what_is_not_its_checksum_leaves_nothing(store: ResultStore) -> None:
    grown(store, DATA[:-1] + b"x")
    with pytest.raises(WrongHashError):
        store.complete(KEY, SHA)
    assert store.upload(KEY).offset == 0 and store.usage(f"releases/{RUN}/") == (0, 0)
    with pytest.raises(NothingStoredError):
        store.complete(KEY, SHA)
    grown(store)
    store.complete(KEY, SHA)
    assert read(store, KEY)[1] == SHA


def test_a_torn_upload_is_aborted_and_swept_and_a_live_one_is_not(store: ResultStore) -> None:
    append(store, KEY, DATA[: 5 * MIB], last=False)
    assert store.sweep(time.time() - 3600) == 0
    assert store.upload(KEY).offset == 5 * MIB
    assert store.sweep(time.time() + 60) == 1
    assert store.upload(KEY).offset == 0 and store.usage(f"releases/{RUN}/") == (0, 0)


def test_joined_but_unproven_is_ended_by_whoever_asks_next(store: ResultStore) -> None:
    """The broker died between the last chunk and the proof."""
    grown(store)
    if isinstance(store, S3Store):
        store._join(store._name(KEY))
    here = store.upload(KEY)
    assert (here.offset, here.complete) == (len(DATA), False)
    with pytest.raises(WrongOffsetError):
        append(store, KEY, b"more", 0)
    store.complete(KEY, SHA)
    assert read(store, KEY)[1] == SHA


@pytest.mark.parametrize("where", ["folder", "weed"])  # moto serves one at a time
def test_replicas_that_complete_at_once_agree(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store = in_folder(tmp_path) if where == "folder" else on_weed(request.getfixturevalue("weed"))
    grown(store)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.complete(KEY, SHA), range(4)))
    assert read(store, KEY) == (DATA, SHA)


def test_a_whole_file_replaces_another_and_is_read_within_a_limit(store: ResultStore) -> None:
    with pytest.raises(NothingStoredError):
        read(store, "answers/x/manifest.json")
    for body in (b"one", DATA, b"two"):
        store.put("answers/x/manifest.json", io.BytesIO(body))
        assert read(store, "answers/x/manifest.json")[0] == body
    store.put("answers/x/table", io.BytesIO(DATA))
    with pytest.raises(TooManyBytesError):
        read(store, "answers/x/table", limit=MIB)
    for key in ("../x", "/etc/passwd", "a//b", "a/../b", ".hidden", "a/b.part", "a b", "", "a/\n"):
        with pytest.raises(ValueError):
            store.upload(key)


def test_a_sweep_touches_nothing_of_others_in_the_bucket(moto: S3Server) -> None:
    moto.bucket("shared")
    whole = S3Store("shared", "", endpoint=moto.url, region=REGION, credentials=(ACCESS, SECRET))
    append(whole, KEY, DATA[: 5 * MIB], last=False)
    client = moto.client()
    client.put_object(Bucket="shared", Key="photos/holiday.part", Body=b"x")
    client.create_multipart_upload(Bucket="shared", Key="photos/film")
    assert whole.sweep(time.time() + 60) == 1
    assert client.head_object(Bucket="shared", Key="photos/holiday.part")
    assert [u["Key"] for u in client.list_multipart_uploads(Bucket="shared")["Uploads"]] == ["photos/film"]


def test_an_s3_takes_small_chunks_at_the_end_only(moto: S3Server) -> None:
    store = on_moto(moto)
    with pytest.raises(WrongChunkError):
        append(store, KEY, b"small", last=False)
    assert store.upload(KEY).offset == 0
    append(store, KEY, b"small")
    store.complete(KEY, hashlib.sha256(b"small").hexdigest())
    assert read(store, KEY)[0] == b"small"


def test_two_replicas_that_begin_at_once_go_on_with_one_upload(moto: S3Server) -> None:
    store = on_moto(moto)
    name = store._name(KEY)
    for _ in range(2):
        store._s3.create_multipart_upload(Bucket=store._bucket, Key=name + ".part")
    grown(store)
    store.complete(KEY, SHA)
    assert read(store, KEY)[1] == SHA
    assert store.sweep(time.time() + 60) == 1  # the other one


def test_wrong_keys_and_a_missing_bucket_are_an_error_and_never_an_empty_store(moto: S3Server) -> None:
    moto.bucket("closed")
    keys = moto.stranger("stranger")
    with enforced():
        store = S3Store("closed", "", endpoint=moto.url, region=REGION, credentials=keys)
        with pytest.raises(StoreAwayError) as wrong:
            read(store, KEY)
    assert "closed" not in str(wrong.value) and "counts" not in str(wrong.value)
    missing = S3Store("missing", "", endpoint=moto.url, region=REGION, credentials=("a", "b"))
    for call in (lambda: read(missing, KEY), lambda: append(missing, KEY, b"x"), lambda: missing.sweep(0)):
        with pytest.raises(StoreAwayError):
            call()
    away = S3Store("x", "", endpoint="http://127.0.0.1:1", region=REGION, credentials=("a", "b"))
    with pytest.raises(StoreAwayError):
        away.put("answers/x", io.BytesIO(b"x"))


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreAwayError):
        append(FolderStore(tmp_path / "store"), KEY, b"x")


def test_two_processes_that_append_the_same_chunk_write_it_once(tmp_path: Path) -> None:
    stores = [in_folder(tmp_path) for _ in range(4)]

    def once(store: FolderStore) -> bool:
        try:
            append(store, KEY, DATA)
        except WrongOffsetError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(once, stores)) == 1
    assert stores[0].upload(KEY).offset == len(DATA)


def test_a_part_of_a_folder_that_the_sweep_took_meanwhile_begins_anew(tmp_path: Path) -> None:
    store = in_folder(tmp_path)
    append(store, KEY, b"torn", last=False)
    (part,) = (tmp_path / "store").rglob("*.part")
    os.utime(part, (1, 1))
    assert store.sweep(2) == 1
    append(store, KEY, b"whole")
    store.complete(KEY, hashlib.sha256(b"whole").hexdigest())
    assert read(store, KEY)[0] == b"whole"


def test_settings_name_what_is_wrong_and_show_no_secret(tmp_path: Path) -> None:
    keys = write_private(tmp_path / "keys.json", json.dumps({"access_key": "id", "secret_key": "very-secret"}))
    bad = write_private(tmp_path / "bad.json", '"very-secret"')

    def refused(location: str, endpoint: str | None = None, file: Path | None = keys) -> str:
        with pytest.raises(SettingsError) as wrong:
            opened(location, endpoint=endpoint, region="x", credentials_file=file, name="GDI_RESULT_STORE")
        assert "very-secret" not in str(wrong.value)
        return str(wrong.value)

    assert "GDI_RESULT_STORE:" in refused("results")
    assert "GDI_RESULT_STORE:" in refused("s3://Bucket_")
    assert "GDI_RESULT_STORE:" in refused("s3://bucket/../other")
    assert "GDI_RESULT_STORE_ENDPOINT" in refused("s3://bucket/x", "http://s3.example.org")
    assert "GDI_RESULT_STORE_CREDENTIALS_FILE" in refused("s3://bucket/x", None, None)
    assert "GDI_RESULT_STORE_CREDENTIALS_FILE" in refused("s3://bucket/x", None, bad)
    store = opened("s3://bucket/x", endpoint="https://s3.example.org", region="x", credentials_file=keys)
    assert isinstance(store, S3Store) and "very-secret" not in repr(store)
    folder = opened(str(tmp_path), endpoint=None, region="x", credentials_file=None)
    assert isinstance(folder, FolderStore)
