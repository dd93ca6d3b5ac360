"""One rule with many files on a real S3: how long until its first task, and how long its outputs are looked at."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Thread

from kit import COMMON, HERE, Row, children_cpu, environment, good, timed
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
S3_PAGE = 1000  # names of one answer of ListObjectsV2
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
        return [*_first_task(bare, folder / "in", inputs), *_checked(bare, folder / "out", outputs)]


class CountedS3:
    """A relay before the S3 that counts requests; `url` serves in its place (the Host header stays the relay's)."""

    def __init__(self, port: int) -> None:
        self._target, self.requests = port, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, count: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.requests += data.count(b" HTTP/1.1\r\n") if count else 0
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _cpu(pid: int) -> float:
    """CPU seconds of a process that lives."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _first_task(bare: Bare, folder: Path, count: int) -> list[Row]:
    """From Snakemake's start to its task at the TES, less what Snakemake alone takes for the same workflow: seconds,
    CPU seconds, which a busy machine does not change, and requests to the S3, also beside those for a fifth of the
    files.
    """
    few = _until_task(bare, folder / "few", count // 5)[2]
    folder /= "many"
    wall, cpu, requests = _until_task(bare, folder, count)
    alone = [
        *(sys.executable, "-m", "snakemake", "--executor", "nothing", "--jobs", "20"),
        *("--default-storage-provider", "nothing", "--default-storage-prefix", "nothing://x", *COMMON),
    ]
    variables = environment(PYTHONPATH=str(HERE / "plugins"))
    base = good(timed(alone, cwd=folder, log=folder / "alone.log", env=variables))
    what = f"{count} inputs of one rule: the first task"
    pages = (count - count // 5) // S3_PAGE
    return [
        Row(f"{what}, above Snakemake alone", wall - base.wall, "s", at_most=20),
        Row(f"{what}, above Snakemake alone", cpu - base.cpu, "CPU s", at_most=20),
        Row(f"{what}: requests to the S3", requests, "requests", at_most=50),
        Row(f"{what}: more of them than for {count // 5}", requests - few, "requests", at_most=max(pages, 1)),
    ]


def _until_task(bare: Bare, folder: Path, count: int) -> tuple[float, float, int]:
    """Seconds, CPU seconds and requests to the S3 from Snakemake's start until its task is at the TES."""
    prefix = bare.prefix()
    folder.mkdir(parents=True)
    (folder / "Snakefile").write_text(INPUTS % count)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: bare.put(prefix, f"in/{i}.txt", b"x"), range(count)))
    s3, began = CountedS3(bare.weed.port), time.monotonic()
    process: subprocess.Popen[str] = bare.start(folder, prefix, "--storage-s3-endpoint-url", s3.url)
    said: list[str] = []
    # Snakemake names every input in what it prints: an unread pipe would stop it.
    Thread(target=lambda: said.extend(process.stdout or ()), daemon=True).start()
    try:
        while not bare.of_prefix(prefix):
            if process.poll() is not None or time.monotonic() - began > 600:
                process.kill()
                raise SystemExit(f"no task within 600 s:\n{''.join(said)[-3000:]}")
            time.sleep(0.2)
        return time.monotonic() - began, _cpu(process.pid), s3.requests
    finally:
        s3.close()
        process.terminate()
        process.wait(120)


def _checked(bare: Bare, folder: Path, count: int) -> list[Row]:
    """From the end of the task with many outputs to the next job's task; the whole run's CPU and requests."""
    prefix = bare.prefix()
    folder.mkdir(parents=True)
    (folder / "Snakefile").write_text(OUTPUTS % count)
    s3, before = CountedS3(bare.weed.port), children_cpu()
    code, output = bare.run(folder, prefix, "--storage-s3-endpoint-url", s3.url, timeout=900)
    s3.close()
    if code != 0:
        raise SystemExit(f"a run that was to be measured failed ({code}):\n{output[-3000:]}")
    first, second = bare.of_prefix(prefix)
    ended, began = (datetime.fromisoformat(t) for t in (first["logs"][-1]["end_time"], second["creation_time"]))
    what = f"{count} outputs of one task"
    return [
        Row(f"{what}: looked at within", (began - ended).total_seconds(), "s", at_most=20),
        Row(f"{what}: the whole run", children_cpu() - before, "CPU s"),
        Row(f"{what}: requests to the S3 of the whole run", s3.requests, "requests", at_most=100),
    ]
