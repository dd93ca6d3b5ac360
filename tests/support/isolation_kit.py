"""A real api-server and dag-processor with FAB's roles, the project's DAGs, and a run with everything in it for each of
two users. Nothing runs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import yaml

from gdi.contracts.ids import make_run_id
from gdi.contracts.workflow_files import load
from tests.support.airflow_kit import RealAirflow, wait_for
from tests.support.results_kit import WORKFLOWS, a_run, gathered
from tests.support.ui_world import Broker

WORKFLOW = "allele-frequency"
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
TEAMS = {"red": {"members": ["alice", "carol"]}, "blue": {"members": ["bob"], "workflows": [WORKFLOW]}}
ACCOUNTS = {"admin": "Admin", "alice": None, "bob": None}
MAKE_ACCOUNTS = """
import json, sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
with get_application_builder() as appbuilder:
    for name, role in json.load(sys.stdin).items():
        roles = [appbuilder.sm.find_role(role)] if role else []
        assert appbuilder.sm.add_user(name, name, name, f"{name}@example.org", roles, "pw"), name
"""
# What only a worker writes: states of tasks, an XCom, a question to a person; and a backfill, a warning and a deadline
# of the DAG.
FILL = """
import json, sys
from datetime import timedelta
from airflow.models.backfill import Backfill
from airflow.models.dagrun import DagRun
from airflow.models.dagwarning import DagWarning
from airflow.models.hitl import HITLDetail
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow._shared.timezones.timezone import utcnow
from sqlalchemy import select
for it in json.load(sys.stdin):
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == it["dag"], DagRun.run_id == it["run"]))
        its = TaskInstance.dag_id == it["dag"], TaskInstance.run_id == it["run"]
        for ti in session.scalars(select(TaskInstance).where(*its)):
            ti.state, ti.try_number, ti.start_date = "success", 1, utcnow()
            ti.end_date = utcnow() + timedelta(seconds=1)
            if ti.task_id == "admit":
                session.add(HITLDetail(ti_id=ti.id, options=["yes"], subject=it["mark"], params={}, defaults=None))
                session.add(RenderedTaskInstanceFields(ti, render_templates=False,
                    rendered_fields={"said": it["mark"]}))
        run.state, run.start_date, run.end_date, run.note = "success", utcnow(), utcnow(), it["mark"]
        session.add(Backfill(dag_id=it["dag"], from_date=utcnow(), to_date=utcnow(), dag_run_conf={"said": it["mark"]}))
        # One for a DAG, which is both users' where it is shared.
        session.merge(DagWarning(it["dag"], "non-existent pool", it["mark"]))
        XComModel.set("mark", it["mark"], dag_id=it["dag"], task_id="admit", run_id=it["run"], session=session)
"""


@dataclass(frozen=True)
class Belongings:
    """What belongs to one user: a DAG (where teams are) and a run that has everything. `mark` is in all that only they
    may read.
    """

    dag: str
    run: str
    mark: str
    tag: str


class Isolation(RealAirflow):
    """`isolation`: `team` or `shared`. Signed-in clients by user name; `belongings` of alice and bob."""

    patience = 500.0  # FAB's application is made of many parts

    def __init__(self, folder: Path, isolation: str) -> None:
        folder.mkdir(parents=True)
        self.broker = Broker(folder)
        self.results = folder / "results"
        self.results.mkdir()
        shutil.copytree(WORKFLOWS, folder / "workflows")
        (folder / "workflows" / "broken").mkdir()  # an import error, which names an entry of the catalogue
        (folder / "workflows" / "broken" / "workflow.yaml").write_text("a: [")
        (folder / "teams.yaml").write_text(yaml.safe_dump(TEAMS, sort_keys=False))
        (folder / "identity").write_text("identity")
        environment = {
            "GDI_ISOLATION": isolation,
            "GDI_TEAMS": str(folder / "teams.yaml"),
            "GDI_WORKFLOWS": str(folder / "workflows"),
            "GDI_RESULTS_DIR": str(self.results),
            "GDI_BROKER_URL": self.broker.served.url,
            "GDI_IDENTITY_TOKEN_FILE": str(folder / "identity"),
        }
        super().__init__(
            folder / "airflow",
            environment,
            AIRFLOW__CORE__AUTH_MANAGER=FAB,
            AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL="5",
            AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES="1",
            AIRFLOW__API__MAXIMUM_PAGE_LIMIT="200",
            AIRFLOW__API__EXPOSE_CONFIG="True",
            AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT="120",
        )
        self.isolation = isolation
        self.clients: dict[str, httpx.Client] = {}
        self.number, self.roles = 0, ""
        self.python("-c", MAKE_ACCOUNTS, given=json.dumps(ACCOUNTS))
        if isolation == "team":
            self.roles = self.python("-m", "gdi_operators.team_roles")
        dags = {
            name: (WORKFLOW + (f"__{team}" if isolation == "team" else ""), team)
            for name, team in (("alice", "red"), ("bob", "blue"))
        }
        self.belongings = {
            name: Belongings(dag, f"run-of-{name}", f"only-{name}-may-read-this", f"gdi-team-{team}")
            for name, (dag, team) in dags.items()
        }

    def python(self, *command: str, given: str = "") -> str:
        """What a Python process with Airflow's settings says on standard output."""
        done = subprocess.run(
            ["nice", "-n", "19", sys.executable, *command],
            env=self.environment,
            cwd=self.folder,
            input=given,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def fill(self) -> None:
        """Waits for the DAGs and makes each user's run, by the operator's hand. Then nothing parses them any more: on a
        busy machine they would go stale.
        """
        wanted = {*(b.dag for b in self.belongings.values()), "housekeeping", "recurring"}
        wait_for(
            "the DAGs",
            lambda: all(map(self.has_dag, wanted)) and self.api("GET", "/importErrors")["total_entries"],
            timeout=500,
            every=1,
        )
        self.kill("dag-processor")
        for name in ACCOUNTS:
            self.clients[name] = self._client(name)
        self.clients["nobody"] = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        for mine in self.belongings.values():
            self.trigger(mine.dag, {"datasets": ["DS-A"], "grant": mine.mark}, mine.run)
            # A run of either is older than its results: what the broker and the results folder know of it.
            self.broker.open(mine.run, dag=mine.dag, user=mine.mark)
            entry = load(WORKFLOWS / WORKFLOW)
            run = a_run(
                self.broker.keys,
                entry,
                id=make_run_id(mine.dag, mine.run),
                dag_id=mine.dag,
                dag_run_id=mine.run,
                user=mine.mark,
            )
            gathered(self.results, run, self.broker.keys, entry, sites=20)
            log = self.folder / "logs" / f"dag_id={mine.dag}" / f"run_id={mine.run}" / "task_id=admit" / "attempt=1.log"
            log.parent.mkdir(parents=True)
            log.write_text(
                json.dumps({"timestamp": "2026-01-01T00:00:00Z", "event": mine.mark, "level": "info"}) + "\n"
            )
        self.python(
            "-c",
            FILL,
            given=json.dumps([{"dag": b.dag, "run": b.run, "mark": b.mark} for b in self.belongings.values()]),
        )

    def _client(self, name: str) -> httpx.Client:
        made = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        answer = made.post("/auth/token", json={"username": name, "password": "pw"})
        assert answer.is_success, f"{name}: {answer.status_code} {answer.text[:500]}"
        made.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return made

    def picture(self, of: Belongings, run: str) -> Any:
        """All of a DAG that somebody else could have changed: whether it is paused, its backfills, and states and tasks
        of a run (none: of all its runs).
        """
        paused = self.api("GET", f"/dags/{of.dag}")["is_paused"]
        backfills = [
            (b["id"], b["completed_at"], b["is_paused"])
            for b in self.api("GET", "/backfills", params={"dag_id": of.dag})["backfills"]
        ]
        runs = {
            r["dag_run_id"]: (r["state"], r["note"])
            for r in self.api("GET", f"/dags/{of.dag}/dagRuns", params={"limit": 200})["dag_runs"]
        }
        tasks = (
            {(t["task_id"], t["map_index"]): (t["state"], t["try_number"]) for t in self.instances(of.dag, run)}
            if run
            else {}
        )
        return paused, backfills, runs if not run else runs.get(run), tasks

    def close(self) -> None:
        for client in self.clients.values():
            client.close()
        super().close()
        self.broker.close()


def operations() -> list[tuple[str, str]]:
    """(method, path) of everything that Airflow says its api-server answers: public API, its pages' own, FAB's. But not
    signing out: that ends the token.
    """
    found = []
    for package, file in (
        ("airflow.api_fastapi.core_api.openapi", "v2-rest-api-generated.yaml"),
        ("airflow.api_fastapi.core_api.openapi", "_private_ui.yaml"),
        ("airflow.providers.fab.auth_manager.api_fastapi.openapi", "v2-fab-auth-manager-generated.yaml"),
    ):
        told = yaml.load((files(package) / file).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        methods = ("get", "post", "put", "patch", "delete")
        found += [
            (m.upper(), path)
            for path, of in told["paths"].items()
            if not path.endswith("/logout")
            for m in of
            if m in methods
        ]
    return found


def start(folder: Path, isolation: str) -> Isolation:
    made = Isolation(folder, isolation)
    try:
        made.start("api-server", "dag-processor")
        made.fill()
    except BaseException:
        made.close()
        raise
    return made
