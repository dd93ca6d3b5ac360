"""The gateway's bucket beside a real S3 server: what is missing, refused, elsewhere, cut or slow."""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gdi.kit.problem import ProblemError
from gdi.kit.s3 import Pace
from node_gateway.workspace.bucket import PATIENCE, Bucket, WorkspaceTimeouts
from tests.support.faults import Fault
from tests.support.s3_faults import S3Proxy, listings, objects
from tests.support.s3_fixtures import proxy, server  # noqa: F401
from tests.support.s3_server import ACCESS, REGION, SECRET, S3Server, enforced

SOON = WorkspaceTimeouts(connect=2, read=0.5, call=4, body=Pace(grace=0.5, rate=1024**2))
BIG = bytes(range(256)) * 4096  # 1 MiB
ODD = ["r/a b.txt", "r/a+b.txt", "r/100%.txt", "r/%20.txt", "r/ü-日本.txt", "r/a#b.txt", "r/a?b=c&d.txt", "r/a'b\".txt"]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def name(server: S3Server) -> str:
    name = f"b-{uuid.uuid4().hex}"
    server.bucket(name, {"r/big": BIG})
    return name


def bucket(
    name: str,
    url: str,
    pool: ThreadPoolExecutor,
    credentials: tuple[str, str] = (ACCESS, SECRET),
    patience: WorkspaceTimeouts = PATIENCE,
) -> Bucket:
    return Bucket(name, endpoint=url, region=REGION, credentials=credentials, pool=pool, patience=patience)


def away(error: pytest.ExceptionInfo[ProblemError], reason: str, *, lasting: bool = False) -> None:
    """503 with the reason, and not a word of the storage's names and keys."""
    problem = error.value.problem
    assert (problem.status, problem.slug) == (503, "storage-away")
    assert reason in problem.detail
    text = problem.model_dump_json()
    assert SECRET not in text and ACCESS not in text and "r/big" not in text and "127.0.0.1" not in text
    assert problem.action.startswith("Tell the node's operator" if lasting else "Try again")


async def test_a_missing_object_is_none_for_head_and_404_for_its_content(
    server: S3Server, name: str, pool: ThreadPoolExecutor
) -> None:
    store = bucket(name, server.url, pool)
    assert await store.head("r/none") is None
    assert not await store.all_there(["r/big", "r/none"]) and await store.all_there(["r/big"])
    with pytest.raises(ProblemError) as error:
        await store.download("r/none", io.BytesIO(), 100)
    assert (error.value.problem.status, error.value.slug) == (404, "not-found")
    await store.delete("r/none")


async def test_a_missing_bucket_is_not_taken_for_a_missing_object(server: S3Server, pool: ThreadPoolExecutor) -> None:
    store = bucket("no-such-bucket-here", server.url, pool)
    for call in (
        lambda: store.head("r/big"),
        lambda: store.all_there(["r/big"]),
        lambda: store.download("r/big", io.BytesIO(), 100),
        lambda: store.page("r/"),
        lambda: store.upload("r/x", io.BytesIO(b"x"), "text/plain"),
        lambda: store.delete("r/big"),
    ):
        with pytest.raises(ProblemError) as error:
            await call()
        away(error, "NoSuchBucket", lasting=True)
    assert not await store.alive()


async def test_a_refused_user_gets_503_and_never_not_found(
    server: S3Server, name: str, pool: ThreadPoolExecutor
) -> None:
    store = bucket(name, server.url, pool, server.stranger(name))
    with enforced():
        for call in (
            lambda: store.download("r/big", io.BytesIO(), 100),
            lambda: store.page("r/"),
            lambda: store.upload("r/x", io.BytesIO(b"x"), "text/plain"),
            lambda: store.delete("r/big"),
        ):
            with pytest.raises(ProblemError) as error:
                await call()
            away(error, "AccessDenied", lasting=True)
        for key in ("r/big", "r/none"):
            with pytest.raises(ProblemError) as error:
                await store.head(key)
            away(error, "403", lasting=True)
        assert not await store.alive()


async def test_an_unknown_key_is_refused(server: S3Server, name: str, pool: ThreadPoolExecutor) -> None:
    store = bucket(name, server.url, pool)
    with enforced(), pytest.raises(ProblemError) as error:
        await store.page("r/")
    away(error, "InvalidAccessKeyId", lasting=True)


async def test_a_listing_of_many_pages_gives_each_key_once(server: S3Server, pool: ThreadPoolExecutor) -> None:
    name = f"b-{uuid.uuid4().hex}"
    keys = [f"r/{i:05}" for i in range(1105)]
    server.bucket(name, dict.fromkeys([*keys, "q/foreign", "s/foreign"], b"x"))
    store, found, token, pages = bucket(name, server.url, pool), [], "", 0
    while True:
        files, token = await store.page("r/", token)
        found += [f.key for f in files]
        pages += 1
        if not token:
            break
    assert found == keys and pages == 2
    with pytest.raises(ValueError):
        await store.page("s/", "ci8wMDAwMA==")  # a token of r/


async def test_keys_with_odd_characters_are_themselves(server: S3Server, pool: ThreadPoolExecutor) -> None:
    name = f"b-{uuid.uuid4().hex}"
    server.bucket(name)
    store = bucket(name, server.url, pool)
    for key in ODD:
        await store.upload(key, io.BytesIO(key.encode()), "text/plain")
    found, token = [], ""
    while not found or token:
        files, token = await store.page("r/", token, 3)
        found += [f.key for f in files]
    assert found == sorted(ODD, key=str.encode)
    for key in ODD:
        into = io.BytesIO()
        await store.download(key, into, 1000)
        assert into.getvalue() == key.encode() and await store.all_there([key])
        await store.delete(key)
        assert await store.head(key) is None


@pytest.mark.parametrize("redirect", [False, True])
async def test_a_bucket_of_another_region_is_found_by_the_storages_hint(
    proxy: S3Proxy, name: str, pool: ThreadPoolExecutor, redirect: bool
) -> None:
    proxy.region, proxy.redirect = "eu-west-3", redirect
    store = bucket(name, proxy.url, pool)
    assert (found := await store.head("r/big")) and found.size == len(BIG)
    assert await store.download("r/big", io.BytesIO(), 2**21) == len(BIG)


@pytest.mark.parametrize(("redirect", "code"), [(False, "AuthorizationHeaderMalformed"), (True, "PermanentRedirect")])
async def test_another_region_without_a_hint_is_the_operators_to_mend(
    proxy: S3Proxy, name: str, pool: ThreadPoolExecutor, redirect: bool, code: str
) -> None:
    proxy.region, proxy.redirect, proxy.hint = "eu-west-3", redirect, False
    store = bucket(name, proxy.url, pool)
    with pytest.raises(ProblemError) as error:
        await store.download("r/big", io.BytesIO(), 2**21)
    away(error, code, lasting=True)
    assert len(proxy.log) <= 3


@pytest.mark.parametrize(
    ("kind", "reason"), [("cut", "broke off after"), ("unsized", "did not give the object's length")]
)
async def test_a_cut_object_is_never_taken_for_whole(
    proxy: S3Proxy, name: str, pool: ThreadPoolExecutor, kind: str, reason: str
) -> None:
    proxy.faults.append(Fault(kind, wanted=objects))
    store = bucket(name, proxy.url, pool)
    with pytest.raises(ProblemError) as error:
        await store.download("r/big", io.BytesIO(), 2**21)
    away(error, reason)
    into = io.BytesIO()
    assert await store.download("r/big", into, 2**21) == len(BIG) and into.getvalue() == BIG


@pytest.mark.parametrize("kind", ["cut", "truncate"])
async def test_a_cut_listing_is_never_taken_for_whole(
    proxy: S3Proxy, name: str, pool: ThreadPoolExecutor, kind: str
) -> None:
    proxy.faults.append(Fault(kind, times=3, wanted=listings))
    with pytest.raises(ProblemError) as error:
        await bucket(name, proxy.url, pool).page("r/")
    away(error, "500")  # what botocore makes of a 200 that is no XML


@pytest.mark.parametrize("kind", ["drip", "slow"])
async def test_a_slow_object_ends_in_bounded_time_and_its_thread_too(proxy: S3Proxy, name: str, kind: str) -> None:
    proxy.faults.append(Fault(kind, times=9, value=0.1 if kind == "drip" else 30, wanted=objects))
    start = time.monotonic()
    with ThreadPoolExecutor(1) as pool, pytest.raises(ProblemError) as error:
        await bucket(name, proxy.url, pool, patience=SOON).download("r/big", io.BytesIO(), 2**21)
    assert time.monotonic() - start < 20  # drip: 1 MiB would take 29 hours; slow: 90 seconds
    assert not any(thread.is_alive() for thread in pool._threads)
    away(error, "too slowly" if kind == "drip" else "ReadTimeoutError")


@pytest.mark.parametrize("kind", ["drip", "slow"])
async def test_a_slow_listing_ends_in_bounded_time(
    pool: ThreadPoolExecutor, proxy: S3Proxy, name: str, kind: str
) -> None:
    proxy.faults.append(Fault(kind, times=9, value=0.1 if kind == "drip" else 30, wanted=listings))
    store, start = bucket(name, proxy.url, pool, patience=WorkspaceTimeouts(read=5, call=1)), time.monotonic()
    with pytest.raises(ProblemError) as error:
        await store.page("r/")
    assert time.monotonic() - start < 12  # drip: the answer would take 50 seconds and more; slow: 15
    away(error, "nothing whole in 1 seconds")


async def test_slow_down_is_tried_three_times_and_no_more(proxy: S3Proxy, name: str, pool: ThreadPoolExecutor) -> None:
    store = bucket(name, proxy.url, pool)
    proxy.faults.append(Fault("status", times=2, value=503))
    assert await store.download("r/big", io.BytesIO(), 2**21) == len(BIG)
    assert len(proxy.log) == 3
    proxy.log.clear()
    proxy.faults[:] = [Fault("status", times=99, value=503)]
    with pytest.raises(ProblemError) as error:
        await store.download("r/big", io.BytesIO(), 2**21)
    away(error, "SlowDown")
    assert len(proxy.log) == 3


async def test_a_connection_that_breaks_is_tried_three_times_and_no_more(
    proxy: S3Proxy, name: str, pool: ThreadPoolExecutor
) -> None:
    proxy.faults.append(Fault("away", times=99))
    store = bucket(name, proxy.url, pool)
    with pytest.raises(ProblemError) as error:
        await store.page("r/")
    away(error, "ConnectionClosedError")
    assert len(proxy.log) == 3


async def test_more_than_the_limit_is_not_read(server: S3Server, name: str, pool: ThreadPoolExecutor) -> None:
    into = io.BytesIO()
    assert await bucket(name, server.url, pool).download("r/big", into, 1000) > 1000
    assert len(into.getvalue()) <= 1000
