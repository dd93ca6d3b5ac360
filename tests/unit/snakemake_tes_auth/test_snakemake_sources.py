"""A workflow's files for tasks: each content stored once, also under many jobs at once, found again after a failure,
inline where there is no storage.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from gdi.contracts.tes import to_json
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.retry import Away, Refusal
from snakemake_tes_auth.tasks.sources import MAX_FILE, MAX_INLINE, GatewayStore, Sources, StorageStore
from snakemake_tes_auth.tasks.tasks import CannotRun
from tests.support.wire import answers_of
from tests.support.wires import GATEWAY


class Store:
    limit = MAX_FILE

    def __init__(self) -> None:
        self.put_: list[str] = []
        self.fail: list[Exception] = []

    async def put(self, sha256: str, data: bytes) -> str:
        assert hashlib.sha256(data).hexdigest() == sha256
        self.put_.append(sha256)
        await asyncio.sleep(0.01)
        if self.fail:
            raise self.fail.pop(0)
        return f"s3://b/.gdi/sources/{sha256}"


def files(folder: Path, **contents: str) -> list[Path]:
    for name, text in contents.items():
        (folder / name).write_text(text)
    return [folder / name for name in contents]


async def test_a_content_is_stored_once_however_many_jobs_and_names_ask_for_it(tmp_path: Path) -> None:
    store, paths = Store(), files(tmp_path, a="same", b="same", c="other")
    sources = Sources(store)
    found = await asyncio.gather(*(sources.inputs(paths) for _ in range(100)))
    assert len(store.put_) == 2 and all(f == found[0] for f in found)
    assert [i.path for i in found[0]] == [str(p) for p in paths] and found[0][0].url == found[0][1].url
    await sources.inputs(paths)
    assert len(store.put_) == 2


async def test_a_file_that_changed_is_stored_anew_and_the_task_may_see_it_elsewhere(tmp_path: Path) -> None:
    store, (path,) = Store(), files(tmp_path, a="one")
    sources = Sources(store)
    (before,) = await sources.inputs([path], lambda p: f"/gdi/job/{p.name}")
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    (after,) = await sources.inputs([path])
    assert before.path == "/gdi/job/a" and before.url != after.url and len(store.put_) == 2


async def test_a_failure_is_not_kept_and_a_cancelled_job_does_not_take_the_others_file(tmp_path: Path) -> None:
    store, paths = Store(), files(tmp_path, a="x")
    sources = Sources(store)
    store.fail = [Away("away")]
    with pytest.raises(Away):
        await sources.inputs(paths)
    assert await sources.inputs(paths)
    other = Sources(store)
    first, second = (asyncio.create_task(other.inputs(paths)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)[0].url


async def test_without_storage_text_goes_inline_and_the_rest_says_what_to_give(tmp_path: Path) -> None:
    sources = Sources(None)
    (small,) = files(tmp_path, a="text")
    (inline,) = await sources.inputs([small])
    assert to_json(inline) == {"content": "text", "path": str(small), "type": "FILE"}
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("x" * (MAX_INLINE + 1))
    for name in ("binary", "large"):
        with pytest.raises(CannotRun, match="--default-storage-provider"):
            await sources.inputs([tmp_path / name])


async def test_a_file_too_large_or_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (MAX_FILE + 1))
    for name in ("large", "none"):
        with pytest.raises(CannotRun, match=name):
            await Sources(Store()).inputs([tmp_path / name])


async def test_a_gateway_that_is_away_is_waited_for_and_one_that_refuses_is_quoted() -> None:
    answers = [503, 502, 204]
    seen: list[str] = []

    def gateway(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.path}")
        return httpx.Response(answers.pop(0))

    async with httpx.AsyncClient(base_url="http://gateway.test", transport=answers_of(GATEWAY, gateway)) as http:
        store = GatewayStore(
            http,
            "r-1",
            patience=RetryPolicy(total=5, first=0.01, longest=0.02),
            say=lambda _: None,
            server="the gateway of node-a",
        )
        assert await store.put("abc", b"data") == "workspace://r-1/.gdi/sources/abc" and set(seen) == {
            "PUT /workspace/r-1/.gdi/sources/abc"
        }
        answers.append(413)
        with pytest.raises(CannotRun, match="the gateway of node-a did not take"):
            await store.put("abc", b"data")
        answers.append(401)
        with pytest.raises(Refusal):
            await store.put("abc", b"data")


class Provider:
    """A storage plugin, as Snakemake's interface has it."""

    def __init__(self, there: set[str], error: Exception | None = None) -> None:
        self.there, self.error, self.stored = there, error, {}  # type: ignore[var-annotated]

    def object(self, query: str) -> Any:
        provider = self

        class Stored:
            def __init__(self) -> None:
                self.query = query

            def exists(self) -> bool:
                return query in provider.there

            def set_local_path(self, path: Path) -> None:
                self.path = path

            def store_object(self) -> None:
                if provider.error:
                    raise provider.error
                provider.stored[query] = self.path.read_bytes()

        return Stored()


async def test_the_default_storage_keeps_sources_under_its_prefix_and_what_is_there_is_left() -> None:
    provider = Provider({"s3://b/p/.gdi/sources/there"})
    store = StorageStore.of(provider, "s3://b/p/")
    assert store is not None and await store.put("new", b"data") == "s3://b/p/.gdi/sources/new"
    assert await store.put("there", b"data") == "s3://b/p/.gdi/sources/there" and provider.stored == {
        "s3://b/p/.gdi/sources/new": b"data"
    }


async def test_a_storage_that_does_not_take_it_is_quoted_and_a_folder_of_this_machine_is_none() -> None:
    store = StorageStore.of(Provider(set(), OSError("no space")), "s3://b/p")
    assert store is not None
    with pytest.raises(CannotRun, match="no space"):
        await store.put("new", b"data")
    assert StorageStore.of(Provider(set()), "/mnt/shared") is None and StorageStore.of(None, "") is None
