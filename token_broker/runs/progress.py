"""Progress: the sum of a run's events by node and rule, kept up as events come, so that asking for it never walks over
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.events import Event
from gdi.contracts.jobs import JOB_STATES
from gdi.contracts.progress import NodeProgress, Progress, RuleProgress
from token_broker.db.store import jobs, node_states, rules
from token_broker.db.upsert import upsert

ENDED = ("done", "failed", "cancelled")
WAITING = ("planned", "submitted", "queued")
MAX_RULES = 2000  # for each node and attempt
NODE_STATES = ("starting", "running", "success", "failed", "cancelled")
FINAL = ("success", "failed", "cancelled")


class Sums:
    def __init__(self, max_jobs: int) -> None:
        self._max_jobs = max_jobs

    async def add(self, c: AsyncConnection, run: str, attempt: int, node: str, fresh: Sequence[Event]) -> None:
        """Takes events in, inside the transaction that stores them. A job's last state of the batch counts; its end is
        kept, and its start: when it ran (again, after it waited again), or when it was first heard of where nobody saw
        it run."""
        key = {"run_id": run, "attempt": attempt, "node": node}
        planned: dict[str, int] = {}
        changed: dict[str, dict[str, Any]] = {}
        running: set[str] = set()
        state: dict[str, Any] = {}
        for e in fresh:
            if e.kind == "rules":
                planned |= e.counts
            elif e.kind == "job" and e.job is not None and e.state in JOB_STATES:
                job = changed.setdefault(
                    e.job,
                    {**key, "job": e.job, "rule": e.rule or "", "state": e.state, "started_at": None, "ended_at": None},
                )
                job["state"] = e.state
                job["rule"] = e.rule or job["rule"]
                if job["started_at"] is None or (e.state == "running" and job["job"] not in running):
                    job["started_at"] = (
                        e.time
                    )  # a job that is over before anyone saw it run began when it was submitted
                if e.state == "running":
                    running.add(e.job)
                job["ended_at"] = e.time if e.state in ENDED else None
            elif e.kind == "progress":
                state |= {k: v for k, v in (("done", e.done), ("total", e.total)) if v is not None}
            elif e.kind == "node" and e.state in NODE_STATES:
                state |= {"state": e.state, "message": e.message or "", "dataset": e.dataset}
        if planned:
            known = dict(
                (r[0], r[1]) for r in await c.execute(sa.select(rules.c.rule, rules.c.position).filter_by(**key))
            )
            room = MAX_RULES - len(known)
            rows = []
            for rule, total in planned.items():
                if rule in known or room > 0:
                    room -= rule not in known
                    rows.append({**key, "rule": rule, "position": known.setdefault(rule, len(known)), "total": total})
            await upsert(c, rules, rows, replace=("total",))
        # "running" says when a job began; what is known of one that did not run yet is when it was submitted.
        starts = [job for name, job in changed.items() if name in running]
        others = [job for name, job in changed.items() if name not in running]
        waits = sa.or_(*(jobs.c.state == state for state in WAITING))  # no `IN`: several rows at once cannot expand one
        for some, renew in ((starts, ("started_at", waits)), (others, None)):
            await upsert(c, jobs, some, replace=("state", "ended_at"), keep=("started_at", "rule"), renew=renew)
        if changed and "state" not in state:
            state.setdefault("state", "running")
            # A job that reports does not bring an ended node back.
            current = await c.scalar(sa.select(node_states.c.state).filter_by(**key))
            if current in FINAL:
                state["state"] = current
        if state:
            full = {"state": "starting", "done": 0, "total": 0, "message": "", "dataset": None, **state}
            await upsert(c, node_states, [{**key, **full}], replace=tuple(state))

    async def progress(self, c: AsyncConnection, run: RowMapping) -> Progress:
        """The current attempt's progress: rules in the order in which they were planned."""
        here = {"run_id": run["id"], "attempt": run["attempt"]}
        states = {r["node"]: r for r in (await c.execute(sa.select(node_states).filter_by(**here))).mappings()}
        found: dict[tuple[str, str], RuleProgress] = {}
        for r in (
            await c.execute(sa.select(rules).filter_by(**here).order_by(rules.c.node, rules.c.position))
        ).mappings():
            found[r["node"], r["rule"]] = RuleProgress(node=r["node"], rule=r["rule"], total=r["total"])
        sums = (
            sa.select(
                jobs.c.node,
                jobs.c.rule,
                jobs.c.state,
                sa.func.count().label("n"),
                sa.func.min(jobs.c.started_at),
                sa.func.max(jobs.c.ended_at),
            )
            .filter_by(**here)
            .group_by(jobs.c.node, jobs.c.rule, jobs.c.state)
            .order_by(jobs.c.node, jobs.c.rule)
        )
        seen: dict[tuple[str, str], int] = {}
        for node, rule, state, n, started, ended in await c.execute(sums):
            item = found.setdefault((node, rule), RuleProgress(node=node, rule=rule, total=0))
            seen[node, rule] = seen.get((node, rule), 0) + n
            if state in ("done", "running", "failed"):
                setattr(item, state, n)
            if state not in WAITING:
                item.started_at = min((t for t in (item.started_at, started) if t is not None), default=None)
            item.ended_at = max((t for t in (item.ended_at, ended) if t is not None), default=None)
        for key, item in found.items():
            item.total = max(item.total, seen.get(key, 0))
            if item.done + item.failed < item.total:
                item.ended_at = None
        return Progress(
            run=run["id"],
            attempt=run["attempt"],
            state=run["state"],
            outcome=run["outcome"],
            failing=run["failing"],
            nodes=[
                _node(p["node"], states.get(p["node"]), [r for r in found.values() if r.node == p["node"]])
                for p in run["plan"]
            ],
            rules=list(found.values()),
        )


def _node(node: str, state: RowMapping | None, mine: list[RuleProgress]) -> NodeProgress:
    done, total = sum(r.done for r in mine), sum(r.total for r in mine)
    if state is None:
        return NodeProgress(node=node, state="waiting", done=done, total=total)
    return NodeProgress(
        node=node,
        state=state["state"],
        done=max(done, state["done"]),
        total=max(total, state["total"]),
        message=state["message"],
        dataset=state["dataset"],
    )
