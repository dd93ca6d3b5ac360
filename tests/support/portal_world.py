"""A broker and an Airflow in memory, as far as the portal speaks with them, and the portal's application over both: no
process, no port. The fakes answer with the contracts' own models.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
from fastapi import APIRouter, FastAPI, Header, Request
from fastapi.responses import JSONResponse, Response

from gdi.contracts import access as a
from gdi.contracts import broker_api as m
from gdi.contracts import committees as u
from gdi.contracts.cohorts import CohortChoice, EpochCohorts
from gdi.contracts.ids import make_run_id
from gdi.contracts.nodes import NodePreflight, Nodes, NodeStatus, PreflightAnswer, PreflightRequest
from gdi.contracts.notices import NoticeChoice, NoticeSettings
from gdi.contracts.orders import OrderReason
from gdi.contracts.results import ReleaseView, ResultsFile, ResultsView
from gdi.contracts.run_endings import Standing
from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import write_private
from gdi.kit.server import install
from gdi.portal.app import create_app
from gdi.portal.db.store import PortalDatabase, meta
from gdi.portal.door import Door, open_door
from gdi.portal.settings import Settings
from tests.support.wire import bind
from tests.support.wires import AIRFLOW, BROKER, GATEWAY

PROJECT = Path(__file__).resolve().parents[2]
WORKFLOW = "allele-frequency"
DATASETS = {"node-a": "EGAD50000000001", "node-b": "EGAD50000000002"}
ALICE, BOB = "alice@lifescience-ri.eu", "bob@lifescience-ri.eu"
TOKENS = {"token-alice": ALICE, "token-bob": BOB}
ORIGIN = "https://portal.example"
DIGEST = "sha256:" + "a" * 64

APPLY = "https://rems.example/apply-for?resource=EGAD1"


class FakeBroker:
    """Users by token; their grants, tickets and runs. `away`: answers 503."""

    def __init__(self) -> None:
        self.grants: dict[str, m.Grant] = {}
        self.tickets: list[tuple[str, m.TicketRequest]] = []
        self.runs: dict[str, m.Run] = {}
        self.jobs: dict[str, list[m.Job]] = {}
        self.entitled: dict[str, set[str]] = {ALICE: set(DATASETS.values()), BOB: {DATASETS["node-a"]}}
        self.away = False
        self.preflights_left = 30
        self.refusing: dict[str, tuple[OrderReason | Literal[""], str]] = {}  # by node
        self.schedules: list[m.Schedule] = []
        self.calls: list[str] = []
        self.notices: dict[str, NoticeSettings] = {}
        self.terms: dict[str, list[a.DataUseTerm]] = {}  # by dataset
        self.catalogue: dict[str, a.DatasetDescription] = {}  # by dataset
        self.cohorts: dict[str, EpochCohorts] = {}  # of whoever may use the dataset
        self.members: set[str] = set()  # of the access committee `dac`
        self.uses: list[u.DatasetUse] = []
        self.stops: list[u.Stop] = []
        self.app = bind(FastAPI(), BROKER)
        install(self.app)
        self._routes()
        self.app.include_router(committee_routes(self))

    def user(self, authorization: str | None) -> str:
        if self.away:
            raise ProblemError(503, "vault-unavailable", "The broker has its day off.", action="Wait.")
        sub = TOKENS.get((authorization or "").removeprefix("Bearer "))
        if sub is None:
            raise ProblemError(401, "unauthenticated", "The access token is not active.", action="Sign in again.")
        return sub

    def run(self, dag_run_id: str, user: str = ALICE, dag_id: str = WORKFLOW, **changed: Any) -> m.Run:
        """A run that the broker has admitted."""
        plan = [
            m.PlanItem(
                node=node,
                datasets=[dataset],
                access_ends_at=time.time() + 9e5,
                gateway_url=f"http://127.0.0.1:1/{node}",
                audience=node,
                public_key={"kty": "EC"},
            )
            for node, dataset in DATASETS.items()
        ]
        made = m.Run(
            id=make_run_id(dag_id, dag_run_id),
            dag_id=dag_id,
            dag_run_id=dag_run_id,
            attempt=1,
            state="open",
            workflow=WORKFLOW,
            digest=DIGEST,
            user=user,
            datasets=list(DATASETS.values()),
            plan=plan,
            opened_at=time.time(),
        ).model_copy(update=changed)
        self.runs[made.id] = made
        return made

    def _own(self, authorization: str | None, run: str) -> m.Run:
        sub, found = self.user(authorization), self.runs.get(run)
        if found is None or found.user != sub:
            raise ProblemError(404, "run-unknown", f"There is no run {run} that you may see.", action="Check its id.")
        return found

    def _grant(self, authorization: str | None, grant: str) -> m.Grant:
        sub, found = self.user(authorization), self.grants.get(grant)
        if found is None or found.user != sub:
            raise ProblemError(403, "grant-not-yours", f"There is no grant {grant} of yours.", action="List yours.")
        return found

    def _routes(self) -> None:
        app, token = self.app, Header(default=None)

        @app.middleware("http")
        async def counted(request: Request, call_next: Any) -> Any:
            self.calls.append(f"{request.method} {request.url.path}")
            return await call_next(request)

        @app.get("/v1/me")
        async def me(authorization: str | None = token) -> a.TokenOwner:
            sub = self.user(authorization)
            return a.TokenOwner(sub=sub, client_id="user-portal", committees=["dac"] if sub in self.members else [])

        @app.get("/v1/me/runs")
        async def own_runs(after: float = 0, limit: int = 200, authorization: str | None = token) -> a.OwnRuns:
            sub = self.user(authorization)
            mine = sorted((r for r in self.runs.values() if r.user == sub and r.opened_at > after), key=_opened)
            return a.OwnRuns(runs=mine[:limit], more=len(mine) > limit)

        @app.get("/v1/datasets")
        async def datasets(authorization: str | None = token) -> a.DatasetList:
            sub = self.user(authorization)
            found = [self.entry(n, d, d in self.entitled[sub]) for n, d in DATASETS.items()]
            return a.DatasetList(
                datasets=[
                    entry.model_copy(
                        update={"catalogue": self.catalogue.get(entry.id), "terms": self.terms.get(entry.id, [])}
                    )
                    for entry in found
                ]
            )

        @app.get("/v1/nodes")
        async def nodes(authorization: str | None = token) -> Nodes:
            self.user(authorization)
            return Nodes(nodes=[self.status(node) for node in DATASETS])

        @app.post("/v1/preflight")
        async def preflight(request: PreflightRequest, authorization: str | None = token) -> PreflightAnswer:
            self.user(authorization)
            if self.preflights_left <= 0:
                raise ProblemError(429, "too-many-requests", "Too many preflights.", action="Wait.")
            self.preflights_left -= 1
            parts = [
                NodePreflight(
                    node=n,
                    datasets=[d],
                    life="up",
                    placement="node",
                    admitted=n not in self.refusing,
                    reason=(why := self.refusing.get(n, ("", "")))[0],
                    detail=why[1],
                    queued=2,
                )
                for n, d in DATASETS.items()
                if d in request.datasets
            ]
            return PreflightAnswer(nodes=parts)

        @app.get("/v1/me/notices")
        async def notices(authorization: str | None = token) -> NoticeSettings:
            return self.notices.get(self.user(authorization), NoticeSettings(choice=NoticeChoice(), can_mail=True))

        @app.put("/v1/me/notices")
        async def choose(choice: NoticeChoice, authorization: str | None = token) -> NoticeSettings:
            made = NoticeSettings(choice=choice, can_mail=True, address="a@example.org" if choice.email else "")
            self.notices[self.user(authorization)] = made
            return made.model_copy(update={"secret": "whsec_once" if choice.webhook else None})

        @app.post("/v1/grants", status_code=201)
        async def create(request: m.GrantRequest, authorization: str | None = token) -> m.Grant:
            return self.grant(self.user(authorization), request)

        @app.get("/v1/grants")
        async def listed(authorization: str | None = token) -> list[m.Grant]:
            sub = self.user(authorization)
            return [g for g in self.grants.values() if g.user == sub]

        @app.get("/v1/grants/{grant}")
        async def one(grant: str, authorization: str | None = token) -> m.Grant:
            return self._grant(authorization, grant)

        @app.delete("/v1/grants/{grant}")
        async def revoke(grant: str, authorization: str | None = token) -> m.Grant:
            found = self._grant(authorization, grant).model_copy(update={"state": "revoked"})
            self.grants[grant] = found
            return found

        @app.post("/v1/grants/{grant}/tickets", status_code=201)
        async def ticket(grant: str, request: m.TicketRequest, authorization: str | None = token) -> m.Ticket:
            found = self._grant(authorization, grant)
            if request.workflow not in found.workflows:
                raise ProblemError(403, "workflow-not-granted", "The grant does not cover it.", action="Consent.")
            self.tickets.append((grant, request))
            return m.Ticket(ticket=f"gdit_{len(self.tickets)}", expires_at=time.time() + 600)

        @app.get("/v1/runs/{run}/progress")
        async def progress(run: str, authorization: str | None = token) -> m.Progress:
            found = self._own(authorization, run)
            nodes = [m.NodeProgress(node=n, state="running", done=1, total=4) for n in DATASETS]
            return m.Progress(run=run, attempt=found.attempt, state=found.state, nodes=nodes, rules=[])

        @app.get("/v1/runs/{run}/jobs")
        async def jobs(run: str, after: int = 0, limit: int = 2000, authorization: str | None = token) -> m.JobPage:
            found, every = self._own(authorization, run), self.jobs.get(run, [])
            page = every[after : after + limit]
            more = after + len(page) < len(every)
            return m.JobPage(run=run, attempt=found.attempt, jobs=page, next_after=after + len(page), more=more)

    def grant(self, sub: str, request: m.GrantRequest) -> m.Grant:
        if request.schedule is not None:
            self.schedules.append(request.schedule)
        made = m.Grant(
            id=f"g-{secrets.token_hex(16)}",
            user=sub,
            created_at=time.time(),
            state="active",
            **request.model_dump(exclude={"schedule"}),
        )
        self.grants[made.id] = made
        return made

    @staticmethod
    def status(node: str) -> NodeStatus:
        url = f"http://{node}.example"
        return NodeStatus(
            node=node, life="never-seen", placement="coordinator", gateway_url=url, datasets=[DATASETS[node]]
        )

    def entry(self, node: str, dataset: str, granted: bool) -> a.DatasetEntry:
        access = (
            a.DatasetAccess(state="granted", until=time.time() + 9e5, sentence="You may use it.")
            if granted
            else a.DatasetAccess(state="refused", reason="no-visa", sentence="You have no visa for it.")
        )
        title = f"Cohort of {node}"
        found = a.DatasetEntry(id=dataset, title=title, node=node, access=access, how_to_apply="Ask.", apply_url=APPLY)
        return found.model_copy(update={"cohorts": self.cohorts.get(dataset) if granted else None})


def committee_routes(broker: FakeBroker) -> APIRouter:
    """The broker's answers to members of `dac`, the committee of node-a's dataset."""
    routes, token = APIRouter(prefix="/v1/committees"), Header(default=None)

    def member(authorization: str | None) -> str:
        sub = broker.user(authorization)
        if sub not in broker.members:
            raise ProblemError(403, "forbidden", "This call is for members of an access committee.", action="Ask.")
        return sub

    @routes.get("")
    async def committees(authorization: str | None = token) -> u.Committees:
        member(authorization)
        one = u.CommitteeEntry(name="dac", title="Committee of A", datasets=[DATASETS["node-a"]])
        return u.Committees(committees=[one])

    @routes.get("/uses")
    async def uses(request: Request, authorization: str | None = token) -> u.UsePage:
        member(authorization)
        asked = request.query_params
        before, limit = int(asked.get("before", 2**53)), int(asked.get("limit", 100))
        found = [
            one
            for one in sorted(broker.uses, key=lambda use: -use.number)
            if one.number < before
            and float(asked.get("since", 0)) <= one.time < float(asked.get("until", 1e12))
            and asked.get("user", one.user) == one.user
            and asked.get("run", one.run) == one.run
            and not (asked.get("refused") and one.allowed)
        ]
        page = found[:limit]
        return u.UsePage(uses=page, next_before=page[-1].number if len(found) > limit else None)

    @routes.get("/stops")
    async def stops(authorization: str | None = token) -> u.StopList:
        member(authorization)
        return u.StopList(stops=broker.stops[::-1])

    @routes.post("/{name}/stops", status_code=201)
    async def stop(name: str, request: u.CommitteeStop, authorization: str | None = token) -> u.StopAnswer:
        by = member(authorization)
        made = u.Stop(id=len(broker.stops) + 1, committee=name, by=by, made_at=time.time(), **request.model_dump())
        broker.stops.append(made)
        ended = {
            one.run: u.StoppedRun(id=one.run, dag_id=one.dag_id, dag_run_id=one.dag_run_id, user=one.user)
            for one in broker.uses
            if one.state == "open" and (one.run == request.run or one.user == request.person)
        }
        return u.StopAnswer(stop=made, runs=list(ended.values()))

    @routes.delete("/stops/{number}")
    async def lift(number: int, authorization: str | None = token) -> u.Stop:
        by = member(authorization)
        lifted = broker.stops[number - 1].model_copy(update={"lifted_by": by, "lifted_at": time.time()})
        broker.stops[number - 1] = lifted
        return lifted

    return routes


def made_use(number: int, run: str, user: str = ALICE, **changed: Any) -> u.DatasetUse:
    """One use of node-a's dataset, an hour ago and later by the number."""
    values: dict[str, Any] = {
        "number": number,
        "time": time.time() - 3600 + number,
        "committee": "dac",
        "dataset": DATASETS["node-a"],
        "node": "node-a",
        "user": user,
        "allowed": True,
        "visa": {
            "iss": "https://rems.example/",
            "type": "ControlledAccessGrants",
            "value": DATASETS["node-a"],
            "source": "https://rems.example/organisation",
            "by": "dac",
            "asserted": time.time() - 86400,
            "ends_at": time.time() + 30 * 86400,
        },
        "run": make_run_id(WORKFLOW, run),
        "dag_id": WORKFLOW,
        "dag_run_id": run,
        "workflow": WORKFLOW,
        "digest": DIGEST,
        "state": "open",
    }
    return u.DatasetUse(**(values | changed))


def _opened(run: m.Run) -> float:
    return run.opened_at


def dag_run(dag: str, run: str, **known: Any) -> dict[str, Any]:
    """A DAG run as Airflow's API has it, with every field that it always sends."""
    unknown = ["logical_date", "queued_at", "start_date", "end_date", "duration", "data_interval_start"]
    unknown += ["data_interval_end", "last_scheduling_decision", "triggering_user_name", "note", "bundle_version"]
    unknown += ["partition_key", "partition_date"]
    fixed: dict[str, Any] = {
        "run_type": "manual",
        "triggered_by": "rest_api",
        "dag_versions": [],
        "dag_display_name": dag,
    }
    return {
        "dag_id": dag,
        "dag_run_id": run,
        "run_after": "2026-01-01T00:00:00Z",
        **dict.fromkeys(unknown),
        **fixed,
        **known,
    }


class FakeAirflow:
    """DAG runs by (DAG, run id), and what the plugin would say of each. `fail`: statuses for the next starts."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.standings: dict[str, Standing] = {}
        self.files: dict[str, bytes] = {"answer.tsv": b"CHROM\tPOS\n2\t1\n", "releases/node-a/counts.json": b"{}"}
        self.fail: list[int] = []
        self.cohort: CohortChoice | None = None  # whose numbers every release has
        self.ends_with: Standing | None = None  # every new run, at once
        self.stopped: list[str] = []
        self.notes: list[str] = []
        self.fail_stops = False
        self.calls: list[str] = []
        self.app = bind(FastAPI(), AIRFLOW)
        self._routes()

    def put(self, dag_run_id: str, standing: Standing, state: str = "running", dag: str = WORKFLOW) -> None:
        """How a run stands from now on."""
        self.runs.setdefault((dag, dag_run_id), {"conf": {}})["state"] = state
        self.standings[dag_run_id] = standing

    def _known(self, dag: str, run: str) -> dict[str, Any] | None:
        found = self.runs.get((dag, run))
        if found is None:
            return None
        return dag_run(dag, run, **found)

    def _routes(self) -> None:
        app = self.app

        @app.middleware("http")
        async def counted(request: Request, call_next: Any) -> Any:
            self.calls.append(f"{request.method} {request.url.path}")
            if request.url.path != "/auth/token" and request.headers.get("authorization") != "Bearer airflow-token":
                return JSONResponse({"detail": "who?"}, status_code=401)
            return await call_next(request)

        @app.post("/auth/token")
        async def sign_in(request: Request) -> Response:
            body = await request.json()
            good = body == {"username": "portal", "password": "pw"}
            known = {"access_token": "airflow-token"} if good else {"detail": "Invalid credentials"}
            return JSONResponse(known, status_code=201 if good else 401)

        @app.post("/api/v2/dags/~/dagRuns/list")
        async def listed(request: Request) -> dict[str, Any]:
            body = await request.json()
            found = [self._known(*key) for key, run in self.runs.items() if run["state"] in body["states"]]
            at = body["page_offset"]
            return {"dag_runs": found[at : at + body["page_limit"]], "total_entries": len(found)}

        @app.post("/api/v2/dags/{dag}/dagRuns")
        async def start(dag: str, request: Request) -> Response:
            if self.fail and (status := self.fail.pop(0)):
                return JSONResponse({"detail": "database is locked"}, status_code=status)
            body = await request.json()
            key = (dag, body["dag_run_id"])
            if key in self.runs:
                return JSONResponse({"detail": "there is one"}, status_code=409)
            self.runs[key] = {"state": "queued", "conf": body["conf"]}
            if self.ends_with is not None:
                self.put(body["dag_run_id"], self.ends_with, "success", dag)
            return JSONResponse(self._known(*key))

        @app.get("/api/v2/dags/{dag}/dagRuns/{run}")
        async def one(dag: str, run: str) -> Response:
            found = self._known(dag, run)
            return JSONResponse(found or {"detail": "none"}, status_code=200 if found else 404)

        @app.patch("/api/v2/dags/{dag}/dagRuns/{run}")
        async def stop(dag: str, run: str, request: Request) -> Response:
            body = await request.json()
            assert body["state"] == "failed" and body["note"].startswith("gdi: stopped by ")
            if self.fail_stops:
                return JSONResponse({}, status_code=503)
            if (dag, run) not in self.runs:
                return JSONResponse({}, status_code=404)
            self.stopped.append(run)
            self.notes.append(body["note"])
            self.put(run, Standing(standing="stopped", sentence="You stopped the run."), "failed", dag)
            return JSONResponse(self._known(dag, run))

        @app.get("/gdi/data/standing/{dag}/{run:path}")
        async def standing(dag: str, run: str) -> Standing:
            found = self.runs.get((dag, run))
            if found is None:
                return Standing(known=False, standing="starting", sentence="Airflow has no run of this name.")
            queued = Standing(standing="queued", sentence="The run waits for its turn.")
            return self.standings.get(run, queued)

        @app.get("/gdi/data/results/{dag}/{run:path}")
        async def results(dag: str, run: str) -> ResultsView:
            done = self.runs[dag, run]["state"] == "success"
            answer = ResultsFile(name="answer.tsv", title="The answer", bytes=len(self.files["answer.tsv"]))
            release = ReleaseView(
                node="node-a",
                name="counts",
                title="Counts",
                kind="allele-counts",
                unit="site",
                reasons={},
                bytes=2,
                sha256="0" * 64,
                sites_released=7,
                sites_withheld=None,
                withheld={},
                attempt=1,
                verified=True,
                verdict="",
                file="releases/node-a/counts.json",
                cohort=self.cohort,
            )
            return ResultsView(
                state="closed" if done else "open",
                outcome="success" if done else "",
                attempt=1,
                run=make_run_id(dag, run),
                workflow=None,
                user=ALICE,
                files=[answer] if done else [],
                releases=[release] if done else [],
                crate=done,
            )

        @app.get("/gdi/file/{dag}/{run:path}")
        async def file(dag: str, run: str, name: str) -> Response:
            if name not in self.files or self.runs[dag, run]["state"] != "success":
                return JSONResponse({"detail": "none"}, status_code=404)
            return Response(self.files[name], media_type="text/tab-separated-values")

        @app.get("/gdi/crate/{dag}/{run:path}")
        async def crate(dag: str, run: str) -> Response:
            if self.runs[dag, run]["state"] != "success":
                return JSONResponse({"detail": "none"}, status_code=404)
            return Response(b"PK-crate", media_type="application/zip")


class PortalWorld:
    """The portal between both. `as_user("alice")`: a client with that user's token."""

    def __init__(self, door: Door, broker: FakeBroker, airflow: FakeAirflow, app: FastAPI) -> None:
        self.door, self.broker, self.airflow, self.app = door, broker, airflow, app
        self.alice, self.bob, self.nobody = self.client("token-alice"), self.client("token-bob"), self.client(None)

    def client(self, token: str | None) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url="http://portal.test", headers=headers)

    def consent(self, sub: str = ALICE) -> m.Grant:
        return self.broker.grant(
            sub,
            m.GrantRequest(workflows=[WORKFLOW], datasets=list(DATASETS.values()), expires_at=time.time() + 86400),
        )

    @staticmethod
    def start(**changed: Any) -> dict[str, Any]:
        body = {"workflow": WORKFLOW, "datasets": list(DATASETS.values()), "parameters": {"regions": 4}}
        return {**body, **changed}

    async def started(self, client: httpx.AsyncClient | None = None, **changed: Any) -> str:
        """The id of a new run of Alice's."""
        client = client or self.alice
        self.consent(ALICE if client is self.alice else BOB)
        answer = await client.post("/v1/runs", json=self.start(**changed))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def dag_run(self, run: str) -> str:
        return next(name for dag, name in self.airflow.runs if make_run_id(dag, name) == run)


def settings(folder: Path, **changed: Any) -> Settings:
    password = write_private(folder / "airflow-password", "pw")
    values: dict[str, Any] = {
        "database_url": f"sqlite+aiosqlite:///{folder / 'portal.db'}",
        "public_url": "http://127.0.0.1:8081",
        "broker_url": "http://127.0.0.1:8080",
        "airflow_url": "http://127.0.0.1:8082",
        "airflow_password_file": password,
        "workflows": PROJECT / "workflows",
        "cors_origins": [ORIGIN],
        "oidc_issuer": "https://aai.example/oidc",
        "requests_per_minute": 1_000_000,
        "starts_per_minute": 1_000_000,
    }
    return Settings(**{**values, **changed})


@asynccontextmanager
async def portal_world(folder: Path, **changed: Any) -> AsyncIterator[PortalWorld]:
    broker, airflow, gateways = FakeBroker(), FakeAirflow(), bind(FastAPI(), GATEWAY)

    @gateways.get("/readyz")
    async def readyz(request: Request) -> Response:
        return JSONResponse({"status": "ok"}, status_code=200 if request.url.hostname == "node-a.example" else 503)

    chosen = settings(folder, **changed)
    store = PortalDatabase.open(chosen.database_url)
    async with store.engine.begin() as connection:  # without Alembic, which costs a second; its own test runs it
        await connection.run_sync(meta.create_all)
    door = await open_door(
        chosen,
        store=store,
        broker=httpx.ASGITransport(app=broker.app),
        airflow=httpx.ASGITransport(app=airflow.app),
        gateways=httpx.ASGITransport(app=gateways),
    )
    try:
        yield PortalWorld(door, broker, airflow, create_app(door))
    finally:
        await door.close()
