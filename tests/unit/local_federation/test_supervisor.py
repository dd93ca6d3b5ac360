"""The supervisor's end: everything of its own is gone, also what left its group; what was there before it lives on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from gdi.local_federation.supervisor import ServiceSpec, Supervisor

ORPHAN = (
    "import subprocess, time; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True);"
    " time.sleep(600)"
)


def test_stop_ends_its_own_and_their_orphans_and_leaves_the_others_alone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        its_child = psutil.Process(int(other.stdout.readline()))
        log = tmp_path / "logs" / "one.log"
        with Supervisor(tmp_path / "logs", tmp_path) as supervisor:
            supervisor.add(
                ServiceSpec(
                    "one", [sys.executable, "-u", "-c", ORPHAN], lambda: log.exists() and log.read_text().endswith("\n")
                )
            )
            supervisor.wait_ready(timeout=120)
            pid, orphan = supervisor.pid("one"), psutil.Process(int(log.read_text()))
            supervisor.kill("one")
        assert pid is not None and not psutil.pid_exists(pid)
        assert not orphan.is_running()
        assert other.poll() is None and its_child.is_running()
    finally:
        other.kill()
        other.wait()
        its_child.kill()
