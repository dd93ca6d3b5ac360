"""CPU time of a task above its own command: the same command as a plain task, in direct mode, and with Snakemake
inside, on the stand-in TES.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from kit import FLAT, Row, good, timed
from rig import Rig, rig


def rows(folder: Path, *, direct: int = 30, inside: int = 4) -> list[Row]:
    with rig(slots=2, times=folder) as bare:
        for probe in folder.glob("times-*"):  # the TES tries its sandbox before it starts
            probe.unlink()
        plain = _plain(bare, folder, direct)
        ours = _run(bare, folder, "direct", direct)
        within = _run(bare, folder, "snakemake", inside)
    return [
        Row("CPU of the command alone, as a plain task", plain, "s"),
        Row("CPU of a task above its own command, direct", ours - plain, "s", at_most=0.1),
        Row("CPU of a task above its own command, Snakemake inside", within - plain, "s", at_most=4),
    ]


def _plain(bare: Rig, folder: Path, count: int) -> float:
    output = [{"url": f"{bare.prefix()}/x", "path": "/data/x"}]
    task = {
        "executors": [{"image": "gdi-task:1", "command": ["/bin/bash", "-c", "echo 1 > /data/x"]}],
        "outputs": output,
    }
    for identifier in [bare.tes.submit(task) for _ in range(count)]:
        bare.tes.wait(identifier, "COMPLETE", seconds=120)
    return _mean(folder, count)


def _run(bare: Rig, folder: Path, mode: str, count: int) -> float:
    work = folder / mode
    work.mkdir()
    (work / "Snakefile").write_text(FLAT)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        *bare.arguments(bare.prefix()),
        "--config",
        f"count={count}",
        "--tes-auth-mode",
        mode,
    ]
    good(timed(command, cwd=work, log=folder / f"{mode}.log", env=bare.environment(work)))
    return _mean(folder, count)


def _mean(folder: Path, count: int) -> float:
    """CPU seconds of each task since the last call, as bash's `times` gives them: two lines, the shell's and its
    children's, each user and system.
    """
    files = list(folder.glob("times-*"))
    said = "".join(f.read_text() for f in files)
    for file in files:
        file.unlink()
    parts = re.findall(r"(\d+)m([0-9.]+)s", said)
    if len(parts) != 4 * count:
        raise SystemExit(f"{len(parts) // 4} tasks left their CPU times, not {count}")
    return sum(60 * int(minutes) + float(seconds) for minutes, seconds in parts) / count
