"""A researcher's journey in Chromium, from nothing to an answer and again: at two widths, light and dark, by keyboard,
and axe finds nothing serious on any page.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from gdi.contracts.committees import Departure
from gdi.contracts.progress import NodeProgress
from gdi.contracts.run_endings import Standing
from gdi.local_federation.aai.running import RunningAai, running_aai
from tests.support.axe import axe_script
from tests.support.browser import Browser
from tests.support.browser_person import BrowserPerson
from tests.support.debian import program
from tests.support.portal_server import PortalServer
from tests.support.portal_world import ALICE, BOB, DATASETS, made_use
from tests.support.processes import free_port

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PortalServer, RunningAai]]:
    folder, port = tmp_path_factory.mktemp("portal"), free_port()
    redirects = [f"http://127.0.0.1:{port}/signed-in"]
    with running_aai(folder / "aai", redirect_uris=redirects) as aai, PortalServer(folder, aai, port) as server:
        yield server, aai


def test_from_nothing_to_an_answer_and_again(portal: tuple[PortalServer, RunningAai], tmp_path: Path) -> None:
    server, aai = portal
    world = server.world
    one, two = DATASETS.values()
    world.broker.entitled[ALICE] = set()
    with Browser(program("chromium"), tmp_path / "b", width=1366) as page:
        me = BrowserPerson(page, "alice", aai.secrets.read("user-alice"), "portal", axe_script(tmp_path))
        page.open(server.url + "/datasets")
        me.look("welcome", "where the data lies", "You are not signed in")
        me.click("main a.button")
        me.sign_in()
        me.look("no-access", "You have no visa for it.", "Ask.")
        assert page.evaluate("location.pathname") == "/datasets", "back where the person wanted to be"

        world.broker.entitled[ALICE] = {one, two}  # the committee said yes
        page.open(server.url + "/")
        me.look("home", "You may use 2 of 2 datasets now.")
        page.open(server.url + "/datasets")
        me.look("access", "Use it in an analysis")
        me.click("nav a[href='/workflows']")
        me.look("workflows", "Allele frequencies over all nodes")
        me.click("main .card a.button")
        page.sees("On which datasets?")
        page.evaluate("document.querySelector('#f-regions').value = '9999'")
        page.evaluate("document.querySelector('form.stack').noValidate = true")
        me.click("form.stack button")
        me.look("mistake", "Please correct this first", "9999 is greater than the maximum of 256")
        page.evaluate("document.querySelector('#f-regions').focus(); document.querySelector('#f-regions').value = '4'")
        page.press("Enter")  # by keyboard
        me.look("check", "Your consent", "Individual data, intermediate files and logs stay at the nodes.")
        me.click("input[name=consent]")
        me.click("form.stack button")
        page.wait("location.pathname.startsWith('/runs/r-')", "the run's page")
        page.sees("The run waits for its turn.")
        run = str(page.evaluate("location.pathname.slice(6)"))
        (name,) = (key[1] for key in world.airflow.runs)

        nodes = [NodeProgress(node=n, state="running", done=2, total=8) for n in DATASETS]
        going = Standing(standing="running", sentence="4 of 16 jobs are done.", nodes=nodes, admitted_at=time.time())
        world.broker.run(name)
        world.airflow.put(name, going)
        me.look("running", "4 of 16 jobs are done.", "node-a", "Stop…")  # nobody loaded the page again
        me.click("main a.danger")
        me.look("stop", "Stop this run?")
        me.click("main a.quiet")
        page.sees("4 of 16 jobs are done.")
        assert world.airflow.stopped == []

        world.airflow.files["answer.png"] = PICTURE
        world.airflow.put(name, Standing(standing="succeeded", sentence="7 sites were released."), "success")
        page.sees("What left the nodes")
        me.look("answer", "7 sites were released.", "verified")
        assert (
            page.evaluate("fetch(document.querySelector('.files a').href).then(a => a.text())") == "CHROM\tPOS\n2\t1\n"
        )
        me.click("main a[href$=repeat]")
        me.look("every-month", "Run it again by itself")
        page.evaluate("history.back()")
        page.sees("What left the nodes")
        me.click("main form[action$=again] button")
        page.wait(f"location.pathname.startsWith('/runs/r-') && !location.pathname.includes({run!r})", "a second run")
        me.click("nav a[href='/runs']")
        me.look("runs", "The run waits for its turn.", "7 sites were released.")

        me.click("nav a[href='/consents']")
        me.look("consents", "active")
        me.click("main a.danger")
        me.look("revoke", "Revoke this consent?", "end at once")
        me.click("main button.danger")
        page.sees("revoked")
        me.click("header a[lang=de]")
        me.look("german", "Meine Einwilligungen", "zurückgenommen")
        page.press("Tab")
        page.press("Enter")
        assert page.evaluate("location.hash") == "#main", "the first thing that Tab finds leads to the content"
        me.click("header form button")
        page.sees("Abgemeldet")
        assert page.problems == []


def test_a_member_of_the_committee_looks_up_a_use_stops_a_person_and_takes_the_report(
    portal: tuple[PortalServer, RunningAai], tmp_path: Path
) -> None:
    """Clicks: Sign in, a person, Stop the person, Stop, Lift. Seen: uses, what would end, the stop, both reports."""
    server, aai = portal
    broker = server.world.broker
    left = [Departure(node="node-a", name="counts", kind="allele-counts", count=1234, bytes=90_000, sha256="c" * 64)]
    broker.members, broker.uses = (
        {BOB},
        [
            made_use(1, "earlier", state="closed", outcome="success", released=left),
            made_use(2, "going-on"),
            made_use(
                3, "refused", user="mallory@lifescience-ri.eu", allowed=False, reason="expired", visa=None, state=""
            ),
        ],
    )
    with Browser(program("chromium"), tmp_path / "b", width=1366) as page:
        me = BrowserPerson(page, "bob", aai.secrets.read("user-bob"), "committee", axe_script(tmp_path))
        page.open(server.url + "/committee")
        page.sees("You are not signed in")
        me.click("main a.button")
        me.sign_in()
        me.look("uses", "counts: 1,234", "mallory@lifescience-ri.eu", "expired", "Nothing and nobody is stopped.")
        kinds = "Promise.all([...document.querySelectorAll('.actions a')].map(a => fetch(a.href).then(r => r.blob())))"
        sizes = page.evaluate(f"{kinds}.then(found => found.map(b => [b.type.split(';')[0], b.size > 500]))")
        assert sizes == [["application/pdf", True], ["text/csv", True]]
        page.evaluate(f"document.querySelector('input[name=user]').value = {ALICE!r}")
        me.click("form.filters button")
        page.wait("location.search.includes('alice')", "the filter")
        me.click(f"main a[href^='/committee/stop'][href*='{quote(ALICE, safe='')}']")
        me.look("ask", "Stop this person?", "These runs end at once (1):")
        page.evaluate("document.querySelector('textarea').value = 'Left the institute.'")
        me.click("form.stack button.danger")
        me.look("stopped", "Left the institute.", "Runs that were ended: 1.")
        me.click("main a.button")
        me.look("list", "by bob@lifescience-ri.eu")
        me.click("ul.plain form button")
        page.sees("lifted by bob@lifescience-ri.eu")
        me.click("header a[lang=de]")
        me.look("german", "Nutzungen der Datensätze Ihres Gremiums")
        assert page.problems == []


PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cfc0500f0003830180"
    "a7d9b3f40000000049454e44ae426082"
)
