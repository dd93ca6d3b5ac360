"""`gdi schedule WORKFLOW --every month|week|day`: a consent by which an analysis starts again and again by itself."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import typer

from gdi.client.client import PortalClient
from gdi.client.command_line import AsJson, CohortOf, Datasets, Parameters, Workflow, parameters_of, print_json
from gdi.client.exit_codes import DONE
from gdi.contracts.grants import GrantRequest, Schedule

DAY = 86400


def schedule(
    context: typer.Context,
    workflow: Workflow,
    dataset: Datasets,
    parameter: Parameters = None,
    cohort: CohortOf = None,
    every: Annotated[
        Literal["month", "week", "day"] | None, typer.Option(help="at this time of the day, from now on")
    ] = None,
    cron: Annotated[
        str | None, typer.Option(metavar="CRON", help="instead: minute hour day month weekday, as in cron")
    ] = None,
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="of these times: Europe/Helsinki")] = "UTC",
    days: Annotated[float, typer.Option(min=1, max=366, help="your consent ends after so many days")] = 90,
    label: Annotated[str, typer.Option(help="a name for it")] = "",
    as_json: AsJson = False,
) -> int:
    """Start an analysis by itself, again and again: this gives consent to each of these runs, for so many days. It
    stops when access ends, when the workflow changes, or when three runs in a row failed: `gdi grants` says why.
    """
    if (every is None) == (cron is None):
        raise typer.BadParameter("say --every month, week or day, or --cron")
    try:
        zone = ZoneInfo(timezone)
    except (ValueError, OSError, LookupError):
        raise typer.BadParameter(f"there is no time zone {timezone[:60]!r}") from None
    request = GrantRequest(
        workflows=[workflow],
        datasets=list(dataset),
        expires_at=time.time() + days * DAY,
        label=label,
        schedule=Schedule(
            workflow=workflow,
            parameters={**parameters_of(parameter, cohort), "datasets": list(dataset)},
            cron=cron or cron_of(every or "", datetime.now(zone)),
            timezone=timezone,
        ),
    )
    with PortalClient.signed_in() as client:
        made = client.create_grant(request)
    if as_json:
        print_json(made)
        return DONE
    when = made.schedule.next_due if made.schedule else None
    first = f", next {datetime.fromtimestamp(when, zone):%Y-%m-%d %H:%M} {timezone}" if when else ""
    context.obj.print(f"{made.id}  {workflow} starts by itself{first}", soft_wrap=True)
    context.obj.print(f"end it with: gdi grants --revoke {made.id}", soft_wrap=True)
    return DONE


def cron_of(every: str, now: datetime) -> str:
    """At this time of the day; monthly on a day that each month has."""
    at = f"{now.minute} {now.hour}"
    if every == "day":
        return f"{at} * * *"
    return f"{at} * * {now.isoweekday() % 7}" if every == "week" else f"{at} {min(now.day, 28)} * *"
