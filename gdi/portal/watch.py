"""Keeps what the table says of runs true: one question to Airflow about all of them, and a few about single ones."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping

from gdi.contracts.run_endings import ENDED, Standing
from gdi.kit.problem import ProblemError
from gdi.portal.airflow import AirflowClient
from gdi.portal.db.store import LISTED, PortalDatabase, runs

log = logging.getLogger(__name__)
LOST_AFTER = 180.0  # seconds after which a start that Airflow does not know is taken for lost
BATCH = 500
FRESH = 1.5  # seconds for which a standing serves again: many watchers of a run are one question


class Watch:
    """`per_second`: single runs asked for at most. All times of a row are of this machine's clock."""

    def __init__(self, store: PortalDatabase, airflow: AirflowClient, every: float, per_second: float) -> None:
        self._store, self._airflow, self._every, self._per_second = store, airflow, every, per_second
        self._asking: dict[str, asyncio.Task[Standing | None]] = {}
        self._known: dict[str, tuple[float, Standing]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._forever())

    async def stop(self) -> None:
        for task in [*self._asking.values(), *([self._task] if self._task else [])]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def standing(self, row: RowMapping) -> Standing | None:
        """How the run stands now, asked anew unless that was done a moment ago. None where Airflow cannot be asked:
        then the row is what is known.
        """
        run = row["id"]
        at, known = self._known.get(run, (0.0, None))
        if known is not None and (time.monotonic() - at < self._fresh() or (known.ended and row["ended_at"])):
            return known
        task = self._asking.get(run)
        if task is None:
            task = self._asking[run] = asyncio.create_task(self._ask(row))
            task.add_done_callback(lambda _: self._asking.pop(run, None))
        return await asyncio.shield(task)

    def _fresh(self) -> float:
        """The more runs are watched, the longer an answer serves."""
        now = time.monotonic()
        watched = sum(1 for at, s in self._known.values() if not s.ended and now - at < 60)
        return max(FRESH, watched / self._per_second)

    async def _ask(self, row: RowMapping) -> Standing | None:
        try:
            found = Standing.model_validate(await self._airflow.standing(row["dag_id"], row["dag_run_id"]))
        except ProblemError as error:
            log.info("run %s cannot be looked at now: %s", row["id"], error.slug)
            return None
        except ValueError:
            log.error("Airflow's answer about run %s is no standing: are portal and plugin of one version?", row["id"])
            return None
        if not found.known:
            found = await self._unknown(row) or found
        if len(self._known) > 20_000:
            self._known.clear()
        self._known[row["id"]] = (time.monotonic(), found)
        await self._keep(row, found)
        return found

    async def _unknown(self, row: RowMapping) -> Standing | None:
        if time.time() - row["created_at"] < LOST_AFTER and not row["in_airflow"]:
            return None
        if row["stop_requested_at"]:
            return Standing(known=False, standing="stopped", sentence="You stopped the run before it began.")
        sentence = "The run was deleted in Airflow." if row["in_airflow"] else "The start did not arrive at Airflow."
        again = "Start it again."
        return Standing(known=False, standing="failed", sentence=sentence, next_step=again, fault="system")

    async def _keep(self, row: RowMapping, found: Standing) -> None:
        ended = found.standing in ENDED
        values: dict[str, Any] = {
            "standing": found.standing,
            "sentence": found.sentence,
            "next_step": found.next_step,
            "fault": found.fault,
            "looked_at": time.time(),
            "ended_at": (found.ended_at or row["ended_at"] or time.time()) if ended else None,
        }
        if found.known:
            values["in_airflow"] = True
        async with self._store.write() as c:
            await c.execute(runs.update().where(runs.c.id == row["id"]).values(**values))

    # --- in the background -----------------------------------------------------------------------

    async def _forever(self) -> None:
        pause = self._every
        while True:
            await asyncio.sleep(pause)
            try:
                await self.look()
                pause = self._every
            except ProblemError as error:
                log.warning("the runs' states are not known now: %s", error.slug)
                pause = min(30.0, pause * 2)
            except Exception:
                log.exception("the runs' states could not be looked at")
                pause = 30.0

    async def look(self) -> None:
        """One round: rows that Airflow says have begun, ended or begun anew are looked at one by one, within bounds."""
        open_rows = await self._open()
        if not open_rows and not await self._any():
            return
        unfinished = await self._airflow.unfinished()
        await self._reopen(set(unfinished))
        budget = max(1, int(self._per_second * self._every))
        changed = [r for r in open_rows if _changed(r, unfinished.get((r["dag_id"], r["dag_run_id"])))]
        others = [r for r in open_rows if r not in changed and r["standing"] not in ("queued", "starting")]
        others = [r for r in others if time.time() - r["looked_at"] > max(5.0, len(open_rows) / self._per_second)]
        for row in [*changed, *others][:budget]:
            self._known.pop(row["id"], None)
            await self.standing(row)

    async def _open(self) -> list[RowMapping]:
        query = sa.select(*LISTED).where(runs.c.ended_at.is_(None)).order_by(runs.c.looked_at).limit(BATCH)
        async with self._store.read() as c:
            return list((await c.execute(query)).mappings())

    async def _any(self) -> bool:
        recently = runs.c.ended_at > time.time() - 7 * 86400
        async with self._store.read() as c:
            return (await c.execute(sa.select(runs.c.id).where(recently).limit(1))).first() is not None

    async def _reopen(self, unfinished: set[tuple[str, str]]) -> None:
        """A run that somebody cleared in Airflow goes on."""
        names = [name for _, name in sorted(unfinished)][:BATCH]
        if not names:
            return
        where = runs.c.ended_at.is_not(None), runs.c.dag_run_id.in_(names)
        async with self._store.read() as c:
            found = [
                r
                for r in (await c.execute(sa.select(*LISTED).where(*where))).mappings()
                if (r["dag_id"], r["dag_run_id"]) in unfinished
            ]
        if found:
            values = {"ended_at": None, "standing": "running", "sentence": "The run goes on.", "looked_at": 0.0}
            async with self._store.write() as c:
                await c.execute(
                    runs.update()
                    .where(runs.c.id.in_([r["id"] for r in found]))
                    .values(**values, stop_requested_at=None)
                )
            for run in found:
                self._known.pop(run["id"], None)
                if run["stop_requested_at"]:
                    await self._airflow.forget_stop(run["dag_id"], run["dag_run_id"])


def _changed(row: RowMapping, state: str | None) -> bool:
    """Whether what Airflow says of the DAG run does not fit what the row says."""
    if state == "queued":
        return bool(row["standing"] not in ("queued", "stopping"))
    if state == "running":
        return bool(row["standing"] in ("starting", "queued", "admitting"))
    return bool(row["in_airflow"] or time.time() - row["created_at"] > LOST_AFTER)
