"""One rule with many files on a real S3: how long until its first task, and how long its outputs are looked at."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Thread

from kit import COMMON, HERE, Row, environment, good, timed
from rig import Rig as Bare
from rig import rig

INPUTS = """
rule all:
    input: "o.txt"
rule one:
    input: expand("in/{i}.txt", i=range(%d))
    output: "o.txt"
    shell: "sleep 600; echo x > {output}"
"""
OUTPUTS = """
rule all:
    input: "o.txt"
rule many:
    output: expand("out/{i}", i=range(%d))
    shell: "for f in {output}; do echo x > $f; done"
rule end:
    input: "out/0"
    output: "o.txt"
    shell: "cat {input} > {output}"
"""


def rows(folder: Path, inputs: int, outputs: int) -> list[Row]:
    with rig() as bare:
        return [_first_task(bare, folder / "in", inputs), _checked(bare, folder / "out", outputs)]


def _first_task(bare: Bare, folder: Path, count: int) -> Row:
    """Seconds from Snakemake's start to its task at the TES, less what Snakemake alone takes for the same workflow."""
    prefix = bare.prefix()
    folder.mkdir(parents=True)
    (folder / "Snakefile").write_text(INPUTS % count)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: bare.put(prefix, f"in/{i}.txt", b"x"), range(count)))
    alone = [
        *(sys.executable, "-m", "snakemake", "--executor", "nothing", "--jobs", "20"),
        *("--default-storage-provider", "nothing", "--default-storage-prefix", "nothing://x", *COMMON),
    ]
    variables = environment(PYTHONPATH=str(HERE / "plugins"))
    base = good(timed(alone, cwd=folder, log=folder / "alone.log", env=variables))
    began = time.monotonic()
    process: subprocess.Popen[str] = bare.start(folder, prefix)
    said: list[str] = []
    # Snakemake names every input in what it prints: an unread pipe would stop it.
    Thread(target=lambda: said.extend(process.stdout or ()), daemon=True).start()
    try:
        while not bare.of_prefix(prefix):
            if process.poll() is not None or time.monotonic() - began > 600:
                process.kill()
                raise SystemExit(f"no task within 600 s:\n{''.join(said)[-3000:]}")
            time.sleep(0.2)
        wall = time.monotonic() - began
    finally:
        process.terminate()
        process.wait(120)
    return Row(f"{count} inputs of one rule: the first task, above Snakemake alone", wall - base.wall, "s", at_most=20)


def _checked(bare: Bare, folder: Path, count: int) -> Row:
    """Seconds from the end of the task with many outputs to the next job's task."""
    prefix = bare.prefix()
    folder.mkdir(parents=True)
    (folder / "Snakefile").write_text(OUTPUTS % count)
    code, output = bare.run(folder, prefix, timeout=900)
    if code != 0:
        raise SystemExit(f"a run that was to be measured failed ({code}):\n{output[-3000:]}")
    first, second = bare.of_prefix(prefix)
    ended, began = (datetime.fromisoformat(t) for t in (first["logs"][-1]["end_time"], second["creation_time"]))
    return Row(f"{count} outputs of one task: looked at within", (began - ended).total_seconds(), "s", at_most=20)
