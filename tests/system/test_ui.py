"""The run as a person sees it, in a real browser on a real Airflow api-server: form, progress, refusal, dark dress, keyboard, and hostile text as text.

The broker is one that keeps its contract and tells of a workflow whose rules and messages try to run scripts. Pictures go to tests/artefacts/ui/.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import Browser
from debian import program
from fastapi import FastAPI
from operators_world import Served

from broker_client import models as m
from broker_client.models import run_id
from gdi_common.problem import ProblemError
from gdi_common.server import install

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ui")]
PROJECT = Path(__file__).resolve().parents[2]
PICTURES = PROJECT / "tests" / "artefacts" / "ui"
DAG = "allele-frequency"
ATTACK = '<img src=x onerror="window.top.hacked=1"><script>window.top.hacked=2</script>'
SYNC = """
import os
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
DagBundlesManager().sync_bundles_to_db()
bag = DagBag(dag_folder=os.environ["AIRFLOW__CORE__DAGS_FOLDER"], bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
sync_bag_to_db(bag, "dags-folder", None)
"""
FRAME = "document.querySelector('iframe')?.contentDocument"


def progress(run: str, **changed: Any) -> m.Progress:
    """Two nodes in the middle of their work; the words that a workflow or a node chooses are an attack."""
    now = time.time()
    rules = [
        m.RuleProgress(node="node-a", rule="validate", total=1, done=1, started_at=now - 65, ended_at=now - 60),
        m.RuleProgress(node="node-a", rule=ATTACK, total=8, done=3, running=2, started_at=now - 60),
        m.RuleProgress(node="node-a", rule="gather", total=1),
        m.RuleProgress(node="node-b", rule="validate", total=1, failed=1, started_at=now - 64, ended_at=now - 30),
        m.RuleProgress(node="node-b", rule=ATTACK, total=8),
    ]
    nodes = [
        m.NodeProgress(node="node-a", state="running", done=4, total=10),
        m.NodeProgress(node="node-b", state="failed", done=0, total=9, message=f"line 7: {ATTACK}"),
    ]
    failing = m.Failing(node="node-b", reason=f"access withdrawn {ATTACK}", dataset="EGAD50000000002")
    return m.Progress(run=run, attempt=1, state="open", failing=failing, nodes=nodes, rules=rules).model_copy(update=changed)


class Broker:
    """Answers with what a test put there; runs that it does not know are a 404, as the contract has it."""

    def __init__(self) -> None:
        self.runs: dict[str, m.Progress] = {}
        app = FastAPI()
        install(app)
        app.get("/v1/runs/{run}/progress")(self.progress)
        self.served = Served(app)

    async def progress(self, run: str) -> m.Progress:
        if run not in self.runs:
            raise ProblemError(404, "run-unknown", f"There is no run {run}.")
        return self.runs[run]


class Airflow:
    """A bare api-server with the project's DAG in its database: what stands in a run is written there, nothing runs."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        (folder / "passwords.json").write_text(json.dumps({"admin": "pw", "reader": "pw"}))
        (folder / "identity").write_text("identity")
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"), "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False", "AIRFLOW__CORE__SENSITIVE_VAR_CONN_NAMES": "ticket", "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,reader:viewer",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"), "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "GDI_BROKER_URL": broker, "GDI_IDENTITY_TOKEN_FILE": str(folder / "identity"), "GDI_WORKFLOWS": str(PROJECT / "workflows"),
        }  # fmt: skip
        for command in (["-m", "airflow", "db", "migrate"], ["-c", SYNC]):
            done = subprocess.run([sys.executable, *command], env=self.environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "api-server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)],
                env=self.environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        try:
            self._wait()
            token = self.http.post("/auth/token", json={"username": "admin", "password": "pw"}).raise_for_status().json()["access_token"]
            self.http.headers["authorization"] = f"Bearer {token}"
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + 240
        while True:
            assert self.process.poll() is None and time.monotonic() < deadline, f"the api-server is not up:\n{self.log.read_text()[-4000:]}"
            try:
                if self.http.get("/api/v2/monitor/health", timeout=5).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.3)

    def trigger(self, name: str) -> str:
        """A run in the database (no scheduler looks at it); its id."""
        body = {"dag_run_id": name, "logical_date": None, "conf": {"ticket": "gdit_planted", "datasets": ["EGAD50000000001"]}}
        self.http.post(f"/api/v2/dags/{DAG}/dagRuns", json=body).raise_for_status()
        return name

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(20)


@pytest.fixture(scope="module")
def chromium() -> Path:
    return program("chromium")


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    made = Broker()
    yield made
    made.served.stop()


@pytest.fixture(scope="module")
def airflow(chromium: Path, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    made = Airflow(tmp_path_factory.mktemp("airflow-ui"), broker.served.url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def page(chromium: Path, airflow: Airflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all, signed in by the form as a person does."""
    with Browser(chromium, tmp_path_factory.mktemp("browser") / "b") as browser:
        browser.open(airflow.url)
        browser.wait("document.querySelectorAll('input').length === 2", "the login form", timeout=90)
        for number, value in enumerate(("admin", "pw")):
            browser.evaluate(f"document.querySelectorAll('input')[{number}].focus()")
            browser.type(value)
        browser.press("Enter")
        browser.wait("location.pathname === '/' && document.querySelector('nav, a[href*=dags]')", "Airflow's home page", timeout=90)
        yield browser


@pytest.fixture
def opened(page: Browser, airflow: Airflow, broker: Broker) -> Callable[..., str]:
    """Opens the Progress tab of a new run of which the broker says what is given; the run's id."""

    def open_run(name: str, say: Callable[[str], m.Progress] | None = progress) -> str:
        run = airflow.trigger(name)
        if say is not None:
            broker.runs[run_id(DAG, run)] = say(run_id(DAG, run))
        page.problems.clear()
        page.open(f"{airflow.url}/dags/{DAG}/runs/{run}/plugin/gdi-progress")
        return run

    return open_run


def click(page: Browser, label: str) -> None:
    page.wait(f"[...document.querySelectorAll('button')].find(b => b.innerText.trim() === {json.dumps(label)})", f"the button {label!r}")
    page.evaluate(f"[...document.querySelectorAll('button')].find(b => b.innerText.trim() === {json.dumps(label)}).click()")


def words(page: Browser) -> str:
    return str(page.evaluate(f"{FRAME}.body.innerText"))


def shown(page: Browser, text: str) -> None:
    page.wait(f"({FRAME}?.body?.innerText ?? '').includes({json.dumps(text)})", f"{text!r} on the progress page", timeout=90)


def test_the_form_says_what_each_field_is_and_has_the_defaults(page: Browser, airflow: Airflow, broker: Broker) -> None:
    page.open(f"{airflow.url}/dags/{DAG}")
    page.sees("Allele frequencies over all nodes", timeout=90)
    click(page, "Trigger")
    for text in ("Datasets", "Their ids, one a line", "Into how many parts each node splits its sites", "Your consent"):
        page.sees(text)
    assert page.evaluate("[...document.querySelectorAll('input')].map(i => i.value)").count("4") >= 1
    page.sees("Good once")
    assert page.evaluate("document.querySelector('a[href*=\"/connect\"]')?.getAttribute('href')") == f"{broker.served.url}/connect?workflows={DAG}"
    page.picture(PICTURES / "form.png", height=1300)
    page.evaluate("document.documentElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))")


def test_hostile_rules_and_messages_are_text_and_run_no_script(page: Browser, opened: Callable[..., str]) -> None:
    opened("hostile")
    shown(page, "4 of 19 jobs")
    seen = words(page)
    assert seen.count(ATTACK) == 4  # a rule at each of two nodes, a node's message, the failure
    assert page.evaluate("window.hacked === undefined")
    assert page.evaluate(f"{FRAME}.querySelectorAll('img, main script, iframe, a').length") == 0
    assert not [p for p in page.problems if "Content Security Policy" in p], "no script was even tried"
    page.picture(PICTURES / "hostile.png")

    # The test of the test, and the second wall: markup that did get in runs nothing.
    page.evaluate(f"{FRAME}.body.insertAdjacentHTML('beforeend', {json.dumps(ATTACK)})")
    page.wait(f"{FRAME}.querySelectorAll('img').length === 1")
    page.wait("performance.now() > 0 && new Promise(done => setTimeout(() => done(true), 500))")
    assert page.evaluate("window.hacked === undefined")
    assert [p for p in page.problems if "Content Security Policy" in p], "the policy stopped it"


def test_failures_are_on_top_and_every_state_is_a_word(page: Browser, opened: Callable[..., str]) -> None:
    opened("failing")
    shown(page, "Node node-b failed: access withdrawn")
    seen = words(page)
    assert seen.index("Node node-b failed") < seen.index("validate") and "Dataset EGAD50000000002" in seen
    for word in ("Failing", "running", "done", "waiting", "failed"):
        assert word in seen


def test_a_run_that_was_not_admitted_says_so_and_where_the_reason_is(page: Browser, opened: Callable[..., str], airflow: Airflow) -> None:
    run = opened("refused", None)
    shown(page, "Waiting to start")
    with sqlite3.connect(airflow.folder / "airflow.db") as database:  # what the scheduler, which does not run here, would store
        database.execute("UPDATE dag_run SET state = 'failed' WHERE run_id = ?", (run,))
    shown(page, "The log of the admission task says which dataset was refused")
    page.picture(PICTURES / "refused.png")


def test_a_run_that_a_person_ends_keeps_no_ticket(airflow: Airflow) -> None:
    run = airflow.trigger("ended")
    path = f"/api/v2/dags/{DAG}/dagRuns/{run}"
    assert airflow.http.get(path).json()["conf"]["ticket"] == "gdit_planted"
    airflow.http.patch(path, json={"state": "failed"}).raise_for_status()
    assert airflow.http.get(path).json()["conf"]["ticket"] == "used"


def test_progress_goes_on_by_itself_and_ends_green(page: Browser, opened: Callable[..., str], broker: Broker) -> None:
    run = run_id(DAG, opened("ending"))
    shown(page, "4 of 19 jobs")
    now = time.time()
    rules = [m.RuleProgress(node=n, rule="count", total=4, done=4, started_at=now - 100, ended_at=now - 40) for n in ("node-a", "node-b")]
    nodes = [m.NodeProgress(node=n, state="success", done=4, total=4) for n in ("node-a", "node-b")]
    broker.runs[run] = m.Progress(run=run, attempt=2, state="closed", outcome="success", nodes=nodes, rules=rules)
    shown(page, "Done (attempt 2)")
    seen = words(page)
    assert "8 of 8 jobs · 2 nodes · 1 min 0 s" in seen and "validate" not in seen and "failed" not in seen.lower()
    page.picture(PICTURES / "done.png")


def test_a_node_folds_by_keyboard_and_stays_folded(page: Browser, opened: Callable[..., str]) -> None:
    opened("keyboard")
    shown(page, "4 of 19 jobs")
    page.evaluate("document.querySelector('iframe').focus()")
    page.evaluate(f"{FRAME}.getElementById('scroll').focus()")
    page.press("Tab")
    assert page.evaluate(f"{FRAME}.activeElement.innerText") == "node-a"
    page.press("Enter")
    page.wait(f"{FRAME}.activeElement.getAttribute('aria-expanded') === 'false'")
    polled = "performance.getEntriesByType('resource').filter(r => r.name.includes('/gdi/progress/')).length"
    before = page.evaluate(f"document.querySelector('iframe').contentWindow.{polled}")
    page.wait(f"document.querySelector('iframe').contentWindow.{polled} > {before} + 1", "two more polls")
    assert page.evaluate(f"{FRAME}.activeElement.innerText") == "node-a"
    assert "gather" not in words(page)


def test_the_page_wears_airflows_dress_not_the_systems(page: Browser, opened: Callable[..., str]) -> None:
    dark = f"getComputedStyle({FRAME}.documentElement).colorScheme"
    opened("dress")
    shown(page, "4 of 19 jobs")
    assert page.evaluate(dark) == "light"
    try:
        page.evaluate("localStorage.setItem('theme', 'dark')")
        page.open(page.evaluate("location.href"))
        shown(page, "4 of 19 jobs")
        page.wait(f"{dark} === 'dark'")
        page.picture(PICTURES / "dark.png")
        # Airflow's own switch, while the page is open
        page.evaluate("document.documentElement.classList.replace('dark', 'light')")
        page.wait(f"{dark} === 'light'")
    finally:
        page.evaluate("localStorage.removeItem('theme')")


def test_who_is_not_signed_in_sees_nothing_of_a_run(airflow: Airflow, opened: Callable[..., str]) -> None:
    run = opened("private")
    for path in (f"/gdi/page/{DAG}/{run}", f"/gdi/progress/{DAG}/{run}", "/gdi/assets/page.js"):
        assert httpx.get(airflow.url + path, trust_env=False).status_code == 401, path
