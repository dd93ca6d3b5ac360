"""One sandboxed process: started with the descriptors it needs and no others, its log bounded, its end seen, signals
sent to the program inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdi.runner.sandbox.bubblewrap import Concealed
from gdi.runner.sandbox.processes import children_of

log = logging.getLogger(__name__)

START_TIMEOUT = 60.0  # podman or docker on a busy machine
CHUNK = 64 * 1024


@dataclass(frozen=True)
class End:
    """How a process ended: by an exit code or by a signal."""

    exit_code: int | None
    signal: int | None


class SandboxFailedError(Exception):
    """No sandbox came up, or not with the program; the message is what its maker said."""


class SandboxedProcess:
    """A sandbox's process and what runs in it.

    bubblewrap's own death kills everything inside (and its own comes with this process's: `--die-with-parent`), so
    signals go to the program itself: the child of the sandbox's PID 1, found by the host's /proc. The process that
    stands for a container forwards them.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        description: dict[str, Any],
        status: asyncio.StreamReader,
        log_file: Path,
        max_log: int,
        kill: signal.Signals,
    ) -> None:
        self._process = process
        self._inner = int(description["child-pid"])
        self._forwards = description.get("signals") == "forwarded"
        self._kill = kill
        self._status = status
        self._writer = asyncio.create_task(_copy_log(process.stdout, log_file, max_log))

    @classmethod
    async def start(
        cls, make: Callable[[int], Concealed], log_file: Path, *, max_log: int, kill: signal.Signals
    ) -> SandboxedProcess:
        """`make(status_fd)` gives the command line, with more descriptors to pass on; `kill` is the signal that ends
        everything inside.

        SandboxFailedError where no sandbox came up within START_TIMEOUT.
        """
        status_read, status_write = os.pipe()
        command: Concealed | None = None
        try:
            command = make(status_write)
            # Signals and /proc/PID lookups race with exit only until wait(): nobody but this object reaps the process.
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                executable=command.executable,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={},
                pass_fds=[status_write, *command.descriptors],
                limit=CHUNK,
            )
        except BaseException:
            os.close(status_read)
            raise
        finally:
            os.close(status_write)
            if command is not None:
                command.close()
        reader = asyncio.StreamReader(limit=CHUNK)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(status_read, "rb", buffering=0)
        )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                line = await reader.readline()
            made = cls(process, json.loads(line), reader, log_file, max_log, kill)
        except (TimeoutError, ValueError, KeyError):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(kill)
            assert process.stdout is not None
            output = (await process.stdout.read(2000)).decode(errors="replace").strip()
            await process.wait()
            transport.close()
            raise SandboxFailedError(output or "it said nothing") from None
        return made

    async def wait(self) -> End:
        """Waits for the end of everything inside."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):  # a process outside cannot hold the pipe: the namespace is gone
                await self._writer
        self._writer.cancel()
        if code < 0:
            return End(None, -code)
        if code > 128 and code - 128 in {int(s) for s in signal.Signals}:
            return End(None, code - 128)  # bubblewrap passes on a death by signal as a shell does
        return End(code, None)

    def send(self, number: int) -> bool:
        """Sends a signal to the program inside; False where there is none (yet or any more)."""
        for pid in (
            [self._process.pid] if self._forwards and self._process.returncode is None else children_of(self._inner)
        ):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                return True
        return False

    def kill(self) -> None:
        """Ends everything inside at once: the death of a PID namespace's first process takes all others."""
        for pid in dict.fromkeys((self._inner, self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                if self._process.returncode is None:
                    os.kill(pid, self._kill)


async def _copy_log(stream: asyncio.StreamReader | None, file: Path, limit: int) -> None:
    """Keeps the first quarter and about the last half of `limit` bytes: what a flood says in between is dropped, and
    said so.
    """
    assert stream is not None
    head, rest = limit // 4, limit // 4
    older = file.with_name(file.name + ".older")
    newer = file.with_name(file.name + ".newer")
    written = 0
    current = file.open("ab")
    try:
        while data := await stream.read(CHUNK):
            if current.name == str(file) and written + len(data) > head:
                current.write(b"\n[the log goes on in its .older and .newer files, bounded]\n")
                current.close()
                current, written = newer.open("wb"), 0
            elif current.name != str(file) and written + len(data) > rest:
                current.close()
                newer.replace(older)
                current, written = newer.open("wb"), 0
            current.write(data)
            current.flush()
            written += len(data)
    except OSError as error:
        log.warning("the pod's log %s cannot be written: %s", file, error.strerror)
        while await stream.read(CHUNK):  # the program must not block for it
            pass
    finally:
        current.close()
