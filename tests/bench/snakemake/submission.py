"""How fast jobs become tasks at the local TES, and how fast that TES takes the same tasks from a bare loop."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from kit import FLAT, Row
from restart import start
from rig import Rig, rig

WIDTH = 16
ROUNDS = 5
BLOCKER = {"executors": [{"image": "gdi-task:1", "command": ["sleep", "900"]}]}


def rows(folder: Path, count: int) -> list[Row]:
    """Each the median of ROUNDS, in turns: the speed of a shared machine changes by a fifth from one minute to the
    next.
    """
    rounds = []
    for number in range(ROUNDS):
        (folder / str(number)).mkdir()
        rounds.append(_round(folder / str(number), count))
    ours, loop, against = (
        statistics.median(values) for values in zip(*((o, x, o / x) for o, x in rounds), strict=True)
    )
    return [
        Row("submission to the local TES", ours, "tasks/s", at_least=50),
        Row(f"a bare loop of {WIDTH} at once with the same tasks", loop, "tasks/s"),
        Row(
            "submission against the bare loop",
            against,
            "",
            at_least=0.8,
            note=", ".join(f"{o / x:.2f}" for o, x in rounds),
        ),
    ]


def _round(folder: Path, count: int) -> tuple[float, float]:
    with rig(slots=1) as bare:
        blocker = bare.tes.submit(BLOCKER)  # the one slot is taken: what is measured is taking tasks, not running them
        bare.tes.wait(blocker, "RUNNING")
        (folder / "Snakefile").write_text(FLAT)
        prefix = bare.prefix()
        with (folder / "log").open("w") as log:
            process = start(bare, folder, prefix, count, log)
            try:
                until = time.monotonic() + 300
                while _count(bare) < count and time.monotonic() < until:
                    time.sleep(2)  # looking costs the TES time too
                tasks = _mine(bare, prefix)
            finally:
                process.kill()
                process.wait()
        ours = _rate([t["creation_time"] for t in tasks])
        bodies = [
            {k: t[k] for k in ("name", "inputs", "outputs", "resources", "executors", "tags") if k in t} for t in tasks
        ]
        return ours, asyncio.run(_loop(bare, bodies))


def _count(bare: Rig) -> int:
    return len(bare.tes.list(view="MINIMAL", page_size=2047, tag_key="gdi-rule", tag_value="one").get("tasks", []))


def _mine(bare: Rig, prefix: str) -> list[dict[str, Any]]:
    found, token = [], ""
    while True:
        page = bare.tes.list(
            view="FULL", page_size=1000, tag_key="gdi-rule", tag_value="one", **({"page_token": token} if token else {})
        )
        found += [t for t in page.get("tasks", []) if str(t["outputs"][0]["url"]).startswith(prefix + "/")]
        if not (token := page.get("next_page_token") or ""):
            return found


def _rate(times: list[str]) -> float:
    at = sorted(datetime.fromisoformat(t) for t in times)
    return (len(at) - 1) / max(0.001, (at[-1] - at[0]).total_seconds())


async def _loop(bare: Rig, bodies: list[dict[str, Any]]) -> float:
    """The fastest client there is for it: what is measured is the TES."""
    waiting = iter([json.dumps(body).encode() for body in bodies])
    headers = {**bare.tes.world.service(), "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=WIDTH)) as http:

        async def worker() -> None:
            for body in waiting:
                async with http.post(f"{bare.tes.url}/ga4gh/tes/v1/tasks", data=body) as answer:
                    answer.raise_for_status()
                    await answer.read()

        began = time.monotonic()
        await asyncio.gather(*(worker() for _ in range(WIDTH)))
    return len(bodies) / (time.monotonic() - began)
