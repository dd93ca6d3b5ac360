"""The Snakemake side's parts, each alone: queries, tasks, keys, reasons, retries, tokens, events, outcome."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts.run_file import RunFile, RunFileError, load
from gdi.contracts.tes import from_json
from gdi.contracts.urls import UrlError
from gdi.kit.bearer import BearerAuth
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.credentials.tokens import BrokerTokens
from snakemake_tes_auth.events.events import MAX_QUEUE, EventPump, event
from snakemake_tes_auth.events.follower import LogFollower
from snakemake_tes_auth.files.queries import local_suffix, parse
from snakemake_tes_auth.folders import Folders
from snakemake_tes_auth.logger.logger import Translator
from snakemake_tes_auth.outcome import OutcomeFile
from snakemake_tes_auth.pod.command import arguments, environment
from snakemake_tes_auth.retry import Away, Refusal, persist
from snakemake_tes_auth.tasks.reasons import failure
from snakemake_tes_auth.tasks.tasks import job_key, next_try
from tests.support.clock import Clock, virtual_time
from tests.support.problems import problem_answer
from tests.support.snakemake_jobs import RUN, run_file, view
from tests.support.wire import answers_of
from tests.support.wires import BROKER

QUICK = RetryPolicy(total=0.3, first=0.01, longest=0.05)


# --- queries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "x",
            "s3://b/k",
            "file:///etc/passwd",
            "sda://D",
            "sda://D/",
            "sda:///x",
            f"workspace://{RUN}/../x",
            f"workspace://{RUN}/a//b",
            f"workspace://{RUN}/./b",
        ),
        *(
            "sda://D/x#token",
            "sda://D/x?y",
            "sda://D/a\\b",
            "sda://D/a\nb",
            "sda://../x",
            "sda://a b/x",
            f"workspace://{RUN}/" + "x" * 901,
            "workspace://R/x",
        ),
    ],
)
def test_a_query_that_could_mean_something_else_is_refused(text: str) -> None:
    with pytest.raises(UrlError):
        parse(text)


def test_queries_with_spaces_wildcards_and_odd_letters_name_one_file() -> None:
    assert parse(f"workspace://{RUN}/a b/ü+.txt").url_path == f"{RUN}/a%20b/%C3%BC%2B.txt"
    assert local_suffix(parse("sda://{dataset}/x.c4gh")) == "sda/{dataset}/x.c4gh"
    assert local_suffix(parse("sda://workspace/x")) != local_suffix(parse(f"workspace://{RUN}/workspace/x"))


def test_the_two_forms_of_an_objects_uri_lie_in_two_places() -> None:
    places = {
        "drs://gdi.1/5": "drs/gdi.1/5",
        "drs://gdi.1:5": "drs/compact/gdi.1/5",
        "drs://mirror/gdi.1:5": "drs/compact/mirror/gdi.1/5",
        "drs://mirror:gdi.1/5": "drs/compact/mirror/gdi.1~2F5",
        "drs://gdi.1/a%2Fb": "drs/gdi.1/a~2Fb",
        "drs://gdi.1:a/b": "drs/compact/gdi.1/a~2Fb",
        "drs://gdi.1:a%2Fb": "drs/compact/gdi.1/a~252Fb",
        "drs://gdi.1:{sample}/b": "drs/compact/gdi.1/{sample}~2Fb",
    }
    assert {query: local_suffix(parse(query)) for query in places} == places


# --- tasks --------------------------------------------------------------------------------------


def test_a_job_key_is_stable_and_tells_jobs_apart() -> None:
    key = job_key(view(), "d")
    assert key == job_key(view(jobid=7, attempt=2, shell="other", threads=8), "d") and len(key) == 24
    others = [
        job_key(view(rule="x"), "d"),
        job_key(view(wildcards={"i": "2"}), "d"),
        job_key(view(outputs=[]), "d"),
        job_key(view(), "e"),
    ]
    assert len({key, *others}) == 5


def test_a_try_that_is_taken_is_never_used_again() -> None:
    assert [next_try(1, set()), next_try(1, {"1"}), next_try(1, {"1", "1.1"}), next_try(2, {"1"})] == [
        "1",
        "1.1",
        "1.2",
        "2",
    ]


# --- reasons ------------------------------------------------------------------------------------


def test_a_failure_says_class_line_dataset_and_exit_code() -> None:
    task = {
        "state": "EXECUTOR_ERROR",
        "logs": [{"logs": [{"exit_code": 1}], "metadata": {"gdi_error_class": "VcfFormatError", "gdi_line": "12"}}],
    }
    assert (
        failure(from_json(task)).sentence("count") == "rule count failed with VcfFormatError at line 12 (exit code 1)"
    )
    metadata = {"gdi_error_class": "AccessDenied", "gdi_dataset": "D1", "gdi_reason": "withdrawn"}
    denied = failure(from_json({"state": "SYSTEM_ERROR", "logs": [{"metadata": metadata}]}))
    assert (
        denied.sentence("count") == "rule count failed on dataset D1 with AccessDenied: withdrawn"
        and not denied.worth_another_try
    )


@pytest.mark.parametrize(
    "logs",
    [
        None,
        [],
        [None],
        [{}],
        [{"metadata": "x", "logs": None}],
        [{"metadata": {"gdi_line": "-1", "gdi_error_class": "a b"}}],
    ],
)
def test_nonsense_from_a_server_is_no_reason_to_fall_over(logs: Any) -> None:
    found = failure(from_json({"state": "SYSTEM_ERROR", "logs": logs}))
    assert (
        found.worth_another_try
        and found.line is None
        and found.error_class is None
        and "operator" in found.sentence("r")
    )


# --- patience and tokens ------------------------------------------------------------------------


@virtual_time
async def test_patience_ends_in_a_message_that_says_for_what_and_how_long() -> None:
    async def call() -> None:
        raise ProblemError(503, "away", "restarting")

    heard: list[str] = []
    with pytest.raises(Away, match="the gateway has not answered for"):
        await persist(call, what="the gateway", patience=QUICK, say=heard.append)
    assert len(heard) == 1 and "restarting" in heard[0]


async def test_a_refusal_is_not_tried_again() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise ProblemError(403, "forbidden", "no")

    with pytest.raises(ProblemError):
        await persist(call, what="x", patience=QUICK, say=print)
    assert calls == 1


class Broker:
    """The broker's token call."""

    def __init__(self, lifetime: float = 300, refuse: int = 0) -> None:
        self.lifetime, self.refuse, self.asked, self.seen = lifetime, refuse, 0, [""]
        self.clock = Clock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        self.seen.append(request.headers["authorization"])
        if self.refuse:
            return problem_answer(self.refuse, "workload-fenced", "replaced")
        return httpx.Response(200, json={"token": f"t{self.asked}", "expires_at": self.clock.now + self.lifetime})


def tokens(broker: Broker, tmp_path: Path) -> BrokerTokens:
    (tmp_path / "token").write_text("identity")
    transport = answers_of(BROKER, broker)
    return BrokerTokens(RunFile(**run_file()), tmp_path / "token", transport=transport, clock=broker.clock)


async def test_many_calls_at_once_cost_one_token(tmp_path: Path) -> None:
    broker = Broker()
    source = tokens(broker, tmp_path)
    assert set(await asyncio.gather(*(source.token() for _ in range(50)))) == {"t1"} and broker.asked == 1
    assert set(await asyncio.gather(*(source.token(refused="t1") for _ in range(50)))) == {"t2"} and broker.asked == 2


async def test_the_identity_is_read_at_each_request_and_a_short_token_is_used_for_half_its_life(tmp_path: Path) -> None:
    broker = Broker(lifetime=0.2)
    source = tokens(broker, tmp_path)
    assert [await source.token() for _ in range(5)] == ["t1"] * 5
    (tmp_path / "token").write_text("newer")
    broker.clock.now += 0.12
    assert await source.token() == "t2" and broker.seen[-1] == "Bearer newer"


async def test_a_401_gets_one_fresh_token_and_one_retry(tmp_path: Path) -> None:
    broker = Broker()
    served: list[str] = []

    def gateway(request: httpx.Request) -> httpx.Response:
        served.append(request.headers["authorization"])
        return httpx.Response(401)

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(gateway), auth=BearerAuth(tokens(broker, tmp_path))
    ) as http:
        assert (await http.get("http://gateway.test/")).status_code == 401
    assert served == ["Bearer t1", "Bearer t2"]


async def test_a_broker_that_says_no_ends_the_run_without_the_token_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="replaced") as told:
        await tokens(Broker(refuse=403), tmp_path).token()
    assert "identity" not in str(told.value).replace("identity token", "")
    assert "t1" not in repr(tokens(Broker(), tmp_path))


# --- events -------------------------------------------------------------------------------------


PROBLEM_OF = {403: "workload-fenced", 503: "vault-unavailable"}


class Events:
    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.refused = asyncio.Event()  # a batch was not taken

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.status == 200:
            self.got += json.loads(request.content)["events"]
        else:
            self.refused.set()
        return httpx.Response(204) if self.status == 200 else problem_answer(self.status, PROBLEM_OF[self.status])


def pump(events: Events) -> EventPump:
    client = AsyncBrokerClient("http://broker.test", lambda: "t", transport=answers_of(BROKER, events))
    return EventPump(client, RUN, "pod-1", patience=RetryPolicy(first=0.01, longest=0.02))


@virtual_time
async def test_events_arrive_once_in_order_numbered_over_a_broker_that_was_away() -> None:
    events = Events()
    events.status = 503
    sender = pump(events)
    task = asyncio.create_task(sender.run())
    for i in range(1200):
        sender.put({"kind": "job", "rule": "r", "job": f"j{i}", "state": "done"})
    await events.refused.wait()
    events.status = 200
    assert await sender.close(60)
    await task
    assert [e["seq"] for e in events.got] == list(range(1, 1201)) and events.got[-1]["job"] == "j1199"


async def test_a_full_queue_drops_progress_and_keeps_what_the_node_says() -> None:
    sender = pump(Events())
    for _ in range(MAX_QUEUE + 10):
        sender.put({"kind": "progress", "done": 1, "total": 2})
    sender.put({"kind": "node", "state": "failed", "message": "why"})
    assert sender.room <= 0 and sender.dropped == 11 and sender._queue[-1].kind == "node"


@virtual_time
async def test_a_broker_that_refuses_the_writer_is_left_alone() -> None:
    events = Events()
    events.status = 403
    sender = pump(events)
    task = asyncio.create_task(sender.run())
    sender.put({"kind": "note", "message": "x"})
    assert await sender.close(5) and sender.refused
    await task


def test_an_event_is_cut_to_the_apis_bounds_and_nonsense_is_none() -> None:
    made = event({"kind": "job", "message": "x" * 5000, "wildcards": {"a" * 300: "b" * 300}, "nonsense": 1}, 1)
    assert made is not None and len(made.message or "") == 2000 and len(next(iter(made.wildcards))) == 255
    assert event({"kind": "sudo"}, 1) is None and event({"kind": "job", "state": "root"}, 1) is None


def test_progress_counts_what_an_earlier_process_did() -> None:
    def record(**extra: Any) -> logging.LogRecord:
        made = logging.LogRecord("x", logging.INFO, "", 0, "", (), None)
        made.__dict__.update(extra)
        return made

    translator = Translator()
    translator.events(record(gdi_event={"kind": "rules", "counts": {"a": 9}, "all_jobs": 10}))
    assert translator.events(record(event="progress", done=1, total=4)) == [
        {"kind": "progress", "done": 7, "total": 10}
    ]


async def test_a_workflow_cannot_speak_for_the_node_through_the_events_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "node", "state": "success"}\nnonsense\n[1]\n{"kind": "note", "message": "hello"}\n')
    events = Events()
    sender = pump(events)
    tail = LogFollower(path)
    tail.ended = True
    await tail.follow(sender)
    assert [e.kind for e in sender._queue] == ["note"] and tail.last_note == "hello"


# --- the pod's papers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"run": "../x"},
        {"gateway_url": "file:///etc"},
        {"gateway_url": "http://user:secret@x"},
        {"node": ""},
        {"relays": [{"listen": 0, "socket": "x"}]},
    ],
)
def test_a_wrong_run_file_names_file_and_field(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run_file(**change)))
    with pytest.raises(RunFileError, match=f"run.json: {next(iter(change))}"):
        load(path)


def test_parameters_cannot_take_the_platforms_names() -> None:
    run = RunFile(**run_file(parameters={"node": "x", "datasets": ["stolen"], "regions": 2}, datasets=["D"]))
    assert run.config() == {"node": "node-a", "datasets": ["D"], "run": RUN, "regions": 2, "described": {}}


def test_snakemake_gets_an_environment_of_its_own(tmp_path: Path) -> None:
    found = environment(Folders(root=tmp_path), {"AWS_SECRET_ACCESS_KEY": "x", "HTTP_PROXY": "x", "HOME": "/root"})
    assert (
        found["XDG_CACHE_HOME"].startswith(str(tmp_path / "work"))
        and found["HOME"] == str(tmp_path / "work")
        and "x" not in found.values()
    )
    assert "--nolock" in arguments(Folders(root=tmp_path), RunFile(**run_file()))


def test_the_first_failure_stays_and_a_weightier_outcome_replaces_it(tmp_path: Path) -> None:
    outcome = OutcomeFile(tmp_path / "outcome.json")
    outcome.write("failed", "first", "D1")
    outcome.write("failed", "second")
    assert (found := outcome.read()) is not None and (found.message, found.dataset) == ("first", "D1")
    outcome.write("again", "away")
    assert (found := outcome.read()) is not None and found.kind == "again"
    (tmp_path / "outcome.json").write_text("nonsense")
    assert outcome.read() is None
