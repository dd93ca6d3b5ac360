"""`python -m snakemake_tes_auth.pod`: the entry point of a Snakemake pod. Relays, Snakemake as a child, signals,
events, the exit code.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts import run_file
from gdi.contracts.events import Event
from gdi.contracts.workflow import CatalogueError
from gdi.contracts.workflow_files import digest_of
from gdi.kit.bearer import token_file
from gdi.kit.problem import ProblemError
from gdi.kit.socket_proxy import SocketProxy, Tcp, Unix
from snakemake_tes_auth.events.events import EventPump
from snakemake_tes_auth.events.follower import Complaints, LogFollower
from snakemake_tes_auth.folders import Folders
from snakemake_tes_auth.outcome import Outcome, OutcomeFile
from snakemake_tes_auth.pod.command import arguments, environment
from snakemake_tes_auth.pod.shutdown import Shutdown
from snakemake_tes_auth.retry import AGAIN, Away, Refusal
from snakemake_tes_auth.session import session

log = logging.getLogger("snakemake_tes_auth.pod")
SUCCESS, FAILED, REFUSED = 0, 1, 2
# seconds from SIGTERM until Snakemake is killed: cancelling itself takes at most 45, and who stops a pod waits about 60
CANCEL_GRACE = 50.0
PR_SET_PDEATHSIG = 1


class SnakemakePod:
    """One start of one pod. `folders.root` is /gdi in the sandbox."""

    def __init__(self, folders: Folders, run: run_file.RunFile) -> None:
        self.folders = folders
        self.run = run
        self.outcome = OutcomeFile(folders.state / "outcome.json")
        self.stop: asyncio.Queue[str] = asyncio.Queue()
        self.child: asyncio.subprocess.Process | None = None
        self.ending: Shutdown

    async def main(self) -> int:
        loop = asyncio.get_running_loop()
        for number, wish in ((signal.SIGTERM, "stop"), (signal.SIGINT, "cancel"), (signal.SIGUSR1, "hand-over")):
            loop.add_signal_handler(number, self.stop.put_nowait, wish)
        relays = [SocketProxy(Tcp("127.0.0.1", r.listen), Unix(Path(r.socket))) for r in self.run.relays]
        try:
            for relay in relays:
                await relay.start()
        except OSError as error:
            log.error("a relay cannot listen: %s", error.strerror)
            return REFUSED
        try:
            async with AsyncBrokerClient(self.run.broker_url, token_file(self.folders.identity)) as broker:
                pump = EventPump(broker, self.run.run, self.run.pod, sent=self._remember)
                posting = asyncio.create_task(pump.run())
                pump.put({"kind": "node", "state": "starting"})
                self.ending = Shutdown(self.folders, self.run, broker)
                code = await self._snakemake(pump)
                await pump.close()
                posting.cancel()
                return code
        finally:
            for relay in relays:
                await relay.close()

    async def _snakemake(self, pump: EventPump) -> int:
        """Runs Snakemake to its end and says how it went, as an event and an exit code."""
        try:
            events = self._prepare(await asyncio.to_thread(self._described))
        except Away as error:
            pump.put({"kind": "note", "message": f"paused: {error}"})
            return AGAIN
        except (Refusal, ProblemError) as error:
            pump.put({"kind": "node", "state": "failed", "message": str(error)})
            return REFUSED
        with contextlib.suppress(OSError):
            if (found := digest_of(self.folders.workflow)) != self.run.digest:
                message = (
                    f"the workflow's files are not those that the run was admitted with ({found} is not"
                    f" {self.run.digest}); start the run again"
                )
                pump.put({"kind": "node", "state": "failed", "message": message})
                return REFUSED
        self.child = await asyncio.create_subprocess_exec(
            *arguments(self.folders, self.run, events, self._sent),
            cwd=self.folders.work,
            env=environment(self.folders, os.environ),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a signal to our group must not reach it twice
            preexec_fn=_die_with_parent,
        )
        pump.put({"kind": "node", "state": "running"})
        tail = LogFollower(events)
        following = asyncio.create_task(tail.follow(pump))
        assert self.child.stderr is not None
        complaints = Complaints()
        listening = asyncio.create_task(complaints.copy(self.child.stderr))
        wish = await self._wait()
        tail.ended = True
        await following
        with contextlib.suppress(TimeoutError):  # a grandchild may hold the pipe open
            await asyncio.wait_for(listening, 5)
        return self._judge(pump, wish, tail.last_note or complaints.best)

    def _described(self) -> dict[str, JsonValue]:
        """What the node's operator says of the run's datasets. Away, Refusal."""
        dealings = session(self.folders.run_file)
        assert dealings.metadata is not None
        found = dealings.ask(dealings.metadata.described()).described
        return {dataset: one.model_dump(mode="json", exclude_none=True) for dataset, one in found.items()}

    def _prepare(self, described: Mapping[str, JsonValue]) -> Path:
        state = self.folders.state
        (state / "tmp").mkdir(parents=True, exist_ok=True)
        self.outcome.clear()
        (state / "config.json").write_text(json.dumps(self.run.config(described)))
        events = state / f"events-{self.run.pod}.jsonl"
        events.unlink(missing_ok=True)
        return events

    @property
    def _sent(self) -> Path:
        """What the pods of this attempt sent to the broker, where the work folder stayed: the logger leaves it out."""
        return self.folders.state / f"sent-{self.run.attempt}.jsonl"

    def _remember(self, batch: list[Event]) -> None:
        """Only what the broker took: what a killed pod could not send is sent by the next."""
        with contextlib.suppress(OSError), self._sent.open("a") as file:
            file.writelines(
                e.model_dump_json(exclude_none=True, include={"kind", "job", "task", "state", "message", "counts"})
                + "\n"
                for e in batch
            )

    async def _wait(self) -> str:
        """Until Snakemake ended; what was wished meanwhile: "", "cancel" or "hand-over"."""
        assert self.child is not None
        ending = asyncio.create_task(self.child.wait())
        wish = ""
        deadline: float | None = None
        loop = asyncio.get_running_loop()
        while not ending.done():
            request = asyncio.create_task(self.stop.get())
            left = None if deadline is None else max(0.0, deadline - loop.time())
            await asyncio.wait({ending, request}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                request.cancel()
                break
            if request.done():
                answer = request.result()
                if not wish and answer == "stop":
                    answer = await self.ending.meaning()
                if not wish and answer == "hand-over":
                    wish = "hand-over"
                    self.child.kill()  # its tasks live on: the next pod adopts them
                elif not wish:
                    wish = "cancel"
                    deadline = loop.time() + CANCEL_GRACE
                    self.child.send_signal(signal.SIGINT)  # SIGTERM would make Snakemake wait for its jobs instead
            else:
                request.cancel()
                log.error("Snakemake did not end within %.0f s of being cancelled and is killed", CANCEL_GRACE)
                self.child.kill()
                deadline = None
        return wish

    def _judge(self, pump: EventPump, wish: str, note: str) -> int:
        assert self.child is not None
        code = self.child.returncode
        left = self.outcome.read()
        if wish == "hand-over":
            return AGAIN
        if code == 0:
            pump.put({"kind": "node", "state": "success"})
            return SUCCESS
        if wish == "cancel":
            pump.put({"kind": "node", "state": "cancelled", "message": "stopped: the run was cancelled"})
            return FAILED
        if left is not None and left.kind == "again":
            pump.put({"kind": "note", "message": f"paused: {left.message}"})
            return AGAIN
        if code is not None and code < 0:
            pump.put({"kind": "note", "message": f"Snakemake was killed by signal {-code}"})
            return AGAIN
        left = left or Outcome(
            kind="failed", message=note or f"Snakemake ended with exit code {code}; its log at the coordinator says why"
        )
        pump.put({"kind": "node", "state": "failed", "message": left.message, "dataset": left.dataset})
        return REFUSED if left.kind == "refused" else FAILED


def _die_with_parent() -> None:
    """In the child, before exec: a killed pod must not leave a Snakemake that goes on submitting beside the next one.
    Linux, prctl(2).
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m snakemake_tes_auth.pod", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/gdi"), help="the pod's folder (default /gdi)")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    folders = Folders(root=options.root.absolute())
    try:
        run = run_file.load(folders.run_file)
        return asyncio.run(SnakemakePod(folders, run).main())
    except (run_file.RunFileError, CatalogueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
