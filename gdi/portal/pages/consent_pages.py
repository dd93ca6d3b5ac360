"""My consents: what each allows until when, revoked after a question; and a run that comes again by itself."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Path, Response
from sqlalchemy import RowMapping

from gdi.contracts import broker_api as m
from gdi.contracts.access import DatasetEntry
from gdi.contracts.ids import GrantId, RunId
from gdi.contracts.run_endings import ENDED, STANDINGS
from gdi.kit.problem import ProblemError
from gdi.portal import api
from gdi.portal.pages.run_pages import own_run
from gdi.portal.pages.visits import P, PageRoute, Visit, see
from gdi.portal.runs import RunFilter

router = APIRouter(route_class=PageRoute, include_in_schema=False)
EVERY = ("month", "week", "day")
REPEAT_DAYS = (90, 180, 365)
OPEN = tuple(s for s in STANDINGS if s not in ENDED)
Id = Annotated[GrantId, Path()]


@router.get("/consents")
async def consents(p: P) -> Response:
    found = await p.door.broker.grants(p.who.token)
    found.sort(key=lambda g: (g.state != "active", -g.created_at))
    titles = {name: e.workflow.title for name, e in p.door.catalogue.entries().items()}
    lost = await _lost(p)
    return p.page("consents.html", section="consents", grants=found[:500], total=len(found), titles=titles, lost=lost)


async def _lost(p: Visit) -> dict[str, DatasetEntry]:
    """Datasets that the person may not use now, by id: a consent for them serves nothing. None are known where the
    visas cannot be asked for.
    """
    try:
        known = await p.door.broker.datasets(p.who.token)
    except ProblemError:
        return {}
    return {entry.id: entry for entry in known.datasets if entry.access.state == "refused"}


@router.get("/consents/{grant}/revoke")
async def ask_revoke(p: P, grant: Id) -> Response:
    found = await p.door.broker.grant(p.who.token, grant)
    return p.page("revoke.html", section="consents", grant=found, runs=await _ending(p, found))


@router.post("/consents/{grant}/revoke")
async def revoke(p: P, grant: Id) -> Response:
    await api.revoke_grant(p.door, p.who, grant)
    return see("/consents")


async def _ending(p: Visit, grant: m.Grant) -> list[RowMapping]:
    """The person's runs that end with the consent."""
    rows, _ = await p.door.runs.page(p.who.caller, RunFilter(OPEN), 200, "")
    return [r for r in rows if r["grant_id"] == grant.id or (r["grant_id"] is None and grant.id in r["dag_run_id"])]


@router.get("/runs/{run}/repeat")
async def ask_repeat(p: P, run: RunId) -> Response:
    return p.page("repeat.html", section="runs", run=await own_run(p, run), every=EVERY, days=REPEAT_DAYS)


@router.post("/runs/{run}/repeat")
async def repeat(p: P, run: RunId) -> Response:
    """A standing consent with a schedule, for this run's workflow, version, datasets and parameters."""
    row = await own_run(p, run)
    zone, every, days = p.first("timezone") or "UTC", p.first("every"), p.first("days")
    if (
        every not in EVERY
        or not (days.isascii() and days.isdigit())
        or int(days) not in REPEAT_DAYS
        or p.first("consent") != "yes"
    ):
        raise ProblemError(422, "invalid-request", p.texts("repeat.choose"), action=p.texts("problem.back"))
    schedule = m.Schedule(
        workflow=row["workflow"],
        parameters={**await p.door.runs.parameters(row), "datasets": row["datasets"]},
        cron=_cron(every, zone),
        timezone=zone,
    )
    request = m.GrantRequest(
        workflows=[row["workflow"]],
        datasets=row["datasets"],
        expires_at=time.time() + int(days) * 86400,
        label=f"{row['title']}, every {every}"[:100],
        schedule=schedule,
    )
    await api.create_grant(p.door, p.who, request)
    return see("/consents")


def _cron(every: str, zone: str) -> str:
    """At this time of the day, in that zone; monthly on a day that each month has."""
    try:
        now = datetime.now(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError):
        raise ProblemError(422, "bad-schedule", f"There is no time zone {zone[:60]!r}.", action="Go back.") from None
    at = f"{now.minute} {now.hour}"
    return {
        "month": f"{at} {min(now.day, 28)} * *",
        "week": f"{at} * * {now.isoweekday() % 7}",
        "day": f"{at} * * *",
    }[every]
