"""The TES's object store beside a real S3 server: what fails for good, what is tried again, and for how long."""

from __future__ import annotations

import json
import threading
import time
import uuid
from pathlib import Path

import pytest

from gdi.kit.s3 import Pace
from gdi.local_federation.tes.bucket import PATIENCE, Buckets, BucketTimeouts
from gdi.local_federation.tes.config import S3
from gdi.local_federation.tes.models import Input, Output
from gdi.local_federation.tes.transfer import Budget, StoppedError, TransferError
from tests.support.faults import Fault
from tests.support.s3_faults import S3Proxy, listings, objects
from tests.support.s3_fixtures import proxy, server  # noqa: F401
from tests.support.s3_server import ACCESS, REGION, SECRET, S3Server, enforced

SOON = BucketTimeouts(connect=2, read=0.5, away=3, body=Pace(grace=0.5, rate=1024**2))
BIG = bytes(range(256)) * 4096  # 1 MiB
ODD = ["a b.txt", "a+b.txt", "100%.txt", "%20.txt", "ü-日本.txt", "a#b.txt", "a?b=c&d.txt"]


@pytest.fixture
def name(server: S3Server) -> str:
    name = f"b-{uuid.uuid4().hex}"
    server.bucket(name, {"r/big": BIG})
    return name


class Rig:
    """The store at `url`, and a folder for what it fetches."""

    def __init__(
        self, url: str, folder: Path, keys: tuple[str, str] = (ACCESS, SECRET), patience: BucketTimeouts = PATIENCE
    ) -> None:
        file = folder / "keys.json"
        file.write_text(json.dumps({"access_key": keys[0], "secret_key": keys[1]}))
        file.chmod(0o600)
        self.store = Buckets(S3(endpoint=url, credentials_file=file, region=REGION), patience)
        self.root = folder / "root"
        (self.root / "data").mkdir(parents=True)
        self.budget = Budget(2**30, 5000)

    def fetch(self, url: str, kind: str = "FILE") -> Path:
        target = self.root / "got"
        self.store.download(Input.model_validate({"url": url, "path": "/in/got", "type": kind}), target, self.budget)
        return target

    def keep(self, url: str, path: str, kind: str = "FILE") -> None:
        self.store.upload(Output.model_validate({"url": url, "path": path, "type": kind}), self.root, self.budget)

    def fails(self, url: str, kind: str = "FILE") -> str:
        """The error's text, which has no key in it."""
        with pytest.raises(TransferError) as error:
            self.fetch(url, kind)
        text = str(error.value)
        assert url.rstrip("/") in text and SECRET not in text and ACCESS not in text
        return text


@pytest.mark.parametrize(
    ("where", "kind", "code"),
    [
        ("NAME/r/none", "FILE", "NoSuchKey"),
        ("no-such-bucket/r/x", "FILE", "NoSuchBucket"),
        ("no-such-bucket/r/", "DIRECTORY", "NoSuchBucket"),
    ],
)
def test_what_is_missing_fails_at_once(
    proxy: S3Proxy, name: str, tmp_path: Path, where: str, kind: str, code: str
) -> None:
    rig = Rig(proxy.url, tmp_path)
    assert f"the object store refused: {code}" in rig.fails("s3://" + where.replace("NAME", name), kind)
    assert len(proxy.log) == 1


def test_a_missing_bucket_takes_no_output(server: S3Server, tmp_path: Path) -> None:
    rig = Rig(server.url, tmp_path)
    (rig.root / "data/out").write_text("x")
    with pytest.raises(TransferError, match="NoSuchBucket"):
        rig.keep("s3://no-such-bucket/x", "/data/out")


def test_a_refused_user_fails_at_once(server: S3Server, name: str, tmp_path: Path) -> None:
    rig = Rig(server.url, tmp_path, server.stranger(name))
    (rig.root / "data/out").write_text("x")
    with enforced():
        assert "refused: AccessDenied" in rig.fails(f"s3://{name}/r/big")
        assert "refused: AccessDenied" in rig.fails(f"s3://{name}/r/", "DIRECTORY")
        with pytest.raises(TransferError, match="AccessDenied"):
            rig.keep(f"s3://{name}/x", "/data/out")


def test_a_folder_of_many_pages_comes_whole(server: S3Server, tmp_path: Path) -> None:
    name = f"b-{uuid.uuid4().hex}"
    server.bucket(name, dict.fromkeys([*(f"r/{i:05}" for i in range(1105)), "s/foreign"], b"x"))
    rig = Rig(server.url, tmp_path)
    assert list(rig.store._list(name, "r/", rig.budget)) == [f"r/{i:05}" for i in range(1105)]


def test_keys_with_odd_characters_are_themselves(server: S3Server, tmp_path: Path) -> None:
    name = f"b-{uuid.uuid4().hex}"
    server.bucket(name)
    rig = Rig(server.url, tmp_path)
    (rig.root / "data/out").mkdir()
    for file in ODD:
        (rig.root / "data/out" / file).write_text(file)
    rig.keep(f"s3://{name}/r", "/data/out", "DIRECTORY")
    keys = [o["Key"] for o in server.client().list_objects_v2(Bucket=name)["Contents"]]
    assert sorted(keys) == sorted(f"r/{file}" for file in ODD)
    got = rig.fetch(f"s3://{name}/r/", "DIRECTORY")
    assert {p.name: p.read_text() for p in got.iterdir()} == {file: file for file in ODD}


@pytest.mark.parametrize("redirect", [False, True])
def test_a_bucket_of_another_region_is_found_by_the_storages_hint(
    proxy: S3Proxy, name: str, tmp_path: Path, redirect: bool
) -> None:
    proxy.region, proxy.redirect = "eu-west-3", redirect
    assert Rig(proxy.url, tmp_path).fetch(f"s3://{name}/r/big").read_bytes() == BIG


@pytest.mark.parametrize(("redirect", "code"), [(False, "AuthorizationHeaderMalformed"), (True, "PermanentRedirect")])
def test_another_region_without_a_hint_fails_at_once(
    proxy: S3Proxy, name: str, tmp_path: Path, redirect: bool, code: str
) -> None:
    proxy.region, proxy.redirect, proxy.hint = "eu-west-3", redirect, False
    assert f"refused: {code}" in Rig(proxy.url, tmp_path).fails(f"s3://{name}/r/big")
    assert len(proxy.log) <= 3


@pytest.mark.parametrize(
    ("kind", "reason"), [("cut", "broke off after"), ("unsized", "did not give the object's length")]
)
def test_a_cut_object_is_fetched_again_and_never_taken_for_whole(
    proxy: S3Proxy, name: str, tmp_path: Path, kind: str, reason: str
) -> None:
    rig = Rig(proxy.url, tmp_path)
    proxy.faults.append(Fault(kind, wanted=objects))
    assert rig.fetch(f"s3://{name}/r/big").read_bytes() == BIG
    proxy.faults[:] = [Fault(kind, times=999, wanted=objects)]
    rig.store._patience = SOON
    assert reason in rig.fails(f"s3://{name}/r/big")


@pytest.mark.parametrize("kind", ["cut", "truncate"])
def test_a_cut_listing_is_asked_for_again_and_never_taken_for_whole(
    proxy: S3Proxy, name: str, tmp_path: Path, kind: str
) -> None:
    rig = Rig(proxy.url, tmp_path)
    proxy.faults.append(Fault(kind, wanted=listings))
    assert list(rig.store._list(name, "r/", rig.budget)) == ["r/big"]
    proxy.faults[:] = [Fault(kind, times=999, wanted=listings)]
    rig.store._patience = SOON
    assert "(tried " in rig.fails(f"s3://{name}/r/", "DIRECTORY")


@pytest.mark.parametrize(("kind", "reason"), [("drip", "the object came too slowly"), ("slow", "ReadTimeoutError")])
def test_a_slow_object_ends_in_bounded_time(proxy: S3Proxy, name: str, tmp_path: Path, kind: str, reason: str) -> None:
    proxy.faults.append(Fault(kind, times=999, value=0.1 if kind == "drip" else 30, wanted=objects))
    rig, start = Rig(proxy.url, tmp_path, patience=SOON), time.monotonic()
    assert reason in rig.fails(f"s3://{name}/r/big")
    assert time.monotonic() - start < 20  # drip: 1 MiB would take 29 hours


def test_a_cancelled_task_stops_a_slow_object(proxy: S3Proxy, name: str, tmp_path: Path) -> None:
    proxy.faults.append(Fault("drip", value=0.1, wanted=objects))
    rig = Rig(proxy.url, tmp_path)
    threading.Timer(1, rig.budget.stop.set).start()
    start = time.monotonic()
    with pytest.raises(StoppedError):
        rig.fetch(f"s3://{name}/r/big")
    assert time.monotonic() - start < 20


def test_slow_down_is_tried_again_until_the_time_is_over(proxy: S3Proxy, name: str, tmp_path: Path) -> None:
    rig = Rig(proxy.url, tmp_path)
    proxy.faults.append(Fault("status", times=3, value=503))
    assert rig.fetch(f"s3://{name}/r/big").read_bytes() == BIG
    proxy.faults[:] = [Fault("status", times=999, value=503)]
    rig.store._patience = SOON
    start = time.monotonic()
    text = rig.fails(f"s3://{name}/r/big")
    assert "SlowDown" in text and "(tried " in text and time.monotonic() - start < 20
