"""The result store's S3 misbehaves: pages, another region, answers that are cut, slow or refused. Nothing is ever taken
for whole, or for nothing, that is not.
"""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from gdi.kit.s3 import Pace, s3_client
from gdi.result_store import s3 as module
from gdi.result_store.model import StoreAwayError, release_key
from gdi.result_store.s3 import S3Store
from tests.support.faults import Fault
from tests.support.result_stores import RUN, append, read
from tests.support.s3_faults import S3Proxy, listings, objects
from tests.support.s3_fixtures import proxy, server  # noqa: F401
from tests.support.s3_server import ACCESS, REGION, SECRET, S3Server

DATA = bytes(range(256)) * 1024
SHA = hashlib.sha256(DATA).hexdigest()
KEY = release_key(RUN, "node-a", "counts", SHA)
PAGED = 1003  # objects: two pages


@pytest.fixture
def bucket(server: S3Server) -> str:
    name = f"b-{uuid.uuid4().hex}"
    server.bucket(name, {KEY: DATA})
    return name


def at(url: str, bucket: str) -> S3Store:
    return S3Store(bucket, "", endpoint=url, region=REGION, credentials=(ACCESS, SECRET))


def fails(call: Callable[[], Any], reason: str) -> None:
    """StoreAwayError with the reason, and not a word of names and keys."""
    with pytest.raises(StoreAwayError, match=reason) as error:
        call()
    text = str(error.value)
    assert SECRET not in text and ACCESS not in text and "counts" not in text and "127.0.0.1" not in text


def test_more_than_a_page_is_counted_and_swept_whole(server: S3Server) -> None:
    name = f"b-{uuid.uuid4().hex}"
    torn = {f"releases/{RUN}/n{number:04}.part": b"xy" for number in range(PAGED)}
    server.bucket(name, torn | {"other/x.part": b"x"})
    store = at(server.url, name)
    assert store.usage("releases/") == (PAGED, 2 * PAGED)
    assert store.sweep(time.time() + 60) == PAGED and store.usage("") == (1, 1), "another's is left alone"


@pytest.mark.parametrize("redirect", [False, True])
def test_a_bucket_of_another_region_is_found_by_the_hint_and_else_an_error(
    proxy: S3Proxy, bucket: str, redirect: bool
) -> None:
    proxy.region, proxy.redirect = "eu-west-3", redirect
    assert read(at(proxy.url, bucket), KEY) == (DATA, SHA)
    proxy.hint = False
    code = "PermanentRedirect" if redirect else "AuthorizationHeaderMalformed"
    proxy.log.clear()
    fails(lambda: read(at(proxy.url, bucket), KEY), code)
    assert len(proxy.log) <= 3


@pytest.mark.parametrize("kind", ["cut", "unsized"])
def test_a_cut_object_is_never_taken_for_whole(proxy: S3Proxy, bucket: str, kind: str) -> None:
    proxy.faults.append(Fault(kind, wanted=objects))
    fails(lambda: read(at(proxy.url, bucket), KEY), "BrokenBodyError")
    assert read(at(proxy.url, bucket), KEY) == (DATA, SHA)


def test_a_cut_object_is_not_proven(proxy: S3Proxy, bucket: str) -> None:
    store, key = at(proxy.url, bucket), release_key(RUN, "node-b", "counts", SHA)
    append(store, key, DATA)
    proxy.faults.append(Fault("cut", wanted=lambda method, path: method == "GET" and not urlsplit(path).query))
    fails(lambda: store.complete(key, SHA), "BrokenBodyError")
    assert not store.upload(key).complete
    store.complete(key, SHA)
    assert store.upload(key).complete and read(store, key) == (DATA, SHA)


@pytest.mark.parametrize("kind", ["cut", "truncate", "status"])
def test_a_listing_that_is_not_whole_is_an_error_and_no_empty_store(proxy: S3Proxy, bucket: str, kind: str) -> None:
    proxy.faults.append(Fault(kind, times=9, wanted=listings))
    fails(lambda: at(proxy.url, bucket).usage(""), "answers|rightly")


@pytest.mark.parametrize("kind", ["drip", "slow"])
def test_a_slow_object_ends_in_bounded_time(
    proxy: S3Proxy, bucket: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACE", Pace(grace=0.5, rate=1024 * 1024))
    monkeypatch.setattr(module, "s3_client", quick_client)
    proxy.faults.append(Fault(kind, times=9, value=0.1 if kind == "drip" else 30, wanted=objects))
    start = time.monotonic()
    fails(lambda: at(proxy.url, bucket).fetch(KEY, io.BytesIO(), 2**21), "BrokenBodyError|ReadTimeoutError")
    assert time.monotonic() - start < 20, "drip: it would take hours; slow: 90 seconds"


def quick_client(*place: Any, connect: float, read: float, **more: Any) -> Any:
    """The product's client; a read may take a second."""
    assert connect <= 60 and read <= 60
    return s3_client(*place, connect=connect, read=1, **more)


def test_an_s3_that_says_slow_down_is_asked_three_times_and_no_more(proxy: S3Proxy, bucket: str) -> None:
    proxy.faults.append(Fault("status", times=2, value=503))
    assert read(at(proxy.url, bucket), KEY) == (DATA, SHA)
    proxy.faults[:], proxy.log[:] = [Fault("status", times=99, value=503)], []
    fails(lambda: read(at(proxy.url, bucket), KEY), "SlowDown")
    assert len(proxy.log) == 3


@pytest.mark.parametrize("status", [200, 204, 302, 403, 404])
def test_a_proxys_page_is_no_word_of_the_s3(proxy: S3Proxy, bucket: str, status: int) -> None:
    """A sign-in page with 200 was a release that is here whole, and an answer that was stored."""
    store, other = at(proxy.url, bucket), release_key(RUN, "node-b", "counts", SHA)
    calls: list[Callable[[], Any]] = [
        lambda: store.upload(KEY),
        lambda: append(store, other, DATA),
        lambda: store.complete(KEY, SHA),
        lambda: store.complete(other, SHA),
        lambda: store.put("answers/x", io.BytesIO(DATA)),
        lambda: store.fetch(KEY, io.BytesIO(), 2**21),
        lambda: store.usage(""),
        lambda: store.sweep(time.time() + 60),
    ]
    proxy.page = b"" if status == 204 else b"<html>Sign in</html>"
    for call in calls:
        proxy.faults[:] = [Fault("status", times=99, value=status)]
        fails(call, "answers|rightly|something else|has it not")
    proxy.faults.clear()
    assert read(store, KEY) == (DATA, SHA) and store.usage("") == (1, len(DATA)), "nothing came, nothing went"


def test_what_was_stored_before_there_were_marks_is_read_and_believed_if_it_is_that(server: S3Server) -> None:
    name, wrong = f"b-{uuid.uuid4().hex}", release_key(RUN, "node-b", "counts", SHA)
    server.bucket(name, {KEY: DATA, wrong: DATA[1:]})
    store = at(server.url, name)
    assert store.upload(KEY).complete
    store.complete(KEY, SHA)
    fails(lambda: store.upload(wrong), "other bytes")
    fails(lambda: store.complete(wrong, SHA), "other bytes")


def test_a_file_is_stored_only_when_it_can_be_seen(proxy: S3Proxy, bucket: str) -> None:
    store = at(proxy.url, bucket)
    store.put("answers/x", io.BytesIO(b"old"))
    proxy.page = b"<html>Sign in</html>"
    proxy.faults.append(Fault("status", times=99, value=200, wanted=lambda method, _: method == "PUT"))
    fails(lambda: store.put("answers/x", io.BytesIO(b"new")), "has it not")
    proxy.faults.clear()
    assert read(store, "answers/x")[0] == b"old"
    store.put("answers/x", io.BytesIO(b"new"))
    assert read(store, "answers/x")[0] == b"new"
