"""The review page in Chromium: a person signs in, looks, refuses with a reason; under its content policy, without a
script, with the browser's own Origin.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gdi.local_federation.aai.running import RunningAai
from tests.support.browser import Browser
from tests.support.debian import program
from tests.support.gateway_releases import again, ask, row
from tests.support.gateway_review import ALICE, aai_fixture, policy  # noqa: F401
from tests.support.gateway_world import World, world_fixture  # noqa: F401

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
