"""Events: what happens to each rule and job of a run, in order, numbered by the broker. Written by strangers' programs:
bounded, cleaned, deduplicated.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts import needed
from gdi.contracts.events import Event, EventBatch
from gdi.contracts.ids import node_of_pod
from gdi.contracts.progress import JobPage
from gdi.contracts.runs import RunState
from gdi.kit.problem import ProblemError
from token_broker.authentication.callers import AirflowCaller, GatewayCaller, PodCaller
from token_broker.db.store import BrokerDatabase, events, node_states, runs
from token_broker.grants.grants import clean
from token_broker.runs import jobs, order_rows
from token_broker.runs.progress import Sums
from token_broker.runs.runs import Runs
from token_broker.runs.workloads import Workloads

PAGE = 1000
BESIDE = ("number", "node", "source", "attempt")  # of a StoredEvent, besides the event
PAGE_CHARACTERS = 512 * 1024  # of the stored events of a page: at most 2 MiB, and as a rule a quarter of that
GRACE = 300  # seconds in which a closed run's pods may still say how they ended
MAX_COUNT = 2**31 - 1
MAX_SEQ = 2**53


class Events:
    """`max_per_run` events, `max_event` bytes of one of them and `max_bytes` of all of a run, as they are stored."""

    def __init__(
        self,
        store: BrokerDatabase,
        runs_: Runs,
        workloads: Workloads,
        max_per_run: int,
        max_event: int = 256 * 1024,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._store, self._runs, self._workloads, self._max = store, runs_, workloads, max_per_run
        self._max_event, self._max_bytes = max_event, max_bytes
        self._sums = Sums(max_per_run)

    async def post(self, run_id: str, caller: AirflowCaller | PodCaller | GatewayCaller, batch: EventBatch) -> int:
        """Stores the new ones of a batch; how many. The node is the workload's own; Airflow may name the node that it
        speaks for.
        """
        if max(e.seq for e in batch.events) > MAX_SEQ:
            raise ProblemError(
                422, "invalid-request", f"seq is larger than {MAX_SEQ}.", action="Count each source's events from 1."
            )
        run = await self._runs.known(run_id)
        if isinstance(caller, PodCaller):
            workload = await self._workloads.acting(run, caller)
            node: str | None = workload["node"]
            if batch.source != caller.pod:
                raise ProblemError(
                    403, "wrong-source", "A pod writes under its own name only.", action="Set source to the pod's name."
                )
            if run["state"] == "closed" and time.time() > (run["closed_at"] or 0) + GRACE:
                raise ProblemError(403, "run-closed", f"Run {run_id} is closed.", action="Stop: the run is over.")
        elif isinstance(caller, GatewayCaller):
            node = self._of_node(run, caller, batch)
            if time.time() > (run["closed_at"] or 0) + GRACE:
                await self._runs.need_open_for(run, node)
        else:
            node = batch.node
            if not (batch.source == "airflow" or batch.source.startswith("airflow-")):
                raise ProblemError(
                    403, "wrong-source", "Airflow writes as 'airflow' or 'airflow-…'.", action="Set source so."
                )
            if node is not None and node not in {p["node"] for p in run["plan"]}:
                raise ProblemError(
                    403,
                    "node-not-in-plan",
                    f"Node {node} is no part of run {run_id}.",
                    action="Name a node of the plan.",
                )
        cleaned_ = await asyncio.to_thread(self._cleaned, batch)
        async with self._store.write() as c:
            return await self._store_batch(c, run, batch.source, cleaned_, node)

    @staticmethod
    def _of_node(run: RowMapping, caller: GatewayCaller, batch: EventBatch) -> str:
        """A node whose own agent starts Snakemake speaks for its own pods."""
        node = caller.node.id
        if not any(p["node"] == node and p.get("placement") == "node" for p in run["plan"]):
            raise ProblemError(
                403, "node-not-in-plan", f"Node {node} is no part of run {run['id']}.", action="Report own runs only."
            )
        # By the pod's whole name: `fi` is no beginning of `fi-csc`.
        if node_of_pod(batch.source) != node or not batch.source.startswith(f"{run['id']}-"):
            raise ProblemError(
                403, "wrong-source", "A node writes under its own pods' names.", action="Set source to the pod's name."
            )
        if any(event.kind == "order" for event in batch.events):
            raise ProblemError(403, "wrong-source", "Orders' events are the broker's.", action="Leave them out.")
        return node

    def _cleaned(self, batch: EventBatch) -> dict[int, tuple[Event, str]]:
        """By seq, each event and its text as it is stored. ProblemError 413 for one that is too large."""
        found: dict[int, tuple[Event, str]] = {}
        for event in reversed(batch.events):  # of those with one seq the first counts
            clean_event = cleaned(event)
            body = clean_event.model_dump_json(exclude_defaults=True)
            if len(body.encode()) > self._max_event:
                raise ProblemError(
                    413,
                    "too-large",
                    f"Event {event.seq} has more than {self._max_event} bytes.",
                    action="Shorten its texts.",
                )
            found[event.seq] = clean_event, body
        return found

    async def _store_batch(
        self,
        c: AsyncConnection,
        run: RowMapping,
        source: str,
        wanted: dict[int, tuple[Event, str]],
        node: str | None,
        *,
        own: bool = False,
    ) -> int:
        """`own`: the broker's own events, which no limit stops."""
        here = runs.c.id == run["id"]
        # The run's row is the lock: numbers follow one another without a gap, and batches of one run do not overtake
        # each other.
        await c.execute(runs.update().where(here).values(event_count=runs.c.event_count))
        count, size, attempt, failing = (
            await c.execute(
                sa.select(runs.c.event_count, runs.c.event_bytes, runs.c.attempt, runs.c.failing).where(here)
            )
        ).one()
        if attempt != run["attempt"]:
            return 0  # a later attempt opened in between: these are news of the past
        mine = sa.and_(events.c.run_id == run["id"], events.c.attempt == attempt, events.c.source == source)
        known = set((await c.execute(sa.select(events.c.seq).where(mine, events.c.seq.in_(list(wanted))))).scalars())
        news = [wanted[seq] for seq in sorted(wanted) if seq not in known]
        fresh = [event for event, _ in news]
        if not fresh:
            return 0
        size += sum(len(body.encode()) for _, body in news)
        if size > self._max_bytes and not own:
            raise ProblemError(
                429,
                "too-many-bytes",
                f"The events of run {run['id']} would have more than {self._max_bytes} bytes.",
                action="Report less.",
            )
        if count + len(fresh) > self._max and not own:
            raise ProblemError(
                429,
                "too-many-events",
                f"Run {run['id']} has reported {count} events, the limit is {self._max}.",
                action="Report less.",
            )
        rows = [
            {
                "run_id": run["id"],
                "number": count + i,
                "attempt": attempt,
                "source": source,
                "seq": event.seq,
                "node": node,
                "body": body,
            }
            for i, (event, body) in enumerate(news, start=1)
        ]
        await c.execute(events.insert(), rows)
        values: dict[str, Any] = {"event_count": count + len(fresh), "event_bytes": size}
        if node is not None:
            await self._sums.add(c, run["id"], attempt, node, fresh)
            await jobs.note(
                c, {"run_id": run["id"], "attempt": attempt, "node": node}, enumerate(fresh, start=count + 1)
            )
        failed = next((e for e in fresh if e.kind == "node" and e.state == "failed"), None)
        if failed is not None and failing is None and node is not None and await _stops_the_run(c, run, attempt):
            values["failing"] = {
                "node": node,
                "reason": failed.message or failed.error_class or "The node's part failed.",
                "dataset": failed.dataset,
            }
        await c.execute(runs.update().where(here).values(**values))
        return len(fresh)

    async def page(self, run: RowMapping, after: int, limit: int) -> str:
        """An `EventPage` as JSON: events with a number above `after`, in order, `limit` at most and as many as fit into
        PAGE_CHARACTERS (one at least). Fields that have their default are left out.
        """
        later = sa.and_(events.c.run_id == run["id"], events.c.number > after)
        sizes = (
            sa.select(events.c.number, sa.func.length(events.c.body))
            .where(later)
            .order_by(events.c.number)
            .limit(max(1, min(limit, PAGE)))
        )
        async with self._store.read() as c:
            last, room = after, PAGE_CHARACTERS
            for number, size in await c.execute(sizes):
                room -= size
                if room < 0 and last > after:
                    break
                last = number
            query = sa.select(events).where(later, events.c.number <= last).order_by(events.c.number)
            rows = (await c.execute(query)).mappings().all()
        return await asyncio.to_thread(_page, rows, after, run["state"])

    async def jobs(self, run: RowMapping, after: int, limit: int) -> JobPage:
        """The jobs of which there was news after event number `after`."""
        async with self._store.read() as c:
            return await jobs.page(c, run, after, limit)

    async def progress(self, run: RowMapping) -> Any:
        async with self._store.read() as c:
            found = await self._sums.progress(c, run)
            return found.model_copy(update={"orders": await order_rows.of_attempt(c, run)})

    async def tell(self, c: AsyncConnection, run: RowMapping, node: str, source: str, event: Event) -> None:
        """The broker's own word about a node, in the transaction that makes it so."""
        checked = cleaned(event)
        body = checked.model_dump_json(exclude_defaults=True)
        await self._store_batch(c, run, source, {event.seq: (checked, body)}, node, own=True)


async def _stops_the_run(c: AsyncConnection, run: RowMapping, attempt: int) -> bool:
    """Whether too many nodes failed for those that must answer."""
    lost = await c.execute(
        sa.select(node_states.c.node)
        .filter_by(run_id=run["id"], attempt=attempt)
        .where(node_states.c.state == "failed")
    )
    return not needed.possible(needed.read(run["needed"]), {p["node"] for p in run["plan"]}, set(lost.scalars()))


def _page(rows: Sequence[RowMapping], after: int, state: RunState) -> str:
    """An `EventPage`: each stored text, which was checked when it came in, with what the broker knows beside it."""
    found = [r["body"][:-1] + "," + json.dumps({name: r[name] for name in BESIDE})[1:] for r in rows]
    last = rows[-1]["number"] if rows else after
    return f'{{"events":[{",".join(found)}],"next_after":{last},"run_state":{json.dumps(state)}}}'


def cleaned(event: Event) -> Event:
    """Without control characters, with numbers that every database and browser can hold, and a time that can be
    true.
    """
    now = time.time()
    changes: dict[str, Any] = {
        name: clean(value) for name in ("rule", "job", "task", "message") if (value := getattr(event, name)) is not None
    }
    changes["wildcards"] = {clean(k): clean(v) for k, v in event.wildcards.items()}
    changes["counts"] = {clean(k): min(v, MAX_COUNT) for k, v in event.counts.items()}
    changes["usage"] = {clean(k): min(v, float(MAX_COUNT)) for k, v in event.usage.items()}
    changes["time"] = event.time if math.isfinite(event.time) and now - 366 * 86400 < event.time < now + 3600 else now
    if event.cpu_seconds is not None and not math.isfinite(event.cpu_seconds):
        changes["cpu_seconds"] = None
    for name in ("tries", "line", "done", "total"):
        value = getattr(event, name)
        if value is not None:
            changes[name] = min(value, MAX_COUNT)
    if event.exit_code is not None:
        changes["exit_code"] = max(-MAX_COUNT, min(event.exit_code, MAX_COUNT))
    return event.model_copy(update=changes)
