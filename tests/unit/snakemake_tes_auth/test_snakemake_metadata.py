"""What is known of files without asking file by file, and how a TES that lies about them is found out."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tes.models import Task

from gdi.contracts.tes import from_json
from gdi.contracts.urls import StorageUrl
from gdi.kit.problem import PROBLEM_JSON, ProblemError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.files.metadata import FileInfo, FileMetadata
from snakemake_tes_auth.files.queries import parse
from snakemake_tes_auth.retry import Away, Refusal
from snakemake_tes_auth.session import _GatewayClient
from snakemake_tes_auth.tasks.sources import GatewayStore
from tests.support.wire import FAULT, answers_of
from tests.support.wires import GATEWAY

RUN = "r-0123456789abcdef0123"
QUICK = RetryPolicy(total=0.3, first=0.01, longest=0.05)


def at(path: str) -> StorageUrl:
    return parse(f"workspace://{RUN}/{path}")


class Gateway:
    """The workspace's listing, HEAD and DELETE; `sizes` are what tasks report of their outputs."""

    def __init__(self, *paths: str) -> None:
        self.files = {path: 7 for path in paths}
        self.closed: set[str] = set()  # folders of which nothing more is told
        self.asked: list[str] = []
        self.tasks: dict[str, dict[str, int]] = {}
        http = httpx.AsyncClient(transport=answers_of(GATEWAY, self), base_url="http://gateway.test")
        self.metadata = FileMetadata(http, RUN, patience=QUICK, say=print, name="the gateway", task=self.task)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix(f"/workspace/{RUN}").lstrip("/")
        self.asked.append(f"{request.method} {path}")
        if request.method == "DELETE":
            self.files.pop(path, None)
            return httpx.Response(204)
        if request.method == "HEAD":
            return (
                httpx.Response(200, headers={"content-length": str(self.files[path])})
                if path in self.files
                else httpx.Response(404)
            )
        rows = [{"path": p, "size": s, "mtime": 5, "folder": p in self.closed} for p, s in sorted(self.files.items())]
        start = int(request.url.params.get("page_token") or 0)
        more = str(start + 1000) if start + 1000 < len(rows) else ""
        return httpx.Response(200, json={"files": rows[start : start + 1000], "next_page_token": more})

    async def task(self, identifier: str) -> Task:
        self.asked.append(f"TASK {identifier}")
        outputs = [
            {"url": f"workspace://{RUN}/{p}", "path": "/x", "size_bytes": str(s)}
            for p, s in self.tasks.get(identifier, {}).items()
        ]
        return from_json({"logs": [{"logs": [], "outputs": outputs}]}, identifier=identifier)

    async def began(self) -> FileMetadata:
        await self.metadata.listing()
        self.asked.clear()
        return self.metadata


async def test_a_folder_whose_files_the_node_does_not_tell_is_there_and_cannot_be_looked_into() -> None:
    gateway = Gateway("a", "d")
    gateway.closed = {"d"}
    metadata = await gateway.began()
    found = await metadata.info(at("d"))
    assert found is not None and found.size == 0 and await metadata.is_folder(at("d"))
    assert "d" not in await metadata.listing()
    with pytest.raises(Refusal, match="names in a folder stay at this node"):
        await metadata.within(at("d"))
    metadata.produced([("e", True)], "task", 9.0)
    gateway.files["e"], gateway.closed = 0, {"d", "e"}
    assert await metadata.verify() == [] and await metadata.is_folder(at("e"))
    await metadata.remove(at("d"))
    assert not await metadata.is_folder(at("d"))


async def test_ten_thousand_files_cost_ten_listings_and_no_call_each() -> None:
    gateway = Gateway(*(f"out/{i}" for i in range(10_000)))
    for i in range(10_000):
        assert await gateway.metadata.info(at(f"out/{i}")) is not None
    directory = await gateway.metadata.info(at("out"))
    assert directory is not None and directory.size == 0 and gateway.metadata.requests == 10
    with pytest.raises(Refusal, match="another run"):
        await gateway.metadata.info(parse("workspace://r-ffffffffffffffffffff/x"))


async def test_the_outputs_of_a_complete_task_are_there_without_any_question() -> None:
    gateway = Gateway()
    metadata = await gateway.began()
    metadata.produced([("a/b.txt", False), ("tree", True)], "t1", 123.0)
    assert (known := metadata.known(at("a/b.txt"))) is not None and known.mtime == 123.0
    assert await metadata.info(at("a")) is not None and await metadata.info(at("tree")) is not None
    assert not gateway.asked


async def test_sizes_of_one_task_come_from_the_task_and_of_many_from_one_listing() -> None:
    gateway = Gateway()
    metadata = await gateway.began()
    for i in range(2500):
        gateway.files[f"o{i}"] = i
        gateway.tasks[f"t{i}"] = {f"o{i}": i}
        metadata.produced([(f"o{i}", False)], f"t{i}", 9.0)
    assert await metadata.size(at("o3")) == 3 and gateway.asked == ["TASK t3"]
    assert [await metadata.size(at(f"o{i}")) for i in range(2500)] == list(range(2500))
    assert len(gateway.asked) <= 2 * 3, "as many single calls as a listing has pages, then the listing"


async def test_a_task_that_reports_no_sizes_costs_a_listing() -> None:
    gateway = Gateway()
    metadata = await gateway.began()
    gateway.files["x"] = 42
    metadata.produced([("x", False)], "t1", 9.0)
    assert await metadata.size(at("x")) == 42 and gateway.asked[-1] == "GET "


async def test_a_complete_task_whose_output_is_not_there_is_found_out_at_the_end() -> None:
    gateway = Gateway()
    metadata = await gateway.began()
    metadata.produced([("good", False), ("lie", False)], "t1", 9.0)
    gateway.files["good"] = 1
    assert await metadata.verify() == ["lie"] and await metadata.verify() == []
    assert await metadata.info(at("lie")) is None and await metadata.info(at("good")) is not None


async def test_a_lie_is_found_out_when_a_later_job_needs_the_file() -> None:
    gateway = Gateway("listed")
    metadata = await gateway.began()
    metadata.produced([("good", False), ("lie", False)], "t1", 9.0)
    gateway.files["good"] = 1
    assert await metadata.absent([at("good"), at("lie"), at("listed")]) == [f"workspace://{RUN}/lie"]
    assert await metadata.info(at("lie")) is None
    assert await metadata.size(at("good")) == 1


async def test_a_file_that_is_made_while_the_listing_is_read_is_not_lost() -> None:
    gateway = Gateway()
    metadata = await gateway.began()
    metadata.produced([("a", False)], "t1", 9.0)
    gateway.files["a"] = 1
    listing = metadata._list

    async def slow() -> Any:
        found = await listing()
        metadata.produced([("late", False)], "t2", 10.0)
        return found

    metadata._list = slow  # type: ignore[method-assign]
    assert await metadata.verify() == []
    assert metadata.known(at("late")) is not None


async def test_what_is_removed_is_gone_and_what_never_was_is_asked_for_once_in_a_while() -> None:
    gateway = Gateway("a", "d/x", "d/y")
    metadata = await gateway.began()
    metadata.produced([("t", False)], "t1", 9.0)
    await metadata.remove(at("a"))
    await metadata.remove(at("t"))
    assert await metadata.info(at("a")) is None and await metadata.info(at("t")) is None
    assert await metadata.verify() == []
    gateway.asked.clear()
    assert [await metadata.info(at("never")) for _ in range(5)] == [None] * 5 and gateway.asked == ["HEAD never"]
    gateway.files["never"] = 1
    metadata.produced([("never", False)], "t3", 9.0)
    assert await metadata.info(at("never")) is not None


async def test_an_object_of_a_drs_server_is_asked_of_the_gateway_alone() -> None:
    asked: list[str] = []
    told = {"url": "sda://DS/a.c4gh", "size": 5, "modified": 7.0}

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        if "bundle" in request.url.path:
            return problem_answer(403, "forbidden-location", "it is a bundle of objects: name each of them")
        if "none" in request.url.path:
            return problem_answer(404, "not-found", "The DRS server has no object.")
        return httpx.Response(200, json=told, headers={} if told else {FAULT: "no file"})

    http = httpx.AsyncClient(transport=answers_of(GATEWAY, answer), base_url="http://gateway.test")
    metadata = FileMetadata(http, RUN, patience=QUICK, say=print, name="the gateway")
    query = parse("drs://drs.archive.example/a%2Fb")
    assert await metadata.info(query) == FileInfo(5, 7.0) == await metadata.info(query) == metadata.known(query)
    assert asked == ["/drs/drs.archive.example/a%252Fb"]
    assert await metadata.info(parse("drs://drs.42:none")) is None
    with pytest.raises(Refusal, match=r"AccessDenied: drs://drs\.archive\.example/bundle: it is a bundle"):
        await metadata.info(parse("drs://drs.archive.example/bundle"))
    told.clear()
    with pytest.raises(ProblemError, match="something else"):
        await metadata.info(parse("drs://drs.archive.example/other"))


PAGES = {
    "sign in": httpx.Response(200, html="<h1>Sign in</h1>"),
    "sign in elsewhere": httpx.Response(302, headers={"location": "https://login.example/"}),
    "no token": httpx.Response(401, html="<h1>401</h1>"),
    "forbidden": httpx.Response(403, text="denied"),
    "no backend": httpx.Response(404, html="<h1>No backend</h1>"),
    "no route": httpx.Response(404, json={"message": "no Route matched"}),
    "no method": httpx.Response(405),
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("query", [f"workspace://{RUN}/a", "sda://DS/a.c4gh", "drs://drs.42:a"])
async def test_a_proxys_page_is_no_word_about_a_run_or_a_file(query: str, page: str) -> None:
    pages = [True, True]
    told = {"url": "sda://DS/a.c4gh", "size": 5, "modified": 7.0}

    def answer(request: httpx.Request) -> httpx.Response:
        if pages and pages.pop():
            other = PAGES[page]
            return httpx.Response(other.status_code, content=other.content, headers={**other.headers, FAULT: page})
        if request.method == "HEAD":
            return httpx.Response(200, headers={"content-length": "5"})
        listed = "/workspace/" in request.url.path
        return httpx.Response(200, json={"files": [], "next_page_token": ""} if listed else told)

    async with _GatewayClient(transport=answers_of(GATEWAY, answer), base_url="http://gateway.test") as http:
        metadata = FileMetadata(http, RUN, patience=QUICK, say=print, name="the gateway")
        assert (found := await metadata.info(parse(query))) is not None and found.size == 5


async def test_what_stays_before_the_gateway_is_told_when_patience_ends() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, html="<h1>No backend</h1>", headers={FAULT: "a page"})

    async with _GatewayClient(transport=answers_of(GATEWAY, answer), base_url="http://gateway.test") as http:
        metadata = FileMetadata(http, RUN, patience=QUICK, say=print, name="the gateway")
        with pytest.raises(Away, match="not in the gateway's own words"):
            await metadata.info(parse("sda://DS/a.c4gh"))


async def test_a_proxys_page_does_not_say_that_a_source_is_stored_or_a_file_is_gone() -> None:
    pages, calls = [True], []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        if pages:
            pages.pop()
            return httpx.Response(200, html="<h1>Sign in</h1>", headers={FAULT: "a page"})
        return httpx.Response(204)

    async with _GatewayClient(transport=answers_of(GATEWAY, answer), base_url="http://gateway.test") as http:
        store = GatewayStore(http, RUN, patience=QUICK, say=print, server="the gateway")
        await store.put("0" * 64, b"x")
        pages.append(True)
        metadata = FileMetadata(http, RUN, patience=QUICK, say=print, name="the gateway")
        await metadata.remove(parse(f"workspace://{RUN}/a"))
    assert calls == ["PUT", "PUT", "DELETE", "DELETE"]


async def test_what_a_gateway_says_itself_is_believed_at_once() -> None:
    answers = [problem_answer(404, "not-found", ""), problem_answer(401, "unauthenticated", "the run was closed")]

    def answer(request: httpx.Request) -> httpx.Response:
        return answers.pop(0)

    async with _GatewayClient(transport=answers_of(GATEWAY, answer), base_url="http://gateway.test") as http:
        metadata = FileMetadata(http, RUN, patience=QUICK, say=print, name="the gateway")
        assert await metadata.info(parse("sda://DS/a.c4gh")) is None
        with pytest.raises(Refusal, match="the run was closed"):
            await metadata.info(parse("sda://DS/b.c4gh"))


def problem_answer(status: int, slug: str, detail: str) -> httpx.Response:
    body = ProblemError(status, slug, detail).problem.model_dump()
    return httpx.Response(status, json=body, headers={"content-type": PROBLEM_JSON})
