"""The review page in Chromium: a person signs in, looks, refuses with a reason; under its content policy, without a
script, with the browser's own Origin.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gdi.local_federation.aai.running import RunningAai
from tests.support.axe import axe_script
from tests.support.browser import Browser
from tests.support.browser_person import BrowserPerson
from tests.support.debian import program
from tests.support.gateway_releases import again, ask, row
from tests.support.gateway_review import ALICE, BOB, aai_fixture, policy  # noqa: F401
from tests.support.gateway_world import World, world_fixture  # noqa: F401

pytestmark = pytest.mark.system


def test_a_person_refuses_a_release_in_the_browser(world: World, aai: RunningAai, tmp_path: Path) -> None:
    run = world.new_run(datasets=("RV-B",))
    assert ask(world, run, [row(n) for n in range(1, 260)]).status_code == 202
    with Browser(program("chromium"), tmp_path / "b") as page:
        me = BrowserPerson(page, ALICE, aai.secrets.read(f"user-{ALICE}"))
        page.open(f"{world.url}/review/{run.id}/counts")
        page.sees("Sign in")
        me.click("main a")
        me.sign_in()
        page.sees("Approve: let it leave")
        page.sees("Rows 1 to 200.")
        assert page.evaluate("getComputedStyle(document.querySelector('table.wide')).borderCollapse") == "collapse", (
            "its style sheet is allowed"
        )
        page.evaluate("document.querySelector('textarea').focus()")
        page.type("Not this cohort")
        me.click("button[value=refuse]")
        page.sees("Yes, refuse it")
        me.click("button[value=refuse]")
        page.sees("It stays")
        assert page.problems == []
    assert "Not this cohort" in again(run).json()["reasons"][0]


def test_a_member_of_the_nodes_committee_stops_a_run_in_the_browser(
    world: World, aai: RunningAai, tmp_path: Path
) -> None:
    """Clicks: Sign in, Stop this run, Stop. Seen: uses, the question, what was stopped; at two widths, in the dark."""
    world.policy(committee=[f"{BOB}@lifescience-ri.eu"])
    run = world.new_run(datasets=("RV-B",))
    ask(world, run, [row(n) for n in range(1, 20)])
    with Browser(program("chromium"), tmp_path / "b") as page:
        me = BrowserPerson(page, BOB, aai.secrets.read(f"user-{BOB}"), "node-committee", axe_script(tmp_path))
        page.open(f"{world.url}/review/uses")
        page.sees("access committee see here")
        me.click("main a")
        me.sign_in()
        me.look("uses", run.id)
        me.click(f"a[href*='stop?run={run.id}']")
        me.look("ask", "What has left already has left.")
        page.evaluate("document.querySelector('textarea').value = 'Outside of the permit.'")
        me.click("main form button")
        me.look("stopped", "Outside of the permit.")
        assert page.problems == []
    assert run.call("GET", "/ga4gh/tes/v1/tasks").status_code == 403
