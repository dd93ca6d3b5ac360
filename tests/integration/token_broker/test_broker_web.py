"""The broker's own pages: sign in with PKCE, consent, see and revoke; no script, no foreign form, no token in the
browser.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.local_federation.aai.client import submit_login
from tests.support.broker_kit import DATASETS, DIGEST, USERS, World, refused
from tests.support.broker_pages import browser, csrf, sign_in  # noqa: F401
from token_broker.grants.tickets import FORM_LIFETIME

pytest_plugins = ["tests.support.broker_fixtures"]


@pytest.fixture
def fresh(make_world: Callable[..., World]) -> World:
    """A world in which nobody has a grant, and no other test's tickets expire."""
    world = make_world()
    world.start_broker()
    return world


@pytest.fixture
def fresh_browser(fresh: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fresh.url(), trust_env=False, timeout=60) as client:
        yield client


def test_a_user_consents_and_revokes_in_the_browser(world: World, browser: httpx.Client, alice: BrokerClient) -> None:
    page = sign_in(world, browser, f"?workflows=allele-frequency&datasets={DATASETS['node-a']}")
    assert page.status_code == 200 and "allele-frequency" in page.text
    assert (
        "default-src 'none'" in page.headers["content-security-policy"]
        and "<script" not in page.text
        and page.headers["cache-control"] == "no-store"
    )
    form = {
        "csrf": csrf(page),
        "workflows": "allele-frequency",
        "datasets": list(DATASETS.values()),
        "days": "2",
        "mode": "standing",
        "label": "<b>mine</b>",
    }
    done = browser.post("/connect/consent", data=form)
    assert done.status_code == 303, done.text
    listing = browser.get(done.headers["location"])
    assert "<b>mine" not in listing.text and "&lt;b&gt;mine" in listing.text
    grant = re.findall(r"/connect/grants/(g-[0-9a-f]{32})/revoke", listing.text)[0]
    assert alice.get_grant(grant).state == "active"
    run = world.admit(world.ticket(alice, grant))
    assert world.node_token("node-a", run.id).status_code == 200
    asks = browser.get(f"/connect/grants/{grant}/revoke")
    assert "Revoke this grant?" in asks.text and "This run ends at once" in asks.text and run.id in asks.text
    assert alice.get_grant(grant).state == "active", "it asks first"
    assert browser.post(f"/connect/grants/{grant}/revoke", data={"csrf": csrf(asks)}).status_code == 303
    assert alice.get_grant(grant).state == "revoked" and world.node_token("node-a", run.id).status_code == 403


def test_without_a_session_each_page_says_what_this_is_and_where_to_go(browser: httpx.Client) -> None:
    first = browser.get("/")
    assert first.status_code == 200 and "keeps researchers' consents" in first.text and 'href="/connect"' in first.text
    for path in ("/connect/grants", "/connect/consent", "/connect/grants/g-" + "0" * 32 + "/revoke"):
        page = browser.get(path)
        assert page.status_code == 401 and "Here you see what you allowed" in page.text, path
        assert 'href="/connect"' in page.text, path


def test_a_ticket_for_airflows_form_is_the_users_own_once_and_for_what_was_chosen(
    fresh: World, fresh_browser: httpx.Client
) -> None:
    """Each bound of it: refused outside, taken inside. The link carries no secret; the page is not kept anywhere."""
    world, browser, alice = fresh, fresh_browser, fresh.user("alice")
    workflow, chosen = "allele-frequency", DATASETS["node-a"]
    link = f"/connect/start?workflow={workflow}&digest={DIGEST}"
    away = browser.get(link)
    with httpx.Client(trust_env=False) as provider:
        back = submit_login(provider, away.headers["location"], "alice", world.secrets["alice"])
    page = browser.get(browser.get(back).headers["location"])
    assert "give consent" in page.text, "no grant yet"
    grant = world.grant(alice)
    page = browser.get(browser.get(link).headers["location"])
    assert f"/connect/grants/{grant.id}/ticket" in page.text
    form = {"csrf": csrf(page), "workflow": workflow, "digest": DIGEST, "datasets": [chosen]}
    assert browser.post(f"/connect/grants/{grant.id}/ticket", data={**form, "csrf": "x"}).status_code == 403
    for wrong, status in (({"workflow": "gwas"}, 403), ({"datasets": ["DS-NONE"]}, 403), ({"datasets": []}, 422)):
        assert browser.post(f"/connect/grants/{grant.id}/ticket", data={**form, **wrong}).status_code == status
    made = browser.post(f"/connect/grants/{grant.id}/ticket", data=form)
    assert made.status_code == 200 and made.headers["cache-control"] == "no-store" and "gdit_" not in str(made.url)
    assert made.headers["referrer-policy"] in ("same-origin", "no-referrer")
    (ticket,) = re.findall(r"gdit_[\w-]{43}", made.text)
    asked: dict[str, Any] = {
        "triggering_user": USERS["alice"],
        "parameters": {"datasets": [chosen], "region": "2:1-2"},
        "digest": DIGEST,
    }
    for changes in (
        {"triggering_user": USERS["bob"]},
        {"triggering_user": None},
        {"parameters": {"datasets": list(DATASETS.values())}},
        {"digest": "sha256:" + "b" * 64},
    ):
        assert refused(world.admit, ticket, **{**asked, **changes}).slug == "ticket-mismatch"
    run = world.admit(ticket, **asked)
    assert run.user == USERS["alice"] and run.datasets == [chosen]
    assert refused(world.admit, ticket, **asked).slug == "ticket-used"
    late = re.findall(r"gdit_[\w-]{43}", browser.post(f"/connect/grants/{grant.id}/ticket", data=form).text)[0]
    with sqlite3.connect(world.folder / "broker.db", timeout=60) as database:
        database.execute("UPDATE tickets SET expires_at = expires_at - ? WHERE used_run IS NULL", (FORM_LIFETIME,))
    assert refused(world.admit, late, **asked).slug == "ticket-expired"


def test_a_schedule_of_the_form_is_kept_shown_and_checked(
    world: World, browser: httpx.Client, alice: BrokerClient
) -> None:
    form = {
        "workflows": "allele-frequency",
        "datasets": list(DATASETS.values()),
        "days": "30",
        "mode": "standing",
        "catch_up": "none",
    }
    schedule = {"cron": "0 6 * * mon", "timezone": "Europe/Helsinki", "parameters": '{"region": "22:1-2"}'}
    wrong: list[tuple[dict[str, object], str]] = [
        ({"cron": "61 * * * *"}, "cron"),
        ({"timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"workflows": "allele-frequency, other"}, "one workflow"),
        *(({"parameters": text}, "JSON object") for text in ("[1]", "{", '{"a": NaN}', "[" * 9999)),
    ]
    page = sign_in(world, browser)
    for change, said in wrong:
        refused = browser.post("/connect/consent", data={**form, **schedule, **change, "csrf": csrf(page)})
        assert refused.status_code == 422 and said in refused.text, (change, refused.text)
    done = browser.post("/connect/consent", data={**form, **schedule, "csrf": csrf(page)})
    assert done.status_code == 303, done.text
    listing = browser.get(done.headers["location"]).text
    assert "Schedule of allele-frequency: <code>0 6 * * mon</code> Europe/Helsinki, active" in listing
    kept = alice.get_grant(re.findall(r"/connect/grants/(g-[0-9a-f]{32})/revoke", listing)[0]).schedule
    assert kept and (kept.catch_up, kept.parameters) == (
        "none",
        {"region": "22:1-2", "datasets": list(DATASETS.values())},
    )


def test_no_token_reaches_the_browser(world: World, browser: httpx.Client) -> None:
    page = sign_in(world, browser)
    issued = (world.folder / "issued-tokens").read_text().split()
    seen = page.text + "".join(c.value or "" for c in browser.cookies.jar)
    assert not [t for t in issued if t in seen]
    assert all(c.has_nonstandard_attr("HttpOnly") for c in browser.cookies.jar)


def test_a_form_from_elsewhere_or_without_the_sessions_token_does_nothing(
    world: World, browser: httpx.Client, alice: BrokerClient
) -> None:
    page = sign_in(world, browser)
    grant = world.grant(alice)
    path = f"/connect/grants/{grant.id}/revoke"
    assert browser.post(path, data={}).status_code == 403
    assert browser.post(path, data={"csrf": "x" * 32}).status_code == 403
    assert browser.post(path, data={"csrf": csrf(page)}, headers={"Origin": "https://evil.example"}).status_code == 403
    assert httpx.post(world.url() + path, data={"csrf": csrf(page)}, trust_env=False).status_code == 403
    assert alice.get_grant(grant.id).state == "active"


def test_a_sign_in_that_this_browser_did_not_start_is_refused(world: World, browser: httpx.Client) -> None:
    away = browser.get("/connect")
    with httpx.Client(trust_env=False) as provider:
        back = submit_login(provider, away.headers["location"], "alice", world.secrets["alice"])
    with httpx.Client(trust_env=False) as other:
        assert other.get(back).status_code == 403
    assert browser.get(re.sub(r"state=[^&]+", "state=x", back)).status_code == 403
    assert browser.get("/connect/grants").status_code == 401
    page = browser.get('/connect/callback?error=<script>alert(1)</script>&state=<"')
    assert page.status_code == 403 and "<script" not in page.text


def test_another_users_grant_cannot_be_revoked_in_the_browser(
    world: World, browser: httpx.Client, alice: BrokerClient
) -> None:
    grant = world.grant(alice)
    page = sign_in(world, browser, user="bob")
    assert browser.get(f"/connect/grants/{grant.id}/revoke").status_code == 404
    assert browser.post(f"/connect/grants/{grant.id}/revoke", data={"csrf": csrf(page)}).status_code == 404
    assert alice.get_grant(grant.id).state == "active"


def test_a_bad_consent_is_explained_and_a_cancelled_one_keeps_nothing(
    world: World, browser: httpx.Client, alice: BrokerClient
) -> None:
    page = sign_in(world, browser, "?workflows=%3Cimg%20src%3Dx%3E&datasets=%22%3E%3Cscript%3E")
    assert "<img" not in page.text and "<script" not in page.text
    form = {"csrf": csrf(page), "workflows": "NOT A NAME", "datasets": ["x"], "days": "nan", "mode": "standing"}
    assert browser.post("/connect/consent", data=form).status_code == 422
    assert browser.post("/connect/discard", data={"csrf": csrf(page)}).status_code == 303
    good = {**form, "workflows": "w", "days": "1"}
    assert browser.post("/connect/consent", data=good).status_code == 403, "what was cancelled cannot be consented to"
