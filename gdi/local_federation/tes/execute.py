"""One executor of a task: its command in the sandbox, its streams kept within bounds, its end told apart from the
sandbox's own failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gdi.local_federation.tes.models import TaskExecutor
from gdi.local_federation.tes.transfer import TransferError, printable
from gdi.runner.sandbox import Maker, Sandbox, open_in_root
from gdi.runner.sandbox.bounds import Enforced
from gdi.runner.sandbox.bubblewrap import Concealed
from gdi.runner.sandbox.processes import kill_group_and_children
from gdi.runner.sandbox.supervisor import supervise

T = TypeVar("T")
TAIL = 16 * 1024
KILLED = 137


@dataclass(frozen=True)
class Ended:
    """`problem` is set where the command was never run or was ended by the TES."""

    exit_code: int
    stdout: str
    stderr: str
    problem: str | None = None


async def run(
    executor: TaskExecutor, sandbox: Sandbox, maker: Maker, root: Path, seconds: float, bounds: Enforced
) -> Ended:
    """Runs to the end, or `seconds` at most, or until a bound is passed. A cancelled caller leaves no process.
    TransferError where a stream's file cannot be opened or no sandbox made.

    Must be called on the event loop of the main thread: the sandbox dies with the thread that started it.
    """
    status_read, status_write = os.pipe()
    with (
        contextlib.closing(os.fdopen(status_read, "rb")) as status,
        contextlib.closing(_Tail(root, executor.stdout)) as out,
        contextlib.closing(_Tail(root, executor.stderr)) as err,
        _stream(root, executor.stdin, os.O_RDONLY) as stdin,
    ):
        command: Concealed | None = None
        try:
            command = maker.conceal(maker.argv(sandbox, executor.command, status_fd=status_write))
            with out.target() as out_fd, err.target() as err_fd:
                child, cancelled = await _whole(
                    asyncio.create_subprocess_exec(
                        *command.argv,
                        executable=command.executable,
                        stdin=stdin,
                        stdout=out_fd,
                        stderr=err_fd,
                        env={},
                        pass_fds=[status_write, *command.descriptors],
                        preexec_fn=bounds.enter,
                        start_new_session=True,
                    )
                )
        except ValueError as error:
            raise TransferError(f"the command cannot be run: {printable(str(error))}") from None
        except (OSError, subprocess.SubprocessError) as error:
            raise TransferError(f"the sandbox cannot be started: {printable(str(error))}") from None
        finally:
            os.close(status_write)
            if command is not None:
                command.close()
        async with _killed_after(child, maker):
            if cancelled:
                raise asyncio.CancelledError
            reading = asyncio.gather(out.read(), err.read(), child.wait())
            watching = asyncio.ensure_future(supervise(child.pid, bounds.folders, bounds.supervised))
            try:
                both: set[asyncio.Future[Any]] = {reading, watching}
                done, _ = await asyncio.wait(both, timeout=seconds, return_when=FIRST_COMPLETED)
            finally:
                watching.cancel()
                if not reading.done():
                    reading.cancel()
            if reading in done:
                reading.result()
            else:
                late = f"ended after {seconds:g} s, the longest that this node lets a task run"
                return Ended(KILLED, out.text(), err.text(), watching.result() if watching in done else late)
        records = [json.loads(line) for line in status.read().splitlines() if line]
    codes = [r["exit-code"] for r in records if "exit-code" in r]
    if not codes and (child.returncode or 0) >= 0:
        raise TransferError(f"the sandbox could not be made: {printable(err.text())}")
    return Ended(codes[0] if codes else KILLED, out.text(), err.text())


async def _whole(work: Coroutine[Any, Any, T]) -> tuple[T, bool]:
    """The result, also where the caller is cancelled meanwhile, and whether it was: a process that is being started has
    to be known to be ended.
    """
    making = asyncio.ensure_future(work)
    cancelled = False
    while not making.done():
        try:
            await asyncio.wait([making])
        except asyncio.CancelledError:
            cancelled = True
    return making.result(), cancelled


@asynccontextmanager
async def _killed_after(child: asyncio.subprocess.Process, maker: Maker) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if child.returncode is None:
            if maker.kill_signal is signal.SIGKILL:
                await asyncio.shield(kill_group_and_children(child.pid))
            else:
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(maker.kill_signal)
            await asyncio.shield(child.wait())


@contextmanager
def _stream(root: Path, path: str | None, flags: int) -> Iterator[int]:
    """The descriptor of a stream's file in the task's folder, or of nothing."""
    try:
        opened = os.open(os.devnull, os.O_RDWR) if path is None else open_in_root(root, path, flags)
    except OSError as error:
        raise TransferError(
            f"{printable(path or '')}: cannot be opened as a stream of the task: {error.strerror or error}"
        ) from None
    try:
        yield opened
    finally:
        os.close(opened)


class _Tail:
    """The last bytes of an output stream: read from a pipe as it comes, or from the file that the task asked for."""

    def __init__(self, root: Path, path: str | None) -> None:
        self._root, self._path = root, path
        self._kept = bytearray()
        self._reading: int | None = None

    @contextmanager
    def target(self) -> Iterator[int]:
        if self._path is not None:
            with _stream(self._root, self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as opened:
                yield opened
            return
        # A pipe of the system's: an event loop's own may be a socket, and /dev/stderr cannot be opened as one.
        self._reading, writing = os.pipe()
        try:
            yield writing
        finally:
            os.close(writing)

    async def read(self) -> None:
        if self._reading is None:
            return
        reader, pipe = asyncio.StreamReader(), os.fdopen(self._reading, "rb", buffering=0)
        self._reading = None
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while chunk := await reader.read(64 * 1024):
                self._kept += chunk
                del self._kept[:-TAIL]
        finally:
            transport.close()

    def close(self) -> None:
        if self._reading is not None:
            os.close(self._reading)
            self._reading = None

    def text(self) -> str:
        if self._path is not None:
            with contextlib.suppress(OSError), os.fdopen(open_in_root(self._root, self._path), "rb") as file:
                file.seek(-min(TAIL, os.fstat(file.fileno()).st_size), os.SEEK_END)
                return file.read(TAIL).decode(errors="replace")
        return self._kept.decode(errors="replace")
