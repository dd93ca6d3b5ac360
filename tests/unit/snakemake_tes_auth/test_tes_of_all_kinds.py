"""A TES that does less than the standard, or does it otherwise: a fallback or one sentence, and nothing is created
twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from tes.models import Task, TaskLog

from gdi.contracts.tes import from_json, id_of, state_of
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.executor.task_registry import TaskRegistry
from snakemake_tes_auth.retry import Away, error_of
from snakemake_tes_auth.tasks.reasons import LOG_END, ends_of_logs, failure, mount_hint
from snakemake_tes_auth.tes.client import TesClient
from tests.support.clock import virtual_time

QUICK = RetryPolicy(total=0.5, first=0.01, longest=0.05)
TAGS = {"gdi-run": "r", "gdi-job": "j", "gdi-try": "1"}
PAGE = httpx.Response(200, html="<html><title>Sign in</title></html>")


def client(handler: Callable[[httpx.Request], httpx.Response]) -> TesClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://tes.test")
    return TesClient(http, patience=QUICK, say=lambda _: None, name="the TES")


async def listed(tes: TesClient) -> list[str]:
    return [id_of(t) async for page in tes.pages(TAGS) for t in page]


@virtual_time
@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_tes_without_a_list_of_tasks_is_used_without_it(status: int) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(200, json={"id": "t1"})
        if request.url.path.endswith("/tasks"):
            return httpx.Response(status, html="<html>no</html>")
        return httpx.Response(200, json={"id": "t1", "state": "RUNNING"})

    registry = TaskRegistry(client(handler), "r")
    await registry.load(QUICK)
    assert await registry.create(Task(tags=TAGS)) == "t1"
    assert await registry.states(["t1"]) == {"t1": "RUNNING"}


@virtual_time
async def test_a_creation_whose_answer_is_lost_is_not_repeated_where_nothing_can_be_listed() -> None:
    created = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            created.append(request)
            raise httpx.ReadError("cut")
        return httpx.Response(501)

    with pytest.raises(ProblemError, match="not sent twice"):
        await client(handler).create(Task(tags=TAGS))
    assert len(created) == 1


@virtual_time
@pytest.mark.parametrize("status", [400, 422, 500, 501])
async def test_a_tes_that_does_not_know_the_view_minimal_is_asked_for_basic(status: int) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.params["view"] == "MINIMAL":
            return httpx.Response(status, json={"error": "unknown view"})
        if request.url.path.endswith("/tasks"):
            return httpx.Response(200, json={"tasks": [{"id": "t1", "state": "COMPLETE", "tags": TAGS}]})
        return httpx.Response(200, json={"id": "t1", "state": "COMPLETE"})

    tes = client(handler)
    assert state_of(await tes.get("t1", "MINIMAL")) == "COMPLETE" and tes.requests == 2
    assert await listed(tes) == ["t1"] and tes.requests == 3


async def test_ids_that_are_numbers_are_ids() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(200, json={"id": 17})
        if request.url.path.endswith("/tasks"):
            return httpx.Response(200, json={"tasks": [{"id": 17, "state": "RUNNING", "tags": TAGS}]})
        return httpx.Response(200, json={"id": 17, "state": "RUNNING"})

    tes = client(handler)
    assert await tes.create(Task(tags=TAGS)) == "17" and await listed(tes) == ["17"]
    assert id_of(from_json({"id": True})) == ""


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_on_the_same_server_is_followed(status: int) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/"):
            return httpx.Response(status, headers={"location": f"{request.url.path}/?{request.url.query.decode()}"})
        return httpx.Response(200, json={"tasks": [{"id": "t1", "state": "RUNNING", "tags": TAGS}]})

    assert await listed(client(handler)) == ["t1"]


@pytest.mark.parametrize("location", ["https://other.test/ga4gh/tes/v1/tasks", "https://tes.test/x", ""])
async def test_a_redirect_to_another_server_is_told_and_gets_no_credential(location: str) -> None:
    hosts = []

    def handler(request: httpx.Request) -> httpx.Response:
        hosts.append(str(request.url.copy_with(query=None)))
        return httpx.Response(308, headers={"location": location})

    with pytest.raises(ProblemError, match="give its address"):
        await listed(client(handler))
    assert {h.partition("/ga4gh")[0] for h in hosts} == {"http://tes.test"}


@virtual_time
async def test_a_page_of_html_is_one_sentence_soon_where_the_server_never_spoke_json() -> None:
    tes = client(lambda _: PAGE)
    tes._patience = RetryPolicy(total=600, first=0.01, longest=0.05)
    with pytest.raises(ProblemError, match="is this the address of a TES"):
        await listed(tes)
    assert tes.requests < 10


@virtual_time
async def test_a_page_of_html_between_good_answers_is_waited_out() -> None:
    answers = [httpx.Response(200, json={"tasks": []}), PAGE, PAGE, httpx.Response(200, json={"tasks": []})]
    tes = client(lambda _: answers.pop(0))
    assert await listed(tes) == [] and await listed(tes) == [] and not answers


@virtual_time
async def test_a_page_of_html_that_stays_ends_in_one_sentence() -> None:
    answers = [httpx.Response(200, json={"tasks": []})]
    tes = client(lambda _: answers.pop(0) if answers else PAGE)
    await listed(tes)
    with pytest.raises(Away, match="has not answered"):
        await listed(tes)


def test_an_error_page_is_quoted_as_text() -> None:
    page = "<!DOCTYPE html><html><head><style>a{b:c}</style></head><body><h1>Down</h1>for\n now</body></html>"
    request = httpx.Request("GET", "http://tes.test/x")
    assert str(error_of(httpx.Response(403, html=page, request=request))).endswith("answered 403: Down for now")


# --- what is told of a failed task ----------------------------------------------------------------


def failed(state: str, *, stderr: str = "", system: list[str] | None = None) -> Task:
    logs = [{"exit_code": 1, "stderr": stderr}]
    return from_json({"id": "t", "state": state, "logs": [{"logs": logs, "system_logs": system}]})


def test_the_user_reads_the_tess_own_log_bounded_and_without_secrets() -> None:
    lines = [
        "x" * 9000,
        "pull of image:\x1b[1m no such image",
        "GET https://s3/b/k?X-Amz-Signature=abc123&X-Amz-Date=1 failed",
        "Authorization: Bearer abcdefghijkl",
        "token=planted-4711 user:planted-4712@host s3://key:planted-4713@bucket/x",
    ]
    sentence = failure(failed("SYSTEM_ERROR", system=lines)).sentence("a")
    assert "rule a failed: the TES could not run the task and writes:" in sentence and "its operator" not in sentence
    assert not [w for w in ("abc123", "abcdefghijkl", "4711", "4713", "\x1b") if w in sentence] and len(sentence) < 1900
    assert "its operator" in failure(failed("SYSTEM_ERROR")).sentence("a")


def test_a_command_that_moves_its_input_is_told_that_inputs_are_mounts() -> None:
    why = failure(failed("EXECUTOR_ERROR", stderr="mv: cannot move 's3/b/i.txt' to 'o': Device or resource busy"))
    assert "inputs are mounts" in mount_hint(why, ["s3/b/i.txt"]) and not mount_hint(why, ["other"])
    assert not mount_hint(failure(failed("EXECUTOR_ERROR", stderr="i.txt: no such gene")), ["i.txt"])


def test_the_logs_of_a_failed_job_are_read_back_from_its_standard_error() -> None:
    text = f"before\n--- the end of a.log:\none\n--- the end of b.log:\n{'y' * LOG_END}"
    found = ends_of_logs(failed("EXECUTOR_ERROR", stderr=text), ["a.log", "b.log", "c.log"])
    assert found == {"a.log": "one\n", "b.log": f"[only the last {LOG_END} bytes: the task failed]\n{'y' * LOG_END}"}
    assert ends_of_logs(Task(logs=[TaskLog()]), ["a.log"]) == {}


def test_a_json_task_may_hold_whatever_it_likes() -> None:
    assert json.dumps(id_of(from_json({"id": ["x"]}))) == '""'
