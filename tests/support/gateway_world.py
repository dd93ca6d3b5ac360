"""A real gateway process between small servers of our own: broker, TES and SDA after docs/contracts.md, and a real S3
(SeaweedFS).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from gdi.contracts.nodes import Nodes, NodeStatus
from gdi.contracts.run_token import AIRFLOW, TYPE, RunClaims
from gdi.contracts.runs import Run as BrokerRun
from gdi.contracts.tes import FINAL, from_json
from gdi.contracts.tokens import NodeTokenRequest, Token
from gdi.funnel.crypt4gh import Key
from gdi.kit.jose import SigningKey, TokenError, verify
from tests.support.htsget_server import HtsgetServer
from tests.support.problems import problem
from tests.support.processes import die_with_parent, free_port
from tests.support.weed import Weed
from tests.support.wire import bind
from tests.support.wires import BROKER, SDA, TES

NODE = "node-a"
TES_KEY = Key(X25519PrivateKey.from_private_bytes(b"k" * 32))  # of this node's TES
_PEM = b"-----BEGIN CRYPT4GH PUBLIC KEY-----\n%b\n-----END CRYPT4GH PUBLIC KEY-----\n"
KEY = _PEM % base64.b64encode(TES_KEY.public)
OTHER_KEY = _PEM % base64.b64encode(b"o" * 32)
POLICY: dict[str, Any] = {
    "placement": "coordinator",
    "accept_unattested": "the coordinator is the test's own",
    "images": ["gdi-task:*"],
    "max_cpu_cores": 2,
    "max_ram_gb": 4,
    "max_disk_gb": 10,
    "max_inputs": 20,
    "max_tasks_per_run": 40,
    "floor": 5,
    "error_lines": True,
    "releases": {"kinds": ["allele-counts"], "max_bytes": 2_000_000},
}


def wait(condition: Callable[[], bool], timeout: float = 120, what: str = "the condition") -> None:
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, f"{what} did not come true in {timeout} s"
        time.sleep(0.02)


class Server:
    """An ASGI application on a free port in a thread of its own."""

    def __init__(self, app: FastAPI) -> None:
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._server.serve(sockets=[self._sock])), daemon=True
        )
        self._thread.start()
        wait(lambda: self._server.started, what="a test server's start")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(120)


class FakeBroker:
    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.runs: dict[str, dict[str, Any]] = {}
        self.refusals: dict[str, tuple[int, str, str]] = {}  # run -> (status, slug, detail) of node-tokens
        self.own_token = "archive-account-" + secrets.token_hex(16)  # of the node's own account at the archive
        self.node_tokens: list[tuple[str, str, str]] = [("own", "sda", self.own_token)]  # (run, audience, token)
        self.looks = 0
        self.away = False
        self.trace = ""  # of every run
        self.gateway_key: dict[str, Any] = {}
        self.make_token = lambda audience: f"user-{audience}-{secrets.token_hex(8)}"
        app = bind(FastAPI(), BROKER)
        self.server = Server(app)

        @app.get("/.well-known/jwks.json")
        async def jwks() -> Any:
            return {"keys": [self.key.jwk()]}

        def asserted(request: Request) -> Response | None:
            if self.away:
                return problem(503, "database-unavailable", "restarting")
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            try:
                claims = verify(token, [self.gateway_key], issuer=NODE, audience=self.server.url)
            except TokenError as error:
                return problem(401, "unauthenticated", str(error))
            return (
                None
                if claims["sub"] == NODE and claims["exp"] - claims["iat"] <= 60
                else problem(403, "forbidden", "claims")
            )

        @app.get("/v1/nodes")
        async def nodes(request: Request) -> Any:
            if refused := asserted(request):
                return refused
            return Nodes(nodes=[NodeStatus(node=NODE, life="never-seen", placement="coordinator")])

        @app.get("/v1/runs/{run}")
        async def get_run(request: Request, run: str, response: Response) -> Any:
            self.looks += 1
            if self.trace:
                response.headers["traceparent"] = self.trace
            if refused := asserted(request):
                return refused
            if run not in self.runs:
                return problem(404, "run-unknown", "no such run")
            return BrokerRun.model_validate(self.runs[run])

        @app.post("/v1/runs/{run}/node-tokens")
        async def node_token(request: Request, run: str) -> Any:
            if refused := asserted(request):
                return refused
            if run in self.refusals:
                return problem(*self.refusals[run])
            if run not in self.runs or self.runs[run]["state"] != "open":
                return problem(403, "run-closed", "The run is closed.")
            audience = NodeTokenRequest.model_validate_json(await request.body()).audience
            token = self.make_token(audience)
            self.node_tokens.append((run, audience, token))
            return Token(token=token, expires_at=time.time() + 20)

    def owner(self, token: str, audience: str) -> str | None:
        """The run for which this token was given out, for this audience."""
        return next((run for run, a, t in self.node_tokens if t == token and a == audience), None)


class FakeTes:
    def __init__(self, broker: FakeBroker) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.user, self.password = "gateway", "tes-password-" + secrets.token_hex(8)
        # Popped at each create: "lost" (made, answered 500), "refuse" (400), "away" (503 and not made), "slow" (2 s)
        self.create_faults: list[str] = []
        self.lists = 0
        self.unlisted = False  # lists are answered with 500
        self.infos: list[float] = []
        app = bind(FastAPI(), TES)
        self.server = Server(app)

        def service(request: Request) -> bool:
            expected = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            return request.headers.get("authorization") == expected

        def seen(task: dict[str, Any], view: str) -> dict[str, Any]:
            return {"id": task["id"], "state": task["state"]} if view == "MINIMAL" else task

        @app.get("/ga4gh/tes/v1/service-info")
        async def info() -> Any:
            self.infos.append(time.monotonic())
            kind = {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"}
            owner = {"name": "a node", "url": "https://node.example"}
            return {"id": "fake", "name": "A TES", "type": kind, "organization": owner, "version": "1"}

        @app.post("/ga4gh/tes/v1/tasks")
        async def create(request: Request) -> Any:
            run = broker.owner(request.headers.get("authorization", "").removeprefix("Bearer "), "tes")
            if run is None and not service(request):
                return PlainTextResponse("no", 401)
            fault = self.create_faults.pop(0) if self.create_faults else ""
            if fault == "refuse":
                return PlainTextResponse("bad image #gdic_leak", 400)
            if fault == "away":
                return PlainTextResponse("busy", 429)
            asked = await request.json()
            from_json(asked)
            task = {
                **asked,
                "id": f"t{len(self.tasks) + 1}-{secrets.token_hex(4)}",
                "state": "QUEUED",
                "logs": [],
            }
            if fault == "slow":
                await asyncio.sleep(2)
            self.tasks[task["id"]] = task
            return PlainTextResponse("boom", 500) if fault == "lost" else {"id": task["id"]}

        @app.get("/ga4gh/tes/v1/tasks")
        async def listing(request: Request) -> Any:
            if not service(request):
                return PlainTextResponse("no", 401)
            self.lists += 1
            if self.unlisted:
                return PlainTextResponse("boom", 500)
            query = request.query_params
            tags = dict(zip(query.getlist("tag_key"), query.getlist("tag_value"), strict=True))
            every = [t for t in self.tasks.values() if all(t["tags"].get(k) == v for k, v in tags.items())]
            every = [t for t in every if query.get("state", t["state"]) == t["state"]]
            start, size = int(query.get("page_token") or 0), int(query.get("page_size", 256))
            page = [seen(t, query.get("view", "MINIMAL")) for t in every[start : start + size]]
            return {"tasks": page} | ({"next_page_token": str(start + size)} if start + size < len(every) else {})

        @app.get("/ga4gh/tes/v1/tasks/{task}")
        async def get(request: Request, task: str) -> Any:
            if not service(request):
                return PlainTextResponse("no", 401)
            return (
                seen(self.tasks[task], request.query_params.get("view", "MINIMAL"))
                if task in self.tasks
                else PlainTextResponse("unknown", 404)
            )

        @app.post("/ga4gh/tes/v1/tasks/{task}:cancel")
        async def cancel(request: Request, task: str) -> Any:
            if not service(request) or task not in self.tasks:
                return PlainTextResponse("no", 404)
            if self.tasks[task]["state"] not in FINAL:
                self.tasks[task]["state"] = "CANCELED"
            return {}

    def capability(self, task: str) -> str:
        return str(
            next(
                i["url"].partition("#")[2] for i in self.tasks[task]["inputs"] if i.get("url", "").startswith("sda://")
            )
        )


class FakeSda:
    def __init__(self, broker: FakeBroker) -> None:
        self.open = {"DS-A", "DS-B"}
        self.files: dict[tuple[str, str], bytes] = {}
        self.sizes: dict[tuple[str, str], int] = {}
        self.modes: dict[tuple[str, str], str] = {}
        self.checksums: dict[tuple[str, str], str] = {}
        self.by_id = False  # as SDA's v1 answers; its v2 gives Crypt4GH by id
        self.extra: list[dict[str, Any]] = []  # entries of the listing beside the files
        self.listed = True  # an old SDA answers 200 with XML where this dataset is not open
        self.old = False
        self.ranges = False  # of a file, where they are asked for
        self.given = 0  # bytes of files
        self.requests: list[dict[str, str]] = []
        app = bind(FastAPI(), SDA)
        self.server = Server(app)

        def known(request: Request) -> bool:
            self.requests.append({"path": request.url.path, **dict(request.headers)})
            return broker.owner(request.headers.get("authorization", "").removeprefix("Bearer "), "sda") is not None

        @app.get("/metadata/datasets")
        async def datasets(request: Request) -> Any:
            if not known(request):
                return PlainTextResponse("access token must be provided", 401)
            return JSONResponse(sorted(self.open), headers={"Set-Cookie": "sda_session_key=poison; Path=/"})

        @app.get("/metadata/datasets/{dataset}/files")
        async def files(request: Request, dataset: str) -> Any:
            if not known(request) or dataset not in self.open:
                return PlainTextResponse("dataset not found", 404)
            return [
                {
                    "filePath": p,
                    "fileId": f"urn:{p}",
                    "decryptedFileSize": self.sizes.get((d, p), 0),
                    "decryptedFileChecksum": self.checksums.get((d, p), ""),
                }
                for d, p in self.files
                if d == dataset
            ] + self.extra

        @app.api_route("/files/{file_id}", methods=["GET", "HEAD"])
        async def by_id(request: Request, file_id: str) -> Any:
            if not known(request):
                return PlainTextResponse("unauthorised", 401)
            if not self.by_id:
                return PlainTextResponse("downloading encrypted data is not supported", 400)
            found = [(d, p) for d, p in self.files if f"urn:{p}" == file_id and d in self.open]
            return Response(self.files[found[0]]) if found else PlainTextResponse("file not found", 404)

        @app.api_route("/s3-encrypted/{dataset}/{path:path}", methods=["GET", "HEAD"])
        async def data(request: Request, dataset: str, path: str) -> Any:
            if not known(request):
                return PlainTextResponse("unauthorised", 401)
            if base64.b64decode(request.headers.get("client-public-key", "")) != KEY:
                return PlainTextResponse("c4gh public key is missing", 400)
            if dataset not in self.open:
                return (
                    Response('<?xml version="1.0"?>\n<ListBucketResult/>', media_type="application/xml")
                    if self.old
                    else Response(status_code=403)
                )
            # As SDA's database does: the path is a pattern without anchors, and the first row that matches is sent.
            matching = (f for f in self.files if f[0] == dataset and re.search(path, f[1]))
            name = next(matching, None)
            if name is None:
                return PlainTextResponse("file not found", 404)
            body = self.files[name]
            headers = {
                "ETag": f'"{self.checksums.get(name, "abc")}"',
                "Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT",
                "Content-Length": str(len(body)),
                "Set-Cookie": "sda_session_key=x; Path=/",
            }
            mode = self.modes.get((dataset, path), "")
            if mode == "xml":
                return Response("<html>sorry</html>", media_type="text/html")
            if mode == "unavailable":
                return PlainTextResponse("archive unavailable", 503)
            asked = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", request.headers.get("range", ""))
            if asked and (self.ranges or mode == "cuts"):
                start, end = int(asked[1]), min(int(asked[2] or len(body)) + 1, len(body))
                headers |= {"Content-Length": str(end - start), "Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}
                part = body[start:end]
                status = 206
            else:
                part, status = body, 200
            self.given += len(part)
            if mode == "cuts":  # each answer ends after a megabyte; the rest is had by range
                return StreamingResponse(iter([part[:1_000_000]]), status, headers=headers)
            if mode == "cut":
                half = [body[: len(body) // 2]]
                return StreamingResponse(iter(half), headers=headers)  # fewer bytes than said: the connection breaks
            return Response(part, status, headers=headers)


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = FakeBroker()
        self.tes, self.sda = FakeTes(self.broker), FakeSda(self.broker)
        self.s3 = Weed(folder, ("workspace", "releases"))
        self.htsget = HtsgetServer(lambda token: self.broker.owner(token, "sda") is not None)
        self.htsget_server = Server(self.htsget.app)
        self.gateway_key = SigningKey.generate()
        self.broker.gateway_key = self.gateway_key.jwk()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket = folder / "in.sock"
        self.log = folder / "gateway.log"
        self.extra: dict[str, str] = {}
        self.python_path = [Path(__file__).parents[2]]  # of the gateway's process
        self.policy()
        self.describe("DS*")
        for many in ("RV*", "YN*", "LG*"):
            self.describe(many)
        for name, data in (
            ("key.pem", self.gateway_key.pem()),
            ("tes-password", self.tes.password.encode()),
            ("archive-token", self.broker.own_token.encode()),
        ):
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o600)
        (folder / "tes.pub").write_bytes(KEY)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def policy(self, **changes: Any) -> None:
        temporary = self.folder / "policy.new"
        temporary.write_text(yaml.safe_dump({**POLICY, **changes}))
        temporary.replace(self.folder / "policy.yaml")

    def describe(self, dataset: str, **changes: Any) -> None:
        """What the node's operator says of a dataset, or of all whose id begins so (`DS*`)."""
        folder = self.folder / "datasets"
        folder.mkdir(exist_ok=True)
        values = {"dataset": dataset, "assembly": "GRCh37", "membership": "contract", "absent": "reference"}
        values |= {"identifiers": "one-per-person", "disjoint": True, **changes}
        file = folder / f"{dataset.replace('*', '-all')}.yaml"
        file.with_suffix(".new").write_text(yaml.safe_dump(values))
        file.with_suffix(".new").replace(file)

    def environment(self) -> dict[str, str]:
        values = {
            "NODE_ID": NODE,
            "PORT": str(self.port),
            "PUBLIC_URL": self.url,
            "INTERNAL_SOCKET": str(self.socket),
            "BROKER_URL": self.broker.server.url,
            "KEY_FILE": "key.pem",
            "POLICY_FILE": "policy.yaml",
            "DATABASE_URL": f"sqlite+aiosqlite:///{self.folder / 'gateway.db'}",
            "TES_URL": self.tes.server.url,
            "TES_USER": self.tes.user,
            "TES_PASSWORD_FILE": "tes-password",
            "TES_PUBLIC_KEY_FILE": "tes.pub",
            "SDA_URL": self.sda.server.url,
            "HTSGET_URL": self.htsget_server.url + "/htsget",
            "S3_ENDPOINT": self.s3.url,
            "S3_CREDENTIALS_FILE": "s3-keys.json",
            "ARCHIVE_TOKEN_FILE": "archive-token",
            "WORKSPACE_BUCKET": "workspace",
            "RELEASE_BUCKET": "releases",
            "RUN_CHECK_SECONDS": "0.3",
            "BROKER_WAIT_SECONDS": "2",
            "MAX_STREAMS": "8",
            **self.extra,
        }
        return {"PATH": os.environ["PATH"], **{f"NODE_GATEWAY_{k}": v for k, v in values.items()}}

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "node_gateway.main"],
                env={**self.environment(), "PYTHONPATH": os.pathsep.join(map(str, self.python_path))},
                cwd=self.folder,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )

        def ready() -> bool:
            assert self.process and self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                return (
                    httpx.get(self.url + "/livez", timeout=10, trust_env=False).status_code == 200
                    and self.socket.exists()
                )
            except httpx.HTTPError:
                return False

        wait(ready, 180, "the gateway's start")

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(120)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`node-gateway WORDS`, with the gateway's own settings."""
        return subprocess.run(
            [sys.executable, "-m", "node_gateway.main", *words],
            env={**self.environment(), "PYTHONPATH": os.pathsep.join(map(str, self.python_path))},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def stop(self) -> int:
        assert self.process
        self.process.terminate()
        return self.process.wait(120)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.stop()
        for server in (self.broker.server, self.tes.server, self.sda.server, self.htsget_server):
            server.stop()
        self.s3.close()

    # --- what tests say and ask ------------------------------------------------------------------

    def new_run(self, *, datasets: tuple[str, ...] = ("DS-A",), attempt: int = 1) -> Run:
        run = Run(self, "r-" + secrets.token_hex(10), datasets)
        run.admit(attempt)
        return run

    @contextmanager
    def inside(self) -> Iterator[httpx.Client]:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://gateway", timeout=60, trust_env=False
        ) as client:
            yield client

    def ready(self) -> dict[str, str]:
        """What the gateway says to its operators of its parts. It is ready."""
        with self.inside() as client:
            answer = client.get("/readyz")
        assert answer.status_code == 200, answer.text
        found: dict[str, str] = answer.json()["checks"]
        return found

    def audit(self, run: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        with self.inside() as client:
            while True:
                after = found[-1]["number"] if found else 0
                page = [
                    json.loads(line)
                    for line in client.get(
                        "/audit", params={"after": after, "limit": 10_000, "run": run}
                    ).text.splitlines()
                ]
                if not page:
                    return found
                found += page

    def refusals(self, run: str = "") -> list[str]:
        """Reasons of what was refused, oldest first."""
        return [e.get("reason", "") for e in self.audit(run) if not e["allowed"]]

    def read(self, path: str, capability: str, *, key: bytes | None = KEY, method: str = "GET") -> httpx.Response:
        headers = {"Authorization": f"Bearer {capability}"}
        if key is not None:
            headers["Client-Public-Key"] = base64.b64encode(key).decode()
        with self.inside() as client:
            return client.request(method, path, headers=headers)


class Run:
    def __init__(self, world: World, run: str, datasets: tuple[str, ...]) -> None:
        self.world, self.id, self.datasets = world, run, datasets
        self.attempt = 1
        self.generation = 1

    def admit(self, attempt: int, state: str = "open") -> None:
        self.attempt = attempt
        item = {
            "node": NODE,
            "datasets": list(self.datasets),
            "access_ends_at": time.time() + 3600,
            "gateway_url": self.world.url,
            "audience": self.world.url,
        }
        self.world.broker.runs[self.id] = {
            "id": self.id,
            "dag_id": "w",
            "dag_run_id": self.id,
            "attempt": attempt,
            "state": state,
            "workflow": "allele-frequency",
            "digest": "sha256:" + "0" * 64,
            "user": "alice@aai",
            "datasets": list(self.datasets),
            "plan": [{**item, "public_key": self.world.gateway_key.jwk()}],
            "opened_at": time.time(),
        }

    def token(
        self,
        scope: str = "tasks workspace",
        *,
        key: SigningKey | None = None,
        lifetime: float = 300,
        typ: str = TYPE,
        **claims: Any,
    ) -> str:
        airflow = "tasks" not in scope
        own = RunClaims(
            sub="alice@aai",
            run=self.id,
            attempt=self.attempt,
            node=NODE,
            workflow="allele-frequency",
            digest="sha256:" + "0" * 64,
            datasets=list(self.datasets),
            scope=scope,
            generation=0 if airflow else self.generation,
            wl=AIRFLOW if airflow else "pod-1",
        ).model_dump() | {"iss": self.world.broker.server.url, "aud": self.world.url}
        return (key or self.world.broker.key).sign({**own, **claims}, lifetime=lifetime, typ=typ)

    def call(
        self,
        method: str,
        path: str,
        *,
        scope: str = "tasks workspace",
        token: str | None = None,
        accept: str = "*/*",
        **request: Any,
    ) -> httpx.Response:
        value = self.token(scope) if token is None else token
        headers = {"Accept": accept, **({"Authorization": f"Bearer {value}"} if value else {})}
        return httpx.request(method, self.world.url + path, headers=headers, timeout=60, trust_env=False, **request)

    def task(self, **changes: Any) -> dict[str, Any]:
        return {
            "name": "count",
            "inputs": [
                {"url": "sda://DS-A/cohort.vcf.gz.c4gh", "path": "/gdi/work/in.vcf.gz"},
                {"content": "print(1)", "path": "/gdi/workflow/a.py"},
            ],
            "outputs": [{"url": f"workspace://{self.id}/out/a b.json", "path": "/gdi/work/out.json"}],
            "executors": [{"image": "gdi-task:1", "command": ["/bin/true"], "workdir": "/gdi/work"}],
            "resources": {"cpu_cores": 1, "ram_gb": 1.0},
            "tags": {"gdi-job": secrets.token_hex(12), "gdi-try": "1", "gdi-rule": "count"},
            **changes,
        }

    def submit(self, **changes: Any) -> str:
        answer = self.call("POST", "/ga4gh/tes/v1/tasks", json=self.task(**changes))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def declare(self, *paths: str) -> str:
        """A task with these outputs: folders end with a slash."""
        return self.submit(
            outputs=[
                {
                    "url": f"workspace://{self.id}/{path.rstrip('/')}",
                    "path": f"/gdi/work/{number}",
                    "type": "DIRECTORY" if path.endswith("/") else "FILE",
                }
                for number, path in enumerate(paths)
            ]
        )

    def get(self, task: str, view: str = "FULL") -> dict[str, Any]:
        answer = self.call("GET", f"/ga4gh/tes/v1/tasks/{task}", params={"view": view})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


_worlds: list[World] = []


@pytest.fixture(scope="module", name="world")
def world_fixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """One world for all of the gateway's tests: each works with runs of its own. It ends with the session."""
    if not _worlds:
        _worlds.append(World(tmp_path_factory.mktemp("gw")))
        request.config.add_cleanup(_worlds[0].close)
    return _worlds[0]


def slug(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["type"]).removeprefix("urn:gdi:problem:")


def c4gh(size: int) -> bytes:
    """Bytes of the shape of a Crypt4GH file that holds `size` bytes: header with one packet, sealed segments."""
    whole, rest = divmod(size, 65536)
    header = (
        b"crypt4gh" + (1).to_bytes(4, "little") + (1).to_bytes(4, "little") + (108).to_bytes(4, "little") + b"\0" * 104
    )
    return header + os.urandom(whole * (65536 + 28) + (rest + 28 if rest else 0))
