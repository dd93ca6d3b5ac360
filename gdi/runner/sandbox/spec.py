"""What a sandbox is made of, whoever makes it, and the `bwrap` command line that does. bubblewrap(1), version 0.8 or
newer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
MAX_ARGUMENTS = 8500  # bubblewrap itself refuses above 9000
_ETC = Path(__file__).parent / "etc"
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# Of the host's /etc only what the dynamic linker and alternatives need: the rest may hold secrets when the service runs
# as root.
_HOST_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "ssl/certs")
# Raising a hard limit needs a capability that nothing in the sandbox has, so limits set by this shell hold for all that
# comes after it. dash names the limit on processes -p, bash and POSIX -u.
_SHELL = '{limits}exec "$@"'


class SandboxUnavailableError(Exception):
    """No sandbox can be made here; the message says why and how to mend it."""


@dataclass(frozen=True)
class Bind:
    """`source` of the host at the absolute path `target` of the sandbox, read-only unless `writable`."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True)
class SandboxLimits:
    """Resource limits of every process inside: memory (address space) and file size in bytes, CPU time in seconds,
    count of processes. None: unlimited.

    Address space is not resident memory: programs that map files need more of it than they use. Processes are counted
    in the sandbox's own user namespace (Linux 5.14 or newer).
    """

    address_space: int | None = None
    cpu_seconds: int | None = None
    file_size: int | None = None
    processes: int | None = 4096
    open_files: int | None = None

    def shell(self) -> str:
        """The limits as commands for a POSIX shell; a limit that cannot be set ends the shell with 125, as docker does
        for its own failures.
        """
        lines = ["ulimit -c 0"]
        if self.address_space is not None:
            lines.append(f"ulimit -v {max(1, self.address_space // 1024)}")
        if self.cpu_seconds is not None:
            lines.append(f"ulimit -t {self.cpu_seconds}")
        if self.file_size is not None:
            lines.append(f"ulimit -f {max(1, self.file_size // 512)}")
        if self.open_files is not None:
            lines.append(f"ulimit -n {self.open_files}")
        if self.processes is not None:
            lines.append(f"{{ ulimit -u {self.processes} || ulimit -p {self.processes}; }} 2>/dev/null")
        return "".join(f"{line} || exit 125\n" for line in lines)


@dataclass(frozen=True)
class Sandbox:
    """A sandbox with its own user, PID, IPC, UTS and network namespace (only a loopback), no capabilities, and a root
    that is read-only.

    Binds are mounted in the given order, so a later one may lie inside an earlier one. `tmp` is the host folder that
    becomes /tmp; None makes it memory of at most `tmp_bytes`. `environment` is all there is besides PATH and HOME.
    """

    binds: Sequence[Bind] = ()
    workdir: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = DEFAULT_PATH
    tmp: Path | None = None
    tmp_bytes: int = 256 * 1024 * 1024
    hostname: str = "task"
    limits: SandboxLimits = field(default_factory=SandboxLimits)

    def argv(self, bwrap: Path, command: Sequence[str], *, status_fd: int | None = None) -> list[str]:
        """The argument list that runs `command`; never goes through a shell's parsing.

        Start it from a thread that lives as long as the command does: the kernel's parent-death signal follows the
        thread that forked. With `status_fd` (which the caller passes on) bubblewrap writes a JSON line `{"exit-code":
        n}` there only when the sandbox itself could be made. An unknown program ends with 127, one that may not be
        executed with 126, limits that cannot be set with 125. ValueError on impossible input.
        """
        # bubblewrap's own process stays as number 1 in the sandbox, where /proc/1/environ shows what it was started
        # with: so it is started with nothing.
        args = ["/usr/bin/env", "-i", str(bwrap), "--die-with-parent", "--new-session"]
        args += [
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--unshare-net",
            "--unshare-cgroup-try",
            "--disable-userns",
        ]
        args += ["--cap-drop", "ALL", "--uid", "1000", "--gid", "1000", "--hostname", self.hostname, "--clearenv"]
        if status_fd is not None:
            args += ["--json-status-fd", str(status_fd)]
        for link, target in system_links().items():
            args += ["--symlink", target, link]
        for bind in system_binds():
            args += ["--ro-bind", str(bind.source), bind.target]
        # Started by root, the sandbox's user is root to the kernel, without capabilities but owner of /proc/sys:
        # read-only takes that away.
        args += [
            "--proc",
            "/proc",
            "--remount-ro",
            "/proc",
            "--dev",
            "/dev",
            "--size",
            str(64 * 1024 * 1024),
            "--tmpfs",
            "/dev/shm",  # noqa: S108
        ]
        # inside the sandbox
        args += ["--bind", str(self.tmp), "/tmp"] if self.tmp else ["--size", str(self.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108
        args += ["--symlink", "/tmp", "/var/tmp"]  # noqa: S108
        for bind in self.binds:
            args += ["--bind" if bind.writable else "--ro-bind", str(bind.source), checked_target(bind.target)]
        args += ["--remount-ro", "/", "--chdir", checked_target(self.workdir)]
        for name, value in self.variables().items():
            args += ["--setenv", name, value]
        args += ["--", *self.limited(command)]
        if len(args) > MAX_ARGUMENTS:
            raise ValueError(
                f"the sandbox would need {len(args)} arguments, at most {MAX_ARGUMENTS} are possible; use fewer inputs"
                " or put them into a directory"
            )
        checked_text(args)
        return args

    def variables(self) -> dict[str, str]:
        """The whole environment of the command. ValueError for a name that is none."""
        return {
            checked_name(name): value
            for name, value in {"PATH": self.path, "HOME": "/tmp", **self.environment}.items()  # noqa: S108
        }

    def limited(self, command: Sequence[str], limits: SandboxLimits | None = None) -> list[str]:
        """`command` under the limits (`limits` in place of the sandbox's own), which hold for whatever it starts.
        ValueError where there is no command.
        """
        if not command:
            raise ValueError("the sandbox was given no command")
        return ["/bin/sh", "-c", _SHELL.format(limits=(limits or self.limits).shell()), "sh", *command]


def checked_target(path: str) -> str:
    """An absolute, normal path (no `..`, no `//`). ValueError otherwise."""
    if not path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path:
        raise ValueError(f"{path!r} is not an absolute path without '..'")
    return str(PurePosixPath("/" + path.lstrip("/")))


def checked_name(name: str) -> str:
    """The name of an environment variable. ValueError otherwise; the loader's own variables (LD_*) are data like any
    other: the sandbox is the border.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
        raise ValueError(f"{name[:60]!r} is not a name of an environment variable")
    return name


def checked_text(texts: Sequence[str]) -> None:
    """ValueError where a text holds a NUL character, which ends arguments, paths and variables for the kernel."""
    if any("\0" in text for text in texts):
        raise ValueError("a NUL character is not allowed in commands, paths or the environment")


def system_links() -> dict[str, str]:
    """The root's links, by path: merged-/usr links stay links."""
    return {f"/{name}": str(Path("/", name).readlink()) for name in _MERGED if Path("/", name).is_symlink()}


def system_binds() -> list[Bind]:
    """The host's programs and libraries, and an /etc without any secret of the host, all read-only."""
    folders = [
        Path("/usr"),
        *(Path("/", name) for name in _MERGED if not Path("/", name).is_symlink() and Path("/", name).is_dir()),
    ]
    binds = [Bind(folder, str(folder)) for folder in folders]
    binds += [Bind(host, str(host)) for host in (Path("/etc", name) for name in _HOST_ETC) if host.exists()]
    return binds + [Bind(file, f"/etc/{file.name}") for file in sorted(_ETC.iterdir())]
