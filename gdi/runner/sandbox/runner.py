"""The host's side of a sandbox that podman or docker makes: a process that stands for the container as bubblewrap's
stands for its sandbox.

Its standard streams are the command's, its end is the command's end, signals (TERM, INT, HUP, USR1, USR2) go to the
command, and QUIT or its own death ends everything inside. The engine's own attaching, logging and signal proxying are
not used: they lose output, keep what tasks print, and leave a container running when their client is killed. Instead
`init.py` inside holds the other end of a unix socket, the leash.

Run as a file by a bare interpreter (`container.py` makes the command line), so it imports nothing but the standard
library and starts in 20 ms.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
START_SECONDS = 60.0
END_SECONDS = 10.0
FAILED = 125
_libc = ctypes.CDLL(None)


class Failed(Exception):
    """The container could not be made; the message is what the engine said."""


def die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def hold(folder: Path) -> socket.socket:
    """Makes the leash's folder, locked for as long as this process lives (`container.sweep` asks that), and listens in
    it.
    """
    making = folder.with_name("." + folder.name)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    making.mkdir(mode=0o700)
    handle = os.open(making, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(
        f"/proc/self/fd/{handle}/leash"
    )  # short, wherever the folder lies: a socket's path has 107 bytes at most
    listener.listen(1)
    making.rename(folder)
    return listener


class Runner:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.status = int(spec["status_fd"]) if spec["status_fd"] is not None else None
        self.output = os.memfd_create("engine", os.MFD_CLOEXEC)
        self.wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for number in (*FORWARDED, signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def run(self) -> int:
        folder = Path(self.spec["folder"])
        try:
            return self._run(hold(folder))
        except (Failed, OSError) as error:
            print(f"sandbox: {error}", file=sys.stderr)
            return FAILED
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, listener: socket.socket) -> int:
        engine = subprocess.Popen(
            self.spec["run"],
            env=self.spec["environment"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            leash = self._meet(listener, engine)
            listener.close()
            with leash:
                return self._watch(leash)
        finally:
            listener.close()
            self._gone(engine)

    def _meet(self, listener: socket.socket, engine: subprocess.Popen[bytes]) -> socket.socket:
        """The leash, once the container's first process took it. Failed where the engine ended before, or nothing came
        within a minute.
        """
        deadline = time.monotonic() + START_SECONDS
        with selectors.DefaultSelector() as waiting:
            waiting.register(listener, selectors.EVENT_READ)
            waiting.register(self.wake, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                for key, _ in waiting.select(left):
                    if key.fileobj is listener:
                        leash = listener.accept()[0]
                        self._order(leash)
                        return leash
                    if signal.SIGQUIT in os.read(self.wake, 4096):
                        raise Failed("it was ended before it began")
                if engine.poll() is not None:
                    raise Failed(self._words() or f"the engine ended with exit code {engine.returncode}")
        raise Failed(f"the engine did not start the container within {START_SECONDS:g} s. {self._words()}")

    def _order(self, leash: socket.socket) -> None:
        data = json.dumps(self.spec["order"]).encode()
        socket.send_fds(leash, [struct.pack("!I", len(data))], [0, 1, 2])
        leash.sendall(data)

    def _watch(self, leash: socket.socket) -> int:
        """Until the command's end; its exit code."""
        started, buffer = False, b""
        with selectors.DefaultSelector() as waiting:
            waiting.register(leash, selectors.EVENT_READ)
            waiting.register(self.wake, selectors.EVENT_READ)
            while True:
                for key, _ in waiting.select():
                    if key.fileobj is not leash:
                        signals = os.read(self.wake, 4096)
                        if signal.SIGQUIT in signals:
                            return self._tell(128 + signal.SIGKILL)
                        with contextlib.suppress(BrokenPipeError):
                            leash.sendall(bytes(s for s in signals if s in FORWARDED))
                        continue
                    chunk = self._receive(leash)
                    buffer += chunk
                    *lines, buffer = buffer.split(b"\n")
                    for line in lines:
                        message = json.loads(line)
                        if "problem" in message:
                            raise Failed(message["problem"])
                        if "started" in message:
                            started = True
                            self._say(**{"child-pid": os.getpid(), "signals": "forwarded"})
                        if "code" in message:
                            return self._tell(int(message["code"]))
                    if not chunk:
                        # its first process is gone without a word: killed from outside, by the kernel's memory killer
                        # for one
                        if started:
                            return self._tell(128 + signal.SIGKILL)
                        raise Failed(self._words() or "the container ended before it began")

    @staticmethod
    def _receive(leash: socket.socket) -> bytes:
        try:
            return leash.recv(65536)
        except ConnectionError:
            return b""

    def _tell(self, code: int) -> int:
        self._say(**{"exit-code": code})
        return code

    def _say(self, **what: object) -> None:
        if self.status is not None:
            with contextlib.suppress(OSError):
                os.write(self.status, json.dumps(what).encode() + b"\n")

    def _gone(self, engine: subprocess.Popen[bytes]) -> None:
        """Waits until the engine says that nothing of the container is left, and helps it after a while: what reads the
        task's files next relies on it.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.wait(END_SECONDS)
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                self.spec["remove"],
                env=self.spec["environment"],
                cwd="/",
                timeout=END_SECONDS,
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.output,
            )
        engine.kill()
        engine.wait()

    def _words(self) -> str:
        """The last of what the engine said, on one line."""
        size = os.fstat(self.output).st_size
        return " ".join(os.pread(self.output, 2000, max(0, size - 2000)).decode(errors="replace").split())[-1000:]


if __name__ == "__main__":
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:
        os._exit(FAILED)
    # A single argument may have 128 KiB at most: the specification comes in pieces.
    sys.exit(Runner(json.loads("".join(sys.argv[1:]))).run())
