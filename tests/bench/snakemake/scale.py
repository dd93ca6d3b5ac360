"""Ten thousand jobs: requests a round, requests for metadata, our share above Snakemake alone, memory."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from kit import COMMON, FLAT, HERE, Instant, Row, environment, gateway_run, good, instant, timed


def rounds(folder: Path, count: int) -> list[Row]:
    """Tasks that never end: how many requests each status round takes."""
    with instant(folder, "--hold") as node:
        command = gateway_run(folder, node.url, count)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder / "work", env=environment(), stdout=log, stderr=log)
        try:
            _wait(lambda: node.stats()["tasks"] == count, 900)
            rows = [_a_round(node, count)]
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return rows


def _a_round(node: Instant, count: int) -> Row:
    """Requests between two lists of the newest page: ten rounds' mean."""
    _wait(lambda: node.stats()["rounds"] > 3, 120)
    before = node.stats()
    _wait(lambda: node.stats()["rounds"] >= before["rounds"] + 10, 300)
    after = node.stats()
    asked = sum(after["counts"].get(k, 0) - before["counts"].get(k, 0) for k in ("GET list", "GET tasks"))
    value = asked / (after["rounds"] - before["rounds"])
    return Row(
        f"{count} live tasks: requests per status round",
        value,
        "requests",
        at_most=10,
        note=f"the published plugin: {count}",
    )


def share(folder: Path, count: int) -> list[Row]:
    """The same workflow with an executor that does nothing, and with ours on a node that answers at once."""
    alone = folder / "alone"
    alone.mkdir(parents=True)
    (alone / "Snakefile").write_text(FLAT)
    nothing = [
        *(sys.executable, "-m", "snakemake", "--config", f"count={count}", "--executor", "nothing", "--jobs", "10000"),
        *("--default-storage-provider", "nothing", "--default-storage-prefix", "nothing://x", *COMMON),
    ]
    base = good(timed(nothing, cwd=alone, log=folder / "alone.log", env=environment(PYTHONPATH=str(HERE / "plugins"))))
    with instant(folder) as node:
        ours = good(
            timed(gateway_run(folder, node.url, count), cwd=folder / "work", log=folder / "ours.log", env=environment())
        )
        counts = node.stats()["counts"]
    metadata = sum(
        n for kind, n in counts.items() if kind.split()[1] in ("workspace", "datasets") and not kind.startswith("PUT")
    )
    scale = count / 10_000
    return [
        Row(
            f"{count}-job workflow: requests for file metadata",
            metadata,
            "requests",
            at_most=200 * scale,
            note="file by file: about 5 a job",
        ),
        Row(f"{count}-job workflow: Snakemake alone (an executor that does nothing), wall", base.wall, "s"),
        Row(f"{count}-job workflow: Snakemake alone, CPU", base.cpu, "s"),
        Row(
            f"{count}-job workflow: our share above that, wall",
            ours.wall - base.wall,
            "s",
            at_most=15 * scale if scale == 1 else None,
        ),
        Row(f"{count}-job workflow: our share above that, CPU", ours.cpu - base.cpu, "s"),
        Row(f"{count}-job workflow: peak memory, ours", ours.memory, "MB"),
        Row(f"{count}-job workflow: peak memory, Snakemake alone", base.memory, "MB"),
    ]


def _wait(check: object, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        if time.monotonic() > until:
            raise SystemExit("a condition of the benchmark did not come true in time")
        time.sleep(0.2)
