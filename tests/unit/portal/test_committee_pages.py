"""The access committee's pages: for nobody else, hostile text stays text, a stop is asked first and reaches Airflow,
reports hold exactly the period.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gdi.contracts.committees import Departure
from gdi.kit.report import TableReport, as_csv, as_pdf
from tests.support.portal_pages import PageVisitor, with_pages
from tests.support.portal_world import ALICE, BOB, PortalWorld, made_use, portal_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PortalWorld]:
    async with portal_world(tmp_path, **with_pages(tmp_path)) as made:
        made.broker.members = {BOB}
        left = Departure(node="node-a", name="counts", kind="allele-counts", count=7, bytes=2048, sha256="c" * 64)
        made.broker.uses = [
            made_use(1, "one", released=[left], state="closed", outcome="success"),
            made_use(2, "two"),
            made_use(
                3, "three", user="<script>alert(1)</script>", allowed=False, reason="no-visa", visa=None, state=""
            ),
            made_use(4, "old", time=time.time() - 400 * 86400),
        ]
        made.airflow.runs["allele-frequency", "two"] = {"state": "running", "conf": {}}
        yield made


@pytest.fixture
async def bob(world: PortalWorld) -> PageVisitor:
    return await PageVisitor(world, "token-bob").sign_in("secret-of-bob")


async def test_only_a_member_finds_any_of_it(world: PortalWorld, bob: PageVisitor) -> None:
    alice = await PageVisitor(world, "token-alice").sign_in("secret-of-alice")
    assert "/committee" not in await alice.get("/datasets")
    for path in ("", "/report.pdf", "/report.csv", "/stop?committee=dac&user=x"):
        assert "members of an access committee" in await alice.get(f"/committee{path}", 403)
    await alice.post("/committee/stop", 403, committee="dac", person=BOB, reason="because I can")
    await alice.post("/committee/lift/1", 403)
    assert world.broker.stops == []
    assert await PageVisitor(world, None).get("/committee", 401)
    await bob.post("/committee/stop", 403, csrf="guessed", committee="dac", person=ALICE, reason="because I can")
    await bob.post("/committee/stop", 403, committee="another", person=ALICE, reason="because I can")
    assert 'href="/committee"' in await bob.get("/datasets")


async def test_the_uses_of_a_period_and_of_a_person(bob: PageVisitor) -> None:
    page = await bob.get("/committee")
    assert "counts: 7" in page and ALICE in page and "no-visa" in page and "https://rems.example/organisation" in page
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    assert page.count("<tr>") == 1 + 3, "the use of last year is outside of the period"
    assert (await bob.get("/committee?refused=yes")).count("<tr>") == 1 + 1
    assert "There was no such use" in await bob.get("/committee?user=nobody")
    for wrong in ("since=yesterday", "until=2026-99-01", "run=x", "dataset=a%20b", "until=9999-12-31"):
        await bob.get(f"/committee?{wrong}", 422)


async def test_a_stop_is_asked_first_and_reaches_airflow(world: PortalWorld, bob: PageVisitor) -> None:
    run = world.broker.uses[1].run
    page = await bob.get(f"/committee/stop?committee=dac&run={run}")
    assert "Stop this run?" in page and run in page
    assert world.broker.stops == [] and world.airflow.stopped == []
    for wrong in ({"reason": "x"}, {"run": "r-1", "reason": "a reason"}, {"person": ALICE, "reason": "both of them"}):
        await bob.post("/committee/stop", 422, **({"committee": "dac", "run": run} | wrong))
    answer = await bob.post("/committee/stop", 200, committee="dac", run=run, reason="Outside of the permit.")
    assert "Runs that were ended: 1" in answer.text
    assert world.airflow.notes == ["gdi: stopped by the access committee dac: Outside of the permit."]
    world.airflow.fail_stops = True
    answer = await bob.post("/committee/stop", 200, committee="dac", person=ALICE, reason="Left the institute.")
    assert "Airflow could not be told" in answer.text, "the stop holds at the broker all the same"
    page = await bob.get("/committee")
    assert "Left the institute." in page and "stopped by a committee" in page
    await bob.post("/committee/lift/2")
    assert world.broker.stops[1].lifted_by == BOB
    assert "lifted by" in await bob.get("/committee")


async def test_reports_hold_the_period_in_order(world: PortalWorld, bob: PageVisitor) -> None:
    world.broker.uses += [made_use(n, f"run{n}", user="=cmd()") for n in range(10, 1200)]  # more than one page
    answer = await bob.http.get("/committee/report.csv")
    today = datetime.now(UTC).date().isoformat()
    assert answer.headers["content-disposition"].endswith(f'{today}.csv"')
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert len(rows) == 1 + 3 + 1190 and rows[1][-1] == f"counts: 7 (allele-counts), SHA-256 {'c' * 16}"
    assert rows[-1][3] == "'=cmd()", "a spreadsheet computes nothing"
    world.broker.uses = world.broker.uses[:3]
    answer = await bob.http.get("/committee/report.pdf")
    assert answer.content.startswith(b"%PDF-1") and answer.headers["content-type"] == "application/pdf"
    world.broker.uses = [made_use(n, f"run{n}") for n in range(1, 2500)]
    page = await bob.get("/committee/report.pdf", 422)
    assert "more than 2000 lines" in page and "CSV" in page
    german = await PageVisitor(world, "token-bob", "de").sign_in("another-secret")
    assert "Angehaltene" in await german.get("/committee")


def test_a_report_takes_any_text() -> None:
    texts = ["\x00\x1b[31m", "Zürich", "日本語", "=1+1", "x" * 5000, ""]
    report = TableReport("Ünïcode ☃", [("who", "日本")], ["a", "b"], [[t, t] for t in texts], [1, 2])
    assert as_pdf(report).startswith(b"%PDF")
    assert as_csv(report).decode().count("\r\n") == 7
    split = TableReport(
        "", [], ["a"], [["EGAD;=HYPERLINK(A1)"], ["EGAD;x=1"]], [1]
    )  # as a spreadsheet in Berlin reads it
    assert as_csv(split) == b"a\r\nEGAD;'=HYPERLINK(A1)\r\nEGAD;x=1\r\n"
