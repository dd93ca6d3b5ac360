"""Many live grants: how soon a broker that starts beside them is ready, what memory it has, and how late the background
renews their refresh tokens when all of them fall due within minutes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import psutil

from tests.bench.figures import figure
from tests.support.broker_kit import USERS
from tests.support.postgres_kit import PostgresWorld

GRANTS = int(os.environ.get("GDI_BENCH_GRANTS", "10000"))
LIFE = int(os.environ.get("GDI_BENCH_REFRESH_LIFE", "1200"))  # seconds of a refresh token; renewed at half of it
LIVE = "state in ('active', 'used')"


def grants(crowd: Callable[..., AbstractContextManager[PostgresWorld]]) -> bool:
    """`crowd(replicas, refresh=…, more=…)`: a world of brokers. Each grant is a sign-in of its own at the provider,
    which rotates strictly: a token that is renewed twice ends its family.
    """
    with crowd(1, refresh=LIFE, more={"USER_REQUESTS_PER_MINUTE": "1000000"}) as world:
        began = time.monotonic()

        def make(_: int) -> None:
            world.grant(world.user())

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, range(GRANTS)))
        print(f"# {GRANTS} grants made in {time.monotonic() - began:.0f} s", flush=True)
        world.brokers[0].kill()
        began = time.monotonic()
        world.brokers[0].start(world.url() + "/readyz")
        ready = time.monotonic() - began
        popen = world.brokers[0].popen
        assert popen is not None
        process, memory, late = psutil.Process(popen.pid), 0.0, 0.0
        first = float(world.query(f"select min(created_at) as t from grants where {LIVE}")[0]["t"])
        while time.time() < first + LIFE:  # each is due once within this time; the first would end after it
            due = float(world.query(f"select min(refresh_due) as t from grants where {LIVE}")[0]["t"])
            late = max(late, time.time() - due)
            memory = max(memory, process.memory_info().rss / 1e6)
            time.sleep(1)
        rows = world.query("select state, count(*) as n, min(refreshes) as least from grants group by state")
        states = {row["state"]: (row["n"], row["least"]) for row in rows}
        revoked = world.stats().get("reuse_detected", 0)
    ended = max(0.0, late - LIFE / 2)  # a token ends half of its life after it is due
    alive, least = states.get("active", (0, 0))
    text = f"{GRANTS:,} live grants: ready after {ready:.1f} s (30), {memory:.0f} MB (300), renewed at most"
    text += f" {late:.1f} s after they were due, {ended:.1f} s after a token's end (0); live {alive}, each"
    text += f" renewed {least} times or more, families of {USERS['alice']} revoked {revoked}"
    good = ready <= 30 and memory <= 300 and not ended and alive == GRANTS and least >= 1 and not revoked
    return figure(text, good)
