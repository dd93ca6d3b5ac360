"""The run's jobs as a person looks at them: the last word about each, and in which order the words came, so that a page
asks only for what is new.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.jobs import JOB_STATES, facts
from gdi.contracts.progress import Job, JobPage
from token_broker.db.store import jobs
from token_broker.db.upsert import upsert

PAGE = 2000
MAX_WILDCARDS, MAX_MESSAGE = 1000, 500  # characters of a job that a list carries
FORGOTTEN = facts(until_done=True)  # by a job that is done
REPORTED = (*FORGOTTEN, *facts(until_done=False))
KEPT = (*facts(until_done=False), "submitted_at")


async def note(c: AsyncConnection, key: Mapping[str, Any], numbered: Iterable[tuple[int, Any]]) -> None:
    """Keeps what numbered events say of jobs; `key` names run, attempt and node. An event that is silent about
    something leaves what was known.
    """
    changed: dict[str, dict[str, Any]] = {}
    for number, e in numbered:
        if e.kind != "job" or e.job is None or e.state not in JOB_STATES:
            continue
        # Rule and state are there already (progress.Sums); PostgreSQL checks a row before it finds the one to merge.
        empty = {"rule": "", "state": e.state, "done": False, **dict.fromkeys((*KEPT, *FORGOTTEN))}
        row = changed.setdefault(e.job, {**key, "job": e.job, **empty})
        row["number"] = number
        if e.state == "done":
            row |= {"done": True, **dict.fromkeys(FORGOTTEN)}
        values = {name: getattr(e, name) for name in REPORTED}
        values |= {"message": (e.message or "")[:MAX_MESSAGE] or None, "wildcards": _wildcards(e.wildcards)}
        row |= {name: value for name, value in values.items() if value is not None}
        if e.state == "submitted" and row["submitted_at"] is None:
            row["submitted_at"] = e.time
    for done in (False, True):
        rows = [{k: v for k, v in row.items() if k != "done"} for row in changed.values() if row["done"] is done]
        replace, keep = (("number", *FORGOTTEN), KEPT) if done else (("number",), (*KEPT, *FORGOTTEN))
        await upsert(c, jobs, rows, replace=replace, newer=keep)


def _wildcards(given: Mapping[str, str]) -> str | None:
    """As JSON of at most about MAX_WILDCARDS characters: a list of jobs has to stay a list."""
    kept: dict[str, str] = {}
    room = MAX_WILDCARDS
    for name, value in given.items():
        room -= len(name) + len(value)
        if room < 0:
            break
        kept[name] = value
    return json.dumps(kept) if kept else None


async def page(c: AsyncConnection, run: RowMapping, after: int, limit: int) -> JobPage:
    """Jobs of the current attempt of which there was news after `after` (an event's number), oldest news first."""
    columns = ("node", "job", "rule", "state", "started_at", "ended_at", "number", *KEPT, *FORGOTTEN)
    limit = max(1, min(limit, PAGE))
    query = (
        sa.select(*(jobs.c[name] for name in columns))
        .where(jobs.c.run_id == run["id"], jobs.c.attempt == run["attempt"], jobs.c.number > after)
        .order_by(jobs.c.number)
        .limit(limit)
    )
    rows: Sequence[RowMapping] = (await c.execute(query)).mappings().all()
    # All of it was checked when it came in: thousands of rows are not checked once more at every look.
    found = [
        Job(
            **{k: v for k, v in row.items() if k not in ("number", "wildcards")},
            wildcards=json.loads(row["wildcards"] or "{}"),
        )
        for row in rows
    ]
    return JobPage(
        run=run["id"],
        attempt=run["attempt"],
        jobs=found,
        next_after=rows[-1]["number"] if rows else after,
        more=len(rows) == limit,
    )
