"""A small world for the operators: a broker and gateways that keep their contracts (HTTP, in threads), the real process
host, a probe as workflow.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import uvicorn
import yaml
from fastapi import FastAPI, Request
from starlette.responses import Response

from gdi.contracts import broker_api as m
from gdi.contracts.committees import Departure
from gdi.contracts.gateway_api import AwaitingReview, CloseAttempt, Closed, Released, Review
from gdi.contracts.ids import make_run_id
from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.kit.server import install
from gdi.releases import signature
from gdi.releases.allele_counts.table import RELEASED
from tests.support.process_host import host_config
from tests.support.wire import bind
from tests.support.wires import BROKER, GATEWAY

TICKET = "gdit_planted-ticket-0123456789"
PROBE = """
import json, os, signal, sys, time
run = json.load(open("/gdi/run.json"))
mode = run["parameters"]["mode"]
open("/gdi/work/starts", "a").write(run["pod"] + "\\n")
def starts(): return len(open("/gdi/work/starts").readlines())
def stop(n, f): open("/gdi/work/stopped", "a").write(str(n)); os._exit(1)
signal.signal(signal.SIGTERM, stop)
if mode == "ok": time.sleep(run["parameters"]["seconds"])
elif mode == "lost-once": starts() == 1 and os.kill(os.getpid(), signal.SIGKILL)
elif mode == "again-once": sys.exit(75 if starts() == 1 else 0)
elif mode == "always-lost": sys.exit(75)
elif mode == "fail" or mode == "fail-" + run["node"]: sys.exit(1)
else:
    until = time.monotonic() + run["parameters"]["seconds"]  # a test may end it earlier
    while time.monotonic() < until and not os.path.exists("/gdi/work/end"): time.sleep(0.2)
"""
WORKFLOW = {
    "name": "probe",
    "title": "A probe",
    "version": "1",
    "parameters": {
        "mode": {"type": "string", "title": "Mode"},
        "seconds": {"type": "number", "title": "Seconds", "default": 0.2},
    },
    "required": ["mode"],
    "releases": [
        {
            "name": "counts",
            "title": "Counts",
            "path": "out/counts.json",
            "schema_file": "schema.json",
            "kind": "allele-counts",
        }
    ],
}


def until(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come true"
        time.sleep(0.02)


class Served:
    """A FastAPI application on a free port, in a thread; can go away and come back."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, host="127.0.0.1", port=self.port, log_level="error", lifespan="off")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(120)


@dataclass
class Node:
    """A gateway: publishes `release` under its signature, remembers who closed what."""

    name: str
    release: bytes = json.dumps(
        {
            "format": RELEASED,
            "unlisted": {"ac_max": 8, "an_max": 100, "reason": "small"},
            "sites": [],
            "withheld": {},
        }
    ).encode()
    reviews: int = 0  # how often asking for a release answers that a person has to look
    review_states: list[str] = field(
        default_factory=list
    )  # what waiting is told, in order ("away": 503, "forbidden": 403); then "published"
    refuse: list[str] | None = None
    absent: bool = False  # the file that is to be released was never made
    tamper: bytes = b""
    closed: list[int] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.key = SigningKey.generate()
        app = bind(FastAPI(), GATEWAY)
        install(app)
        self.served = Served(app)
        app.post("/releases/{run}")(self._ask)
        app.get("/releases/{run}/{name}/review")(self._review)
        app.get("/releases/{run}/{name}")(self._get)
        app.post("/runs/{run}/close")(self._close)

    def _authorised(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer run-token-for-{self.served.url}":
            raise ProblemError(401, "unauthenticated", "No run token.")

    async def _ask(self, run: str, request: Request) -> Response:
        self._authorised(request)
        body = await request.json()
        self.asked.append(body)
        if self.absent:
            raise ProblemError(404, "not-found", "The file does not exist in the workspace.")
        if self.refuse:
            raise ProblemError(422, "release-refused", "The check refused.", reasons=self.refuse)
        if self.reviews:
            self.reviews -= 1
            waiting = AwaitingReview(name=body["name"])
            return Response(waiting.model_dump_json(), status_code=202, media_type="application/json")
        digest = sha256_hex(self.release)
        answer = Released(
            name=body["name"],
            sha256=digest,
            bytes=len(self.release),
            url=f"{self.served.url}/releases/{run}/{body['name']}",
            signature=signature.sign(
                self.key,
                node=self.name,
                run=run,
                name=body["name"],
                sha256=digest,
                workflow=body["workflow"],
                digest=body["digest"],
                attempt=body["attempt"],
            ),
            sites_released=1,
        )
        return Response(answer.model_dump_json(), media_type="application/json")

    async def _get(self, run: str, name: str, request: Request) -> Response:
        self._authorised(request)
        return Response(self.release + self.tamper)

    async def _review(self, run: str, name: str, request: Request) -> dict[str, str]:
        self._authorised(request)
        state = self.review_states.pop(0) if self.review_states else "published"
        if state in ("away", "forbidden"):
            status, slug = (503, "storage-away") if state == "away" else (403, "forbidden")
            raise ProblemError(status, slug, f"The gateway is {state}.")
        return Review.model_validate({"state": state}).model_dump()

    async def _close(self, run: str, request: Request) -> dict[str, Any]:
        self._authorised(request)
        asked = CloseAttempt.model_validate(await request.json())
        self.closed.append(asked.attempt)
        return Closed(run=run, attempt=asked.attempt).model_dump()


class Broker:
    """The broker's run calls, kept in memory: admission with one good ticket, workloads with fencing, failing, tokens
    for open runs.
    """

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.runs: dict[str, m.Run] = {}
        self.admissions: list[dict[str, Any]] = []
        self.released: list[Departure] = []  # as closing told
        self.workloads: list[tuple[str, str | None]] = []
        self.events: list[dict[str, Any]] = []
        self.messages: dict[str, str] = {}
        self.refusal: ProblemError | None = None
        self.due: list[m.DueStart] = []  # handed out at the next question, and then no more
        self.reported: list[m.StartReport] = []
        app = bind(FastAPI(), BROKER)
        install(app)
        app.post("/v1/runs")(self._admit)
        app.get("/v1/runs")(self._open_runs)
        app.post("/v1/schedules/due")(self._due)
        app.post("/v1/schedules/starts", status_code=204)(self._started)
        app.get("/v1/runs/{run}")(self._get)
        app.delete("/v1/runs/{run}")(self._close)
        app.put("/v1/runs/{run}/workloads/{pod}")(self._workload)
        app.post("/v1/runs/{run}/tokens")(self._token)
        app.post("/v1/runs/{run}/events")(self._events)
        app.get("/v1/runs/{run}/progress")(self._progress)
        app.get("/v1/runs/{run}/jobs")(self._jobs)
        self.served = Served(app)

    async def _open_runs(self, after: str = "") -> m.OpenRuns:
        return m.OpenRuns(
            runs=sorted((r for r in self.runs.values() if r.state == "open" and r.id > after), key=lambda r: r.id)[:1]
        )

    async def _due(self) -> m.DueStarts:
        found, self.due = self.due, []
        return m.DueStarts(starts=found)

    async def _started(self, report: m.StartReport) -> None:
        self.reported.append(report)

    def _known(self, run: str) -> m.Run:
        if run not in self.runs:
            raise ProblemError(404, "run-unknown", f"There is no run {run}.")
        return self.runs[run]

    async def _admit(self, request: m.AdmitRequest) -> m.Run:
        self.admissions.append(request.model_dump())
        if self.refusal is not None:
            raise self.refusal
        run = make_run_id(request.dag_id, request.dag_run_id)
        known = self.runs.get(run)
        if known is None and request.ticket != TICKET:
            raise ProblemError(403, "ticket-unknown", "The ticket is not known.")
        if known is not None and known.attempt == request.attempt:
            return known
        plan = [
            m.PlanItem(
                node=n.name,
                datasets=[d for d in request.parameters["datasets"] if str(d).endswith(n.name[-1].upper())],  # type: ignore[union-attr]
                access_ends_at=time.time() + 3600,
                gateway_url=n.served.url,
                audience=n.served.url,
                public_key=n.key.jwk(),
            )
            for n in self.nodes
        ]
        self.runs[run] = m.Run(
            id=run,
            dag_id=request.dag_id,
            dag_run_id=request.dag_run_id,
            attempt=request.attempt,
            state="open",
            workflow=request.workflow,
            digest=request.digest,
            user="alice",
            datasets=[d for i in plan for d in i.datasets],
            plan=plan,
            opened_at=time.time(),
        )
        return self.runs[run]

    async def _get(self, run: str) -> m.Run:
        return self._known(run)

    async def _close(self, run: str, request: m.CloseRequest) -> m.Run:
        self.released += request.released
        self.runs[run] = self._known(run).model_copy(update={"state": "closed", "outcome": request.outcome})
        return self.runs[run]

    async def _workload(self, run: str, pod: str, request: m.WorkloadRequest) -> m.Workload:
        known = self._known(run)
        if known.state != "open" or known.attempt != request.attempt:
            raise ProblemError(409, "attempt-over", "The attempt is over.")
        mine = [p for p, _ in self.workloads if p.startswith(f"{run}-{request.node}-{request.attempt}-")]
        if pod in mine and pod != mine[-1]:
            raise ProblemError(409, "workload-fenced", f"Pod {pod} was replaced by a newer one at its node.")
        pinned = next((uid for p, uid in self.workloads if p == pod and uid), None)
        if request.uid and pinned not in (None, request.uid):
            raise ProblemError(409, "uid-pinned", f"Pod {pod} is pinned to another uid.")
        self.workloads.append((pod, request.uid))
        return m.Workload(
            pod=pod,
            node=request.node,
            attempt=request.attempt,
            uid=request.uid or pinned,
            generation=len({p for p, _ in self.workloads}),
        )

    async def _token(self, run: str, request: m.TokenRequest) -> m.Token:
        if self._known(run).state != "open":
            raise ProblemError(409, "run-closed", "The run is closed.")
        return m.Token(token=f"run-token-for-{request.audience}", expires_at=time.time() + 300)

    async def _events(self, run: str, batch: m.EventBatch) -> dict[str, Any]:
        known = self._known(run)
        for event in batch.events:
            self.events.append(
                {"source": batch.source, "node": batch.node, "state": event.state, "message": event.message}
            )
            if event.kind == "node" and event.state == "failed" and known.failing is None:
                self.runs[run] = known.model_copy(
                    update={
                        "failing": m.Failing(node=batch.node or "", reason=event.message or "", dataset=event.dataset)
                    }
                )
        return {}

    async def _progress(self, run: str) -> m.Progress:
        known = self._known(run)
        return m.Progress(
            run=run,
            attempt=known.attempt,
            state=known.state,
            outcome=known.outcome,
            failing=known.failing,
            rules=[],
            nodes=[
                m.NodeProgress(node=n.name, state="running", message=self.messages.get(n.name, "")) for n in self.nodes
            ],
        )

    async def _jobs(self, run: str, after: int = 0) -> m.JobPage:
        return m.JobPage(run=run, attempt=self._known(run).attempt, next_after=after)


class World:
    """Everything; `environment` is what Airflow's processes need to find it."""

    def __init__(self, folder: Path, *, nodes: int = 2) -> None:
        self.folder = folder
        self.nodes = [Node(f"node-{'abc'[i]}") for i in range(nodes)]
        self.broker = Broker(self.nodes)
        workflow = folder / "workflows" / "probe"
        workflow.mkdir(parents=True)
        (workflow / "workflow.yaml").write_text(yaml.safe_dump(WORKFLOW))
        (workflow / "Snakefile").write_text("")
        (workflow / "schema.json").write_text("{}")
        (workflow / "probe.py").write_text(PROBE)
        self.environment = {
            "GDI_BROKER_URL": self.broker.served.url,
            "GDI_IDENTITY_TOKEN_FILE": str(folder / "airflow-token"),
            "GDI_WORKFLOWS": str(folder / "workflows"),
            "GDI_PROCESS_HOST_SOCKET": str(folder / "host.sock"),
            "GDI_RESULTS_DIR": str(folder / "results"),
            "GDI_BROKER_PATIENCE": "120",
        }
        self.config = host_config(
            folder,
            self.broker.served.port,
            {n.served.url: n.served.port for n in self.nodes},
            airflow_token_file="airflow-token",
            entry=[sys.executable, "/gdi/workflow/probe.py"],
            packages=[],
        )
        self.host: subprocess.Popen[bytes] | None = None
        (folder / "airflow-token").write_text("identity")

    def start_host(self) -> None:
        log = (self.folder / "host.log").open("ab")
        self.host = subprocess.Popen(
            [sys.executable, "-m", "gdi.runner.host", "--config", str(self.config)], stdout=log, stderr=log
        )
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.folder / "host.sock")), base_url="http://host", timeout=60
        )
        until(self._answers)

    def _answers(self) -> bool:
        assert self.host is not None and self.host.poll() is None, (self.folder / "host.log").read_text()
        try:
            return self.http.get("/livez").is_success
        except httpx.HTTPError:
            return False

    def pods(self) -> dict[str, dict[str, Any]]:
        return {p["name"]: p for p in self.http.get("/pods").json()}

    def end(self, node: str) -> None:
        """The node's pod of mode `slow` ends, and those that replace it end at once."""
        for folder in (self.folder / "state" / "work").glob(f"*/{node}"):
            (folder / "end").touch()

    def starts(self, node: str) -> list[str]:
        found = list((self.folder / "state" / "work").glob(f"*/{node}/starts"))
        return found[0].read_text().split() if found else []

    def context(
        self,
        *,
        try_number: int = 1,
        since: int | None = None,
        clears: int | None = None,
        conf: dict[str, Any] | None = None,
        states: dict[str, str] | None = None,
        results: dict[tuple[str, int], Any] | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """What Airflow gives an operator, as far as ours use it. `since`: the first try since the task was cleared
        (default: this one). `clears`: how often something of the DAG run was cleared (default: so often that each try
        before `since` ended in one). `results`: what tasks returned, by id and map index."""
        made = results or {}

        def pull(task_ids: str | list[str], map_indexes: int | None = None) -> Any:
            if isinstance(task_ids, str):
                return made.get((task_ids, -1 if map_indexes is None else map_indexes))
            return [value for (name, _), value in made.items() if name in task_ids]

        conf = conf if conf is not None else {"ticket": TICKET, "datasets": ["DS-A", "DS-B"], **parameters}
        clears = (since or try_number) - 1 if clears is None else clears
        dag_run = SimpleNamespace(
            dag_id="probe", run_id="manual__1", conf=conf, triggering_user_name="alice", clear_number=clears
        )
        ti = SimpleNamespace(
            dag_id="probe",
            run_id="manual__1",
            task_id="close",
            map_index=-1,
            start_date=datetime.now(UTC),
            xcom_push=lambda **_: None,
            xcom_pull=pull,
            try_number=try_number,
            max_tries=(since or try_number) + 2,
            task=SimpleNamespace(retries=3),
            get_task_states=lambda **_: {"manual__1": states or {}},
            get_dagrun_state=lambda **_: "running",
        )
        return {"dag_run": dag_run, "ti": ti, "run_id": "manual__1", "dag": SimpleNamespace(dag_id="probe")}

    @property
    def run(self) -> str:
        return make_run_id("probe", "manual__1")

    def close(self) -> None:
        if self.host is not None:
            self.host.terminate()
            self.host.wait(120)
        self.broker.served.stop()
        for node in self.nodes:
            node.served.stop()
