"""A node and a broker for tests of the Snakemake side: the gateway's and the broker's HTTP API over real sockets, tasks
as local processes.

It keeps to docs/contracts.md, so that the same tests run over the real ones by another URL; what it cannot do is
isolate tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gdi.contracts.events import EventBatch
from gdi.contracts.gateway_api import StoredFile, WorkspaceListing
from gdi.contracts.sections import Section, SectionPlan
from gdi.contracts.tes import LIVE, from_json
from gdi.contracts.tokens import Token, TokenRequest
from gdi.contracts.urls import SdaUrl
from tests.support.problems import problem
from tests.support.wire import bind
from tests.support.wires import NODE

TES = "/ga4gh/tes/v1"


class Node:
    """Start with `with Node(tmp_path) as node:`; `node.url` serves both the broker's and the gateway's paths."""

    def __init__(
        self,
        root: Path,
        *,
        run: str = "r-0123456789abcdef0123",
        datasets: tuple[str, ...] = ("DS1",),
        slots: int = 4,
        page: int = 1000,
    ) -> None:
        self.root, self.run, self.datasets, self.page = root, run, set(datasets), page
        self.workspace = root / "workspace" / run
        self.archive = root / "archive"
        self.workspace.mkdir(parents=True, exist_ok=True)
        self.archive.mkdir(parents=True, exist_ok=True)
        self.tasks: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.events: dict[int, dict[str, Any]] = {}
        self.tokens: dict[str, float] = {}
        self.token_lifetime = 300.0
        self.identity = "identity-1"
        self.log: list[tuple[str, str, int]] = []
        self.away = False
        self.broker_away = False
        self.revoked: set[str] = set()
        self.described: dict[str, Any] = {}
        self.system_errors: dict[str, int] = {}  # rule -> how many of its tasks end as SYSTEM_ERROR first
        self.denied: dict[str, str] = {}  # rule -> dataset that its tasks may not read any more
        self.lies: set[str] = set()  # rules whose tasks are COMPLETE without having stored anything
        self.hold = threading.Event()
        self.hold.set()
        self._ids = itertools.count(1)
        self._slots = slots
        self._jobs: set[asyncio.Task[None]] = set()
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"

    # --- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Node:
        app = bind(
            Starlette(
                routes=[
                    Route("/v1/runs/{run}/tokens", self._token, methods=["POST"]),
                    Route("/v1/runs/{run}/events", self._events, methods=["POST"]),
                    Route(f"{TES}/tasks", self._create, methods=["POST"]),
                    Route(f"{TES}/tasks", self._list, methods=["GET"]),
                    Route(f"{TES}/tasks/{{id}}:cancel", self._cancel, methods=["POST"]),
                    Route(f"{TES}/tasks/{{id}}", self._get, methods=["GET"]),
                    Route("/workspace/{run}", self._listing, methods=["GET"]),
                    Route("/workspace/{run}/.gdi/sources/{sha256}", self._source, methods=["PUT"]),
                    Route("/workspace/{run}/{path:path}", self._workspace, methods=["HEAD", "DELETE"]),
                    Route("/datasets", self._described, methods=["GET"]),
                    Route("/datasets/{dataset}/{path:path}", self._dataset, methods=["HEAD"]),
                ],
                middleware=[Middleware(BaseHTTPMiddleware, dispatch=self._door)],
            ),
            NODE,
        )
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.wait(lambda: self._server.started)
        return self

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self.sock]))

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        for process in list(self.processes.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self._server.should_exit = True
        self._thread.join(120)

    @staticmethod
    def wait(condition: Any, timeout: float = 120) -> None:
        until = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < until, "the condition did not come true in time"
            time.sleep(0.02)

    # --- what tests ask --------------------------------------------------------------------------

    def of_rule(self, rule: str) -> list[dict[str, Any]]:
        return [t for t in self.tasks.values() if t["tags"].get("gdi-rule") == rule]

    def live(self) -> list[str]:
        return [i for i, t in self.tasks.items() if t["state"] in LIVE]

    def told(self, kind: str, **match: Any) -> list[dict[str, Any]]:
        return [
            e
            for _, e in sorted(self.events.items())
            if e["kind"] == kind and all(e.get(k) == v for k, v in match.items())
        ]

    # --- the door --------------------------------------------------------------------------------

    async def _door(self, request: Request, call_next: Any) -> Response:
        path = request.url.path
        broker = path.startswith("/v1/")
        if self.broker_away if broker else self.away:
            return Response(status_code=503)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        good = (
            bearer.endswith(self.identity) and bearer != ""
            if broker
            else self.tokens.get(bearer, 0) > time.time() and bearer not in self.revoked
        )
        answer: Response = await call_next(request) if good else problem(401, "unauthenticated", "no valid token")
        self.log.append((request.method, path, answer.status_code))
        return answer

    async def _token(self, request: Request) -> Response:
        TokenRequest.model_validate_json(await request.body())
        token = f"run-token-{len(self.tokens) + 1}"
        self.tokens[token] = time.time() + self.token_lifetime
        return JSONResponse(Token(token=token, expires_at=self.tokens[token]).model_dump())

    async def _events(self, request: Request) -> Response:
        batch = EventBatch.model_validate_json(await request.body())
        for event in batch.events:
            self.events.setdefault(
                (0 if batch.source == "pod-1" else 100_000 * int(batch.source.removeprefix("pod-"))) + event.seq,
                event.model_dump(exclude_none=True),
            )
        return Response(status_code=204)

    # --- tasks -----------------------------------------------------------------------------------

    async def _create(self, request: Request) -> Response:
        task = await request.json()
        from_json(task)
        tags = task["tags"]
        for old in self.tasks.values():
            same = all(old["tags"].get(k) == tags.get(k) for k in ("gdi-job", "gdi-try"))
            if same and (old["state"] in LIVE or old["state"] == "COMPLETE"):
                return JSONResponse({"id": old["id"]})
        for item in (*task["inputs"], *task["outputs"]):
            url = item.get("url", "")
            if url.startswith("sda://") and url[6:].split("/")[0] not in self.datasets:
                return problem(403, "dataset-not-granted", f"{url} is not a dataset of this run")
            if url and not url.startswith((f"workspace://{self.run}/", "sda://")):
                return problem(403, "forbidden-location", f"{url} is not of this run")
        identifier = f"t{next(self._ids)}"
        task.update(id=identifier, state="QUEUED", creation_time=datetime.now(UTC).isoformat(), logs=[])
        tags.update({"gdi-run": self.run})
        self.tasks[identifier] = task
        job = asyncio.create_task(self._execute(task))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return JSONResponse({"id": identifier})

    async def _execute(self, task: dict[str, Any]) -> None:
        while sum(t["state"] == "RUNNING" for t in self.tasks.values()) >= self._slots or not self.hold.is_set():
            await asyncio.sleep(0.02)
            if task["state"] != "QUEUED":
                return
        rule = task["tags"].get("gdi-rule", "")
        if rule in self.denied:
            metadata = {
                "gdi_error_class": "AccessDenied",
                "gdi_dataset": self.denied[rule],
                "gdi_reason": "access was withdrawn",
            }
            task.update(state="SYSTEM_ERROR", logs=[{"logs": [], "metadata": metadata}])
            return
        task["state"] = "RUNNING"
        if self.system_errors.get(rule, 0) > 0:
            self.system_errors[rule] -= 1
            task.update(state="SYSTEM_ERROR", logs=[{"logs": []}])
            return
        place = self.root / "tasks" / task["id"]
        try:
            for item in task["inputs"]:
                target = place / item["path"].lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                if "content" in item:
                    target.write_text(self._moved(task, place, item["content"]))
                else:
                    target.write_bytes(self._content(item["url"]))
        except OSError:
            task.update(state="SYSTEM_ERROR", logs=[{"logs": []}])
            return
        work = task["executors"][0]["workdir"]
        (place / work.lstrip("/")).mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(self._moved(task, place, argument) for argument in task["executors"][0]["command"]),
            cwd=place / work.lstrip("/"),
            env={
                "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
                "HOME": str(place),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes[task["id"]] = process
        _, stderr = await process.communicate()
        del self.processes[task["id"]]
        if task["state"] == "CANCELED":
            return
        metadata = {}
        said = [line.split() for line in stderr.decode(errors="replace").splitlines() if line.startswith("GDI-ERROR ")]
        if said:
            metadata = {
                f"gdi_{'error_class' if k == 'class' else k}": v
                for k, _, v in (part.partition("=") for part in said[-1][1:])
            }
        if process.returncode == 0 and rule not in self.lies:
            for item in task["outputs"]:
                source, target = place / item["path"].lstrip("/"), self._file(item["url"])
                target.parent.mkdir(parents=True, exist_ok=True)
                if not source.exists():
                    task.update(
                        state="SYSTEM_ERROR", logs=[{"logs": [], "metadata": {"gdi_reason": "an output is missing"}}]
                    )
                    return
                (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        task["logs"] = [{"logs": [{"exit_code": process.returncode}], "metadata": metadata}]
        task["state"] = "COMPLETE" if process.returncode == 0 else "EXECUTOR_ERROR"

    @staticmethod
    def _moved(task: dict[str, Any], place: Path, text: str) -> str:
        """The task's paths as they are here, where it has no root of its own."""
        own = (i["path"] for i in task["inputs"] if "content" in i or "/.gdi/sources/" in i["url"])
        roots = {task["executors"][0]["workdir"], *(os.path.dirname(os.path.dirname(p)) for p in own)} - {
            "/",
            "/gdi",
        } | {"/gdi/job"}
        return re.sub(
            "|".join(re.escape(r) for r in sorted(roots, key=len, reverse=True)), lambda m: str(place) + m.group(), text
        )

    def _file(self, url: str) -> Path:
        scheme, _, rest = url.partition("://")
        return self.archive / rest if scheme == "sda" else self.root / "workspace" / rest

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        wanted = dict(zip(query.getlist("tag_key"), query.getlist("tag_value"), strict=True))
        found = [t for t in self.tasks.values() if all(t["tags"].get(k) == v for k, v in wanted.items())]
        start, size = int(query.get("page_token") or 0), min(int(query.get("page_size", 256)), self.page)
        body: dict[str, Any] = {
            "tasks": [self._view(t, query.get("view", "MINIMAL")) for t in found[start : start + size]]
        }
        if start + size < len(found):
            body["next_page_token"] = str(start + size)
        return JSONResponse(body)

    async def _get(self, request: Request) -> Response:
        task = self.tasks.get(request.path_params["id"])
        return (
            problem(404, "not-found", "no such task")
            if task is None
            else JSONResponse(self._view(task, request.query_params.get("view", "MINIMAL")))
        )

    @staticmethod
    def _view(task: dict[str, Any], view: str) -> dict[str, Any]:
        return {k: task[k] for k in ("id", "state")} if view == "MINIMAL" else task

    async def _cancel(self, request: Request) -> Response:
        task = self.tasks.get(request.path_params["id"])
        if task is None:
            return problem(404, "not-found", "no such task")
        if task["state"] in LIVE:
            task["state"] = "CANCELED"
            if process := self.processes.get(task["id"]):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return JSONResponse({})

    # --- files -----------------------------------------------------------------------------------

    async def _listing(self, request: Request) -> Response:
        files = sorted(p for p in self.workspace.rglob("*") if p.is_file() and ".gdi" not in p.parts)
        start = int(request.query_params.get("page_token") or 0)
        rows = [
            StoredFile(path=str(p.relative_to(self.workspace)), size=p.stat().st_size, mtime=int(p.stat().st_mtime))
            for p in files
        ]
        more = str(start + self.page) if start + self.page < len(rows) else ""
        page = WorkspaceListing(files=rows[start : start + self.page], next_page_token=more)
        return JSONResponse(page.model_dump(mode="json"))

    async def _source(self, request: Request) -> Response:
        body = await request.body()
        if hashlib.sha256(body).hexdigest() != request.path_params["sha256"]:
            return problem(422, "wrong-hash", "the content has another hash")
        path = self.workspace / ".gdi" / "sources" / request.path_params["sha256"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return Response(status_code=204)

    async def _workspace(self, request: Request) -> Response:
        path = self.workspace / request.path_params["path"]
        if request.path_params["run"] != self.run:
            return problem(403, "other-run", "not this run")
        if not path.is_file():
            return problem(404, "not-found", "no such file")
        if request.method == "DELETE":
            path.unlink()
            return Response(status_code=204)
        return self._stat(path)

    def _content(self, url: str) -> bytes:
        """Of a section what the gateway and the TES make of it together."""
        section = Section.of(SdaUrl.parse(url)) if url.startswith("sda://") else None
        if section is None:
            return self._file(url).read_bytes()
        plan = SectionPlan.model_validate_json(self._file(str(section.plan_file(self.run))).read_bytes())
        whole = self._file(str(section.file)).read_bytes()
        return b"".join(whole[start:end] for start, end in plan.ranges(section.number, len(whole)))

    async def _described(self, request: Request) -> Response:
        return JSONResponse({"datasets": sorted(self.datasets), "described": self.described})

    async def _dataset(self, request: Request) -> Response:
        dataset = request.path_params["dataset"]
        if dataset not in self.datasets:
            return problem(403, "dataset-not-granted", f"{dataset} is not a dataset of this run")
        section = Section.of(SdaUrl(dataset, request.path_params["path"]))
        path = self.archive / dataset / (section.file.path if section else request.path_params["path"])
        return self._stat(path) if path.is_file() else problem(404, "not-found", "no such file")

    @staticmethod
    def _stat(path: Path) -> Response:
        stat = path.stat()
        return Response(
            headers={"content-length": str(stat.st_size), "last-modified": formatdate(stat.st_mtime, usegmt=True)}
        )
