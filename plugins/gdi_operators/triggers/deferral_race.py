"""How long a trigger lets Airflow settle a deferral before it ends it: an event that comes too soon costs the task a
try.

Airflow 3.3.2 knows a deferred task's two legs by one key. If the second leg is given to the executor before the
scheduler read that the first one ended, that end takes the key from the executor's running tasks
(`BaseExecutor.change_state`), and the scheduler takes the second leg for one that was killed from outside
(`SchedulerJobRunner.process_executor_events`). `BaseExecutor.trigger_tasks` says that it waits for this, and does not.
Where the first leg's end is seen later than SECONDS (its worker's supervisor may look again after five, a scheduler's
loop may take as long) it still happens: the try that follows finds the pod, or how the run ended, and begins nothing
anew (runs.open_run).
"""

from __future__ import annotations

import asyncio
import time

SECONDS = 3.0  # the end of a worker's process where it is seen at once, and a loop of a busy scheduler


class DeferralRace:
    """Made when a trigger begins to run."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    async def wait(self) -> None:
        """Before the event, whatever it is."""
        await asyncio.sleep(max(0.0, self._start + SECONDS - time.monotonic()))
