"""The portal's pages: no session, another's run, forged forms, bad parameters; then a run from form to answer."""

from __future__ import annotations

import html
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gdi.contracts import broker_api as m
from gdi.contracts.access import DatasetDescription, DataUseTerm
from gdi.contracts.data_use import PURPOSES
from gdi.contracts.progress import NodeProgress
from gdi.contracts.run_endings import Standing
from gdi.portal.pages.texts import LANGUAGES, texts_of
from tests.support.portal_pages import PageVisitor, hidden, with_pages
from tests.support.portal_world import APPLY, BOB, DATASETS, WORKFLOW, PortalWorld, portal_world

PAGES = Path(__file__).parents[3] / "gdi" / "portal" / "pages"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PortalWorld]:
    async with portal_world(tmp_path, **with_pages(tmp_path)) as made:
        yield made


@pytest.fixture
async def alice(world: PortalWorld) -> PageVisitor:
    return await PageVisitor(world, "token-alice").sign_in("secret-of-alice")


async def test_without_a_session_each_page_says_what_this_is(world: PortalWorld) -> None:
    nobody = PageVisitor(world, None)
    assert "where the data lies" in await nobody.get("/")
    for path in ("/datasets", "/workflows", "/runs", "/consents", "/runs/r-" + "0" * 20, f"/workflows/{WORKFLOW}"):
        page = await nobody.get(path, 401)
        assert "Sign in with LS AAI" in page and "your session has ended" in page, path
        assert f"/sign-in?back={path.replace('/', '%2F')}" in page
    assert "Analysen" in await PageVisitor(world, None, "fr, de-AT;q=0.9").get("/")
    answer = await nobody.http.get("/runs", headers={"Cookie": "gdi_portal=forged.cookie.here"})
    assert answer.status_code == 401
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")


async def test_a_form_of_another_page_changes_nothing(world: PortalWorld, alice: PageVisitor) -> None:
    run = await world.started()
    for path in (f"/runs/{run}/stop", f"/workflows/{WORKFLOW}/start", f"/runs/{run}/again", "/sign-out"):
        await alice.post(path, 403, csrf="guessed")
        answer = await alice.http.post(path, data={"csrf": "x"}, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
    assert world.airflow.stopped == [] and len(world.airflow.runs) == 1


async def test_nobody_sees_or_stops_anothers_run(world: PortalWorld) -> None:
    run, grant = await world.started(), world.consent().id
    bob = await PageVisitor(world, "token-bob").sign_in("secret-of-bob")
    for path in ("", "/live", "/jobs", "/stop", "/repeat", "/files/answer.tsv", "/crate"):
        page = await bob.get(f"/runs/{run}{path}", 404)
        assert f"There is no run {run} that you may see." in page
    for path in ("/stop", "/again", "/repeat"):
        await bob.post(f"/runs/{run}{path}", 422 if path == "/never" else 404)
    await bob.get(f"/consents/{grant}/revoke", 403)
    await bob.post(f"/consents/{grant}/revoke", 403)
    assert run not in await bob.get("/runs") and grant not in await bob.get("/consents")
    assert world.airflow.stopped == [] and world.broker.grants[grant].state == "active"


async def test_a_cookie_opens_its_own_session_only(world: PortalWorld, alice: PageVisitor) -> None:
    sign_in = world.door.sign_in
    assert sign_in is not None
    from fastapi import Response

    made = Response()
    sign_in.open(made, {"sub": BOB, "sid": "secret-of-alice", "csrf": "x"})  # as if the signing key had leaked
    cookie = next(h for h in made.headers.getlist("set-cookie") if h.startswith("gdi_portal="))
    answer = await PageVisitor(world, None).http.get("/runs", headers={"Cookie": cookie.partition(";")[0]})
    assert answer.status_code == 401, "the token behind the session is of somebody else"
    async with world.door.store.read() as c:
        from gdi.portal.db.store import sessions

        (row,) = (await c.execute(sessions.select())).mappings().all()
    assert "token-alice" not in str(dict(row)) and "secret-of-alice" not in str(dict(row))


async def test_signed_out_is_signed_out_for_every_copy_of_the_cookie(world: PortalWorld, alice: PageVisitor) -> None:
    await alice.get("/datasets")
    cookie = alice.http.cookies["gdi_portal"]
    world.door.sign_in._client.revoke = _nothing  # type: ignore[union-attr,method-assign]
    assert "Your runs go on" in (await alice.post("/sign-out", 200)).text
    answer = await PageVisitor(world, None).http.get("/datasets", headers={"Cookie": f"gdi_portal={cookie}"})
    assert answer.status_code == 401


async def _nothing(token: str) -> None:
    assert token == "r"


async def test_what_is_wrong_with_a_form_is_said_beside_what_was_filled_in(alice: PageVisitor) -> None:
    both = list(DATASETS.values())
    page = (await alice.post(f"/workflows/{WORKFLOW}/check", 422, **{"p.regions": "3"})).text
    assert "Choose at least one dataset." in page and 'name="p.regions" value="3"' in page
    for value in ("1000", "many", "1e400"):
        page = (await alice.post(f"/workflows/{WORKFLOW}/check", 422, dataset=both, **{"p.regions": value})).text
        assert "regions:" in page and f'name="p.regions" value="{value}"' in page, value
        assert page.count(" checked") == 2
    for parameters in ("[1]", "{", '"x"'):
        await alice.post(f"/workflows/{WORKFLOW}/start", 422, dataset=both, parameters=parameters)
    await alice.get("/workflows/no-such-workflow", 404)
    await alice.get("/workflows/..%2Fetc", 404)
    await alice.get("/runs/nonsense", 404)


async def test_a_start_without_consent_is_none(world: PortalWorld, alice: PageVisitor) -> None:
    both = list(DATASETS.values())
    page = (await alice.post(f"/workflows/{WORKFLOW}/start", 403, dataset=both, parameters="{}", key="k")).text
    assert "You have given no consent" in page and world.airflow.runs == {}


async def test_no_access_is_said_before_anything_starts(world: PortalWorld) -> None:
    bob = await PageVisitor(world, "token-bob").sign_in("secret-of-bob")
    page = await bob.get("/datasets")
    assert "no access" in page and "Ask." in page
    form = await bob.get(f"/workflows/{WORKFLOW}")
    assert form.count('name="dataset"') == 1, "what one may not use cannot be ticked"
    check = (await bob.post(f"/workflows/{WORKFLOW}/check", 200, dataset=list(DATASETS.values()))).text
    assert "It cannot start like this." in check and "You have no visa for it." in check
    assert 'name="consent"' not in check and ">Start<" not in check


async def test_a_catalogues_words_are_text_with_their_date(world: PortalWorld, alice: PageVisitor) -> None:
    assert "In the catalogue" not in await alice.get("/datasets")
    words = DatasetDescription(
        title="<script>alert(1)</script>",
        description="Of <b>people</b>",
        publisher="Institute & Co",
        individuals=629,
        link="https://catalogue.example/d?a=1&b=2",
        source="https://catalogue.example/fairdp",
        read_at=1_790_000_000,
    )
    world.broker.catalogue[DATASETS["node-a"]] = words
    page = await alice.get("/datasets")
    assert "Of &lt;b&gt;people&lt;/b&gt;" in page and "Institute &amp; Co" in page and "629" in page
    assert 'href="https://catalogue.example/d?a=1&amp;b=2"' in page and "2026-09-21" in page


async def test_terms_stand_on_a_datasets_page_and_in_the_form_and_a_purpose_is_stated_there(
    world: PortalWorld, alice: PageVisitor
) -> None:
    one = DATASETS["node-a"]
    world.broker.terms[one] = [
        DataUseTerm(code="DUO:0000006", label="health or medical or biomedical research"),
        DataUseTerm(code="DUO:9999999"),
    ]
    for path in ("/datasets", f"/datasets/about?id={one}", f"/workflows/{WORKFLOW}"):
        page = await alice.get(path)
        assert "health or medical or biomedical research" in page and "DUO:0000006" in page, path
        assert "a term that this portal does not know" in page and "DUO:9999999" in page, path
    page = await alice.get(f"/datasets/about?id={one}")
    assert f'href="/workflows/{WORKFLOW}?dataset={one}"' in page, "what may be asked of it"
    bob = await PageVisitor(world, "token-bob").sign_in("secret-of-bob")
    assert html.escape(APPLY) in await bob.get(f"/datasets/about?id={DATASETS['node-b']}")
    assert "There is no such dataset" in await alice.get("/datasets/about?id=EGAD-NOBODYS", 404)
    form = {"dataset": [one], "p.regions": "3"}
    check = (await alice.post(f"/workflows/{WORKFLOW}/check", 200, **form, purpose=["DUO:0000037"])).text
    assert '"purpose": ["DUO:0000037"]' in html.unescape(hidden(check, "parameters"))
    parameters = html.unescape(hidden(check, "parameters"))
    again = (await alice.post(f"/workflows/{WORKFLOW}/change", 200, dataset=[one], parameters=parameters)).text
    assert re.search(r'value="DUO:0000037" checked', again) and again.count('name="purpose"') == len(PURPOSES)
    wrong = (await alice.post(f"/workflows/{WORKFLOW}/check", 422, **form, purpose=["DUO:0000042"])).text
    assert "is no purpose of research" in wrong


async def test_from_the_form_to_the_answer_and_again(world: PortalWorld, alice: PageVisitor) -> None:
    both = list(DATASETS.values())
    assert "You may use 2 of 2 datasets now." in await alice.get("/")
    form = await alice.get(f"/workflows/{WORKFLOW}?dataset={both[0]}")
    assert form.count(" checked") == 1 and 'name="p.regions" value="4"' in form
    check = (await alice.post(f"/workflows/{WORKFLOW}/check", 200, dataset=both, **{"p.regions": "3"})).text
    assert "You can start all the same" in check and ">Start all the same<" in check and "I consent." in check
    start = {
        "dataset": both,
        "parameters": html.unescape(hidden(check, "parameters")),
        "key": hidden(check, "key"),
        "digest": hidden(check, "digest"),
        "consent": "yes",
        "days": "once",
    }
    first = (await alice.post(f"/workflows/{WORKFLOW}/start", **start)).headers["location"]
    assert (await alice.post(f"/workflows/{WORKFLOW}/start", **start)).headers["location"] == first, (
        "sent twice: one run"
    )
    (grant,) = world.broker.grants.values()
    assert grant.mode == "once" and grant.datasets == both
    run = first.removeprefix("/runs/")
    page = await alice.get(first)
    assert "data-live" in page and "Stop…" in page and "The run waits for its turn." in page
    name = await world.dag_run(run)
    done = Standing(standing="succeeded", sentence="7 sites were released.", ended_at=time.time())
    world.airflow.put(name, done, "success")
    world.door.watch._known.clear()
    page = await alice.get(first)
    assert "7 sites were released." in page and "data-live" not in page and "Stop…" not in page
    assert f"/runs/{run}/files/answer.tsv" in page and "verified" in page
    answer = await alice.http.get(f"/runs/{run}/files/answer.tsv")
    assert answer.content.startswith(b"CHROM") and answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    world.consent()
    again = await alice.post(f"/runs/{run}/again", key=hidden(page, "key"))
    assert again.headers["location"] not in (first, "/")
    assert "My runs" in await alice.get("/runs?state=succeeded")


async def test_again_without_consent_leads_to_it(world: PortalWorld, alice: PageVisitor) -> None:
    run = await world.started()
    for grant in list(world.broker.grants):
        world.broker.grants.pop(grant)
    answer = await alice.post(f"/runs/{run}/again", key="k")
    assert answer.headers["location"].startswith(f"/workflows/{WORKFLOW}?dataset={DATASETS['node-a']}")


async def test_stop_and_revoke_ask_first(world: PortalWorld, alice: PageVisitor) -> None:
    run = await world.started()
    (grant,) = world.broker.grants
    assert "Its tasks at the nodes are cancelled" in await alice.get(f"/runs/{run}/stop")
    question = await alice.get(f"/consents/{grant}/revoke")
    assert f"/runs/{run}" in question and "end at once" in question
    assert world.airflow.stopped == [] and world.broker.grants[grant].state == "active"
    await alice.post(f"/runs/{run}/stop")
    await alice.post(f"/consents/{grant}/revoke")
    assert len(world.airflow.stopped) == 1 and world.broker.grants[grant].state == "revoked"
    assert "revoked" in await alice.get("/consents")


async def test_a_withdrawn_access_shows_at_the_consents_that_it_touches(
    world: PortalWorld, alice: PageVisitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.started()
    assert "You have no visa for it." not in await alice.get("/consents")
    usual = world.broker.entry
    monkeypatch.setattr(world.broker, "entry", lambda node, dataset, granted: usual(node, dataset, node != "node-b"))
    page = await alice.get("/consents")
    assert f"<code>{DATASETS['node-b']}</code>: You have no visa for it." in page and f'href="{APPLY}"' in page
    assert f"<code>{DATASETS['node-a']}</code>: You" not in page


async def test_each_person_chooses_what_they_are_told_and_a_secret_is_shown_once(
    world: PortalWorld, alice: PageVisitor
) -> None:
    page = await alice.get("/notices")
    assert "checked" not in page and "by mail" in page
    saved = await alice.post("/notices", 200, kinds="run-failed", email="yes", webhook="https://hook.example/x?y=1")
    assert "whsec_once" in saved.text and "Saved" in saved.text
    page = await alice.get("/notices")
    assert "whsec_once" not in page and page.count(" checked") == 2 and "a@example.org" in page
    await alice.post("/notices", 422, kinds="run-failed", webhook="javascript:alert(1)")
    await alice.post("/notices", 422, kinds="everything")
    await alice.post("/notices", 403, csrf="guessed", kinds="run-failed")
    (mine,) = world.broker.notices.values()
    assert mine.choice.kinds == ["run-failed"]


async def test_every_month_is_a_standing_consent_with_a_schedule(world: PortalWorld, alice: PageVisitor) -> None:
    run = await world.started()
    await alice.post(f"/runs/{run}/repeat", 422, every="month", days="90")
    await alice.post(f"/runs/{run}/repeat", 422, every="month", days="90", consent="yes", timezone="Mars/Olympus")
    answer = await alice.post(
        f"/runs/{run}/repeat", every="month", days="90", consent="yes", timezone="Europe/Helsinki"
    )
    assert answer.headers["location"] == "/consents"
    schedule = world.broker.schedules[-1]
    assert schedule.workflow == WORKFLOW and schedule.timezone == "Europe/Helsinki"
    assert schedule.parameters == {"regions": 4, "datasets": list(DATASETS.values())} and schedule.digest
    assert re.fullmatch(r"\d{1,2} \d{1,2} \d{1,2} \* \*", schedule.cron)


async def test_the_broker_away_is_said_to_a_person(world: PortalWorld, alice: PageVisitor) -> None:
    world.broker.away = True
    for path in ("/datasets", "/consents", "/runs"):
        answer = await alice.http.get(path)
        assert answer.status_code == 503 and "The broker has its day off." in answer.text, path


async def test_nothing_is_green_in_a_run_that_failed(world: PortalWorld, alice: PageVisitor) -> None:
    run = await world.started()
    name = await world.dag_run(run)
    world.broker.run(name)
    world.broker.jobs[run] = [m.Job(node="node-a", job="j", rule="count", state="done")]
    nodes = [NodeProgress(node="node-a", state="success", done=1, total=1), NodeProgress(node="node-b", state="failed")]
    paths = f"/runs/{run}", f"/runs/{run}/jobs"
    green = re.compile(r"badge (succeeded|granted|active)")
    for standing, airflow, colour in (("succeeded", "success", True), ("failed", "failed", False)):
        told = Standing(standing=standing, sentence="So it ended.", nodes=nodes, ended_at=time.time())
        world.airflow.put(name, told, airflow)
        world.door.watch._known.clear()
        for path in paths:
            page = await alice.get(path)
            assert "So it ended." in page and bool(green.search(page)) is colour, (standing, path)


async def test_an_error_keeps_the_way_on_and_speaks_to_a_person(world: PortalWorld, alice: PageVisitor) -> None:
    page = await alice.get("/runs/r-" + "0" * 20, 404)
    assert (
        'href="/consents"' in page
        and "alice@lifescience-ri.eu" in page
        and "Look under My runs." in page
        and "/v1/" not in page
    )
    german = await PageVisitor(world, "token-alice", "de").sign_in("another-secret-of-alice")
    page = await german.get("/runs/r-" + "0" * 20, 404)
    assert "Einen solchen Lauf von Ihnen gibt es nicht." in page and '<p class="note" lang="en">There is no run' in page
    world.broker.refusing = {"node-a": ("not-open", "No epoch of it is open.")}
    form = {"dataset": [DATASETS["node-a"]], "p.regions": "3"}
    check = (await german.post(f"/workflows/{WORKFLOW}/check", 200, **form)).text
    assert "Der Betreiber des Knotens hat dafür nichts geöffnet." in check and "No epoch of it is open." in check
    assert f'/language/en?back=%2Fworkflows%2F{WORKFLOW}"' in check, "the other language of a page that was posted"
    wrong = (await german.post(f"/workflows/{WORKFLOW}/check", 422, **form | {"p.regions": "999"})).text
    assert "999 ist mehr als das Höchste, 256" in wrong
    everything = await alice.get(f"/workflows/{WORKFLOW}")
    assert "<code>cohort.vcf.gz.c4gh</code>" in everything and "cohort.vcf.gz.c4gh" not in await alice.get("/workflows")


async def test_the_language_is_chosen_and_stays(alice: PageVisitor) -> None:
    answer = await alice.http.get("/language/de?back=/datasets")
    assert (answer.status_code, answer.headers["location"]) == (303, "/datasets")
    assert "Datensätze" in await alice.get("/datasets")
    for bad in ("https://evil.example", "//evil.example", "/\\evil.example"):
        assert (await alice.http.get("/language/de", params={"back": bad})).headers["location"] == "/"
    await alice.get("/language/xx", 404)


def test_all_languages_have_the_same_words() -> None:
    english = texts_of("en")
    for code in LANGUAGES:
        words = texts_of(code)
        assert words.keys() == english.keys(), code
        for key in sorted(words.keys()):
            fields = re.compile(r"{(\w+)}")
            assert set(fields.findall(words(key))) == set(fields.findall(english(key))), (code, key)


def test_no_page_names_a_word_that_is_missing_and_no_word_is_unused() -> None:
    sources = [f.read_text() for f in [*PAGES.glob("templates/*.html"), *PAGES.glob("*.py")]]
    call = re.compile(r"""\b(?:t|texts|texts_for\(request\))\(\s*"([a-z_0-9]+\.[a-z_0-9]+)\"""")
    used = {key for text in sources for key in call.findall(text)}
    known = texts_of("en").keys()
    assert used <= known, used - known
    groups = {group for text in sources for group in re.findall(r't\.word\("([a-z]+)"', text)} | {"nav"}
    assert {key for key in known - used if key.partition(".")[0] not in groups} == set()


def test_no_page_has_words_of_its_own() -> None:
    """What stands between tags is an expression or a sign."""
    for file in PAGES.glob("templates/*.html"):
        text = re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}", "", file.read_text(), flags=re.S)
        words = re.findall(r">([^<>]*[A-Za-z]{2}[^<>]*)<", text)
        assert words == [], file.name


async def test_a_workflow_that_no_node_has_seen_is_ready_and_a_refusal_is_no_silence(
    world: PortalWorld, alice: PageVisitor
) -> None:
    """Before a workflow's first run the page said "not ready", and of each refusal that a node did not answer."""
    form = {"dataset": [DATASETS["node-a"]], "p.regions": "3"}
    world.broker.refusing = {"node-a": ("workflow-away", "The broker has not the workflow's files.")}
    check = (await alice.post(f"/workflows/{WORKFLOW}/check", 200, **form)).text
    assert "It has not got this version of the workflow yet" in check and ">ready<" in check and ">Start<" in check
    both = {**form, "dataset": list(DATASETS.values())}
    check = (await alice.post(f"/workflows/{WORKFLOW}/check", 200, **both)).text
    assert "does not answer now" in check and "would not take it" not in check, "node-b is away, and nobody refused"
    world.broker.refusing = {"node-a": ("not-open", "No epoch of it is open.")}
    check = (await alice.post(f"/workflows/{WORKFLOW}/check", 200, **form)).text
    assert "A node would not take it as it is." in check and "No epoch of it is open." in check
    assert "does not answer now" not in check and ">Start all the same<" in check
