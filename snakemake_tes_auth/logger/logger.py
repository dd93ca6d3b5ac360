"""Snakemake's logger plugin `airflow`: log records as the run's events, for the broker or as JSON lines to a file or
standard output. Never blocks.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts.run_file import load
from gdi.kit.bearer import token_file
from snakemake_tes_auth.events.deduplication import Deduplication, earlier
from snakemake_tes_auth.events.events import EventPump
from snakemake_tes_auth.events.jsonl import JsonLines
from snakemake_tes_auth.folders import Folders
from snakemake_tes_auth.loop import LoopThread

CLOSE_BOUND = 15.0  # seconds that the end of Snakemake may wait for the last events


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """`file` gets JSON lines (`-`: standard output); `run_file` sends to the broker. (Read by Snakemake as objects: no
    postponed annotations in this file.)
    """

    file: str | None = field(
        default=None,
        metadata={"help": "append the events to this file, one JSON object a line; - for standard output", "type": str},
    )
    sent: str | None = field(
        default=None,
        metadata={"help": "JSON lines of events that were sent before: the same news is left out", "type": str},
    )
    run_file: str | None = field(
        default=None, metadata={"help": "run.json: send the events to the run's broker", "type": str}
    )


class Translator:
    """Log records to events. Remembers which job of Snakemake's is which task's, and how much an earlier process had
    done.
    """

    def __init__(self) -> None:
        self._jobs: dict[int, dict[str, Any]] = {}
        self._own: set[int] = set()
        self._rules: set[str] = set()
        self._all = 0

    def events(self, record: logging.LogRecord) -> list[dict[str, Any]]:
        own = getattr(record, "gdi_event", None)
        if isinstance(own, dict):
            shared = {k: v for k, v in own.items() if k != "each"}
            return [self._ours({**shared, **each}) for each in own.get("each", ({},))]
        kind = getattr(record, "event", None)
        if kind == LogEvent.JOB_INFO:
            wildcards = {str(k): str(v) for k, v in dict(getattr(record, "wildcards", None) or {}).items()}
            if record.rule_name not in self._rules:  # type: ignore[attr-defined]
                return []  # it only names targets, like `all`
            # A job that is no task (a local rule) has no key of ours: rule and wildcards name it.
            name = "local-" + str(record.rule_name) + "".join(f",{k}={v}" for k, v in sorted(wildcards.items()))  # type: ignore[attr-defined]
            self._jobs.setdefault(record.jobid, {"rule": record.rule_name, "job": name, "wildcards": wildcards})  # type: ignore[attr-defined]
        elif kind == LogEvent.JOB_FINISHED:
            known = self._jobs.get(record.job_id)  # type: ignore[attr-defined]
            return [{"kind": "job", "state": "done", **known}] if known else []
        elif kind == LogEvent.JOB_ERROR and record.jobid not in self._own:  # type: ignore[attr-defined]
            known = self._jobs.get(record.jobid)  # type: ignore[attr-defined]
            return (
                [{"kind": "job", "state": "failed", **known, "message": str(getattr(record, "rule_msg", "") or "")}]
                if known
                else []
            )
        elif kind == LogEvent.PROGRESS:
            done, total = int(record.done), int(record.total)  # type: ignore[attr-defined]
            whole = max(self._all, total)
            return [{"kind": "progress", "done": whole - (total - done), "total": whole}]
        elif record.levelno >= logging.ERROR and kind != LogEvent.JOB_ERROR:
            return [{"kind": "note", "message": record.getMessage()}]
        return []

    def _ours(self, values: dict[str, Any]) -> dict[str, Any]:
        self._all = int(values.pop("all_jobs", self._all))
        if values.get("kind") == "rules":
            self._rules = set(values["counts"])
        jobid = values.pop("jobid", None)
        if isinstance(jobid, int):
            if (
                values.get("state") != "planned"
            ):  # a local rule's job is planned here too, what becomes of it Snakemake tells
                self._own.add(jobid)
            self._jobs[jobid] = {k: values[k] for k in ("rule", "job", "wildcards") if k in values}
        return values


class LogHandler(LogHandlerBase):
    """Runs in Snakemake's queue listener: a slow or absent broker delays nothing."""

    def __post_init__(self) -> None:
        settings = self.settings or LogHandlerSettings()
        self._translator = Translator()
        # A file that is continued, or what an earlier process sent, is what is known; a pipe has no past.
        known = [Path(p) for p in (settings.sent, settings.file) if p and p != "-" and Path(p).is_file()]
        self._deduplication = Deduplication(event for path in known for event in earlier(path))
        self._lines = JsonLines(settings.file) if settings.file else None
        self._loop: LoopThread | None = None
        self._pump: EventPump | None = None
        if settings.run_file and not settings.file:
            path = Path(settings.run_file).absolute()
            run = load(path)
            self._loop = LoopThread()
            self._pump = self._loop.run(_pump(run.broker_url, Folders(root=path.parent).identity, run.run, run.pod))
            self._loop.start(self._pump.run())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            for values in self._translator.events(record):
                if not self._deduplication.fresh(values):
                    continue
                values.setdefault("time", time.time())
                if self._lines is not None:
                    self._lines.put(values)
                elif self._pump is not None and self._loop is not None:
                    self._loop.start(_put(self._pump, values))
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        if self._pump is not None and self._loop is not None:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                self._loop.run(self._pump.close(CLOSE_BOUND), timeout=CLOSE_BOUND + 5)
            self._pump = None
        if self._lines is not None:
            self._lines.close(CLOSE_BOUND)
            self._lines = None
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        return False

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return True  # so that --quiet does not silence events

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False


async def _pump(url: str, identity: Path, run: str, source: str) -> EventPump:
    return EventPump(AsyncBrokerClient(url, token_file(identity)), run, source)


async def _put(pump: EventPump, values: dict[str, Any]) -> None:
    pump.put(values)
