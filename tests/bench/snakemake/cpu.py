"""CPU time of a task above its own command: the same command as a plain task, in direct mode, and with Snakemake inside, on the stand-in TES."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from kit import FLAT, Row, good, timed
from rig import Rig, rig

TICK = os.sysconf("SC_CLK_TCK")


def rows(folder: Path, *, direct: int = 30, inside: int = 4) -> list[Row]:
    with rig(folder, slots=2) as bare:
        plain = _plain(bare, direct)
        ours = _run(bare, folder, "direct", direct)
        within = _run(bare, folder, "snakemake", inside)
    return [
        Row("CPU of a plain task with the same command (sandbox included)", plain, "s"),
        Row("CPU of a task above its own command, direct", ours - plain, "s", at_most=0.1),
        Row("CPU of a task above its own command, Snakemake inside", within - plain, "s", at_most=4),
    ]


def _plain(bare: Rig, count: int) -> float:
    before, mark = _children(bare), secrets.token_hex(4)
    output = [{"url": f"{bare.prefix()}/x", "path": "/data/x"}]
    task = {"executors": [{"image": "gdi-task:1", "command": ["/bin/bash", "-c", "echo 1 > /data/x"]}], "outputs": output, "tags": {"m": mark}}
    for identifier in [bare.tes.submit(task) for _ in range(count)]:
        bare.tes.wait(identifier, seconds=120)
    return (_children(bare) - before) / count


def _run(bare: Rig, folder: Path, mode: str, count: int) -> float:
    work = folder / mode
    work.mkdir()
    (work / "Snakefile").write_text(FLAT)
    before = _children(bare)
    command = ["-m", "snakemake", *bare.arguments(bare.prefix()), "--config", f"count={count}", "--tes-auth-mode", mode]
    good(timed([sys.executable, *command], cwd=work, log=folder / f"{mode}.log", env=bare.environment(work)))
    return (_children(bare) - before) / count


def _children(bare: Rig) -> float:
    """CPU seconds of all children of the TES that ended, and of theirs (proc(5), cutime and cstime)."""
    process = bare.tes.process  # type: ignore[attr-defined]
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / TICK
