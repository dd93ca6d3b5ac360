"""Snakemake as the pod's child: begun early, let go when the run is prepared."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from contextlib import suppress

from gdi.contracts import run_file
from snakemake_tes_auth.folders import Folders
from snakemake_tes_auth.pod.command import arguments, environment

PR_SET_PDEATHSIG = 1
REFUSED = 2  # the pod's exit code


class WaitingSnakemake:
    """Snakemake, which waits for `go`."""

    def __init__(self, folders: Folders, run: run_file.RunFile) -> None:
        (folders.state / "tmp").mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            arguments(folders, run),
            cwd=folders.work,
            env=environment(folders, os.environ),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a signal to our group must not reach it twice
            preexec_fn=_die_with_parent,
        )

    def go(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, and its exit code says how
            self.process.stdin.write(b"go\n")
            self.process.stdin.close()

    async def complaints(self) -> asyncio.StreamReader:
        """Its standard error."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self.process.stderr)
        return reader

    async def wait(self) -> int:
        return await asyncio.to_thread(self.process.wait)

    def end(self) -> None:
        """Where it never went, or still goes on."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _die_with_parent() -> None:
    """In the child, before exec: a killed pod must not leave a Snakemake that goes on submitting beside the next one.
    Linux, prctl(2).
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
