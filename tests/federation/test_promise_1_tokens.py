"""Promise 1: runs outlive tokens. 20-second access tokens, 60-second refresh tokens, two minutes of work, a task that
queues for longer than a token lives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from gdi.local_federation.cohort import CohortSite
from tests.federation.driver import Driver


def test_a_run_of_two_minutes_succeeds_with_20_second_tokens_and_refreshes_as_often_as_they_imply(
    driver: Driver, pooled: dict[CohortSite, tuple[int, int]], record_property: Callable[[str, object], None]
) -> None:
    driver.revoke_grants()
    before = driver.stats()
    started = time.monotonic()
    # One slot at each node: the second region's task waits while the first sleeps, for longer than an access token
    # lives. So it takes two minutes, however fast the machine.
    run = driver.start({"regions": 2, "slow_seconds": 60})
    driver.succeed(run, timeout=400)
    took = time.monotonic() - started
    after = driver.stats()
    answer = driver.answer(run, pooled)
    assert answer.exact >= 100 and not answer.wrong
    assert took >= 120, f"the run took {took:.0f} s only: it shows too little about tokens of 20 s"

    for node in driver.layout.nodes:
        waits = [wait_of(t) for t in driver.tasks(node, run.run) if t["tags"]["gdi-rule"] == "count"]
        assert max(waits) > 20, f"{node}: no task waited for longer than a token lives: {waits}"

    refreshes = total(after, "refreshes") - total(before, "refreshes")
    # A token of 20 s is renewed when less is left of it than a caller needs: 5 s, and 4 s for narrowing it. So one
    # lasts 11 s at least.
    implied = math.ceil(took / 11) + 1
    at_least = math.floor(took / 60)  # a refresh token lives 60 s: the grant would have died without
    reads = total(after, "userinfo") - total(before, "userinfo")
    text = (
        f"refreshes at LS AAI in {took:.0f} s with tokens of 20 s: {refreshes} (between {at_least} and {implied}"
        f" implied); visas read {reads} times"
    )
    record_property("figure", text)
    assert at_least <= refreshes <= implied, "refreshes follow the tokens' lifetimes, not the number of requests"
    assert after.get("reuse_detected", 0) == 0


def total(stats: dict[str, Any], counter: str) -> int:
    """A counter of LS AAI over all users; one that never counted is not in the answer."""
    return int(sum(stats.get(counter, {}).values()))


def wait_of(task: dict[str, object]) -> float:
    """Seconds between a task's creation and its executor's start."""
    from datetime import datetime

    logs = task["logs"]
    assert isinstance(logs, list)
    begin = datetime.fromisoformat(str(logs[0]["logs"][0]["start_time"]))
    return (begin - datetime.fromisoformat(str(task["creation_time"]))).total_seconds()
