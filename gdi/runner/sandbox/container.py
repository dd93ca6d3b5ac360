"""The same sandbox made by podman or docker, for machines where bubblewrap may not make namespaces and one of these
may.

No image is downloaded: the container's root is an image of a few links, imported once, and everything else is bound
into it as bubblewrap binds it. The command line names mounts and flags only; the command, its environment and its
limits go to `init.py` by the leash (`runner.py`).
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import functools
import hashlib
import io
import json
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from gdi.runner.sandbox.bubblewrap import Concealed
from gdi.runner.sandbox.spec import (
    Bind,
    Sandbox,
    SandboxUnavailableError,
    checked_target,
    checked_text,
    system_binds,
    system_links,
)

PROBE = "echo made > /gdi/probe && grep -q '^Seccomp:.*2' /proc/self/status"
Kind = Literal["podman", "docker"]
KINDS: tuple[Kind, ...] = ("podman", "docker")
LABEL = "gdi.leash"
TMP = "/tmp"  # noqa: S108
HOME = "/run/gdi"  # of init.py and its leash, in the container
ENGINE_SECONDS = 60
ARGUMENT_BYTES = 100_000  # of one argument; Linux takes 128 KiB
MAX_COMMAND_BYTES = 1_000_000  # of all, Linux takes 2 MiB with the environment
# What an engine's client needs to find its engine, and no more of the environment.
ENVIRONMENT = (
    *(
        "PATH",
        "HOME",
        "USER",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "DBUS_SESSION_BUS_ADDRESS",
    ),
    *("DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"),
)
PROXIES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
)  # docker's client gives its own to every container


@dataclass(frozen=True)
class Engine:
    """A podman or docker that works here, how it must be called, and where the leashes of its containers lie
    (`scratch`, mode 0700).

    `options` come before `run`, `arguments` after it; `counted`: the engine bounds a container's processes by a cgroup.
    """

    kind: Kind
    program: Path
    version: str
    scratch: Path
    environment: dict[str, str]
    user: str = ""
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    counted: bool = True
    kill_signal: ClassVar[signal.Signals] = (
        signal.SIGQUIT
    )  # runner.py then ends everything inside, and itself when nothing is left

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"

    def argv(self, box: Sandbox, command: Sequence[str], *, status_fd: int | None = None) -> list[str]:
        """As `Sandbox.argv` for bubblewrap: the same status lines, exit codes and errors, the same end with the thread
        that started it.
        """
        name = f"gdi-{secrets.token_hex(8)}"
        leash = self.scratch / name
        # The processes are counted for the container, where they can be: a limit of the user's would count what else
        # the user runs.
        order = {
            "argv": box.limited(command, replace(box.limits, processes=None)),
            "environment": box.variables(),
            "workdir": checked_target(box.workdir),
        }
        run = [
            *self._client(),
            "run",
            "--rm",
            "--pull=never",
            "--name",
            name,
            "--label",
            f"{LABEL}={leash}",
            "--hostname",
            box.hostname,
            *self.arguments,
        ]
        run += [*_walls(self.kind), *self._bounds(box)]
        for bind in _binds(box, leash):
            run += ["--mount", _mount(bind)]
        run += [image(), str(_python()), "-I", "-S", f"{HOME}-init.py"]
        checked_text([*run, *command, *box.environment.values(), box.workdir])
        spec = {
            "run": run,
            "remove": [*self._client(), "rm", "--force", name],
            "environment": self.environment,
            "folder": str(leash),
            "status_fd": status_fd,
            "order": order,
        }
        text = json.dumps(spec)  # ASCII: a character is a byte
        pieces = [text[at : at + ARGUMENT_BYTES] for at in range(0, len(text), ARGUMENT_BYTES)]
        if sum(map(len, run)) + len(run) * 8 > MAX_COMMAND_BYTES:
            raise ValueError(
                "the sandbox would need more mounts than a command line can name; use fewer inputs or put them into a"
                " directory"
            )
        return [sys.executable, "-I", "-S", str(Path(__file__).with_name("runner.py")), *pieces]

    def conceal(self, args: list[str]) -> Concealed:
        """Inside, nothing names a path of the host: there is nothing to hide. The engine and `init.py` filter calls."""
        return Concealed(args, args[0])

    def ask(self, *arguments: str, data: bytes = b"") -> str:
        """What a command of the engine prints. EngineError where it fails."""
        return _ask([*self._client(), *arguments], self.environment, data)

    def _client(self) -> list[str]:
        return [str(self.program), *self.options]

    def _bounds(self, box: Sandbox) -> list[str]:
        args = ["--tmpfs", f"{TMP}:rw,exec,nosuid,nodev,mode=1777,size={box.tmp_bytes}"] if box.tmp is None else []
        if self.user:
            args += ["--user", self.user]
        most = box.limits.processes
        if most is not None and self.counted:
            args += ["--pids-limit", str(most)]
        if self.kind == "podman":
            # podman's own defaults may be more than this user may have; it lowers its own to the number of process ids
            # that there are.
            files, processes = (
                resource.getrlimit(resource.RLIMIT_NOFILE)[1],
                resource.getrlimit(resource.RLIMIT_NPROC)[1],
            )
            ids = int(Path("/proc/sys/kernel/pid_max").read_text())
            bounds = [
                n
                for n in (processes, ids, most if not self.counted else None)
                if n is not None and n != resource.RLIM_INFINITY
            ]
            args += ["--ulimit", f"nproc={min(bounds)}:{min(bounds)}"]
            args += ["--ulimit", f"nofile={files}:{files}"] if files != resource.RLIM_INFINITY else []
        return args


def _walls(kind: Kind) -> list[str]:
    """What every sandbox is closed by."""
    args = [
        "--network",
        "none",
        "--read-only",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--security-opt",
        "label=disable",
    ]
    args += ["--ipc", "private", "--shm-size", "64m", "--log-driver", "none", "--workdir", "/"]
    args += [
        "--tmpfs",
        "/sys:ro,size=4k",
        "--tmpfs",
        "/run/secrets:ro,size=4k",
    ]  # the machine's hardware, and what the engine's operator gives containers
    if kind == "podman":
        return [
            *args,
            "--read-only-tmpfs=false",
            "--http-proxy=false",
            "--systemd=false",
            "--no-hosts",
            "--sdnotify=ignore",
        ]
    for name in PROXIES:
        args += ["--env", f"{name}=", "--env", f"{name.lower()}="]
    return args


def _binds(box: Sandbox, leash: Path) -> list[Bind]:
    """Everything that is mounted, parents first; of two at one place the later one, as with bubblewrap. ValueError for
    a target that is ours.
    """
    own = [Bind(leash, HOME), Bind(Path(__file__).with_name("init.py"), f"{HOME}-init.py")]
    python = Path(sys.base_prefix).resolve()
    if not python.is_relative_to("/usr"):
        own.append(Bind(python, str(python)))
    tmp = [Bind(box.tmp, TMP, writable=True)] if box.tmp else []
    binds = [Bind(b.source, checked_target(b.target), b.writable) for b in box.binds]
    if any(Path(b.target).is_relative_to(top) for b in binds for top in ("/run", "/proc", "/sys", "/dev")) or any(
        b.target == "/" for b in binds
    ):
        raise ValueError(
            "nothing can be mounted at / or in /run, /proc, /sys and /dev of a sandbox that podman or docker makes"
        )
    chosen = {bind.target: bind for bind in [*system_binds(), *own, *tmp, *binds]}
    return sorted(chosen.values(), key=lambda b: b.target)


def _mount(bind: Bind) -> str:
    """A `--mount` value: comma-separated values with quotes where a path needs them, so that a task's path never
    becomes an option.
    """
    if any(c in str(bind.source) + bind.target for c in "\r\n"):
        raise ValueError("a path with a line break cannot be mounted by podman or docker")
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(
        ["type=bind", f"source={bind.source}", f"target={bind.target}", *([] if bind.writable else ["readonly"])]
    )
    return text.getvalue()


def _python() -> Path:
    """The interpreter that also runs inside: the real one, behind any virtual environment."""
    return Path(sys.executable).resolve()


# --- the image: a root with the links and folders that this machine's own has -------------------


@functools.cache
def _root() -> bytes:
    """A tar of links and empty folders; the same for the same machine, so that its name can be its digest."""
    text = io.BytesIO()
    with tarfile.open(fileobj=text, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in ("tmp", "var", "etc", "run", "proc", "sys", "dev"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, target in {**system_links(), f"/var{TMP}": TMP}.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            archive.addfile(entry)
    return text.getvalue()


def image() -> str:
    return f"localhost/gdi-sandbox:{hashlib.sha256(_root()).hexdigest()[:16]}"


# --- finding an engine that works here ----------------------------------------------------------


def find(kind: Kind) -> Engine:
    """The engine, after it made the very sandbox that tasks get (about 3 s, remembered by `makers`).
    SandboxUnavailableError says what is missing.
    """
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environment["PATH"] = environment.get("PATH", "") + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    program = shutil.which(kind, path=environment["PATH"])
    if program is None:
        raise SandboxUnavailableError(f"{kind} is not installed")
    client = [program]
    try:
        version = _ask(
            [*client, "version", "--format", "{{.Version}}" if kind == "podman" else "{{.Server.Version}}"], environment
        )
        known = _ask(
            [
                *client,
                "info",
                "--format",
                "{{.Host.Security.Rootless}}" if kind == "podman" else "{{json .SecurityOptions}}",
            ],
            environment,
        )
    except EngineError as error:
        raise SandboxUnavailableError(f"{program}: {error}") from None
    scratch = Path(tempfile.gettempdir(), f"gdi-sandboxes-{os.geteuid()}")
    me, rootless = f"{os.geteuid()}:{os.getegid()}", known == "true" or "rootless" in known
    engine = Engine(kind, Path(program), version[:40], scratch, environment, user=me)
    if kind == "podman":
        engine = replace(engine, arguments=("--userns=keep-id",)) if rootless else engine
        # crun may not know this machine's cgroups where runc does; without any, processes are counted by user.
        variants = [engine, replace(engine, options=("--runtime", "runc"))]
        variants.append(replace(engine, arguments=(*engine.arguments, "--cgroups=disabled"), counted=False))
    else:
        variants = [replace(engine, user="0:0") if rootless else engine]  # its root is this user
    problems = []
    for variant in variants:
        try:
            probe(variant)
        except EngineError as error:
            problems.append(f"{' '.join([program, *variant.options, *variant.arguments])}: {error}")
        else:
            return variant
    raise SandboxUnavailableError("\n".join(problems))


class EngineError(Exception):
    """What the engine said when it failed, on one line."""


def probe(engine: Engine) -> None:
    """EngineError unless the engine has the image and makes a sandbox whose files are ours, with system calls
    filtered.
    """
    prepare(engine)
    with tempfile.TemporaryDirectory(prefix="probe-", dir=engine.scratch) as folder:
        _ask(engine.argv(Sandbox(binds=[Bind(Path(folder), "/gdi", writable=True)]), ["sh", "-c", PROBE]), {})
        made = Path(folder, "probe")
        if not made.exists() or made.stat().st_uid != os.geteuid():
            raise EngineError(
                "what a sandbox writes is not this user's: the engine maps users in a way that is not known here"
            )


def prepare(engine: Engine) -> None:
    """The folder of the leashes, and the image, imported where the engine lacks it. EngineError, OSError where that
    fails.
    """
    engine.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    if engine.scratch.stat().st_uid != os.geteuid():
        raise EngineError(f"{engine.scratch} belongs to another user; remove it or set TMPDIR")
    try:
        engine.ask("image", "inspect", image())
    except EngineError:
        engine.ask("import", "-", image(), data=_root())


def sweep(engine: Engine) -> list[str]:
    """Removes the containers whose runner is gone, this user's of any work folder, and their leashes' folders. The ids
    removed.

    The leash ends what runs in them; what is left are those that were killed while they were made.
    """
    removed = []
    with contextlib.suppress(EngineError):
        ids = engine.ask("ps", "--all", "--quiet", "--filter", f"label={LABEL}").split()
        for number in ids[:1000]:
            with contextlib.suppress(EngineError):
                leash = Path(engine.ask("inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', number))
                if _abandoned(leash):
                    engine.ask("rm", "--force", number)
                    removed.append(number)
    for folder in [*engine.scratch.glob("gdi-*"), *engine.scratch.glob(".gdi-*")]:
        if _abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return removed


def _abandoned(leash: Path) -> bool:
    """Whether no runner holds the folder: it is gone, or its lock is free. One just being made has another name, and
    counts for a minute as held.
    """
    try:
        handle = os.open(leash, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return True
    except OSError:  # another user's
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return not leash.name.startswith(".") or time.time() - os.fstat(handle).st_mtime > ENGINE_SECONDS
    except BlockingIOError:
        return False
    finally:
        os.close(handle)


def _ask(argv: list[str], environment: dict[str, str], data: bytes = b"") -> str:
    try:
        done = subprocess.run(
            argv, env=environment, input=data, capture_output=True, timeout=ENGINE_SECONDS, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{type(error).__name__}: {error}"[:300]) from None
    if done.returncode:
        raise EngineError(
            " ".join(done.stderr.decode(errors="replace").split())[-400:] or f"ended with {done.returncode}"
        )
    return done.stdout.decode(errors="replace").strip()
