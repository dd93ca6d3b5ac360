"""Workers, api-server, scheduler and triggerer that share no disk: an answer that one worker makes is shown by the
api-server, through the result store. Root, PostgreSQL and Redis of Debian; not in CI.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdi.contracts.ids import make_run_id
from gdi.releases.allele_counts.table import RELEASED
from gdi.runner.sandbox import why_not
from tests.support.airflow_apart import ApartAirflow
from tests.support.airflow_kit import COMPONENTS, RulesWorld, wait_for
from tests.support.browser import Browser
from tests.support.debian import program
from tests.support.operators_world import WORKFLOW
from tests.support.postgres_kit import Postgres
from tests.support.redis_kit import Redis
from tests.support.s3_server import S3Server, s3_server
from tests.support.ui_fixtures import FRAME, shown, sign_in, words

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("executors"),
    pytest.mark.timeout(1200),
    pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}"),
]
WORKERS = ("worker-1", "worker-2")
RUNS = ("one", "two", "three")


def release(ac: int) -> bytes:
    site = {"chrom": "22", "pos": 1000, "ref": "A", "alt": "G", "ac_min": ac, "ac_max": ac, "an_min": 400}
    unlisted = {"ac_max": 8, "an_max": 400, "reason": "small"}
    sites = [site | {"an_max": 400, "reason": ""}]
    return json.dumps({"format": RELEASED, "unlisted": unlisted, "sites": sites, "withheld": {}}).encode()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        server.bucket("answers")
        yield server


@pytest.fixture(scope="module")
def airflow(
    s3: S3Server, postgres: Postgres, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApartAirflow]:
    """After three runs that two workers shared."""
    folder = tmp_path_factory.mktemp("apart")
    world = RulesWorld(folder / "world", rules=("one",), releases=WORKFLOW["releases"])
    for number, node in enumerate(world.nodes):
        node.release = release(100 + number)
    world.start_host()
    database = f"postgresql://gdi:{postgres.password}@127.0.0.1:{postgres.port}/{postgres.database('airflow')}"
    made = ApartAirflow(
        folder / "apart", world.environment, s3=s3, bucket="answers", queue=redis_server.url, database=database
    )
    try:
        made.start(*COMPONENTS, *WORKERS)
        wait_for("the DAG", lambda: made.has_dag("probe"), timeout=180)
        for name in RUNS:
            world.broker.all_done(make_run_id("probe", name), 1, "one")
            made.trigger("probe", world.conf("ok", 0.2), name)
        ended = {name: made.finish("probe", name, timeout=500) for name in RUNS}
        assert ended == dict.fromkeys(RUNS, "success"), {name: made.states("probe", name) for name in RUNS}
        yield made
    finally:
        made.close()
        world.close()


def test_the_api_server_shows_answers_that_lie_on_no_disk_of_its_own(airflow: ApartAirflow) -> None:
    assert not airflow.made("api-server"), "it has looked at nothing yet"
    for name in RUNS:
        run = make_run_id("probe", name)
        view = airflow.http.get(f"/gdi/data/results/probe/{name}").raise_for_status().json()
        assert {release["node"]: release["verified"] for release in view["releases"]} == {
            "node-a": True,
            "node-b": True,
        }
        answer = airflow.http.get(f"/gdi/file/probe/{name}", params={"name": "answer.tsv"}).raise_for_status().text
        assert answer.splitlines()[1].split("\t")[:6] == ["22", "1000", "A", "G", "201", "800"]
        crate = airflow.http.get(f"/gdi/crate/probe/{name}").raise_for_status()
        with zipfile.ZipFile(io.BytesIO(crate.content)) as packed:
            assert packed.read("answer.tsv").decode() == answer and "workflow/Snakefile" in packed.namelist()
        assert f"{run}/answer.tsv" in airflow.made("api-server")


def test_the_workers_share_nothing_but_the_store(airflow: ApartAirflow) -> None:
    made = {name: airflow.made(name) for name in WORKERS}
    assert all(made.values()), f"both had a part in the runs: {made}"
    answers = [(worker, file) for worker, files in made.items() for file in files if file.endswith("answer.tsv")]
    assert len(answers) == len(RUNS), "each answer lies with the worker that made it"
    assert not any(airflow.made(name) for name in COMPONENTS if name != "api-server")


def test_a_person_sees_the_answer_in_the_results_tab(airflow: ApartAirflow, tmp_path: Path) -> None:
    with Browser(program("chromium"), tmp_path / "browser") as page:
        sign_in(page, airflow.url)
        page.open(f"{airflow.url}/dags/probe/runs/one/plugin/gdi-results")
        shown(page, "The answer is here")
        page.wait(f"{FRAME}.body.innerText.includes('1,000') || {FRAME}.body.innerText.includes('1000')", "its site")
        assert words(page).count("verified") >= 2
