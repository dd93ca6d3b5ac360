"""Real gateways of many nodes: one S3 and one TES serve all, a node's pod does what Snakemake would. It gets a run
token of its own gateway and sends it a task, whose output is the node's counts.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from asyncio import run as run_forever
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from fastapi import FastAPI, Request

from gdi.contracts.process_host import PodRequest
from gdi.contracts.tes import from_json
from gdi.kit.jose import SigningKey
from gdi.kit.secret_files import write_private
from tests.support.agent_process import NodeStandIn, uid_of
from tests.support.gateway_world import KEY
from tests.support.s3_server import ACCESS, REGION, SECRET, S3Server, s3_server
from tests.support.waiting import wait_for
from tests.support.wire import bind
from tests.support.wires import TES

PATIENCE = 900.0  # seconds of a pod, for its gateway
SUBJECT = "system:serviceaccount:gdi:snakemake"
Counts = Callable[[str], bytes]


@dataclass
class SharedNodes:
    """`counts`: by node, the file that its task makes. `made`: tasks by node."""

    s3: S3Server
    counts: Counts
    made: dict[str, int] = field(default_factory=dict)
    tes_url: str = ""
    _tasks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def tes(self) -> FastAPI:
        """A TES that has run each task as soon as it has it. Buckets are named after nodes."""
        app = bind(FastAPI(), TES)

        @app.get("/ga4gh/tes/v1/service-info")
        def info() -> dict[str, Any]:
            kind = {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"}
            owner = {"name": "many nodes", "url": "https://node.example"}
            return {"id": "shared", "name": "A TES", "type": kind, "organization": owner, "version": "1"}

        @app.post("/ga4gh/tes/v1/tasks")
        async def create(request: Request) -> dict[str, str]:
            asked = await request.json()
            from_json(asked)
            assert request.headers["authorization"].startswith("Bearer "), "a task is its user's"
            (output,) = asked["outputs"]
            place = urlsplit(output["url"])
            node = place.netloc.removesuffix("-workspace")
            self.s3.client().put_object(Bucket=place.netloc, Key=place.path.lstrip("/"), Body=self.counts(node))
            self.made[node] = self.made.get(node, 0) + 1
            task = {**asked, "id": f"t-{secrets.token_hex(8)}", "state": "COMPLETE", "logs": []}
            self._tasks[task["id"]] = task
            return {"id": task["id"]}

        @app.get("/ga4gh/tes/v1/tasks")
        def listing(request: Request) -> dict[str, Any]:
            query = request.query_params
            tags = dict(zip(query.getlist("tag_key"), query.getlist("tag_value"), strict=True))
            found = [t for t in self._tasks.values() if all(t["tags"].get(k) == v for k, v in tags.items())]
            return {"tasks": found}

        @app.get("/ga4gh/tes/v1/tasks/{task}")
        def get(task: str) -> dict[str, Any]:
            return self._tasks[task]

        @app.post("/ga4gh/tes/v1/tasks/{task}:cancel")
        def cancel(task: str) -> dict[str, Any]:
            return {}

        return app

    def settings(self, folder: Path, name: str, launcher: SigningKey) -> dict[str, str]:
        """Of the node's gateway and agent; its buckets are made."""
        for bucket in ("workspace", "releases"):
            self.s3.bucket(f"{name}-{bucket}")
        write_private(folder / "s3.json", json.dumps({"access_key": ACCESS, "secret_key": SECRET}))
        (folder / "tes.pub").write_bytes(KEY)
        (folder / "jwks.json").write_text(json.dumps({"keys": [launcher.jwk()]}))
        return {
            "TES_URL": self.tes_url,
            "TES_PUBLIC_KEY_FILE": str(folder / "tes.pub"),
            "S3_ENDPOINT": self.s3.url,
            "S3_REGION": REGION,
            "S3_CREDENTIALS_FILE": str(folder / "s3.json"),
            "WORKSPACE_BUCKET": f"{name}-workspace",
            "RELEASE_BUCKET": f"{name}-releases",
            "LAUNCHER_ISSUER": issuer_of(name),
            "LAUNCHER_JWKS_FILE": str(folder / "jwks.json"),
            "LAUNCHER_SUBJECT": SUBJECT,
        }


def issuer_of(name: str) -> str:
    return f"https://process-host.{name}"


def node_of(folder: Path, name: str, launcher: SigningKey, path: str) -> NodeStandIn:
    """The node's launcher, whose pods have one task made at `path` of the workspace. Its port is for the gateway."""

    def work(pod: str, request: PodRequest) -> None:
        bound = {"pod": {"name": pod, "uid": uid_of(pod)}}
        claims = {"iss": issuer_of(name), "aud": "token-broker", "sub": SUBJECT, "kubernetes.io": bound}
        end = time.monotonic() + PATIENCE
        while True:
            identity = launcher.sign(claims, lifetime=60)
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{node.port}", timeout=60, trust_env=False) as http:
                    return _compute(http, identity, request, path)
            except (httpx.TransportError, GatewayAwayError):  # it is tried again, as Snakemake's plugins do
                assert time.monotonic() < end, "the gateway was away for too long"
                time.sleep(0.5)

    node = NodeStandIn(folder, name, work=work)
    return node


class GatewayAwayError(Exception):
    """It says 5xx, or does not know the pod's order yet."""


def _compute(http: httpx.Client, identity: str, request: PodRequest, path: str) -> None:
    asked = {"audience": request.audience, "min_ttl": 10}
    answer = _good(http.post(f"/v1/runs/{request.run}/tokens", json=asked, headers=_bearer(identity)))
    token = _bearer(answer["token"])
    task = {
        "name": "count",
        "inputs": [{"content": "count", "path": "/gdi/work/what"}],
        "outputs": [{"url": f"workspace://{request.run}/{path}", "path": "/gdi/work/out"}],
        "executors": [{"image": "gdi-task:1", "command": ["/bin/true"], "workdir": "/gdi/work"}],
        "tags": {"gdi-job": "count", "gdi-try": "1", "gdi-rule": "count"},
    }
    here = f"/ga4gh/tes/v1/tasks/{_good(http.post('/ga4gh/tes/v1/tasks', json=task, headers=token))['id']}"
    wait_for("the task", lambda: _good(http.get(here, headers=token))["state"] == "COMPLETE", 60)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _good(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code >= 500 or answer.status_code == 409:
        raise GatewayAwayError(answer.text)
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


@contextmanager
def shared_nodes(counts: Counts) -> Iterator[SharedNodes]:
    with s3_server() as s3, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        made = SharedNodes(s3, counts)
        made.tes_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(made.tes(), log_level="critical", lifespan="off"))
        thread = threading.Thread(target=lambda: run_forever(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        wait_for("the TES's start", lambda: server.started)
        try:
            yield made
        finally:
            server.should_exit = True
            thread.join(10)
