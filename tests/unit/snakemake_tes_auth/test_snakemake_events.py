"""Events: in order, each once also over restarts, never in the way; and what a task used, from whatever its TES
tells.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from tes.models import Task

from gdi.contracts.tes import from_json
from gdi.kit.problem import ProblemError
from snakemake_tes_auth.events.deduplication import Deduplication, earlier
from snakemake_tes_auth.events.events import event
from snakemake_tes_auth.events.jsonl import MAX_QUEUE, JsonLines
from snakemake_tes_auth.logger.logger import LogHandler, LogHandlerSettings
from snakemake_tes_auth.retry import Away
from snakemake_tes_auth.tasks.usage import WAITING, Usage, usage


def job(state: str | None, task: str | None = None, name: str = "j1", **more: Any) -> dict[str, Any]:
    return {
        "kind": "job",
        "job": name,
        "rule": "r",
        **({"state": state} if state else {}),
        **({"task": task} if task else {}),
        **more,
    }


LIFE = [
    job("planned"),
    job("submitted", "t1"),
    job("queued", "t1"),
    job("running", "t1"),
    job("done"),
    job(None, "t1", usage={"total_s": 1}),
]


def reported(file: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in e.items() if k != "time"} for e in earlier(file)]


def report(settings: LogHandlerSettings, events: list[dict[str, Any]]) -> None:
    """The events through the logger plugin, as Snakemake's executor reports them."""
    handler = LogHandler(None, settings)
    for values in events:
        record = logging.LogRecord("snakemake", logging.INFO, __file__, 1, "", None, None)
        record.gdi_event = values
        handler.emit(record)
    handler.close()


def test_what_a_restarted_process_finds_again_is_not_told_twice() -> None:
    told = Deduplication(LIFE[:4])
    restated = [
        job("planned"),
        job("submitted", "t1", message="found again after a restart"),
        job("running", "t1"),
        *LIFE[4:],
    ]
    assert [e.get("state") for e in restated if told.fresh(e)] == ["done", None]
    assert not told.fresh(job("done", message="done before")) and not told.fresh(LIFE[-1])


def test_a_job_that_is_run_anew_is_news() -> None:
    told = Deduplication(LIFE)
    assert all(told.fresh(e) for e in (job("submitted", "t2"), job("running", "t2"), job("done")))
    assert told.fresh(job("queued", "t2", message="tried again: x")) and told.fresh(
        job("queued", "t2", message="tried again: y")
    )


def test_the_rules_are_told_again_only_where_they_changed() -> None:
    told = Deduplication([{"kind": "rules", "counts": {"a": 1}}])
    assert not told.fresh({"kind": "rules", "counts": {"a": 1}}) and told.fresh({"kind": "rules", "counts": {"a": 2}})
    assert all(told.fresh({"kind": "progress", "done": 1, "total": 2}) for _ in range(2))


def test_a_file_is_continued_after_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_text("\n".join(json.dumps(e) for e in LIFE[:3]) + '\n{"kind": "job", "sta')
    report(LogHandlerSettings(file=str(file)), LIFE)
    assert reported(file) == LIFE


def test_what_an_earlier_pod_sent_is_left_out_where_events_are_made(tmp_path: Path) -> None:
    sent, file = tmp_path / "sent", tmp_path / "events"
    sent.write_text("".join(json.dumps(e) + "\n" for e in LIFE[:3]))
    report(LogHandlerSettings(file=str(file), sent=str(sent)), [*LIFE, LIFE[-1]])
    assert reported(file) == LIFE[3:]


def test_a_reader_that_does_not_read_delays_nobody_and_what_is_told_is_in_order(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        lines = JsonLines(str(pipe))
        for i in range(MAX_QUEUE + 5000):  # a put that waited for the reader would never come back
            lines.put({"kind": "progress", "done": i, "total": 1})
        assert lines.dropped > 0
        assert not lines.close(0.2)
        select.select([reader], [], [], 60)
        told = os.read(reader, 60_000).decode().splitlines()[:-1]
        assert [json.loads(line)["done"] for line in told] == list(range(len(told)))
    finally:
        os.close(reader)


def test_standard_output_takes_json_lines() -> None:
    put = "for i in range(1000): lines.put({'kind': 'progress', 'done': i})"
    code = (
        f"from snakemake_tes_auth.events.jsonl import JsonLines\nlines = JsonLines('-')\n{put}\nassert lines.close(60)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120).stdout
    assert [json.loads(line)["done"] for line in out.splitlines()] == list(range(1000))


@pytest.mark.parametrize(
    "values",
    [
        {"usage": {"a": "x"}},
        {"usage": 7},
        {"counts": {"a": "many"}},
        {"wildcards": "w"},
        {"usage": {"a": -1}},
        {"time": "now"},
    ],
)
def test_nonsense_of_a_workflow_is_no_event_and_breaks_nothing(values: dict[str, Any]) -> None:
    assert event({"kind": "job", **values}, 1) is None


# --- what a task used ---------------------------------------------------------------------------

TASK: dict[str, Any] = {
    "id": "t1",
    "creation_time": "2026-01-01T10:00:00Z",
    "resources": {"cpu_cores": 2, "ram_gb": 1.5},
    "logs": [
        {
            "start_time": "2026-01-01T10:00:05.123456789Z",
            "end_time": "2026-01-01T10:01:05+00:00",
            "logs": [{"start_time": "2026-01-01T10:00:10Z", "end_time": "2026-01-01T10:00:40.5Z"}],
            "outputs": [{"size_bytes": "12"}, {"size_bytes": 30}],
        }
    ],
}


def test_what_a_task_used_is_read_from_its_log() -> None:
    assert usage(from_json(TASK)) == {
        "queued_s": 5.123,
        "total_s": 59.877,
        "command_s": 30.5,
        "cores": 2,
        "ram_gb": 1.5,
        "output_bytes": 42,
    }


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"logs": None},
        {"logs": []},
        {"logs": ["x"]},
        {"logs": [{"start_time": "soon", "logs": [None], "outputs": [{"size_bytes": "many"}]}]},
        {"resources": "x"},
    ],
)
def test_what_the_tes_leaves_out_or_gets_wrong_is_left_out(task: dict[str, Any]) -> None:
    assert usage(from_json(task)) == {}


class Tes:
    def __init__(self, error: Exception | None = None) -> None:
        self.got: list[str] = []
        self.listed = 0
        self.error = error

    async def get(self, identifier: str, view: str = "FULL") -> Task:
        self.got.append(identifier)
        if self.error:
            raise self.error
        return from_json(TASK, identifier=identifier)

    async def pages(self, tags: Any, *, view: str = "MINIMAL") -> AsyncGenerator[list[Task], None]:
        self.listed += 1
        yield [from_json(TASK, identifier=f"t{i}") for i in range(300)]


async def test_many_that_end_at_once_cost_one_listing_not_a_request_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snakemake_tes_auth.tasks.usage.PAUSE", 0)
    tes, told = Tes(), []
    of = Usage(tes, {}, lambda who, used: told.append(who["task"]))  # type: ignore[arg-type]
    starts = [of.ended(f"t{i}", {"task": f"t{i}"}) for i in range(300)]
    assert starts.count(True) == 1
    await of.ask()
    await of.finish()
    assert len(tes.got) == WAITING and tes.listed == 1 and sorted(told) == sorted(f"t{i}" for i in range(300))


@pytest.mark.parametrize("error", [ProblemError(404, "x", "gone"), Away("away")])
async def test_a_tes_that_does_not_tell_is_left_in_peace(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snakemake_tes_auth.tasks.usage.PAUSE", 0)
    told: list[Any] = []
    of = Usage(Tes(error), {}, lambda *_: told.append(1))  # type: ignore[arg-type]
    of.ended("t1", {})
    await asyncio.wait_for(of.ask(), 5)
    assert not told and of.ended("t2", {}), "the next one starts the asking anew"
