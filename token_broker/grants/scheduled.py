"""A grant's schedule: checked when the user consents, kept beside the grant, shown with it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.grants import GrantRequest, ScheduleState
from gdi.kit.problem import ProblemError
from token_broker.db.store import schedules
from token_broker.grants.cron import Cron, CronError
from token_broker.grants.parameters import datasets_of


def check(request: GrantRequest, now: float) -> Cron | None:
    """The schedule of a grant that is asked for, or None. 422 `bad-schedule` saying what to correct."""
    schedule = request.schedule
    if schedule is None:
        return None
    try:
        if request.mode != "standing":
            raise CronError("only a standing grant may have a schedule")
        if schedule.workflow not in request.workflows:
            raise CronError(f"the workflow {schedule.workflow} is not among those of the grant")
        if outside := sorted(set(datasets_of(schedule.parameters)) - set(request.datasets)):
            raise CronError(f"these datasets are not among those of the grant: {', '.join(outside[:10])}")
        cron = Cron(schedule.cron, schedule.timezone)
        cron.check(now)
    except CronError as error:
        raise ProblemError(
            422,
            "bad-schedule",
            f"The schedule cannot be used: {error}.",
            action="Correct the schedule and send it again.",
        ) from None
    return cron


async def insert(c: AsyncConnection, grant: str, request: GrantRequest, now: float) -> None:
    """The schedule beside its grant, in the transaction that makes the grant serve."""
    cron = check(request, now)
    if cron is None or request.schedule is None:
        return
    w = request.schedule
    row = {
        "workflow": w.workflow,
        "parameters": w.parameters,
        "cron": w.cron,
        "timezone": w.timezone,
        "catch_up": w.catch_up,
        "digest": w.digest,
    }
    await c.execute(
        schedules.insert().values(grant_id=grant, **row, state="active", reason="", next_due=cron.following(now))
    )


async def of_grants(c: AsyncConnection, ids: list[str]) -> dict[str, ScheduleState]:
    rows = (await c.execute(sa.select(schedules).where(schedules.c.grant_id.in_(ids)))).mappings()
    return {
        r["grant_id"]: ScheduleState(
            workflow=r["workflow"],
            parameters=r["parameters"],
            cron=r["cron"],
            timezone=r["timezone"],
            catch_up=r["catch_up"],
            digest=r["digest"],
            state=r["state"],
            reason=r["reason"],
            next_due=r["next_due"] if r["state"] == "active" else None,
            last_due=r["last_due"],
        )
        for r in rows
    }
