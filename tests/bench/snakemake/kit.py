"""What every row needs: a process with its wall time, CPU time and memory, a node that answers at once, rows with their
targets.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gdi.contracts.run_file import RunFile

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RUN = "r-0123456789abcdef0123"
AT_FULL_SPEED = (
    "--max-jobs-per-timespan",
    "100000/1s",
)  # Snakemake by itself hands out a hundred jobs a second at most, which would hide what is measured
COMMON = (
    *(
        "--local-cores",
        "1",
        "--nolock",
        "--rerun-incomplete",
        "--rerun-triggers",
        "mtime",
        "--default-resources",
        "mem_mb=500",
        "disk_mb=100",
    ),
    *("--scheduler", "greedy", "--latency-wait", "10", "--nocolor", *AT_FULL_SPEED),
)
FLAT = """container: "gdi-task:1"
rule all:
    input: expand("out/{i}.txt", i=range(int(config["count"])))
rule one:
    output: "out/{i}.txt"
    shell: "echo {wildcards.i} > {output}"
"""


@dataclass(frozen=True)
class Row:
    """`NAME VALUE UNIT (target) ok|short`; without a target: for information."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def ok(self) -> bool:
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    def __str__(self) -> str:
        target = (
            f"(at most {self.at_most:g}) "
            if self.at_most is not None
            else f"(at least {self.at_least:g}) "
            if self.at_least is not None
            else ""
        )
        judged = ("ok" if self.ok else "short") if target else ""
        return (
            f"{self.name:<74} {self.value:>10.3f} {self.unit:<10}"
            f" {target}{judged}{'  # ' + self.note if self.note else ''}"
        )


@dataclass(frozen=True)
class Used:
    """`wall` and `cpu` in seconds, `memory` in MB (peak)."""

    code: int
    wall: float
    cpu: float
    memory: float
    log: Path


def timed(argv: list[str], *, cwd: Path, log: Path, env: dict[str, str] | None = None, timeout: float = 900) -> Used:
    """Runs a process to its end. Its CPU time is that of it and its children."""
    began = time.monotonic()
    with log.open("wb") as said:
        process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() - began > timeout:
                    process.kill()
                time.sleep(0.01)
        except BaseException:
            process.kill()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    return Used(
        process.returncode, time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, log
    )


def good(used: Used) -> Used:
    if used.code != 0:
        raise SystemExit(
            f"a run that was to be measured failed ({used.code}):\n" + used.log.read_text(errors="replace")[-3000:]
        )
    return used


def environment(**more: str) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Instant:
    """instant.py as a process of its own."""

    url: str
    process: subprocess.Popen[bytes]

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(self.url + "/admin/stats", trust_env=False).json()
        return found


@contextmanager
def instant(folder: Path, *options: str) -> Iterator[Instant]:
    port = folder / "port"
    process = subprocess.Popen([sys.executable, str(HERE / "instant.py"), str(port), *options])
    try:
        until = time.monotonic() + 30
        while not (port.exists() and port.read_text()):
            if time.monotonic() > until:
                raise SystemExit("the node that answers at once does not start")
            time.sleep(0.05)
        yield Instant(f"http://127.0.0.1:{port.read_text()}", process)
    finally:
        process.kill()
        process.wait()


def gateway_run(folder: Path, url: str, count: int, jobs: int = 10_000) -> list[str]:
    """Snakemake's command for FLAT through a gateway at `url`; run it in `folder/work`."""
    for name in ("work", "identity", "workflow"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "identity" / "token").write_text("identity")
    (folder / "workflow" / "Snakefile").write_text(FLAT)
    run = RunFile(
        run=RUN,
        attempt=1,
        node="node-a",
        pod="pod-1",
        broker_url=url,
        gateway_url=url,
        audience=url,
        workflow="bench",
        digest="sha256:" + "0" * 64,
    )
    (folder / "run.json").write_text(run.model_dump_json())
    papers = str(folder / "run.json")
    return [
        *(
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(folder / "workflow" / "Snakefile"),
            "--config",
            f"count={count}",
        ),
        *(
            "--executor",
            "tes-auth",
            "--tes-auth-run-file",
            papers,
            "--storage-sda-run-file",
            papers,
            "--jobs",
            str(jobs),
        ),
        *("--default-storage-provider", "sda", "--default-storage-prefix", f"workspace://{RUN}", *COMMON),
    ]
