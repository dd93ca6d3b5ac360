"""*Stop the run* in Airflow's tab Jobs, clicked in a real browser: it asks first, Airflow then ends the run, who may
not is told so, and nothing stays green.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable

import httpx
import pytest

from tests.support.browser import Browser
from tests.support.ui_fixtures import FRAME, shown, words
from tests.support.ui_world import DAG, PICTURES, Airflow, Broker

pytest_plugins = ["tests.support.ui_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ui")]
JOB = {"kind": "job", "rule": "count"}


def click(page: Browser, label: str) -> None:
    button = f"[...{FRAME}.querySelectorAll('button')].find(b => b.innerText.trim() === {json.dumps(label)})"
    page.wait(button, f"the button {label!r}")
    page.evaluate(f"{button}.click()")


def steps(airflow: Airflow, run: str) -> dict[str, str | None]:
    """State by task, but for the rules' own."""
    page = airflow.http.get(f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances").raise_for_status().json()
    return {t["task_id"]: t["state"] for t in page["task_instances"] if not t["task_id"].startswith("rules.")}


def scheduled(airflow: Airflow, change: str) -> None:
    """What the scheduler, which does not run here, would store."""
    with sqlite3.connect(airflow.folder / "airflow.db") as database:
        database.execute(change)


def state(airflow: Airflow, run: str) -> str:
    return str(airflow.http.get(f"/api/v2/dags/{DAG}/dagRuns/{run}").raise_for_status().json()["state"])


def test_stop_asks_first_and_then_the_run_ends(
    page: Browser, tab: Callable[..., None], airflow: Airflow, broker: Broker
) -> None:
    airflow.trigger("stop-me")
    scheduled(airflow, "UPDATE dag_run SET state = 'running' WHERE run_id = 'stop-me'")
    run, now = broker.open("stop-me"), time.time()
    for node in ("node-a", "node-b"):
        done = [{**JOB, "job": "c0", "state": "running", "time": now - 90}, {**JOB, "job": "c0", "state": "done"}]
        busy = {**JOB, "job": "c1", "state": "running", "time": now - 20}
        broker.tell(run, node, {"kind": "rules", "counts": {"count": 8}}, *done, busy)
    tab("stop-me")
    shown(page, "2 of 16 jobs")
    click(page, "Stop the run")
    shown(page, "Its tasks at every node are cancelled.")
    assert page.evaluate(f"{FRAME}.activeElement.innerText") == "No", "Enter alone stops nothing"
    page.picture(PICTURES / "stop-asked.png")
    click(page, "No")
    assert state(airflow, "stop-me") == "running" and "Stop the run" in words(page)
    click(page, "Stop the run")
    click(page, "Yes, stop it")
    shown(page, "The run is being stopped.")
    after = steps(airflow, "stop-me")
    assert after["admit"] == "skipped" and after["close"] is None, f"all but the teardown is ended: {after}"
    shown(page, "Somebody stopped the run in Airflow; its tasks at the nodes are being cancelled.")
    scheduled(airflow, "UPDATE dag_run SET state = 'failed' WHERE run_id = 'stop-me'")
    scheduled(airflow, "UPDATE task_instance SET state = 'failed' WHERE run_id = 'stop-me' AND task_id = 'close'")
    broker.open("stop-me", state="closed", outcome="cancelled", closed_at=time.time())  # as its teardown does
    shown(page, "Somebody stopped the run in Airflow; what it was doing at the nodes was ended.")
    page.wait(f"!{FRAME}.body.innerText.includes('Stop the run')", "no button any more")
    green = page.evaluate(
        f"[...{FRAME}.querySelectorAll('.done, .done .sign')].map(e => getComputedStyle(e))"
        ".flatMap(s => [s.color, s.backgroundColor])"
    )
    assert green and not {"rgb(21, 128, 61)", "rgb(74, 222, 128)"} & set(green)
    page.picture(PICTURES / "stop-done.png")


def test_who_may_only_read_does_not_stop(
    page: Browser, tab: Callable[..., None], airflow: Airflow, broker: Broker
) -> None:
    """Airflow itself refuses a viewer, and the page says it: the refusal is Airflow's own, put before the page."""
    airflow.trigger("stop-not")
    broker.open("stop-not")
    token = httpx.post(
        f"{airflow.url}/auth/token", json={"username": "reader", "password": "pw"}, trust_env=False, timeout=60
    ).json()["access_token"]
    refused = httpx.patch(
        f"{airflow.url}/api/v2/dags/{DAG}/dagRuns/stop-not",
        json={"state": "failed"},
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=60,
    )
    assert refused.status_code == 403 and state(airflow, "stop-not") == "queued"
    tab("stop-not")
    shown(page, "Stop the run")
    page.evaluate(
        "document.querySelector('iframe').contentWindow.fetch = async () => new Response('{}', {status: 403})"
    )
    click(page, "Stop the run")
    click(page, "Yes, stop it")
    shown(page, "You may not stop this run.")
    assert state(airflow, "stop-not") == "queued"
