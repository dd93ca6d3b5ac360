"""The node's access committee: its own role and no other's, uses from the audit, stops that hold at the node's own
door, reports; and the operator's page of the audit.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import httpx
import pytest

from gdi.local_federation.aai.running import RunningAai
from tests.support.gateway_releases import ask, row
from tests.support.gateway_review import ALICE, BOB, aai_fixture, sub  # noqa: F401
from tests.support.gateway_review_pages import field, sign_in
from tests.support.gateway_world import World, world_fixture  # noqa: F401

TASKS = "/ga4gh/tes/v1/tasks"
pytestmark = pytest.mark.long


@pytest.fixture
def browser(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def policy(world: World, aai: RunningAai) -> None:
    world.policy(reviewers=[sub(aai, ALICE)], committee=[sub(aai, BOB)])


def test_a_reviewer_is_no_member_and_a_member_no_reviewer(world: World, aai: RunningAai, browser: httpx.Client) -> None:
    assert "Sign in" in browser.get("/review/uses").text, "nothing is told before"
    assert browser.post("/review/uses/stop", data={"person": "x", "reason": "because"}).status_code == 403
    sign_in(aai, browser, ALICE)
    for path in ("", "/report.csv", "/report.pdf", "/stop?person=x"):
        answer = browser.get(f"/review/uses{path}")
        assert answer.status_code == 403 and "access committee" in answer.text, path
    assert any("not of this node's access committee" in reason for reason in world.refusals())
    with httpx.Client(base_url=world.url, trust_env=False, timeout=60) as member:
        assert sign_in(aai, member, BOB, back="/review/uses").status_code == 200
        assert member.get("/review").status_code == 403, "what waits is not the committee's to see"


def test_a_member_sees_a_use_stops_it_and_takes_the_report(
    world: World, aai: RunningAai, browser: httpx.Client
) -> None:
    run = world.new_run(datasets=("RV-9",))
    ask(world, run, [row(1), row(2, het=30, hom_alt=9)])
    page = sign_in(aai, browser, BOB, back="/review/uses")
    assert run.id in page.text and "alice@aai" in page.text and "sha256" in page.text
    report = list(csv.reader(io.StringIO(browser.get("/review/uses/report.csv").text)))
    assert report[0][0] == "First" and any(run.id in line for line in report)
    assert browser.get("/review/uses/report.pdf").content.startswith(b"%PDF")
    for wrong in ("since=x", "until=2026-13-01", "since=2026-11-30%0A00:00"):
        assert browser.get(f"/review/uses?{wrong}").status_code == 422
    asked = browser.get("/review/uses/stop", params={"run": run.id})
    assert "cannot go on here" in asked.text
    form = {"csrf": field(asked, "csrf"), "run": run.id, "reason": "Outside of <b>the permit</b>."}
    for change in ({"csrf": "guessed"}, {"reason": ""}, {"run": "r-1"}, {"person": "also"}):
        assert browser.post("/review/uses/stop", data=form | change).status_code in (403, 422)
    done = browser.post("/review/uses/stop", data=form)
    assert done.status_code == 200 and "&lt;b&gt;" in done.text
    answer = run.call("GET", TASKS)
    assert answer.status_code == 403 and answer.json()["type"].endswith("stopped-by-committee")
    run.admit(2)
    assert run.call("GET", TASKS).status_code == 403, "nor does a later attempt"

    other = world.new_run(datasets=("RV-9",))
    assert other.call("GET", TASKS).status_code == 200
    person = next(line["actor"] for line in world.audit(run.id) if " (" in line["actor"]).rpartition(" (")[0]
    asked = browser.get("/review/uses/stop", params={"person": person})
    browser.post("/review/uses/stop", data={"csrf": field(asked, "csrf"), "person": person, "reason": "Left."})
    assert other.call("GET", TASKS).status_code == 403
    page = browser.get("/review/uses")
    number = page.text.partition('action="/review/uses/lift/')[2].partition('"')[0]
    assert browser.post(f"/review/uses/lift/{number}", data={"csrf": "guessed"}).status_code == 403
    assert browser.post(f"/review/uses/lift/{number}", data={"csrf": field(page, "csrf")}).status_code == 303
    assert other.call("GET", TASKS).status_code == 200
    assert run.call("GET", TASKS).status_code == 403, "a run's stop stays"


def test_the_operators_page_of_the_audit_has_filters(world: World) -> None:
    with world.inside() as client:
        html = {"Accept": "text/html,application/xhtml+xml"}
        page = client.get("/audit", headers=html, params={"action": "committee-stop"})
        assert page.status_code == 200 and "Outside of &lt;b&gt;" in page.text and "committee-lift" not in page.text
        assert "No such entry" in client.get("/audit", headers=html, params={"text": "nowhere at all"}).text
        assert client.get("/audit", headers=html, params={"since": "soon"}).status_code == 422
        lines = client.get("/audit", params={"limit": 1})
        assert lines.headers["content-type"].startswith("application/x-ndjson"), "programs get lines, as before"
