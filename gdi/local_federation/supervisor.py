"""Starts processes in order of their needs, waits until each is ready, restarts what dies, and leaves nothing behind.

One thread owns the children: Linux binds the parent-death signal to the thread that forked, and orphans of our children
are adopted by this process (PR_SET_CHILD_SUBREAPER), so that `stop` finds every one of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import httpx
import psutil

from gdi.kit.tls import authorities

State = Literal["waiting", "starting", "ready", "restarting", "failed", "stopped"]
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


class ServiceFailed(RuntimeError):
    """A part did not come up: names the part, what it said last, and where its log is."""


class StartAgain(RuntimeError):
    """Raised by `settle` where only a fresh start of the process can help."""


@dataclass
class ServiceSpec:
    """One process. `ready` is asked until it is True; `prepare` runs before each start, `settle` after each time it
    became ready to be asked (unsealing, making buckets). `env` is the whole environment but PATH, LANG and HOME."""

    name: str
    argv: list[str]
    ready: Callable[[], bool]
    env: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None
    settle: Callable[[], None] | None = None
    timeout: float = 120
    cwd: Path | None = None
    oneshot: bool = False  # a command that ends; exit code 0 is ready
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGTERM  # what the kernel sends it should this process be killed


LOOK = 3.0  # seconds between two looks at all processes of the machine (memory, orphans): each reads all of /proc
CHECK = 0.25  # seconds between two questions whether a service is ready


@dataclass
class _Child:
    service: ServiceSpec
    process: subprocess.Popen[bytes] | None = None
    state: State = "waiting"
    since: float = field(default_factory=time.monotonic)
    restarts: int = 0
    next_start: float = 0
    next_check: float = 0
    error: str = ""
    took: float = 0
    settling: threading.Thread | None = None
    settled: bool = False


def http_ok(url: str) -> Callable[[], bool]:
    """A readiness check: GET answers below 400."""

    def check() -> bool:
        try:
            return httpx.get(url, timeout=2, trust_env=False, verify=authorities()).status_code < 400
        except httpx.HTTPError:
            return False

    return check


def listening(port: int) -> Callable[[], bool]:
    """A readiness check: somebody accepts connections on 127.0.0.1:`port`."""

    def check() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return check


_adopting: set[Supervisor] = set()


def _adopt() -> None:
    """Orphans below this process come to it while a supervisor lives."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, int(bool(_adopting)), 0, 0, 0)


class Supervisor:
    """The processes of one federation. Use as a context manager; `stop` is safe to call twice and from a signal
    handler's thread.
    """

    def __init__(self, logs: Path, home: Path, status_file: Path | None = None) -> None:
        self.logs = logs
        self.home = home
        self.status_file = status_file
        self.peak_memory = 0
        self._children: dict[str, _Child] = {}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._status = ""
        self._others = psutil.Process().children()  # whoever uses this as a library has processes of their own
        logs.mkdir(parents=True, exist_ok=True)
        _adopting.add(self)
        _adopt()

    def add(self, service: ServiceSpec) -> None:
        with self._lock:
            self._children[service.name] = _Child(service)
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)
            self._thread.start()

    def wait_ready(
        self,
        names: list[str] | None = None,
        *,
        timeout: float = 300,
        on_change: Callable[[str, str], None] | None = None,
    ) -> None:
        """Blocks until all (or `names`) are ready. ServiceFailed where one cannot come up."""
        deadline = time.monotonic() + timeout
        seen: dict[str, str] = {}
        while True:
            with self._lock:
                children = [c for n, c in self._children.items() if names is None or n in names]
                for child in children:
                    if on_change and seen.get(child.service.name) != child.state:
                        seen[child.service.name] = child.state
                        on_change(child.service.name, child.state)
                failed = next((c for c in children if c.state == "failed"), None)
                waiting = [c.service.name for c in children if c.state != "ready"]
            if failed is not None:
                raise ServiceFailed(self.describe(failed.service.name))
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise ServiceFailed(
                    f"not ready after {timeout:.0f} s: {', '.join(waiting)}.\n" + self.describe(waiting[0])
                )
            time.sleep(0.05)

    def describe(self, name: str) -> str:
        """Which part, what it said last, where its log is."""
        child = self._children[name]
        log = self.logs / f"{name}.log"
        tail = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else []
        return "\n".join(
            [f"{name}: {child.error or child.state}", *(f"  | {line[:300]}" for line in tail), f"  log: {log}"]
        )

    def pid(self, name: str) -> int | None:
        process = self._children[name].process
        return process.pid if process is not None and process.poll() is None else None

    def restarts(self, name: str) -> int:
        return self._children[name].restarts

    def kill(self, name: str, signum: signal.Signals = signal.SIGKILL) -> None:
        """Kills one process (not its group), as a fault would; the supervisor restarts it."""
        pid = self.pid(name)
        if pid is not None:
            os.kill(pid, signum)

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """The service is not there within the block, as where its operator stops it; nothing is watched meanwhile."""
        with self._lock:
            process = self._children[name].process
            if process is not None:
                process.terminate()
                process.wait(30)
            yield

    def states(self) -> dict[str, dict[str, object]]:
        with self._lock:
            return {
                n: {
                    "state": c.state,
                    "pid": self.pid(n),
                    "restarts": c.restarts,
                    "seconds": round(c.took, 1),
                    "log": str(self.logs / f"{n}.log"),
                }
                for n, c in self._children.items()
            }

    def stop(self, *, grace: float = 10) -> None:
        """Ends every process, in reverse order of start, and then whatever of theirs is left."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        with self._lock:
            children = [c for c in reversed(self._children.values()) if c.process is not None]
            everyone = self._own()
            for child in children:
                assert child.process is not None
                if child.process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        child.process.send_signal(child.service.stop_signal)
            deadline = time.monotonic() + grace
            for child in children:
                assert child.process is not None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(0.05, deadline - time.monotonic()))
                child.state = "stopped"
            for _ in range(50):
                left = {p.pid: p for p in [*everyone, *self._own()] if p.is_running()}
                alive = [p for p in left.values() if _alive(p)]
                if not alive:
                    break
                for process in alive:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                psutil.wait_procs(alive, timeout=0.2)
            _adopting.discard(self)
            _adopt()
            self._write_status()

    def _own(self) -> list[psutil.Process]:
        """All processes below this one, but for those that were there before, and theirs."""
        others: set[psutil.Process] = set()
        for process in self._others:
            with contextlib.suppress(psutil.NoSuchProcess):
                others |= {process, *process.children(recursive=True)}
        return [p for p in psutil.Process().children(recursive=True) if p not in others]

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- the thread that owns the children -------------------------------------------------------

    def _loop(self) -> None:
        next_look = 0.0
        while not self._stopping.is_set():
            with self._lock:
                for child in list(self._children.values()):
                    if self._stopping.is_set():
                        break
                    try:
                        self._step(child)
                    except Exception as error:
                        child.state, child.error = "failed", f"{type(error).__name__}: {error}"
                self._write_status()
            if time.monotonic() > next_look:
                next_look = time.monotonic() + LOOK
                self._reap()
                self.peak_memory = max(self.peak_memory, memory_of_tree())
            self._stopping.wait(0.1)

    def _step(self, child: _Child) -> None:
        service, now = child.service, time.monotonic()
        if child.state == "failed":
            return
        if child.process is None:
            if now >= child.next_start and all(
                self._children[n].state == "ready" for n in service.needs if n in self._children
            ):
                self._start(child)
            return
        code = child.process.poll()
        if service.oneshot and code == 0:
            if child.state != "ready":
                child.state, child.took = "ready", now - child.since
            return
        if code is not None:
            reason = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            never_ready = child.state == "starting" and child.restarts == 0
            child.process, child.settled, child.settling = None, False, None
            child.error = reason
            if never_ready or child.restarts >= 20:
                child.state = "failed"
            else:
                child.restarts += 1
                child.state, child.next_start = "restarting", now + min(10, 0.3 * child.restarts)
            return
        if child.state in ("starting", "restarting") and not service.oneshot:
            self._check(child, now)

    def _check(self, child: _Child, now: float) -> None:
        service = child.service
        if child.settling is not None:
            if child.settling.is_alive():
                return
            child.settling = None
        if now < child.next_check:
            return
        child.next_check = now + CHECK
        if now - child.since > service.timeout:
            child.state, child.error = "failed", child.error or f"was not ready after {service.timeout:.0f} s"
            return

        def probe() -> None:
            try:
                if not child.settled and service.settle is not None:
                    service.settle()
                child.settled = True
                if service.ready():
                    child.took = time.monotonic() - child.since
                    child.error = ""
                    child.state = "ready"
            except StartAgain as error:
                child.error, child.restarts = str(error), child.restarts + 1
                if child.process is not None:
                    child.process.kill()
            except Exception as error:
                child.error = f"{type(error).__name__}: {str(error)[:300]}"

        child.settling = threading.Thread(target=probe, daemon=True)
        child.settling.start()

    def _start(self, child: _Child) -> None:
        service = child.service
        if service.prepare is not None:
            service.prepare()
        env = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "PYTHONUNBUFFERED": "1",
        }
        env |= service.env
        with (self.logs / f"{service.name}.log").open("ab") as log:
            child.process = subprocess.Popen(
                service.argv,
                env=env,
                cwd=service.cwd or self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(_die_with_parent, int(service.orphan_signal)),
            )
        child.since = time.monotonic()
        if child.state == "waiting":
            child.state = "starting"

    def _reap(self) -> None:
        """Collects adopted orphans; our own children are polled by their Popen objects."""
        with self._lock:
            own = {c.process.pid for c in self._children.values() if c.process is not None}
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.Error, ChildProcessError):
                if process.pid not in own and process.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(process.pid, os.WNOHANG)

    def _write_status(self) -> None:
        if self.status_file is None:
            return
        status = json.dumps({"launcher": os.getpid(), "services": self.states()}, indent=1)
        if status != self._status:
            self._status = status
            temporary = self.status_file.with_suffix(".tmp")
            temporary.write_text(status)
            temporary.replace(self.status_file)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _die_with_parent(signum: int) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)


def memory_of_tree() -> int:
    """Bytes that this process and all below it hold together: the proportional set size, so that shared pages count
    once.
    """
    total = 0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
                    break
    return total
