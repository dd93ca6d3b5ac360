"""A real agent process of a node, beside a launcher and a gateway that stand in: pods last a second and succeed, the
gateway publishes `release` under the node's signature. For kills at any instant, and for many nodes at once.
`python -m tests.support.agent_process FOLDER PORT` serves one by itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from fastapi import FastAPI
from starlette.responses import Response

from gdi.contracts.gateway_api import CloseAttempt, Closed, Released, ReleaseRequest
from gdi.contracts.process_host import HostedPod, PodRequest, StopRequest
from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import SigningKey
from gdi.kit.secret_files import write_private
from gdi.releases import signature
from node_gateway.db.store import GatewayDatabase
from tests.support.broker_kit import DATASETS, Process
from tests.support.node_agent import PACK_DIGEST, AgentWorld
from tests.support.problems import problem
from tests.support.wire import bind
from tests.support.wires import GATEWAY, PROCESS_HOST

LASTS = 1.0  # seconds of a pod


@dataclass(frozen=True)
class NodePlace:
    """Where a stand-in serves: its launcher on a socket in the folder, its gateway on that port of the loopback."""

    folder: Path
    name: str
    port: int


class NodeStandIn:
    """`started` counts starts by (run, attempt), `stopped` has when a pod's stop came (time.monotonic). The launcher on
    a unix socket, the gateway on a port of the loopback. `key`: what it signs releases with. `work`: what a pod does,
    by its name; the gateway is then another process, which has the port to itself.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "node-a",
        *,
        key: SigningKey | None = None,
        release: bytes = b"",
        port: int = 0,
        work: Callable[[str, PodRequest], None] | None = None,
    ) -> None:
        self.folder, self.name, self.key, self.release = folder, name, key, release
        self.lasts, self.work = LASTS, work
        self.codes: dict[str, int] = {}  # of pods whose work is over
        self.stopped: dict[str, float] = {}
        self.pods: dict[str, tuple[PodRequest, float | None]] = {}
        self.started: Counter[tuple[str, int]] = Counter()
        self.socket = folder / "host.sock"
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", port))
        self.port = int(self.listener.getsockname()[1])
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(self.socket))
        self._servers = [self._serve(self._launcher(), unix)]
        if work is None:
            self._servers.append(self._serve(self._gateway(), self.listener))
        else:
            self.listener.close()

    @staticmethod
    def _serve(app: FastAPI, listener: socket.socket) -> uvicorn.Server:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True).start()
        return server

    def stop(self) -> None:
        for server in self._servers:
            server.should_exit = True

    def _works(self, name: str, request: PodRequest) -> None:
        if self.work is None:
            return
        try:
            self.work(name, request)
            self.codes[name] = 0
        except Exception as error:
            print(f"pod {name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            self.codes[name] = 1

    def _pod(self, name: str) -> HostedPod:
        request, began = self.pods[name]
        stopped = name in self.stopped
        lasted = began is not None and time.time() - began > self.lasts and (self.work is None or name in self.codes)
        over = began is not None and (stopped or lasted)
        return HostedPod(
            name=name,
            uid=uid_of(name),
            run=request.run,
            attempt=request.attempt,
            node=request.node,
            state="exited" if over else "created" if began is None else "running",
            exit_code=(1 if stopped else self.codes.get(name, 0)) if over else None,
            created_at=0,
        )

    def _launcher(self) -> FastAPI:
        app = bind(FastAPI(), PROCESS_HOST)

        @app.get("/pods")
        def pods() -> list[HostedPod]:
            return [self._pod(name) for name in self.pods]

        @app.put("/pods/{name}")
        def create(name: str, request: PodRequest) -> HostedPod:
            self.pods.setdefault(name, (request, None))
            return self._pod(name)

        @app.get("/pods/{name}")
        def get(name: str) -> Any:
            return self._pod(name) if name in self.pods else problem(404, "not-found", "There is no such pod.")

        @app.post("/pods/{name}/start")
        def start(name: str) -> HostedPod:
            request, began = self.pods[name]
            if began is None:
                self.pods[name] = (request, time.time())
                self.started[request.run, request.attempt] += 1
                threading.Thread(target=self._works, args=(name, request), daemon=True).start()
            return self._pod(name)

        @app.post("/pods/{name}/stop")
        def stop(name: str, request: StopRequest) -> HostedPod:
            self.stopped.setdefault(name, time.monotonic())
            return self._pod(name)

        return app

    def _gateway(self) -> FastAPI:
        app = bind(FastAPI(), GATEWAY)

        @app.post("/releases/{run}")
        def publish(run: str, request: ReleaseRequest) -> Released:
            assert self.key is not None
            sha256 = sha256_hex(self.release)
            signed = signature.sign(
                self.key,
                node=self.name,
                run=run,
                name=request.name,
                sha256=sha256,
                workflow="allele-frequency",
                digest=PACK_DIGEST,
                attempt=1,
            )
            url = f"http://127.0.0.1:1/{request.name}"
            return Released(name=request.name, sha256=sha256, bytes=len(self.release), url=url, signature=signed)

        @app.get("/releases/{run}/{name}")
        def published(run: str, name: str) -> Response:
            return Response(self.release, media_type="application/octet-stream")

        @app.get("/readyz")
        def readyz() -> dict[str, str]:
            return {"status": "ok"}

        @app.post("/runs/{run}/close")
        def close(run: str, request: CloseAttempt) -> Closed:
            return Closed(run=run, attempt=request.attempt)

        return app


def uid_of(pod: str) -> str:
    return f"uid-{pod}"[:90]


@cache
def _empty_database() -> Path:
    """A gateway's, with its schema; made once."""
    file = Path(tempfile.mkdtemp(prefix="gdi-schema-")) / "gateway.db"

    async def made() -> None:
        database = GatewayDatabase.open(f"sqlite+aiosqlite:///{file}")
        await database.create()
        await database.close()

    asyncio.run(made())
    return file


def agent_of(
    world: AgentWorld,
    node: NodeStandIn | NodePlace,
    dataset: str = DATASETS["node-a"],
    *,
    command: Sequence[str] = (),
    broker_url: str = "",
    settings: Mapping[str, str] | None = None,
    **more: Any,
) -> Process:
    """The process, not started yet. Its policy approves the workflow of tests/support/node_agent.py; `more` are keys of
    it. `command` goes before the program; `broker_url`: where the agent finds the broker, if elsewhere;
    `settings` take the place of others.
    """
    folder = node.folder
    rems = world.aai_url + "/rems/"
    policy = {
        "placement": "node",
        "workflows": [{"name": "allele-frequency", "digest": PACK_DIGEST}],
        "images": ["gdi-task:*"],
        "visa_issuers": [{"iss": rems, "jku": rems + "api/jwk"}],
        **more,
    }
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    (folder / "datasets").mkdir(exist_ok=True)
    described = {
        "dataset": dataset,
        "assembly": "GRCh37",
        "membership": "contract",
        "absent": "unknown",
        "files": [{"path": "cohort.vcf.gz.c4gh", "format": "vcf"}],
    }
    (folder / "datasets" / "all.yaml").write_text(yaml.safe_dump(described))
    write_private(folder / "key.pem", world.node_keys[node.name].pem())
    write_private(folder / "secret", "unused")
    url = f"sqlite+aiosqlite:///{folder / 'gateway.db'}"

    shutil.copyfile(_empty_database(), folder / "gateway.db")
    unused = "http://127.0.0.1:1"
    env = {
        "NODE_ID": node.name,
        "PORT": str(node.port),
        "PUBLIC_URL": f"http://127.0.0.1:1/{node.name}",
        "INTERNAL_SOCKET": str(folder / "internal.sock"),
        "BROKER_URL": broker_url or world.url(),
        "BROKER_ISSUER": world.public_url,
        "KEY_FILE": str(folder / "key.pem"),
        "POLICY_FILE": str(folder / "policy.yaml"),
        "DATABASE_URL": url,
        "TES_URL": unused,
        "TES_USER": "unused",
        "TES_PASSWORD_FILE": str(folder / "secret"),
        "TES_PUBLIC_KEY_FILE": str(folder / "secret"),
        "SDA_URL": unused,
        "S3_ENDPOINT": unused,
        "S3_CREDENTIALS_FILE": str(folder / "secret"),
        "WORKSPACE_BUCKET": "workspace",
        "RELEASE_BUCKET": "releases",
        "LAUNCHER_SOCKET": str(folder / "host.sock"),
        "AGENT_FOLDER": str(folder / "agent"),
        **(settings or {}),
    }
    argv = [*command, sys.executable, "-m", "node_gateway.main", "agent"]
    variables = {f"NODE_GATEWAY_{name}": value for name, value in env.items()} | {"PATH": os.environ["PATH"]}
    return Process(argv, folder / "agent.log", variables)


def gateway_of(agent: Process) -> Process:
    """The gateway beside that agent, with its settings; not started yet."""
    return Process([sys.executable, "-m", "node_gateway.main"], agent.log.with_name("gateway.log"), agent.env)


def main() -> None:
    """Serves a stand-in until it is killed; FOLDER/key.pem signs FOLDER/release."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    key = SigningKey.from_pem((folder / "key.pem").read_bytes())
    NodeStandIn(folder, key=key, release=(folder / "release").read_bytes(), port=port)
    threading.Event().wait()


if __name__ == "__main__":
    main()
