"""A used ticket leaves Airflow's database: in Airflow's own database and hooks, at the first decision after admission,
at the latest when the run ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.airflow_process import bare_environment

pytestmark = pytest.mark.long

# One process, because Airflow configures itself once in each: runs made by its ORM, and its own methods called as the
# scheduler and the API server do.
SCRIPT = """
import json
from datetime import datetime, timezone
from airflow.jobs.job import Job
from airflow.listeners.listener import get_listener_manager
from airflow.models.dagrun import DagRun
from airflow.models.dag import DagModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.types import DagRunType
from airflow.utils.state import DagRunState
from gdi_operators.listeners import used_tickets
from sqlalchemy import select, text

Job()  # what every component but the api-server begins with
out = {"registered": used_tickets in get_listener_manager().pm.get_plugins()}
now = lambda: datetime.now(timezone.utc)

def make(name, conf):
    with create_session() as session:
        session.add(DagRun(dag_id="probe", run_id=name, run_type=DagRunType.MANUAL, conf=conf,
            state=DagRunState.RUNNING, run_after=now(), logical_date=None))

def admission(name, state, operator="AdmitRunOperator"):
    with create_session() as session:
        session.execute(text(
            "INSERT INTO task_instance (id, task_id, dag_id, run_id, map_index, state, operator, pool, pool_slots,"
            " try_number, max_tries, priority_weight, custom_operator_name)"
            " VALUES (:i, :t, 'probe', :r, -1, :s, :o, 'default_pool', 1, 1, 0, 1, '')"),
            {"i": __import__("uuid").uuid4().hex, "t": "admit" + str(now().timestamp()), "r": name, "s": state,
             "o": operator})

def decide(name, say=None):
    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.run_id == name)).one()
        run.last_scheduling_decision = now()  # what each of the scheduler's decisions stores
        if say:
            run.set_state(say)
            run.notify_dagrun_state_changed(msg="x")

def conf(name):
    with create_session() as session:
        return session.scalars(select(DagRun.conf).where(DagRun.run_id == name)).one()

T = {"ticket": "gdit_planted", "datasets": ["A"], "k": {"n": [1]}}
make("admitted", T); decide("admitted"); out["before"] = conf("admitted")
admission("admitted", "running"); decide("admitted"); out["while"] = conf("admitted")
admission("admitted", "success"); decide("admitted"); out["after"] = conf("admitted")
make("other-task", T); admission("other-task", "success", "BashOperator"); decide("other-task")
out["other"] = conf("other-task")
for name, say in (("ok", DagRunState.SUCCESS), ("bad", DagRunState.FAILED), ("going", DagRunState.RUNNING)):
    make(name, T); decide(name, say); out[name] = conf(name)
ends = {"empty": {}, "none": {"ticket": None}, "grant": {"grant": "g-1"}, "word": {"ticket": "used"},
        "list": {"ticket": ["gdit_planted"]}}
for name, given in ends.items():
    make(name, given); decide(name, DagRunState.FAILED); out[name] = conf(name)

def broken(*_):
    raise RuntimeError("planted fault")
used_tickets.forget = broken
make("fault", T); admission("fault", "success"); decide("fault", DagRunState.FAILED); out["fault"] = conf("fault")
with create_session() as session:
    out["fault-state"] = session.scalars(select(DagRun._state).where(DagRun.run_id == "fault")).one()
print("OUT", json.dumps(out))
"""
AUDIT = """
import json, os
from fastapi.testclient import TestClient
from airflow.api_fastapi.app import create_app
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
bag = DagBag(dag_folder=os.environ["AIRFLOW__CORE__DAGS_FOLDER"], bundle_name="dags-folder")
from airflow.dag_processing.bundles.manager import DagBundlesManager
DagBundlesManager().sync_bundles_to_db()
sync_bag_to_db(bag, "dags-folder", None)
with TestClient(create_app(), base_url="http://testserver") as client:
    token = client.post("/auth/token", json={"username": "admin", "password": "pw"}).json()["access_token"]
    call = lambda conf: client.post("/api/v2/dags/allele-frequency/dagRuns",
                                    headers={"Authorization": f"Bearer {token}"},
                                    json={"logical_date": None, "conf": conf}).status_code
    answers = [call({"ticket": "gdit_planted", "datasets": ["EGAD1"], "regions": r}) for r in (2, "not a number")]
from airflow.models.log import Log
from airflow.utils.session import create_session
from sqlalchemy import select
with create_session() as session:
    kept = session.scalars(select(Log.extra).where(Log.event == "trigger_dag_run")).all()
    print("OUT", json.dumps({"answers": answers, "kept": kept}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("airflow")
    made = {**bare_environment(home, admin="admin"), "AIRFLOW__CORE__SENSITIVE_VAR_CONN_NAMES": "ticket"}
    run(made, "-m", "airflow", "db", "migrate")
    return made


def run(environment: dict[str, str], *arguments: str) -> tuple[Any, str]:
    """What the script printed as its result, and what was said besides."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=environment["HOME"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    results = [line for line in done.stdout.splitlines() if line.startswith("OUT ")]
    return json.loads(results[0][4:]) if results else None, said.replace(results[0], "") if results else said


def test_a_ticket_leaves_conf_once_it_was_used_and_nothing_else_changes(environment: dict[str, str]) -> None:
    out, said = run(environment, "-c", SCRIPT)
    kept, used = (
        {"ticket": "gdit_planted", "datasets": ["A"], "k": {"n": [1]}},
        {"ticket": "used", "datasets": ["A"], "k": {"n": [1]}},
    )
    assert out["registered"]
    assert out["before"] == out["while"] == out["other"] == out["going"] == kept  # a ticket that is still needed stays
    assert out["after"] == used
    assert out["ok"] == out["bad"] == used  # whatever the admission's state: at the end nobody needs it
    ends = {
        "empty": {},
        "none": {"ticket": None},
        "grant": {"grant": "g-1"},
        "word": {"ticket": "used"},
        "list": {"ticket": "used"},
    }
    assert {name: out[name] for name in ends} == ends
    assert (
        out["fault"] == kept and out["fault-state"] == "failed" and "planted fault" in said
    )  # told, and the run's state is stored all the same
    assert "gdit_planted" not in said


def test_the_audit_log_keeps_no_ticket_not_even_of_a_start_that_was_refused(environment: dict[str, str]) -> None:
    out, said = run(environment, "-c", AUDIT)
    assert out["answers"] == [200, 400]
    assert len(out["kept"]) == 2 and all('"ticket": "***"' in extra and "EGAD1" in extra for extra in out["kept"])
    assert "gdit_planted" not in said
