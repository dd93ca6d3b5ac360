"""The run's Results tab in a real browser: the answer, what was withheld and why, proofs that are made anew, downloads,
light and dark.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gdi.contracts import broker_api as m
from gdi.contracts.workflow_files import load
from tests.support.browser import Browser
from tests.support.results_kit import WORKFLOWS, gathered
from tests.support.ui_fixtures import FRAME, shown, words
from tests.support.ui_world import DAG, PICTURES, Airflow, Broker

pytest_plugins = ["tests.support.ui_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ui")]
ENTRY = load(WORKFLOWS / DAG)
Tab = Callable[..., None]


@pytest.fixture
def finished(airflow: Airflow, broker: Broker) -> Callable[[str], Path]:
    """A run that was gathered and closed; its folder of results."""

    def make(name: str) -> Path:
        airflow.trigger(name)
        run = broker.open(name, digest=ENTRY.digest, state="closed", outcome="success", closed_at=time.time())
        return gathered(airflow.results, broker.runs[run], broker.keys, ENTRY, sites=3000)

    return make


def test_the_answer_its_proofs_and_what_was_withheld_are_shown(
    page: Browser, finished: Callable[[str], Path], tab: Tab
) -> None:
    finished("results")
    tab("results", "results")
    shown(page, "The answer is here")
    seen = words(page)
    assert "3,000 alleles: 2,571 with exact numbers, 429 that at least one node does not tell exactly" in seen
    assert "not told of so few sites" in seen
    assert seen.count("verified") >= 2 and "not proven" not in seen
    assert (
        ENTRY.digest in seen
        and "alice@lifescience-ri.eu" in seen
        and "admin" in seen
        and "https://dac.example.org" in seen
    )
    page.picture(PICTURES / "results-light.png", height=1900)
    cells = f"[...{FRAME}.querySelectorAll('.grid.answer .body [role=row]')].length"
    assert 10 < page.evaluate(cells) < 60, "only the rows in sight are made"
    page.evaluate(f"{FRAME}.querySelector('input[type=search]').focus()")
    page.type("chr-none")
    shown(page, "No row is like that.")
    try:
        page.evaluate("localStorage.setItem('theme', 'dark')")
        page.open(page.evaluate("location.href"))
        shown(page, "The answer is here")
        page.wait(f"getComputedStyle({FRAME}.documentElement).colorScheme === 'dark'")
        page.picture(PICTURES / "results-dark.png", height=1900)
    finally:
        page.evaluate("localStorage.removeItem('theme')")
    assert not [
        p for p in page.problems if "sandbox" not in p
    ]  # of Airflow's own sandbox around its tabs Chromium complains


def test_what_the_page_offers_can_be_downloaded_and_is_what_was_kept(
    airflow: Airflow, page: Browser, finished: Callable[[str], Path], tab: Tab
) -> None:
    folder = finished("downloads")
    tab("downloads", "results")
    shown(page, "The answer is here")
    found: list[str] = page.evaluate(f"[...{FRAME}.querySelectorAll('a[download]')].map(a => a.href)")
    assert len(found) == 7
    for url in found:
        answer = airflow.http.get(url).raise_for_status()
        assert (
            answer.headers["content-disposition"].startswith("attachment")
            and answer.headers["x-content-type-options"] == "nosniff"
        )
        if "/crate/" in url:
            with zipfile.ZipFile(io.BytesIO(answer.content)) as crate:
                assert crate.read("answer.tsv") == (folder / "answer.tsv").read_bytes()
                assert {"workflow/Snakefile", "releases/node-a/allele-counts.json"} <= set(crate.namelist())
                assert json.loads(crate.read("ro-crate-metadata.json"))["@graph"]
    for name in ("../secret", "/etc/passwd", "workflow/Snakefile", "", "x" * 300):
        assert airflow.http.get(f"/gdi/file/{DAG}/downloads", params={"name": name}).status_code in (404, 422)


def test_a_release_that_was_changed_is_not_called_proven(
    page: Browser, finished: Callable[[str], Path], tab: Tab
) -> None:
    folder = finished("tampered")
    (folder / "releases" / "node-b" / "allele-counts.json").write_text('{"format": "<img src=x onerror=alert(1)>"}')
    tab("tampered", "results")
    shown(page, "Not everything is proven")
    seen = words(page)
    assert "not proven" in seen and "another checksum" in seen and "Do not use the files" in seen
    page.picture(PICTURES / "results-tampered.png")


def test_no_results_yet_and_no_results_ever_are_told_apart(
    page: Browser, airflow: Airflow, broker: Broker, tab: Tab
) -> None:
    airflow.trigger("early")
    tab("early", "results")
    shown(page, "The run waits for its admission.")
    broker.open("early")
    shown(page, "They appear here when every node has released its part.")
    failing = m.Failing(node="node-b", reason="<b>no access</b>")
    broker.open("early", state="closed", outcome="failed", failing=failing, closed_at=time.time())
    shown(page, "The run ended before its nodes' releases were gathered.")
    assert "Node node-b failed: <b>no access</b>" in words(page)
    assert airflow.http.get(f"/gdi/crate/{DAG}/early").status_code == 404


def test_results_stay_readable_while_the_broker_is_away(
    airflow: Airflow, page: Browser, finished: Callable[[str], Path], broker: Broker, tab: Tab
) -> None:
    finished("alone")
    broker.refuses = True
    try:
        tab("alone", "results")
        shown(page, "The answer is here")
        assert "day off" in words(page)
    finally:
        broker.refuses = False
