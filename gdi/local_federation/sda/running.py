"""An archive's download service as a child process on a free port, for tests; it never outlives its parent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass
class RunningSda:
    """`archive` is its folder: fill it with `provision.add`; `.faults.yaml` in it orders faults."""

    url: str
    archive: Path
    log: Path
    pid: int

    def order(self, **faults: Any) -> None:
        """Faults by `DATASET/path`, in place of those there are: `order(**{"D/x.c4gh": {"kind": "cut"}})`."""
        (self.archive / ".faults.yaml").write_text(yaml.safe_dump(faults))


@contextmanager
def running_sda(
    folder: Path, *, issuer: str, visa_issuers: list[dict[str, str]], timeout: float = 30, **settings: Any
) -> Iterator[RunningSda]:
    """Started, and stopped at the end. `settings` as in the YAML file (audience, flavour …). RuntimeError with its last
    words where it does not start.
    """
    archive, ready, log = folder / "archive", folder / "ready.json", folder / "sda.log"
    archive.mkdir(parents=True, exist_ok=True)
    ready.unlink(missing_ok=True)
    file = folder / "config.yaml"
    document = {
        "host": "127.0.0.1",
        "port": 0,
        "archive": str(archive),
        "issuer": issuer,
        "visa_issuers": visa_issuers,
        "ready_file": str(ready),
        **settings,
    }
    file.write_text(yaml.safe_dump(document))
    with log.open("ab") as out:
        command = [sys.executable, "-m", "gdi.local_federation.sda", "--config", str(file), "--with-parent"]
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + timeout
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the archive did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield RunningSda(json.loads(ready.read_text())["url"], archive, log, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
