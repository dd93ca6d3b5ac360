"""A podman or docker for tests: Debian's podman, and where no docker daemon answers but the package is there, a daemon
of the test's own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdi.runner.sandbox import Engine, SandboxUnavailableError, container
from tests.support.debian import program
from tests.support.processes import die_with_parent
from tests.support.tes_kit import wait_for


@contextlib.contextmanager
def engine(kind: container.Kind) -> Iterator[Engine]:
    """The engine, or a skip that says why it does not work here."""
    if kind == "podman":
        program("podman")
    with contextlib.ExitStack() as stack:
        try:
            found = container.find(kind)
        except SandboxUnavailableError as error:
            if kind != "docker" or shutil.which("dockerd") is None or os.geteuid() != 0:
                pytest.skip(str(error))
            stack.enter_context(daemon())
            found = container.find(kind)
        yield found


@contextlib.contextmanager
def daemon() -> Iterator[None]:
    """dockerd on a socket of its own, without network, for DOCKER_HOST."""
    home = Path(tempfile.mkdtemp(prefix="gdi-dockerd-"))
    socket = home / "docker.sock"
    argv = ["dockerd", "--iptables=false", "--bridge=none", "--storage-driver=vfs", f"--host=unix://{socket}"]
    argv += [f"--data-root={home}/data", f"--exec-root={home}/run", f"--pidfile={home}/pid"]
    before = os.environ.get("DOCKER_HOST")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        os.environ["DOCKER_HOST"] = f"unix://{socket}"

        def answers() -> bool:
            if process.poll() is not None:
                pytest.skip("dockerd does not start here: " + (home / "log").read_text()[-500:])
            return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=60).returncode == 0

        wait_for("dockerd answers", answers, 60)
        yield
    finally:
        if before is None:
            os.environ.pop("DOCKER_HOST", None)
        else:
            os.environ["DOCKER_HOST"] = before
        process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)
