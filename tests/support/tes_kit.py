"""What a TES needs around it, on loopback: a gateway's internal listener (real Crypt4GH), token introspection, a
SeaweedFS. And the two servers.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import secrets
import socketserver
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote

import httpx
import yaml
from crypt4gh import lib as crypt4gh_lib
from crypt4gh.keys import c4gh

from gdi.contracts.tes import FINAL
from gdi.kit.jose import SigningKey
from tests.support.processes import die_with_parent, stop
from tests.support.waiting import wait_for as wait_for
from tests.support.weed import Weed
from tests.support.wire import BoundHandler, held
from tests.support.wires import NODE_INSIDE, OAUTH, TES

ROOT = Path(__file__).parents[2]
PREFIX = "/ga4gh/tes/v1"
IMAGE = "gdi-task:1"
TEXT = "text/plain"
CAPABILITY = "capability-planted-4711"


def chosen_sandbox() -> dict[str, str]:
    """The environment of a server that runs strangers' programs: `GDI_SANDBOX=podman pytest …` tests it over podman."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "GDI_SANDBOX", "DOCKER_HOST") if name in os.environ}


def private(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class FakeGateway:
    """The gateway's internal listener, on TCP and on a unix socket: `GET /s3[-encrypted]/DS/path` with a capability,
    and htsget for `slices` (by `ENDPOINT/ID?QUERY`). `faults` are answered first, in turn.
    """

    def __init__(self, folder: Path, *, funnel: bool) -> None:
        self.files: dict[str, bytes] = {}
        self.slices: dict[str, bytes] = {}
        self._blocks: dict[str, bytes] = {}
        self.damaged: set[str] = set()
        self.capabilities = {CAPABILITY}
        self.requests: list[dict[str, str]] = []
        self.faults: list[int] = []
        gateway = self

        class Handler(BoundHandler):
            wire = NODE_INSIDE

            def slice(self) -> None:
                """A ticket of two blocks, the first of them in it; and the second."""
                token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
                if token not in gateway.capabilities:
                    self.answer(403, {"htsget": {"error": "PermissionDenied"}})
                elif self.path in gateway._blocks:
                    self.answer(206, gateway._blocks[self.path], TEXT)
                elif (plain := gateway.slices.get(self.path.lstrip("/"))) is not None:
                    body = encrypt(plain, self.headers["Client-Public-Key"])
                    path = f"/htsget/blocks/{len(gateway._blocks)}"
                    gateway._blocks[path] = body[50:]
                    inline = {"url": "data:;base64," + base64.b64encode(body[:50]).decode()}
                    headers = {"Authorization": f"Bearer {token}"}
                    urls = [inline, {"url": f"http://{self.headers['Host']}{path}", "headers": headers}]
                    self.answer(200, {"htsget": {"format": "VCF", "urls": urls}})
                else:
                    self.answer(404, {"htsget": {"error": "NotFound"}})

            def do_GET(self) -> None:
                kind, _, rest = unquote(self.path).lstrip("/").partition("/")
                if kind in ("reads", "variants", "htsget"):
                    gateway.requests.append({"path": self.path})
                    self.slice()
                    return
                encrypted = kind == "s3-encrypted"
                gateway.requests.append(
                    {
                        "path": rest,
                        "authorization": self.headers["Authorization"] or "",
                        "key": self.headers["Client-Public-Key"] or "",
                    }
                )

                def deny(status: int, text: str) -> None:
                    self.answer(200 if funnel and encrypted else status, text.encode(), TEXT)

                if gateway.faults:
                    fault = gateway.faults.pop(0)
                    if fault:
                        self.answer(fault, b"not now", TEXT)
                    else:  # half a body, then cut
                        self.send_response(200)
                        self.send_header("Content-Length", "1000000")
                        self.end_headers()
                        self.wfile.write(b"crypt4gh" + b"x" * 5000)
                        self.close_connection = True
                    return
                token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
                if token not in gateway.capabilities:
                    deny(403, "AccessDenied: access to DS1 was withdrawn")
                elif rest not in gateway.files:
                    deny(404, "NotFound: file not found")
                else:
                    plain = gateway.files[rest]
                    etag = hashlib.sha256(b"other" if rest in gateway.damaged else plain).hexdigest()
                    body = encrypt(plain, self.headers["Client-Public-Key"]) if encrypted else plain
                    self.answer(200, body, "application/octet-stream", ETag=f'"{etag}"')

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.socket = folder / "gateway.sock"
        self.unix = _UnixServer(str(self.socket), Handler)
        for server in (self.http, self.unix):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.port = self.http.server_address[1]

    def close(self) -> None:
        for server in (self.http, self.unix):
            server.shutdown()
            server.server_close()


def encrypt(plain: bytes, public_header: str) -> bytes:
    lines = base64.b64decode(public_header).decode().split("\n")
    out = io.BytesIO()
    crypt4gh_lib.encrypt([(0, os.urandom(32), base64.b64decode(lines[1]))], io.BytesIO(plain), out)
    return out.getvalue()


class FakeAai:
    """Discovery, JWKS and introspection; `token(sub)` makes an access token, `revoked` holds those that are not active
    any more.
    """

    client_id, client_secret = "tes", "client-secret-planted-4711"

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.revoked: set[str] = set()
        self.made: dict[str, dict[str, Any]] = {}
        self.introspections = 0
        self.up = True
        aai = self

        class Handler(BoundHandler):
            wire = OAUTH

            def do_GET(self) -> None:
                if self.path.endswith("openid-configuration"):
                    document = {
                        "issuer": aai.issuer,
                        "jwks_uri": aai.issuer + "/jwk",
                        "introspection_endpoint": aai.issuer + "/introspect",
                        "authorization_endpoint": aai.issuer + "/authorize",
                        "token_endpoint": aai.issuer + "/token",
                    }
                    self.answer(200, document)
                else:
                    self.answer(200, {"keys": [aai.key.jwk()]})

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                token = form["token"][0]
                aai.introspections += 1
                expected = "Basic " + base64.b64encode(f"{aai.client_id}:{aai.client_secret}".encode()).decode()
                if not aai.up:
                    self.answer(500, b"down", TEXT)
                elif self.headers["Authorization"] != expected:
                    self.answer(401, {})
                else:
                    active = token in aai.made and token not in aai.revoked
                    self.answer(200, {"active": active, **(aai.made[token] if active else {})})

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        self.issuer = f"http://127.0.0.1:{self.port}/oidc"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def token(self, sub: str, audience: str = "tes-audience") -> str:
        claims = {"sub": sub, "aud": [audience], "iss": self.issuer, "exp": int(time.time()) + 600}
        token = self.key.sign(claims, lifetime=600)
        self.made[token] = claims
        return token

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@dataclass
class World:
    """Everything around a TES, and the TES's own files. `home` must have a short path (unix sockets)."""

    home: Path
    weed: Weed
    gateway: FakeGateway
    aai: FakeAai
    service_password: str = field(default_factory=lambda: "service-password-" + secrets.token_hex(8))

    def __post_init__(self) -> None:
        self.secret_key, self.public_key = self.home / "node.sec", self.home / "node.pub"
        c4gh.generate(str(self.secret_key), str(self.public_key), None, None)

    def auth(self, user: str, audience: str = "tes-audience") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.aai.token(user, audience)}"}

    def service(self) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"gateway:{self.service_password}".encode()).decode()}

    def close(self) -> None:
        self.gateway.close()
        self.aai.close()


class Tes:
    """A client of a TES under test, as the node's gateway (`user=None`) or as a user."""

    url: str
    world: World
    home: Path
    process: subprocess.Popen[Any]
    hooks: ClassVar[list[Any]] = []  # of httpx, for answers

    def call(
        self, method: str, path: str, *, user: str | None = None, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        sent = headers if headers is not None else self.world.auth(user) if user else self.world.service()
        with httpx.Client(timeout=60, trust_env=False, event_hooks={"response": self.hooks}) as http:
            return http.request(method, self.url + PREFIX + path, headers=sent, **more)

    def submit(self, task: dict[str, Any], user: str | None = None) -> str:
        answer = self.call("POST", "/tasks", user=user, json=task)
        assert answer.status_code == 200, answer.text
        task_id: str = answer.json()["id"]
        return task_id

    def get(self, task_id: str, view: str = "FULL", user: str | None = None) -> dict[str, Any]:
        answer = self.call("GET", f"/tasks/{task_id}", user=user, params={"view": view})
        assert answer.status_code == 200, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def list(self, user: str | None = None, **query: Any) -> dict[str, Any]:
        answer = self.call("GET", "/tasks", user=user, params=query)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    def wait(self, task_id: str, *states: str, seconds: float = 180) -> dict[str, Any]:
        wanted = set(states) or FINAL
        wait_for(f"task {task_id} in {wanted}", lambda: self.get(task_id, "MINIMAL").get("state") in wanted, seconds)
        return self.get(task_id)

    def run(self, task: dict[str, Any], user: str | None = None) -> dict[str, Any]:
        return self.wait(self.submit(task, user))

    def _start(self) -> subprocess.Popen[Any]:
        """The server, once it answers."""
        raise NotImplementedError

    def kill_and_start_again(self) -> None:
        self.process.kill()
        self.process.wait(120)
        self.process = self._start()

    def log(self) -> str:
        return (self.home / "log").read_text()

    def close(self) -> None:
        stop(self.process)


class StandIn(Tes):
    """`python -m gdi.local_federation.tes` as a process of its own."""

    flavour = "ga4gh"
    hooks: ClassVar = [held(TES)]

    def __init__(self, world: World, **overrides: Any) -> None:
        self.world = world
        self.home = world.home / f"tes-{secrets.token_hex(3)}"
        self.home.mkdir()
        self.port_file = self.home / "port"
        config = {
            "port": 0,
            "port_file": str(self.port_file),
            "state_dir": str(self.home / "state"),
            "slots": 3,
            "introspection": {
                "url": world.aai.issuer + "/introspect",
                "client_id": world.aai.client_id,
                "client_secret_file": str(private(self.home / "client", world.aai.client_secret)),
                "audience": "tes-audience",
                "cache_seconds": 1,
            },
            "service_accounts": [
                {"user": "gateway", "password_file": str(private(self.home / "password", world.service_password))}
            ],
            "archive": {
                "url": "http+unix://" + quote(str(world.gateway.socket), safe=""),
                "secret_key_file": str(world.secret_key),
                "public_key_file": str(world.public_key),
                "retry_seconds": 10,
            },
            "s3": {"endpoint": world.weed.endpoint, "credentials_file": str(world.weed.credentials)},
            "images": [{"match": "gdi-task:*"}],
            **overrides,
        }
        self.config = self.home / "config.yaml"
        self.config.write_text(yaml.safe_dump(config))
        self.process = self._start()

    def _start(self) -> subprocess.Popen[Any]:
        self.port_file.unlink(missing_ok=True)
        with (self.home / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gdi.local_federation.tes", "--config", str(self.config)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**chosen_sandbox(), "PLANTED": "environment-planted-4711"},
                preexec_fn=die_with_parent,
            )

        def ready() -> bool:
            assert process.poll() is None, self.log()
            return self.port_file.exists() and self.port_file.read_text().endswith("\n")

        wait_for("the TES listens", ready)
        self.url = f"http://127.0.0.1:{self.port_file.read_text().strip()}"
        wait_for("the TES answers", lambda: httpx.get(self.url + "/livez", trust_env=False).status_code == 200)
        return process
