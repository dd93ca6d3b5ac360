"""Each operator alone in a DAG of anybody's, and the hook's connection with its form and Test button, on a real
Airflow.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdi.contracts.ids import make_run_id
from gdi.runner.sandbox import why_not
from tests.support.airflow_kit import PROJECT, RealAirflow, RulesWorld, wait_for
from tests.support.cluster_stand_in import StandIn, in_cluster
from tests.support.operators_world import WORKFLOW, Served
from tests.support.results_kit import release_of, told

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("airflow"),
    pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}"),
]
EXAMPLES = sorted(p.stem for p in (PROJECT / "plugins" / "gdi_operators" / "example_dags").glob("example_*.py"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RulesWorld]:
    made = RulesWorld(tmp_path_factory.mktemp("examples"), rules=("one", "two"), releases=WORKFLOW["releases"])
    made.start_host()
    cluster = StandIn(ends_at_once=True)  # for example_snakemake_pod; a real one: tests/kubernetes
    served = Served(cluster.app())
    made.environment |= in_cluster(made.folder, served.url)
    for node in made.nodes:
        node.release = release_of(told(7, 9, 40))
    yield made
    served.stop()
    made.close()


@pytest.fixture(scope="module")
def airflow(world: RulesWorld) -> Iterator[RealAirflow]:
    dags = world.folder / "dags"
    shutil.copytree(PROJECT / "plugins" / "gdi_operators" / "example_dags", dags)
    names = {"GDI_EXAMPLE_WORKFLOW": "probe", "GDI_EXAMPLE_RULES": "one,two", "GDI_EXAMPLE_RELEASE": "counts"}
    made = RealAirflow(world.folder / "airflow", {**world.environment, **names}, dags=dags)
    try:
        made.start()
        wait_for("the DAGs", lambda: all(made.has_dag(name) for name in EXAMPLES), timeout=150)
        yield made
    finally:
        made.close()


def connection(world: RulesWorld, **changed: str) -> dict[str, str]:
    extra = {"identity_token_file": str(world.folder / "airflow-token")}
    return {
        "connection_id": "gdi_token_broker_default",
        "conn_type": "gdi_token_broker",
        "host": world.broker.served.url,
        "extra": json.dumps(extra),
        **changed,
    }


def test_the_connection_has_a_form_of_its_own(airflow: RealAirflow) -> None:
    metas = airflow.http.get("/ui/connections/hook_meta").raise_for_status().json()
    (mine,) = [m for m in metas if m["connection_type"] == "gdi_token_broker"]
    assert mine["hook_name"] == "GDI token broker" and mine["standard_fields"]["host"]["title"] == "Broker URL"
    assert mine["standard_fields"]["password"]["hidden"] and list(mine["extra_fields"]) == ["identity_token_file"]


def test_its_test_button_says_what_is_wrong(world: RulesWorld, airflow: RealAirflow, tmp_path: Path) -> None:
    def press(**changed: str) -> tuple[bool, str]:
        answer = airflow.api("POST", "/connections/test", json=connection(world, **changed))
        return answer["status"], answer["message"]

    assert press() == (True, "The broker answers and knows this Airflow by its identity token.")
    asked = len(world.broker.requests)
    for extra, said in (
        ({}, "identity_token_file) must be set"),
        ({"identity_token_file": str(tmp_path / "none")}, "cannot be read here: No such file"),
        ({"identity_token_file": "/etc/passwd"}, "holds no JSON Web Token"),
    ):
        status, message = press(extra=json.dumps(extra))
        assert not status and (said in message or "must be set" in message), message
    assert len(world.broker.requests) == asked  # no other file was sent anywhere
    status, message = press(host="http://127.0.0.1:9")
    assert not status and "does not answer" in message


def test_every_operator_works_alone_in_anybodys_dag(world: RulesWorld, airflow: RealAirflow) -> None:
    airflow.api("POST", "/connections", json=connection(world))
    for name in EXAMPLES:
        run = make_run_id(name, "once")
        world.broker.all_done(run, 1, "one")
        airflow.trigger(name, world.conf("ok", 0.2), "once")
    for name in EXAMPLES:
        state = airflow.finish(name, "once", timeout=240)
        states = airflow.states(name, "once")
        assert state == ("failed" if name == "example_close_run" else "success"), (name, states)
        closed = world.broker.runs[make_run_id(name, "once")]
        assert (closed.state, closed.outcome) == ("closed", state), name
        assert states["close"] == state, name
    assert airflow.states("example_rule_watcher", "once") | {
        "rule_one": "success",
        "rule_two": "skipped",
    } == airflow.states("example_rule_watcher", "once")
    assert (world.folder / "results" / make_run_id("example_gather", "once") / "answer.tsv").read_text().count(
        "\n"
    ) == 2
