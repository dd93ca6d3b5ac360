"""A real agent process of node-a, beside a launcher and a gateway that stand in: pods last a second and succeed. For
kills at any instant.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from fastapi import FastAPI

from gdi.contracts.process_host import HostedPod, PodRequest
from gdi.kit.secret_files import write_private
from node_gateway.db.store import GatewayDatabase
from tests.support.broker_kit import DATASETS, Process
from tests.support.node_agent import PACK_DIGEST, AgentWorld

LASTS = 1.0  # seconds of a pod


class NodeStandIn:
    """`started` counts starts by (run, attempt). The launcher on a unix socket, the gateway on a port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pods: dict[str, tuple[PodRequest, float | None]] = {}
        self.started: Counter[tuple[str, int]] = Counter()
        self.socket = folder / "host.sock"
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(self.socket))
        self._servers = [self._serve(self._launcher(), unix), self._serve(self._gateway(), self.listener)]

    @staticmethod
    def _serve(app: FastAPI, listener: socket.socket) -> uvicorn.Server:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True).start()
        return server

    def stop(self) -> None:
        for server in self._servers:
            server.should_exit = True

    def _pod(self, name: str) -> HostedPod:
        request, began = self.pods[name]
        over = began is not None and time.time() - began > LASTS
        return HostedPod(
            name=name,
            uid=f"uid-{name}"[:90],
            run=request.run,
            attempt=request.attempt,
            node=request.node,
            state="exited" if over else "created" if began is None else "running",
            exit_code=0 if over else None,
            created_at=0,
        )

    def _launcher(self) -> FastAPI:
        app = FastAPI()

        @app.get("/pods")
        def pods() -> list[HostedPod]:
            return [self._pod(name) for name in self.pods]

        @app.put("/pods/{name}")
        def create(name: str, request: PodRequest) -> HostedPod:
            self.pods.setdefault(name, (request, None))
            return self._pod(name)

        @app.get("/pods/{name}")
        def get(name: str) -> Any:
            from starlette.responses import JSONResponse

            return self._pod(name) if name in self.pods else JSONResponse({}, 404)

        @app.post("/pods/{name}/start")
        def start(name: str) -> HostedPod:
            request, began = self.pods[name]
            if began is None:
                self.pods[name] = (request, time.time())
                self.started[request.run, request.attempt] += 1
            return self._pod(name)

        @app.post("/pods/{name}/stop")
        def stop(name: str) -> HostedPod:
            return self._pod(name)

        return app

    @staticmethod
    def _gateway() -> FastAPI:
        app = FastAPI()

        @app.get("/readyz")
        def readyz() -> dict[str, str]:
            return {"status": "ok"}

        @app.post("/runs/{run}/close")
        def close(run: str) -> dict[str, Any]:
            return {"run": run, "attempt": 1, "cancelled": 0}

        return app


def agent_of(world: AgentWorld, node: NodeStandIn) -> Process:
    """The process, not started yet. Its policy approves the workflow of tests/support/node_agent.py."""
    folder = node.folder
    rems = world.aai_url + "/rems/"
    policy = {
        "placement": "node",
        "workflows": [{"name": "allele-frequency", "digest": PACK_DIGEST}],
        "visa_issuers": [{"iss": rems, "jku": rems + "api/jwk"}],
    }
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    (folder / "datasets").mkdir(exist_ok=True)
    described = {
        "dataset": DATASETS["node-a"],
        "assembly": "GRCh37",
        "membership": "contract",
        "absent": "unknown",
        "files": [{"path": "cohort.vcf.gz.c4gh", "format": "vcf"}],
    }
    (folder / "datasets" / "all.yaml").write_text(yaml.safe_dump(described))
    write_private(folder / "key.pem", world.node_keys["node-a"].pem())
    write_private(folder / "secret", "unused")
    url = f"sqlite+aiosqlite:///{folder / 'gateway.db'}"

    async def schema() -> None:
        database = GatewayDatabase.open(url)
        await database.create()
        await database.close()

    asyncio.run(schema())
    unused = "http://127.0.0.1:1"
    env = {
        "NODE_ID": "node-a",
        "PORT": str(node.port),
        "PUBLIC_URL": "http://127.0.0.1:1/node-a",
        "INTERNAL_SOCKET": str(folder / "internal.sock"),
        "BROKER_URL": world.url(),
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
        "LAUNCHER_SOCKET": str(node.socket),
        "AGENT_FOLDER": str(folder / "agent"),
    }
    argv = [sys.executable, "-m", "node_gateway.main", "agent"]
    variables = {f"NODE_GATEWAY_{name}": value for name, value in env.items()} | {"PATH": os.environ["PATH"]}
    return Process(argv, folder / "agent.log", variables)
