"""A Snakemake pod at work: relays, Snakemake as a child, signals, events, the exit code. It begins in `ahead`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts import run_file
from gdi.contracts.events import Event
from gdi.contracts.workflow_files import digest_of, files_with_digest
from gdi.kit.bearer import token_file
from gdi.kit.problem import ProblemError
from gdi.kit.socket_proxy import SocketProxy, Tcp, Unix
from snakemake_tes_auth.events.events import EventPump
from snakemake_tes_auth.events.follower import Complaints, LogFollower
from snakemake_tes_auth.folders import Folders
from snakemake_tes_auth.outcome import Outcome, OutcomeFile
from snakemake_tes_auth.pod.command import events_of, sent_of
from snakemake_tes_auth.pod.process import REFUSED, WaitingSnakemake
from snakemake_tes_auth.pod.shutdown import Shutdown
from snakemake_tes_auth.retry import AGAIN, Away, Refusal
from snakemake_tes_auth.session import session

log = logging.getLogger("snakemake_tes_auth.pod")
SUCCESS, FAILED = 0, 1
# seconds from SIGTERM until Snakemake is killed: cancelling itself takes at most 45, and who stops a pod waits about 60
CANCEL_GRACE = 50.0


class SnakemakePod:
    """One start of one pod. `folders.root` is /gdi in the sandbox."""

    def __init__(self, folders: Folders, run: run_file.RunFile, snakemake: WaitingSnakemake) -> None:
        self.folders = folders
        self.run = run
        self.snakemake = snakemake
        self.outcome = OutcomeFile(folders.state / "outcome.json")
        self.stop: asyncio.Queue[str] = asyncio.Queue()
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
            if not files_with_digest(self.folders.workflow, self.run.digest):
                found = digest_of(self.folders.workflow)
                message = (
                    f"the workflow's files are not those that the run was admitted with ({found} is not"
                    f" {self.run.digest}); start the run again"
                )
                pump.put({"kind": "node", "state": "failed", "message": message})
                return REFUSED
        self.snakemake.go()
        pump.put({"kind": "node", "state": "running"})
        tail = LogFollower(events)
        following = asyncio.create_task(tail.follow(pump))
        complaints = Complaints()
        listening = asyncio.create_task(complaints.copy(await self.snakemake.complaints()))
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
        self.outcome.clear()
        (self.folders.state / "config.json").write_text(json.dumps(self.run.config(described)))
        events = events_of(self.folders, self.run)
        events.unlink(missing_ok=True)
        return events

    def _remember(self, batch: list[Event]) -> None:
        """Only what the broker took: what a killed pod could not send is sent by the next."""
        with contextlib.suppress(OSError), sent_of(self.folders, self.run).open("a") as file:
            file.writelines(
                e.model_dump_json(exclude_none=True, include={"kind", "job", "task", "state", "message", "counts"})
                + "\n"
                for e in batch
            )

    async def _wait(self) -> str:
        """Until Snakemake ended; what was wished meanwhile: "", "cancel" or "hand-over"."""
        child = self.snakemake.process
        ending = asyncio.create_task(self.snakemake.wait())
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
                    child.kill()  # its tasks live on: the next pod adopts them
                elif not wish:
                    wish = "cancel"
                    deadline = loop.time() + CANCEL_GRACE
                    child.send_signal(signal.SIGINT)  # SIGTERM would make Snakemake wait for its jobs instead
            else:
                request.cancel()
                log.error("Snakemake did not end within %.0f s of being cancelled and is killed", CANCEL_GRACE)
                child.kill()
                deadline = None
        return wish

    def _judge(self, pump: EventPump, wish: str, note: str) -> int:
        code = self.snakemake.process.returncode
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
