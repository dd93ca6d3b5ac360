"""The TES's lists, creations and ends against a server that answers as it likes. Each test is named after the promise
it keeps.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tes.models import Task

from gdi.contracts.tes import STATES, from_json, state_of, to_json
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.executor import task_registry as live_module
from snakemake_tes_auth.executor.task_registry import SINGLES, TaskRegistry
from snakemake_tes_auth.retry import Away, Refusal
from snakemake_tes_auth.tes import client as tes_module
from snakemake_tes_auth.tes.client import BrokenList, TesClient
from snakemake_tes_auth.tes.paging import PageSize
from tests.support.clock import virtual_time
from tests.support.wire import FAULT, answers_of
from tests.support.wires import TES

RUN = "r-0123456789abcdef0123"
QUICK = RetryPolicy(total=0.5, first=0.01, longest=0.05)
Handler = Callable[[httpx.Request], httpx.Response]


def tes(handler: Handler, *, idempotent: bool = False, patience: RetryPolicy = QUICK) -> TesClient:
    http = httpx.AsyncClient(transport=answers_of(TES, handler), base_url="http://tes.test")
    return TesClient(http, patience=patience, say=print, name="the TES", idempotent=idempotent)


class Server:
    """A TES in memory. `limit`: pages larger than that are refused with `status`; `filters` False: tags are ignored,
    None: refused.
    """

    def __init__(self, count: int = 0, *, limit: int = 10_000, status: int = 500, filters: bool | None = True) -> None:
        self.tasks = [
            {"id": f"t{i}", "state": "RUNNING", "tags": {"gdi-run": RUN, "gdi-job": f"j{i}", "gdi-try": "1"}}
            for i in range(count)
        ]
        self.limit, self.status, self.filters = limit, status, filters
        self.requests: list[str] = []
        self.hidden: set[str] = set()  # from lists
        self.gone: set[str] = set()
        self.lose = 0  # so many creations are carried out without an answer

    def of(self, identifier: str) -> dict[str, Any]:
        return next(t for t in self.tasks if t["id"] == identifier)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        self.requests.append(f"{request.method} {name}")
        if request.method == "POST" and name == "tasks":
            self.tasks.append({**json.loads(request.content), "id": f"new{len(self.tasks)}", "state": "QUEUED"})
            if self.lose:
                self.lose -= 1
                raise httpx.ReadError("cut")
            return httpx.Response(200, json={"id": self.tasks[-1]["id"]})
        if name.endswith(":cancel"):
            self.of(name.removesuffix(":cancel"))["state"] = "CANCELED"
            return httpx.Response(200, json={})
        if name != "tasks":
            known = [t for t in self.tasks if t["id"] == name and name not in self.gone]
            return httpx.Response(200, json=known[0]) if known else httpx.Response(404)
        query = request.url.params
        size, start = int(query["page_size"]), int(query.get("page_token") or 0)
        tags = dict(zip(query.get_list("tag_key"), query.get_list("tag_value"), strict=True))
        if tags and self.filters is None:
            return httpx.Response(400, json={"error": "unknown parameter tag_key"})
        if size > self.limit:
            return httpx.Response(self.status)
        seen = [
            t
            for t in self.tasks
            if t["id"] not in self.hidden | self.gone
            and (not self.filters or all(t["tags"].get(k) == v for k, v in tags.items()))
        ]
        page = [
            {k: t[k] for k in (("id", "state") if query["view"] == "MINIMAL" else t)}
            for t in seen[start : start + size]
        ]
        more = {"next_page_token": str(start + size)} if start + size < len(seen) else {}
        return httpx.Response(200, json={"tasks": page, **more})


# --- lists --------------------------------------------------------------------------------------


@virtual_time
async def test_ten_thousand_live_tasks_cost_at_most_ten_requests_and_one_task_one_call() -> None:
    server = Server(10_000)
    live = TaskRegistry(tes(server), RUN, known=10_000)
    assert len(await live.states({f"t{i}" for i in range(10_000)})) == 10_000 and len(server.requests) <= 10
    server.requests.clear()
    assert await live.states({"t1"}) == {"t1": "RUNNING"} and server.requests == ["GET t1"]


@virtual_time
async def test_a_list_ends_as_soon_as_all_that_was_asked_for_is_found() -> None:
    server = Server(50_000)
    live = TaskRegistry(tes(server), RUN, known=50_000)
    assert len(await live.states({f"t{i}" for i in range(1500)} | {"t49000"})) == 1501
    assert len(server.requests) == 2 and server.requests[-1] == "GET t49000", "the straggler is cheaper by itself"


@pytest.mark.parametrize("status", [413, 429, 500, 503])
@virtual_time
async def test_a_server_that_cannot_answer_so_many_is_asked_for_fewer_and_remembers(status: int) -> None:
    server = Server(3000, limit=300, status=status)
    live = TaskRegistry(tes(server), RUN, known=3000)
    for _ in range(10):
        assert len(await live.states({f"t{i}" for i in range(3000)})) == 3000
    assert len(server.requests) <= 10 * 3000 / 250 + 20, "the larger page is tried ever more rarely"


def test_a_page_size_comes_back_after_an_outage() -> None:
    size = PageSize(largest=2000)
    for _ in range(20):
        size.refused()
    assert size.size == size.smallest
    for _ in range(15):
        size.served(0.1)
    assert size.size == 2000


def test_a_slow_page_is_too_large_a_page() -> None:
    size = PageSize(largest=2000)
    size.served(25)
    assert size.size == 1000


@pytest.mark.parametrize("filters", [False, None])
@virtual_time
async def test_a_server_without_filters_by_tags_serves_as_well(filters: bool | None) -> None:
    server = Server(30, filters=filters)
    for task in server.tasks[10:]:
        task["tags"] = {"gdi-run": "another"}
    live = TaskRegistry(tes(server), RUN)
    await live.load(QUICK)
    assert sorted(live.earlier) == sorted(f"j{i}" for i in range(10))
    assert await live.states({"t1", "t2"}) == {"t1": "RUNNING", "t2": "RUNNING"}
    live.adopt("t3")
    assert await live.cancel_all() == 0
    assert [t["state"] for t in server.tasks] == ["CANCELED"] * 10 + ["RUNNING"] * 20, "what is another's lives on"


@pytest.mark.parametrize("filters", [True, False])
@virtual_time
async def test_what_another_configuration_left_in_this_place_is_known_by_what_it_writes(filters: bool) -> None:
    server = Server(6, filters=filters)
    for number, task in enumerate(server.tasks):
        task["tags"] = {"gdi-run": RUN if number < 2 else "another", "gdi-place": "p" if number < 5 else "elsewhere"}
        task["outputs"] = [{"url": f"s3://b/o{number}", "path": f"/o{number}"}]
    server.tasks[3]["state"] = "COMPLETE"
    server.tasks[4]["outputs"] = [{"url": "s3://b/folder/", "path": "/folder", "type": "DIRECTORY"}]
    live = TaskRegistry(tes(server), RUN, "p")
    await live.load(QUICK)
    assert sorted(live.strays) == ["t2", "t4"]
    assert live.others(f"s3://b/o{n}" for n in range(6)) == ["t2"] and live.others(["s3://b/o2"]) == []
    assert live.others(["s3://b/folder"]) == ["t4"]
    elsewhere = TaskRegistry(tes(server), RUN)
    await elsewhere.load(QUICK)
    assert elsewhere.strays == {}


@pytest.mark.parametrize("token", ["same", "round", "fresh"])
@virtual_time
async def test_pages_that_repeat_or_go_round_are_no_endless_loop(token: str) -> None:
    calls = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if not request.url.path.endswith("/tasks"):
            return httpx.Response(404)
        following = {"same": "x", "round": "ab"[calls % 2], "fresh": str(calls)}[token]
        return httpx.Response(200, json={"tasks": [{"id": "a", "state": "RUNNING"}], "next_page_token": following})

    with pytest.raises(BrokenList, match="twice"):
        [p async for p in tes(handler).pages({"gdi-run": RUN})]
    assert calls < 20
    states = await TaskRegistry(tes(handler), RUN, known=10, live=dict.fromkeys("abc", 0.0)).states(set("abc"))
    assert states["a"] == "RUNNING", "what came of a broken list is true"


@virtual_time
async def test_a_list_that_is_broken_for_good_submits_nothing_twice_and_says_so() -> None:
    with pytest.raises(Away, match="earlier processes could not be read"):
        await TaskRegistry(tes(lambda r: httpx.Response(200, json={"tasks": [], "next_page_token": "x"})), RUN).load(
            QUICK
        )


@pytest.mark.parametrize(
    "body",
    [
        b'{"tasks": [{"id": "a", "sta',
        b"[]",
        b"<html>",
        b'{"tasks": {"a": 1}}',
        b'{"tasks": [1, null, {"id": [3]}]}',
        b'{"tasks": 5}',
        b"[" * 100_000,
    ],
)
@virtual_time
async def test_nonsense_in_a_list_is_asked_for_again_or_left_out(body: bytes) -> None:
    answers = [body, json.dumps({"tasks": [{"id": "a", "state": "RUNNING"}]}).encode()]

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=answers.pop(0) if answers else b"{}", headers={FAULT: "1"})

    pages = [p async for p in tes(handler).pages({"gdi-run": RUN})]
    assert [to_json(task) for task in pages[0]] in ([{"id": "a", "state": "RUNNING"}], [])


def test_all_eleven_states_are_known_and_anything_else_is_unknown() -> None:
    assert len(STATES) == 11 and all(state_of(from_json({"state": s})) == s for s in STATES)
    assert {state_of(from_json(t)) for t in ({}, {"state": None}, {"state": "DONE"}, {"state": ["COMPLETE"]})} == {
        "UNKNOWN"
    }


# --- what lists do not show ---------------------------------------------------------------------


@virtual_time
async def test_a_task_that_no_list_shows_is_gone_only_when_its_own_calls_say_so_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_module, "FORGOTTEN_AFTER", 0.05)
    server = Server(3)
    server.hidden, server.gone = {"t1"}, {"t2"}
    live = TaskRegistry(tes(server), RUN, known=1)
    assert await live.states({"t0", "t1", "t2"}) == {"t0": "RUNNING", "t1": "RUNNING"}
    await asyncio.sleep(0.06)
    assert await live.states({"t0", "t1", "t2"}) == {"t0": "RUNNING", "t1": "RUNNING", "t2": None}


@virtual_time
async def test_a_list_that_lags_costs_a_bounded_number_of_calls_and_in_time_all_are_asked_for() -> None:
    server = Server(1000)
    server.hidden = {t["id"] for t in server.tasks}
    live = TaskRegistry(tes(server), RUN, known=1000)
    seen: dict[str, Any] = {}
    for _ in range(20):
        before = len(server.requests)
        seen |= await live.states({f"t{i}" for i in range(1000)} - seen.keys())
        assert len(server.requests) - before <= SINGLES + 2
    assert len(seen) == 1000


@virtual_time
async def test_tasks_that_were_only_just_created_are_not_asked_for_one_by_one() -> None:
    server = Server(1000)
    server.hidden = {t["id"] for t in server.tasks[:500]}
    live = TaskRegistry(tes(server), RUN, known=1000)
    for i in range(500):
        live.adopt(f"t{i}")
    assert len(await live.states({f"t{i}" for i in range(1000)})) == 500 and len(server.requests) == 1


# --- creations ----------------------------------------------------------------------------------

TASK = Task(tags={"gdi-run": RUN, "gdi-job": "j", "gdi-try": "1"})


@virtual_time
async def test_a_creation_whose_answer_was_lost_is_found_again_and_not_repeated() -> None:
    server = Server()
    server.lose = 1
    assert await tes(server).create(TASK) == "new0" and len(server.tasks) == 1


@virtual_time
async def test_a_creation_is_looked_for_also_in_a_list_that_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tes_module, "SETTLE", 1.0)
    server = Server()
    server.lose, server.hidden = 1, {"new0"}
    asyncio.get_running_loop().call_later(0.4, server.hidden.clear)
    assert (
        await tes(server, patience=RetryPolicy(total=5, first=0.01, longest=0.05)).create(TASK) == "new0"
        and len(server.tasks) == 1
    )


@virtual_time
async def test_a_gateway_that_knows_its_tasks_is_simply_asked_again() -> None:
    server = Server()
    server.lose = 1
    await tes(server, idempotent=True).create(TASK)
    assert server.requests == ["POST tasks", "POST tasks"]


@virtual_time
async def test_a_task_that_a_server_in_good_health_never_takes_is_refused_with_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tes_module, "SETTLE", 0.0)

    def handler(request: httpx.Request) -> httpx.Response:
        return (
            httpx.Response(500, text="invalid image\n\x00")
            if request.method == "POST"
            else httpx.Response(200, json={"tasks": []})
        )

    with pytest.raises(ProblemError, match=r"does not take the task.*invalid image"):
        await tes(handler, patience=RetryPolicy(total=1, first=0.01, longest=0.05)).create(TASK)


@virtual_time
async def test_a_server_that_cannot_be_reached_has_made_nothing() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if len(asked) < 4:
            raise httpx.ConnectError("no")
        return httpx.Response(200, json={"id": "x"})

    assert await tes(handler).create(TASK) == "x" and set(asked) == {"POST"}


@pytest.mark.parametrize("slug", ["run-closed", "stale-workload", "stale-attempt"])
@virtual_time
async def test_a_process_that_was_replaced_stops_at_once(slug: str) -> None:
    body = {"type": f"urn:gdi:problem:{slug}", "title": "x", "status": 403, "detail": "over", "action": ""}
    with pytest.raises(Refusal, match="over"):
        await tes(lambda r: httpx.Response(403, json=body)).create(Task())


@pytest.mark.parametrize("identifier", ["", "..", "a/b", "a?b", "a#b", "a%2fb", "x" * 300])
@virtual_time
async def test_a_task_id_is_never_more_than_one_path_segment(identifier: str) -> None:
    with pytest.raises(ProblemError):
        await tes(lambda r: httpx.Response(200, json={})).get(identifier)


# --- the end ------------------------------------------------------------------------------------


@virtual_time
async def test_cancelling_finds_also_what_the_registry_does_not_know() -> None:
    server = Server(2)
    live = TaskRegistry(tes(server), RUN, live={"t0": 0.0})
    assert await live.cancel_all() == 0 and {t["state"] for t in server.tasks} == {"CANCELED"}
    with pytest.raises(asyncio.CancelledError):
        await live.create(Task())


@virtual_time
async def test_a_creation_that_is_under_way_when_all_is_cancelled_leaves_nothing_alive() -> None:
    server = Server()
    inside, go = asyncio.Event(), asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and request.url.path.endswith("/tasks"):
            inside.set()
            await go.wait()
        return server(request)

    http = httpx.AsyncClient(transport=answers_of(TES, handler), base_url="http://tes.test")
    live = TaskRegistry(TesClient(http, patience=QUICK, say=print, name="the TES"), RUN)
    caller = asyncio.create_task(live.create(TASK))
    await inside.wait()
    caller.cancel()
    ending = asyncio.create_task(live.cancel_all())
    await asyncio.sleep(0)
    go.set()
    assert await ending == 0 and [t["state"] for t in server.tasks] == ["CANCELED"]


@virtual_time
async def test_cancelling_a_thousand_tasks_is_quick_and_asks_each_once() -> None:
    server = Server(1000)
    live = TaskRegistry(tes(server), RUN, live={t["id"]: 0.0 for t in server.tasks})
    began = time.monotonic()
    assert await live.cancel_all() == 0 and time.monotonic() - began < 20
    assert len([r for r in server.requests if r.endswith(":cancel")]) == 1000
