"""The pages: every value is escaped, a missing one is an error, and there is no script in any template."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from gdi.contracts.grants import Grant, ScheduleState
from gdi.kit.web import HEADERS, STYLE, Pages, accepts
from gdi.local_federation.aai import pages as aai
from node_gateway.review import pages as review
from node_gateway.review.cases import Case, Excerpt
from token_broker.web import pages as broker

ROOT = Path(__file__).parents[3]
TEMPLATES = sorted(p for room in ("gdi", "token_broker", "node_gateway") for p in (ROOT / room).rglob("templates/*.*"))
EVIL = '<script>alert("x")</script>\'&'


def bodies() -> dict[str, str]:
    """Every page, with the same wicked text wherever a stranger's may stand."""
    schedule = ScheduleState(workflow="af", parameters={}, cron=EVIL, timezone=EVIL, state="stopped", reason=EVIL)
    grant = Grant(
        id="g-" + "0" * 32,
        user=EVIL,
        workflows=["af"],
        datasets=["D1"],
        created_at=1,
        expires_at=2,
        mode="once",
        label=EVIL,
        state="active",
        detail=EVIL,
        schedule=schedule,
    )
    answer = {"sha256": EVIL, "sites_released": EVIL, "sites_withheld": EVIL, "bytes": EVIL, "withheld": {EVIL: 1}}
    asked = {"user": EVIL, "workflow": EVIL, "digest": EVIL, "attempt": EVIL, "datasets": [EVIL]}
    found = Case(1, EVIL, EVIL, EVIL, answer, asked, 1)
    made = {
        "broker problem": broker.problem(EVIL, EVIL, 400),
        "consent": broker.consent(EVIL, EVIL, EVIL, [(EVIL, True, EVIL)], 3),
        "grants": broker.grants(EVIL, EVIL, [grant]),
        "review problem": review.problem(EVIL, EVIL, 400),
        "welcome": review.welcome(EVIL, EVIL),
        "waiting": review.waiting(EVIL, EVIL, EVIL, [found]),
        "case": review.case(EVIL, EVIL, EVIL, found, Excerpt(EVIL, (EVIL,), [(EVIL,)]), 5),
        "decided": review.decided(True, EVIL),
        "login": aai.login(EVIL, EVIL, "http://x", True),
        "refused": aai.refused(EVIL),
        "device": aai.device(EVIL, EVIL),
    }
    return {name: bytes(page.body).decode() for name, page in made.items()}


@pytest.mark.parametrize("name", bodies())
def test_nothing_that_a_stranger_wrote_is_markup(name: str) -> None:
    body = bodies()[name]
    assert "<script" not in body and "alert(" in body.replace("%28", "(")
    # No attribute ends early: what stands between quotes holds no quote of the text.
    assert not re.search(r'"x"|\'&[^#a]', body)


def test_no_template_has_a_script_or_turns_escaping_off() -> None:
    assert len(TEMPLATES) >= 14
    for file in TEMPLATES:
        text = file.read_text()
        if file.parts[-4:] == ("portal", "pages", "templates", "layout.html"):  # these have one, from this server
            text = text.replace('<script src="/assets/{{ version }}/portal.js" defer></script>', "", 1)
        assert not re.search(r"<script|\bon[a-z]+\s*=|javascript:|\|\s*safe|autoescape|\bstyle=", text, re.I), file


def test_a_value_that_is_missing_is_an_error_and_no_empty_place() -> None:
    pages = Pages("node_gateway.review", style="/s.css")
    with pytest.raises(UndefinedError):
        pages.render("welcome.html", title="x")
    with pytest.raises(UndefinedError):
        pages.render("welcome.html", back="/")


def test_the_pages_load_one_style_sheet_and_nothing_else() -> None:
    page = broker.signed_out()
    assert {k.lower(): v for k, v in HEADERS.items()}.items() <= dict(page.headers).items()
    body = bytes(page.body).decode()
    assert re.findall(r'(?:src|href)="([^"]*)"', body) == ["/connect/style.css", "/connect"]
    assert "url(" not in STYLE and "@import" not in STYLE and STYLE.startswith(":root")


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/html, application/*;q=0.2", True),
        ("application/*;q=0, application/json;q=0.001", True),
        ("text/html", False),
        ("application/json;q=0", False),
        ("*/*, application/json; q=0.000", False),
        (", ;;", False),
    ],
)
def test_the_most_exact_range_of_an_accept_header_counts(header: str, taken: bool) -> None:
    assert accepts(header, "application/json") is taken
