"""SIGKILL at random instants: nothing submitted twice, nothing lost. SIGTERM with many live tasks: all of them
ended.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from kit import AT_FULL_SPEED, FLAT, Row
from rig import Rig, rig

from gdi.contracts.tes import LIVE


def kills(folder: Path, *, jobs: int, kills: int) -> list[Row]:
    """One run of `jobs` jobs whose Snakemake is killed `kills` times; the same command each time, in the same folder or
    (every other time) an empty one.
    """
    chance = random.Random(4)
    with rig() as bare:
        prefix = bare.prefix()
        killed, code, starts = 0, 1, 0
        until = time.monotonic() + 1200
        while time.monotonic() < until:
            work = folder / f"work-{starts // 2}"
            work.mkdir(exist_ok=True)
            (work / "Snakefile").write_text(FLAT)
            log = (folder / f"log-{starts}").open("w")
            starts += 1
            process = start(bare, work, prefix, jobs, log)
            # Instants spread over start, submission and waiting alike: a part of the work gets done each time.
            if killed < kills:
                try:
                    process.wait(chance.uniform(2.5, 12))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    killed += 1
                    continue
            code = process.wait()
            break
        tasks = all_tasks(bare, prefix)
        files = [
            f
            for f in bare.weed.client.get_paginator("list_objects_v2").paginate(
                Bucket=bare.weed.bucket, Prefix=key(bare, prefix) + "/out/"
            )
        ]
        made = sum(len(page.get("Contents", [])) for page in files)
    again = sum(n - 1 for n in Counter(t["tags"]["gdi-job"] for t in tasks).values())
    return [
        Row(f"SIGKILL at {killed} instants of a {jobs}-job run: tasks submitted twice", again, "tasks", at_most=0),
        Row(
            f"SIGKILL at {killed} instants of a {jobs}-job run: jobs lost",
            jobs - made + (code != 0),
            "jobs",
            at_most=0,
            note=f"{starts} starts",
        ),
    ]


def start(bare: Rig, work: Path, prefix: str, jobs: int, log: Any) -> subprocess.Popen[str]:
    count = ("--config", f"count={jobs}", "--jobs", str(jobs))
    again = ("--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime")
    arguments = [*bare.arguments(prefix), *count, *again, *AT_FULL_SPEED]
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=work,
        env=bare.environment(work),
        stdout=log,
        stderr=log,
        text=True,
    )


def cancel(folder: Path, count: int) -> list[Row]:
    """SIGTERM when all tasks live; how many are not at an end 60 s later, and when Snakemake was gone."""
    slow = FLAT.replace("echo {wildcards.i}", "sleep 900; echo {wildcards.i}")
    with rig() as bare:
        (folder / "Snakefile").write_text(slow)
        prefix = bare.prefix()
        with (folder / "log").open("w") as log:
            process = start(bare, folder, prefix, count, log)
            until = time.monotonic() + 300
            while len(all_tasks(bare, prefix)) < count and time.monotonic() < until:
                time.sleep(1)
            time.sleep(2)  # so that Snakemake is in its rounds
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            gone = time.monotonic() - began
        left = [t for t in all_tasks(bare, prefix) if t["state"] in LIVE]
        while left and time.monotonic() < began + 60:
            time.sleep(1)
            left = [t for t in all_tasks(bare, prefix) if t["state"] in LIVE]
    return [
        Row(f"SIGTERM with {count} live tasks: not at an end after 60 s", len(left), "tasks", at_most=0),
        Row(f"SIGTERM with {count} live tasks: until Snakemake was gone", gone, "s"),
    ]


def all_tasks(bare: Rig, prefix: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        page = bare.tes.list(
            view="BASIC", page_size=500, tag_key="gdi-rule", tag_value="one", **({"page_token": token} if token else {})
        )
        found += [t for t in page.get("tasks") or [] if str(t["outputs"][0]["url"]).startswith(prefix + "/")]
        if not (token := page.get("next_page_token") or ""):
            return found


def key(bare: Rig, prefix: str) -> str:
    return prefix.removeprefix(f"s3://{bare.weed.bucket}/")
