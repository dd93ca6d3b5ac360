"""What the tests of the pages look at: a real api-server with the project's DAGs, and the broker's own events, progress
and jobs of runs they tell of.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.responses import Response

from gdi.broker_client.client import LIMITS
from gdi.contracts import broker_api as m
from gdi.contracts.ids import make_run_id
from gdi.contracts.nodes import Nodes, NodeStatus
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.kit.server import install
from tests.support.airflow_process import MIGRATE, bare_environment, python
from tests.support.operators_world import Served
from tests.support.processes import free_port
from tests.support.wire import bind
from tests.support.wires import BROKER
from token_broker.db.store import BrokerDatabase, runs
from token_broker.events.events import Events

PROJECT = Path(__file__).resolve().parents[2]
PICTURES = PROJECT / "tests" / "artefacts" / "ui"
DAG = "allele-frequency"
USER = "alice@lifescience-ri.eu"
DATASETS = {"node-a": "EGAD50000000001", "node-b": "EGAD50000000002"}
SYNC = """
import os
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
DagBundlesManager().sync_bundles_to_db()
bag = DagBag(dag_folder=os.environ["AIRFLOW__CORE__DAGS_FOLDER"], bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
sync_bag_to_db(bag, "dags-folder", None)
"""


class Broker:
    """The broker's own store of events, progress and jobs behind its routes; no sign-in, no admission. Runs that nobody
    opened are a 404.
    """

    def __init__(self, folder: Path) -> None:
        self.keys = {node: SigningKey.generate() for node in DATASETS}
        self.runs: dict[str, m.Run] = {}
        self.refuses = False
        self.nodes: list[NodeStatus] = []
        self._store = BrokerDatabase.open(f"sqlite+aiosqlite:///{folder / 'broker.db'}")
        # neither is needed behind the routes below
        self._events = Events(self._store, None, None, 10_000_000)  # type: ignore[arg-type]
        app = bind(FastAPI(on_startup=[]), BROKER, own=True)
        install(app)
        app.get("/v1/runs/{run}")(self._run)
        app.get("/v1/runs/{run}/progress")(self._progress)
        app.get("/v1/runs/{run}/jobs")(self._jobs)
        app.get("/v1/audit")(self._audit)
        app.get("/v1/nodes")(self._nodes)
        app.put("/runs/{run}")(self._open)
        app.post("/runs/{run}/events/{node}")(self._tell)
        self.served = Served(app)
        self.http = httpx.Client(base_url=self.served.url, trust_env=False, timeout=120, limits=LIMITS)

    def open(self, dag_run_id: str, *, dag: str = DAG, **changed: Any) -> str:
        """A run with a part at each node; its id. `changed`: what is different about it; again for the same run to
        change it.
        """
        run = make_run_id(dag, dag_run_id)
        plan = [
            m.PlanItem(
                node=node,
                datasets=[dataset],
                access_ends_at=time.time() + 9e5,
                gateway_url=f"https://gateway.{node}.example",
                audience=f"https://{node}",
                public_key=self.keys[node].jwk(),
            )
            for node, dataset in DATASETS.items()
        ]
        known = m.Run(
            id=run,
            dag_id=dag,
            dag_run_id=dag_run_id,
            attempt=1,
            state="open",
            workflow=DAG,
            digest="sha256:" + "a" * 64,
            user=USER,
            datasets=list(DATASETS.values()),
            plan=plan,
            opened_at=time.time() - 120,
        )
        self.runs[run] = known.model_copy(update=changed)
        self.http.put(f"/runs/{run}").raise_for_status()
        return run

    def tell(self, run: str, node: str, *events: dict[str, Any], first: int = 1) -> None:
        """Events of a node's pod. `first`: the number of the first of them; each call of a node goes on where the last
        one ended.
        """
        made = [m.Event(**{"seq": first + i, "time": time.time(), **e}) for i, e in enumerate(events)]
        for at in range(0, len(made), 500):
            batch = m.EventBatch(source=f"pod-{node}", events=made[at : at + 500])
            self.http.post(
                f"/runs/{run}/events/{node}", json=batch.model_dump(mode="json", exclude_none=True)
            ).raise_for_status()

    def close(self) -> None:
        self.http.close()
        self.served.stop()

    async def _known(self, run: str) -> Any:
        if self.refuses:
            raise ProblemError(502, "bad-answer", "The broker has its day off.")
        if run not in self.runs:
            raise ProblemError(404, "run-unknown", f"There is no run {run}.")
        async with self._store.read() as c:
            return (await c.execute(runs.select().where(runs.c.id == run))).mappings().one()

    async def _open(self, run: str) -> None:
        known = self.runs[run]
        await self._store.create()
        values = {
            **known.model_dump(
                include={
                    "dag_id",
                    "dag_run_id",
                    "attempt",
                    "state",
                    "outcome",
                    "workflow",
                    "digest",
                    "datasets",
                    "opened_at",
                    "closed_at",
                }
            ),
            "plan": [i.model_dump() for i in known.plan],
            "failing": known.failing.model_dump() if known.failing else None,
        }
        async with self._store.write() as c:
            if (await c.execute(runs.update().where(runs.c.id == run).values(**values))).rowcount == 0:
                await c.execute(
                    runs.insert().values(id=run, owner=USER, grant_id="g", parameters_hash="h", event_count=0, **values)
                )

    async def _tell(self, run: str, node: str, batch: m.EventBatch) -> None:
        row = await self._known(run)
        async with self._store.write() as c:
            await self._events._store_batch(c, row, batch.source, self._events._cleaned(batch), node)

    async def _run(self, run: str) -> m.Run:
        await self._known(run)
        return self.runs[run]

    async def _progress(self, run: str) -> m.Progress:
        progress: m.Progress = await self._events.progress(await self._known(run))
        return progress

    async def _jobs(self, run: str, after: int = 0, limit: int = 2000) -> Response:
        page = await self._events.jobs(await self._known(run), after, limit)
        return Response(page.model_dump_json(exclude_defaults=True), media_type="application/json")

    async def _nodes(self) -> Nodes:
        if self.refuses:
            raise ProblemError(502, "bad-answer", "The broker has its day off.")
        return Nodes(nodes=self.nodes)

    async def _audit(self, run: str) -> m.AuditPage:
        await self._known(run)
        visa = {
            "source": "https://dac.example.org",
            "by": "dac",
            "asserted": 1760000000,
            "ends_at": 1800000000,
            "type": "ControlledAccessGrants",
        }
        return m.AuditPage(
            entries=[
                m.AuditEntry(
                    number=i,
                    time=time.time(),
                    actor="broker",
                    action="run.admit",
                    run=run,
                    dataset=d,
                    node=n,
                    allowed=True,
                    visa=visa,
                )
                for i, (n, d) in enumerate(DATASETS.items(), 1)
            ]
        )


class Airflow:
    """A bare api-server with the project's DAG in its database: what stands in a run is written there, nothing runs."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder, self.results = folder, folder / "results"
        self.results.mkdir()
        (folder / "identity").write_text("identity")
        self.environment = {
            **bare_environment(folder, admin="admin", reader="viewer"),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SENSITIVE_VAR_CONN_NAMES": "ticket",
            "AIRFLOW__API__WORKERS": "1",
            "GDI_BROKER_URL": broker,
            "GDI_IDENTITY_TOKEN_FILE": str(folder / "identity"),
            "GDI_WORKFLOWS": str(PROJECT / "workflows"),
            "GDI_RESULTS_DIR": str(self.results),
        }
        for command in (MIGRATE, ["-c", SYNC]):
            python(command, self.environment, folder)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "api-server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)],
                env=self.environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False, limits=LIMITS)
        try:
            self._wait()
            token = (
                self.http.post("/auth/token", json={"username": "admin", "password": "pw"})
                .raise_for_status()
                .json()["access_token"]
            )
            self.http.headers["authorization"] = f"Bearer {token}"
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + 240
        while True:
            assert self.process.poll() is None and time.monotonic() < deadline, (
                f"the api-server is not up:\n{self.log.read_text()[-4000:]}"
            )
            try:
                if self.http.get("/api/v2/monitor/health", timeout=5).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.3)

    def trigger(self, name: str) -> str:
        """A run in the database (no scheduler looks at it); its id."""
        body = {
            "dag_run_id": name,
            "logical_date": None,
            "conf": {"ticket": "gdit_planted", "datasets": list(DATASETS.values())},
        }
        self.http.post(f"/api/v2/dags/{DAG}/dagRuns", json=body).raise_for_status()
        return name

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(120)


def many_jobs(total: int, *, ago: float = 3600) -> dict[str, list[dict[str, Any]]]:
    """Events of a run of `total` jobs at two nodes, in the middle of its work: nine in ten are done, one in 500 failed,
    some run, the rest waits.
    """
    now = time.time()
    told: dict[str, list[dict[str, Any]]] = {}
    for number, node in enumerate(DATASETS):
        mine = total // 2 + (total % 2 if number == 0 else 0)
        counts = {"prepare": 20, "count": mine - 21, "gather": 1}
        events: list[dict[str, Any]] = [{"kind": "rules", "counts": counts}]
        for i in range(mine - 1):
            rule = "prepare" if i < 20 else "count"
            job = {
                "kind": "job",
                "job": f"{node}-{i}",
                "rule": rule,
                "wildcards": {"chrom": f"chr{i % 22 + 1}", "part": str(i)},
                "tries": 1 + (i % 97 == 0),
            }
            begin = now - ago + ago * i / mine
            events.append({**job, "state": "submitted", "task": f"task-{node}-{i}", "time": begin - 3})
            if i / mine < 0.9:
                end = (
                    {"state": "done"}
                    if i % 500 != 499
                    else {
                        "state": "failed",
                        "exit_code": 1,
                        "error_class": "ValueError",
                        "line": i,
                        "message": "a bad row",
                    }
                )
                took = ago / 60 * (0.5 + (i * 7 % 10) / 10)
                measured = {"cpu_seconds": took * 0.8, "memory_bytes": 300_000_000 + i * 10_000} if i % 3 else {}
                events += [
                    {**job, "state": "running", "time": begin},
                    {**job, **end, **measured, "time": min(begin + took, now - 1)},
                ]
            elif i / mine < 0.92:
                events.append({**job, "state": "running", "time": now - 20})
        told[node] = events
    return told
