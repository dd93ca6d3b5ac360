"""A whole run in real Airflow (its database, its task runner, its triggers), then what is left in the database, the
logs and on the run's page.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts.ids import make_run_id
from gdi.runner.sandbox import why_not
from tests.support.airflow_process import bare_environment, python
from tests.support.operators_world import TICKET, World
from tests.support.results_kit import release_of, told

pytestmark = [pytest.mark.long, pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}")]
PROJECT = Path(__file__).resolve().parents[3]

RUN = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1], bundle_name="dags-folder")
print(sorted(bag.dags))
for conf in json.loads(sys.stdin.read()):
    done = bag.dags["probe"].test(run_conf=conf)
    print("STATE", json.dumps({"run": done.run_id, "state": done.state, "errors": bag.import_errors,
          "tasks": {t.task_id + ("" if t.map_index < 0 else str(t.map_index)): [t.state, t.rendered_map_index]
                    for t in done.get_task_instances()}}))
"""

PAGE = """
import json, os, sys
from fastapi.testclient import TestClient
from airflow.api_fastapi.app import create_app
app = create_app()
run = sys.argv[1]
out = {}
with TestClient(app, base_url="http://testserver") as client:
    paths = {"page": f"/gdi/jobs/probe/{run}", "data": f"/gdi/data/jobs/probe/{run}", "asset": "/gdi/assets/x/gdi.js"}
    out["anonymous"] = {n: client.get(p).status_code for n, p in paths.items()}
    token = client.post("/auth/token", json={"username": "admin", "password": "pw"}).json()["access_token"]
    seen = {n: client.get(p, headers={"Authorization": f"Bearer {token}"}) for n, p in paths.items()}
    out["admin"] = {n: r.status_code for n, r in seen.items()}
    out["csp"] = [r.headers["content-security-policy"] for r in seen.values()]
    out["data"] = seen["data"].json()
    out["other"] = client.get("/gdi/data/jobs/probe/unknown", headers={"Authorization": f"Bearer {token}"}).json()
    out["assets"] = client.get("/gdi/assets/x/..%2Fpages.py", headers={"Authorization": f"Bearer {token}"}).status_code
print("PAGE", json.dumps(out))
"""


class Airflow:
    """An own AIRFLOW_HOME on SQLite; each step a process of its own, as Airflow's are."""

    def __init__(self, folder: Path, world: World) -> None:
        self.folder = folder
        folder.mkdir()
        self.environment = {**bare_environment(folder, admin="admin"), **world.environment}
        self.say("-m", "airflow", "db", "migrate")

    def say(self, *arguments: str, stdin: str = "") -> str:
        return python(list(arguments), self.environment, self.folder, stdin)

    def run(self, *confs: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
        """Of each run what became of it, and what was said meanwhile."""
        said = self.say("-c", RUN, str(PROJECT / "dags"), stdin=json.dumps(confs))
        parts = said.split("\nSTATE ")
        return [(json.loads(after.splitlines()[0]), before) for before, after in pairwise(parts)]

    def rows(self, *, without: tuple[str, ...] = ()) -> dict[str, str]:
        """All of the database as text, by table."""
        with sqlite3.connect(self.folder / "airflow.db") as db:
            tables = [
                t for (t,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'") if t not in without
            ]
            return {t: repr(db.execute(f'SELECT * FROM "{t}"').fetchall()) for t in tables}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    made.start_host()
    yield made
    made.close()


@pytest.fixture(scope="module")
def airflow(world: World) -> Airflow:
    return Airflow(world.folder / "airflow", world)


@pytest.fixture(scope="module")
def runs(world: World, airflow: Airflow) -> list[tuple[dict[str, Any], str]]:
    """Two runs, one after the other: one that succeeds though a pod is lost, one whose second node fails."""
    (world.folder / "workflows" / "broken").mkdir()
    for node in world.nodes:
        node.release = release_of(told(100, 9, 40), told(200, 9, 40))
    world.broker.messages["node-b"] = "access to DS-B was withdrawn"
    start = {"ticket": TICKET, "datasets": ["DS-A", "DS-B"]}
    return airflow.run({**start, "mode": "lost-once"}, {**start, "mode": "fail-node-b", "seconds": 0.1})


def test_a_whole_run_succeeds_and_leaves_no_secret_and_no_used_ticket(
    world: World, airflow: Airflow, runs: list[tuple[dict[str, Any], str]]
) -> None:
    result, said = runs[0]
    assert result["state"] == "success", said[-5000:]
    labels = {name: label for name, (state, label) in result["tasks"].items() if state == "success"}
    assert labels == {
        "admit": None,
        "analyse0": "node-a",
        "analyse1": "node-b",
        "release0": "node-a · counts",
        "release1": "node-b · counts",
        "gather": None,
        "close": None,
    }
    assert "Task failed with exception" not in said  # a retry would mend, and hide, a mistake
    run = world.broker.runs[make_run_id("probe", result["run"])]
    assert (run.state, run.outcome) == ("closed", "success")
    assert [n.closed for n in world.nodes] == [[1, 1], [1, 1]]  # of both runs
    answer = (world.folder / "results" / run.id / "answer.tsv").read_text()
    exact = "18\t80\t0.225\t2\t18\t18\t80\t80\t"
    assert answer.splitlines()[1:] == [f"2\t100\tA\tG\t{exact}", f"2\t200\tA\tG\t{exact}"]
    identity = (world.folder / "airflow-token").read_text()
    database = airflow.rows()
    for secret in ("run-token-for", identity):
        assert not [t for t, text in database.items() if secret in text] and secret not in said
    assert not [t for t, text in database.items() if TICKET in text]  # used, it left conf
    assert TICKET not in said
    assert "broken/workflow.yaml" in json.dumps(result["errors"])
    logs = "".join(f.read_text(errors="replace") for f in (airflow.folder / "logs").rglob("*.log"))
    assert TICKET not in logs and identity not in logs and "run-token-for" not in logs

    out = airflow.say("-c", PAGE, result["run"])
    page = json.loads(next(line for line in out.splitlines() if line.startswith("PAGE"))[5:])
    assert set(page["anonymous"].values()) == {401}
    assert set(page["admin"].values()) == {200}
    assert all("default-src 'none'" in c and "unsafe" not in c for c in page["csp"])
    assert (
        page["data"]["progress"]["run"] == run.id
        and page["other"]["progress"]["state"] == "not-admitted"
        and page["assets"] == 404
    )


def test_a_failed_node_fails_the_run_and_it_is_closed_as_failed(
    world: World, runs: list[tuple[dict[str, Any], str]]
) -> None:
    result, said = runs[1]
    assert result["state"] == "failed"
    states = {name: state for name, (state, _) in result["tasks"].items()}
    assert states["analyse1"] == states["close"] == "failed" and states["gather"] == "upstream_failed"
    assert "node node-b failed: access to DS-B was withdrawn" in said
    assert world.broker.runs[make_run_id("probe", result["run"])].outcome == "failed"
