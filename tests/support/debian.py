"""Debian packages that a system test needs: installed where this process is root, else a skip that says what is missing
and how to install it.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAMS = {
    "postgresql": ("/usr/lib/postgresql/*/bin/initdb",),
    "bcftools": ("/usr/bin/bcftools",),
    "plink2": ("/usr/bin/plink2",),
    "chromium": ("/usr/bin/chromium",),
    "redis-server": ("/usr/bin/redis-server",),
    "nginx-light": ("/usr/sbin/nginx",),
    "prometheus": ("/usr/bin/promtool",),
    "iproute2": ("/usr/sbin/ip", "/usr/bin/ip"),
    "podman": ("/usr/bin/podman",),
    "r-base-core": ("/usr/bin/Rscript",),
    "jupyter-nbconvert": ("/usr/bin/jupyter-nbconvert",),
}
BESIDE = {"jupyter-nbconvert": ["python3-ipykernel"]}  # what Debian only recommends and a test needs
APT_TIMEOUT = 300  # seconds
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gdi-tests"  # outside the repository


def program(package: str) -> Path:
    """The path of the package's program, the newest version where there are several; installed first where it is
    missing and may be.
    """
    found = _find(package)
    if found is None:
        _install(package)
        found = _find(package)
    if found is None:
        pytest.fail(f"The Debian package {package} was installed, but none of {', '.join(PROGRAMS[package])} exists.")
    return found


def _find(package: str) -> Path | None:
    for pattern in PROGRAMS[package]:
        found = sorted(
            Path("/").glob(pattern.removeprefix("/")),
            key=lambda p: [int(part) if part.isdigit() else 0 for part in p.parts],
        )
        if found:
            return found[-1]
    return None


def _install(package: str) -> None:
    why = install([package, *BESIDE.get(package, [])])
    if why is not None and os.environ.get("CI") == "true":  # there a test that never runs would be worse than a red one
        pytest.fail(why)
    if why is not None:
        pytest.skip(why)


def install(packages: list[str]) -> str | None:
    """Installs Debian packages where this process is root; None, or why they are still missing and how to install
    them.
    """
    if not packages:
        return None
    names = " ".join(packages)
    how = f"Missing Debian packages: {names}. Install them: sudo apt-get install --no-install-recommends {names}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return how
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests run side by side: one apt-get after the other
        failed = _updated() or _apt(["install", "-y", "-q", "--no-install-recommends", *packages])
    return None if failed is None else f"{how} (apt-get failed: {failed})"


@functools.cache
def _updated() -> str | None:
    """`apt-get update`, once in a session; what it said where it failed."""
    return _apt(["update", "-q"])


def _apt(arguments: list[str]) -> str | None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=120", *arguments]
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=APT_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return f"apt-get {arguments[0]} took longer than {APT_TIMEOUT} s"
    return None if done.returncode == 0 else " ".join((done.stderr or done.stdout).strip().splitlines()[-2:])[-400:]
