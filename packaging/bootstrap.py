"""Makes .venv with the locked dependencies: `python3 packaging/bootstrap.py`. Standard library only; quick when there
is nothing to do.

Uses uv where it is on PATH, else installs it into an environment of its own (.venv/uv). Two at once are safe: the
second waits.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMP = VENV / "installed"
UV_VERSION = "0.9"  # at least
# Hospitals' networks often have a certificate authority of their own, which the system knows and uv's built-in list
# does not.
SYSTEM_CERTIFICATES = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}


def fail(message: str) -> None:
    sys.exit(f"setup: {message}")


def stamp() -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]}{ROOT}".encode())
    for name in ("requirements.lock", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | SYSTEM_CERTIFICATES)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        fail(
            f"{' '.join(command[:4])} … failed ({error}). The lines above say why; with no network, a pip or uv cache"
            " of the locked packages is needed."
        )


def uv() -> str:
    """The path of a uv program."""
    found = shutil.which("uv")
    if found:
        return found
    home = VENV / "uv"
    program = home / "bin" / "uv"
    if program.exists():
        return str(program)
    print("setup: installing uv", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(home)], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        run(
            str(home / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            f"uv>={UV_VERSION}",
        )
    else:  # Debian and Ubuntu split ensurepip off into python3-venv
        shutil.rmtree(home, ignore_errors=True)
        probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
        if probe.returncode:
            fail(
                "this Python has neither venv nor pip. Install one of them (Debian, Ubuntu: python3-venv) or uv, then"
                " run make again."
            )
        run(
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--target",
            str(home / "lib"),
            f"uv>={UV_VERSION}",
        )
        program.parent.mkdir(parents=True)
        program.symlink_to(home / "lib" / "bin" / "uv")
    return str(program)


def main() -> None:
    if sys.version_info < (3, 11):
        fail(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}. Name a newer one: make"
            " PYTHON=python3.12 …"
        )
    if sys.platform != "linux":
        fail("Linux is needed: Snakemake and the tasks run in Linux namespaces.")
    lock = os.open(ROOT, os.O_RDONLY)  # a lock on the folder itself: nothing is left behind
    fcntl.flock(lock, fcntl.LOCK_EX)
    if STAMP.exists() and STAMP.read_text() == stamp():
        return
    started = time.monotonic()
    VENV.mkdir(exist_ok=True)
    tool = uv()
    if not (VENV / "bin" / "python").exists():
        run(tool, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(VENV))
    python = str(VENV / "bin" / "python")
    print("setup: installing the locked packages into .venv", flush=True)
    run(tool, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", "requirements.lock")
    run(tool, "pip", "install", "--quiet", "--python", python, "--no-deps", "--editable", ".")
    STAMP.write_text(stamp())
    print(f"setup: ready after {time.monotonic() - started:.0f} s", flush=True)


main()
