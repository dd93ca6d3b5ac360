"""The review page in Chromium: a person signs in, looks, refuses with a reason; under its content policy, without a
script, with the browser's own Origin.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gdi.local_federation.aai.running import RunningAai
from tests.support.axe import axe_script, serious
from tests.support.browser import Browser
from tests.support.debian import program
from tests.support.gateway_releases import again, ask, row
from tests.support.gateway_review import ALICE, BOB, aai_fixture, policy  # noqa: F401
from tests.support.gateway_world import World, world_fixture  # noqa: F401
from tests.support.ui_world import PICTURES

pytestmark = pytest.mark.system


def test_a_person_refuses_a_release_in_the_browser(world: World, aai: RunningAai, tmp_path: Path) -> None:
    run = world.new_run(datasets=("RV-B",))
    assert ask(world, run, [row(n) for n in range(1, 260)]).status_code == 202
    with Browser(program("chromium"), tmp_path / "b") as page:
        page.open(f"{world.url}/review/{run.id}/counts")
        page.sees("Sign in")
        page.evaluate("document.querySelector('main a').click()")
        page.wait("document.querySelector('input[name=password]')", "the login form")
        for name, value in (("username", ALICE), ("password", aai.secrets.read(f"user-{ALICE}"))):
            page.evaluate(f"document.querySelector('input[name={name}]').value = {value!r}")
        page.evaluate("document.querySelector('form button').click()")
        page.sees("Approve: let it leave")
        page.sees("Rows 1 to 200.")
        assert page.evaluate("getComputedStyle(document.querySelector('table.wide')).borderCollapse") == "collapse", (
            "its style sheet is allowed"
        )
        page.evaluate("document.querySelector('textarea').focus()")
        page.type("Not this cohort")
        page.evaluate("document.querySelector('button[value=refuse]').click()")
        page.sees("Yes, refuse it")
        page.evaluate("document.querySelector('button[value=refuse]').click()")
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
    axe = axe_script(tmp_path)

    def look(name: str) -> None:
        for width, dark in ((1366, False), (420, False), (1366, True)):
            page.resize(width)
            page.dark(dark)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name}: {wide} pixels wider than {width}"
            assert width != 1366 or serious(page, axe) == [], name
            page.picture(PICTURES / f"node-committee-{name}-{'dark' if dark else width}.png", height=1300)
        page.resize(1366)
        page.dark(False)

    with Browser(program("chromium"), tmp_path / "b") as page:
        page.open(f"{world.url}/review/uses")
        page.sees("access committee see here")
        page.evaluate("document.querySelector('main a').click()")
        page.wait("document.querySelector('input[name=password]')", "the login form")
        for name, value in (("username", BOB), ("password", aai.secrets.read(f"user-{BOB}"))):
            page.evaluate(f"document.querySelector('input[name={name}]').value = {value!r}")
        page.evaluate("document.querySelector('form button').click()")
        page.sees(run.id)
        look("uses")
        page.evaluate(f"document.querySelector('a[href*=\"stop?run={run.id}\"]').click()")
        page.sees("What has left already has left.")
        look("ask")
        page.evaluate("document.querySelector('textarea').value = 'Outside of the permit.'")
        page.evaluate("document.querySelector('main form button').click()")
        page.sees("Outside of the permit.")
        look("stopped")
        assert page.problems == []
    assert run.call("GET", "/ga4gh/tes/v1/tasks").status_code == 403
