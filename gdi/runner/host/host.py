"""The host's pods: create, start, watch, stop, forget. Each pod's record lies in its folder, so a restarted host knows
what it lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
import uuid
from pathlib import Path

from pydantic import ValidationError

from gdi.contracts.process_host import HostedPod, PodRequest
from gdi.contracts.run_file import RunFile, SocketProxySpec
from gdi.kit.problem import ProblemError
from gdi.kit.socket_proxy import SocketProxy, Tcp, Unix
from gdi.runner.host import workflow
from gdi.runner.host.config import HostConfig
from gdi.runner.host.identity import Identities, write_atomic
from gdi.runner.host.model import PodRecord
from gdi.runner.host.process import End, SandboxedProcess, SandboxFailedError
from gdi.runner.host.sandbox import PodFolders, argv
from gdi.runner.sandbox import find_maker

log = logging.getLogger(__name__)

BROKER_PORT, GATEWAY_PORT = 8101, 8102  # on the pod's own loopback, where nobody else listens
ACCOUNT = "snakemake"


class Live:
    """What a running pod holds on the host."""

    def __init__(self, process: SandboxedProcess, relays: list[SocketProxy], folder_fd: int) -> None:
        self.process, self.relays, self.folder_fd = process, relays, folder_fd
        self.killer: asyncio.Task[None] | None = None


class Host:
    """All pods of this machine. Not thread-safe: one event loop."""

    def __init__(self, config: HostConfig) -> None:
        self.config = config
        self.maker = config.sandbox or find_maker()
        for folder in (config.state_dir, config.state_dir / "pods", config.state_dir / "work"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.identities = Identities(
            issuer=config.issuer,
            key_file=config.key_file,
            namespace=config.namespace,
            audience=config.audience,
            lifetime=config.token_lifetime,
        )
        self.uid = str(uuid.uuid4())
        self._records: dict[str, PodRecord] = {}
        self._live: dict[str, Live] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._load()

    # --- the API's verbs -------------------------------------------------------------------------

    def get(self, name: str) -> HostedPod:
        return _status(self._record(name))

    def list(self) -> list[HostedPod]:
        return [_status(r) for r in self._records.values()]

    def create(self, name: str, request: PodRequest) -> HostedPod:
        """Makes the pod's folders and its uid; nothing runs yet."""
        known = self._records.get(name)
        if known is not None:
            if known.request != request:
                raise ProblemError(
                    409,
                    "pod-exists",
                    f"Pod {name} exists and was asked to do something else.",
                    action="Use another name.",
                )
            return _status(known)
        if request.gateway_url not in self.config.gateways:
            raise ProblemError(
                403,
                "destination-not-allowed",
                f"{request.gateway_url} is not among the gateways that pods of this host may reach.",
                action="Add it to `gateways` in the process host's configuration.",
            )
        if sum(r.state in ("created", "running") for r in self._records.values()) >= self.config.max_pods:
            raise ProblemError(
                503,
                "host-full",
                f"This host runs {self.config.max_pods} pods, its limit (`max_pods`).",
                action="Try again later.",
            )
        folders = self._folders(name, request)
        shutil.rmtree(folders.pod, ignore_errors=True)
        folders.make()
        earlier = [self._folders(r.name, r.request).workflow for r in self._records.values() if r.run == request.run]
        workflow.take(self.config.workflows, request.workflow, request.digest, folders.workflow, earlier=earlier)
        folders.run_json.write_text(_run_file(name, request).model_dump_json())
        record = PodRecord(
            name=name,
            uid=str(uuid.uuid4()),
            run=request.run,
            attempt=request.attempt,
            node=request.node,
            state="created",
            created_at=time.time(),
            request=request,
        )
        self._save(record)
        self._forget_old()
        return _status(record)

    async def start(self, name: str) -> HostedPod:
        """Starts a created pod. One that runs is left alone; one that ended cannot be started again."""
        record = self._record(name)
        if record.state == "running":
            return _status(record)
        if record.state != "created" or record.stopping:
            raise ProblemError(
                409,
                "pod-ended",
                f"Pod {name} is {record.state} and cannot be started.",
                action="Create one with another name.",
            )
        folders = self._folders(name, record.request)
        record.state, record.started_at = (
            "running",
            time.time(),
        )  # before the first await: a second start must not start a second process
        self._write_token(record)
        folder_fd = os.open(folders.sockets, os.O_PATH | os.O_DIRECTORY)
        relays: list[SocketProxy] = []
        try:
            for socket, target in (
                ("broker", self.config.broker),
                ("gateway", self.config.gateways[record.request.gateway_url]),
            ):
                # Through the descriptor the path is short, wherever the state folder lies (a socket's path may have 107
                # bytes).
                relays.append(
                    await SocketProxy(
                        Unix(Path(f"/proc/self/fd/{folder_fd}/{socket}.sock")), Tcp(target.host, target.port)
                    ).start()
                )
            process = await SandboxedProcess.start(
                lambda status: argv(
                    self.maker,
                    folders,
                    self.config.entry,
                    packages=self.config.packages,
                    tmp_bytes=self.config.tmp_bytes,
                    status_fd=status,
                ),
                folders.log,
                max_log=self.config.max_log_bytes,
                kill=self.maker.kill_signal,
            )
        except (OSError, ValueError, KeyError, SandboxFailedError) as error:
            for relay in relays:
                await relay.close()
            os.close(folder_fd)
            self._ended(record, End(None, None), state="lost")
            log.error("pod %s could not be started: %s", name, error or type(error).__name__)
            raise ProblemError(  # not a 5xx: who asks again would only hear that the pod is lost
                409,
                "sandbox-failed",
                f"Pod {name} could not be started: {error or type(error).__name__}",
                action="See the process host's log.",
            ) from None
        live = self._live[name] = Live(process, relays, folder_fd)
        self._save(record)
        self._watchers[name] = asyncio.create_task(self._watch(record, live))
        if record.stopping:  # asked for while it was being started
            self._send_stop(name, "cancel", 0)
        return _status(record)

    def stop(self, name: str, mode: str, grace: float) -> HostedPod:
        """Asks for the end of a pod, and insists after `grace` seconds. A pod that ended is left as it is."""
        record = self._record(name)
        if record.state == "created":
            self._ended(record, End(None, signal.SIGTERM), state="exited")
        if record.state in ("exited", "lost"):
            return _status(record)
        record.stopping = True
        self._save(record)
        self._send_stop(name, mode, min(grace, self.config.max_grace))
        return _status(record)

    async def delete(self, name: str) -> None:
        """Kills what runs and forgets the pod; its run's work folder stays."""
        record = self._record(name)
        if name in self._live:
            record.stopping = True
            self._live[name].process.kill()
            await asyncio.wait([self._watchers[name]], timeout=10)
        shutil.rmtree(self._folders(name, record.request).pod, ignore_errors=True)
        self._records.pop(name, None)

    # --- what goes on by itself ------------------------------------------------------------------

    async def refresh_tokens(self) -> None:
        """Rewrites the identity tokens, for ever, well before they expire."""
        while True:
            try:
                self.write_airflow_token()
                for record in self._records.values():
                    if record.state == "running":
                        self._write_token(record)
            except OSError as error:
                log.error("identity tokens cannot be written: %s; trying again", error)
            await asyncio.sleep(self.config.token_lifetime / 3)

    def write_airflow_token(self) -> None:
        if self.config.airflow_token_file is None:
            return
        self.config.airflow_token_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.identities.write(self.config.airflow_token_file, account="airflow", pod="airflow", uid=self.uid)

    async def close(self) -> None:
        """Ends all pods: the host is going away, and they would die with it. They hand over, so that their tasks go
        on.
        """
        for name, live in self._live.items():
            if not live.process.send(signal.SIGUSR1):
                live.process.kill()
            self._insist(name, 3)
        if self._watchers:
            await asyncio.wait(list(self._watchers.values()), timeout=10)

    async def _watch(self, record: PodRecord, live: Live) -> None:
        end = await live.process.wait()
        if live.killer is not None:
            live.killer.cancel()
        for relay in live.relays:
            await relay.close()
        os.close(live.folder_fd)
        self._live.pop(record.name, None)
        self._watchers.pop(record.name, None)
        self._ended(record, end, state="exited")

    def _send_stop(self, name: str, mode: str, grace: float) -> None:
        live = self._live.get(name)
        if live is None:
            return
        sent = live.process.send(signal.SIGUSR1 if mode == "hand-over" else signal.SIGTERM)
        self._insist(name, grace if sent else min(grace, 1))

    def _insist(self, name: str, grace: float) -> None:
        live = self._live[name]
        if live.killer is not None:
            live.killer.cancel()

        async def later() -> None:
            await asyncio.sleep(grace)
            log.warning("pod %s did not end within %.0f s and is killed", name, grace)
            live.process.kill()

        live.killer = asyncio.create_task(later())

    # --- records ---------------------------------------------------------------------------------

    def _record(self, name: str) -> PodRecord:
        record = self._records.get(name)
        if record is None:
            raise ProblemError(404, "unknown-pod", f"There is no pod {name} on this host.", action="Create it first.")
        return record

    def _folders(self, name: str, request: PodRequest) -> PodFolders:
        return PodFolders(
            pod=self.config.state_dir / "pods" / name, work=self.config.state_dir / "work" / request.run / request.node
        )

    def _save(self, record: PodRecord) -> None:
        self._records[record.name] = record
        write_atomic(self._folders(record.name, record.request).pod / "pod.json", record.model_dump_json().encode())

    def _ended(self, record: PodRecord, end: End, *, state: str) -> None:
        record.state = "lost" if state == "lost" else "exited"
        record.exit_code, record.signal, record.ended_at = end.exit_code, end.signal, time.time()
        with contextlib.suppress(OSError):
            (self._folders(record.name, record.request).identity / "token").unlink(missing_ok=True)
        try:
            self._save(record)
        except OSError as error:
            log.error("the record of pod %s cannot be written: %s", record.name, error)
        log.info(
            "pod %s ended: %s, exit code %s, signal %s", record.name, record.state, record.exit_code, record.signal
        )

    def _write_token(self, record: PodRecord) -> None:
        self.identities.write(
            self._folders(record.name, record.request).identity / "token",
            account=ACCOUNT,
            pod=record.name,
            uid=record.uid,
        )

    def _load(self) -> None:
        """What an earlier host left: its running pods died with it, and nobody saw how."""
        for file in sorted((self.config.state_dir / "pods").glob("*/pod.json")):
            try:
                record = PodRecord.model_validate_json(file.read_bytes())
            except (OSError, ValidationError):
                log.error("%s is unreadable and is left aside", file)
                continue
            self._records[record.name] = record
            if record.state == "running":
                self._ended(record, End(None, None), state="lost")

    def _forget_old(self) -> None:
        ended = sorted(
            (r for r in self._records.values() if r.state in ("exited", "lost")), key=lambda r: r.ended_at or 0
        )
        for record in ended[: max(0, len(ended) - self.config.keep_pods)]:
            shutil.rmtree(self._folders(record.name, record.request).pod, ignore_errors=True)
            del self._records[record.name]


def _status(record: PodRecord) -> HostedPod:
    return HostedPod.model_validate(record.model_dump(exclude={"request"}))


def _run_file(name: str, request: PodRequest) -> RunFile:
    """run.json for a pod with no network: broker and gateway are ports of its own loopback."""
    return RunFile.of(
        request,
        name,
        broker_url=f"http://127.0.0.1:{BROKER_PORT}",
        gateway_url=f"http://127.0.0.1:{GATEWAY_PORT}",
        relays=[
            SocketProxySpec(listen=BROKER_PORT, socket="/gdi/sockets/broker.sock"),
            SocketProxySpec(listen=GATEWAY_PORT, socket="/gdi/sockets/gateway.sock"),
        ],
    )
