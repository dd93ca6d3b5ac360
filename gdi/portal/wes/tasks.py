"""A run's jobs as WES tasks, page by page, from the broker."""

from __future__ import annotations

import time

from gdi.contracts.progress import Job
from gdi.kit.problem import ProblemError
from gdi.portal.broker import BrokerForUsers
from gdi.portal.wes.models import WesTaskLog
from gdi.portal.wes.requests import bad

PAGE, MOST = 100, 2000
LOOKED_THROUGH = 100_000  # jobs, for one task by its id


def stamp(moment: float | None) -> str | None:
    """Seconds as `%Y-%m-%dT%H:%M:%SZ`."""
    return None if moment is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def page_size(text: str, default: int, most: int) -> int:
    """Empty: the default; too large: the most. ProblemError 400 for what is no positive number."""
    if not text.strip():
        return default
    try:
        size = int(text)
    except ValueError:
        size = 0
    if size < 1 or len(text) > 20:
        raise bad(f"page_size: {text[:50]!r} is no number from 1 on.")
    return min(size, most)


async def tasks(
    broker: BrokerForUsers, token: str, run: str, size: int, page_token: str
) -> tuple[list[WesTaskLog], str]:
    """(tasks, token of the next page). Of a run that was not admitted there are none."""
    if page_token and (not page_token.isdecimal() or len(page_token) > 15):
        raise bad("page_token: was not made by this server.", slug="invalid-request")
    try:
        page = await broker.jobs(token, run, int(page_token or 0), size)
    except ProblemError as error:
        if error.problem.status != 404:
            raise
        return [], ""
    return [task_log(job) for job in page.jobs], str(page.next_after) if page.more else ""


async def task(broker: BrokerForUsers, token: str, run: str, task_id: str) -> WesTaskLog:
    """One by its id. ProblemError 404."""
    after, seen = "", 0
    while seen < LOOKED_THROUGH:
        found, after = await tasks(broker, token, run, MOST, after)
        for one in found:
            if one.id == task_id:
                return one
        seen += len(found)
        if not after:
            break
    raise ProblemError(404, "not-found", f"The run has no task {task_id[:100]!r}.", action="List its tasks.")


def task_log(job: Job) -> WesTaskLog:
    """`id` is `NODE.JOB`. Standard output and error stay at the node: there are no URLs of them."""
    wildcards = ", ".join(f"{k}={v}" for k, v in sorted(job.wildcards.items()))
    code = job.exit_code if job.exit_code is not None else 0 if job.state == "done" else None
    where = [f"{job.node}: {job.state}"]
    return WesTaskLog(
        id=f"{job.node}.{job.job}",
        name=f"{job.rule} ({wildcards})" if wildcards else job.rule,
        start_time=stamp(job.started_at),
        end_time=stamp(job.ended_at),
        exit_code=code,
        system_logs=[*where, *([job.message] if job.message else [])],
    )
