"""The run as a person sees it, in a real browser on a real Airflow api-server: form, jobs, refusal, dark dress,
keyboard, and hostile text as text.

The broker's own store tells of workflows whose rules, wildcards and messages try to run scripts. Pictures go to
tests/artefacts/ui/.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gdi.contracts import broker_api as m
from gdi.contracts.nodes import NodeStatus
from tests.support.browser import Browser
from tests.support.ui_fixtures import FRAME, shown, words
from tests.support.ui_world import DAG, PICTURES, Airflow, Broker

pytest_plugins = ["tests.support.ui_fixtures"]
pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ui")]
ATTACK = '<img src=x onerror="window.top.hacked=1"><script>window.top.hacked=2</script>'
Opened = Callable[..., str]


def job(name: str, state: str, ago: float = 0, rule: str = "count", **more: Any) -> dict[str, Any]:
    return {"kind": "job", "job": name, "rule": rule, "state": state, "time": time.time() - ago, **more}


def half_done(rule: str = "count") -> dict[str, list[dict[str, Any]]]:
    """Two nodes in the middle of their work: three of eight done and two running at one, a job failed at the other."""
    task = lambda n: {"task": f"task-{n}", "wildcards": {"part": str(n)}, "tries": 1}  # noqa: E731
    a: list[dict[str, Any]] = [{"kind": "rules", "counts": {"validate": 1, rule: 8, "gather": 1}}]
    a += [job("v", "running", 65, "validate"), job("v", "done", 60, "validate")]
    for n in range(5):
        a += [job(f"c{n}", "submitted", 60, rule, **task(n)), job(f"c{n}", "running", 60, rule)]
        a += [job(f"c{n}", "done", 40 - n, rule, cpu_seconds=12.5, memory_bytes=2_000_000_000)] if n < 3 else []
    failed = {"exit_code": 1, "error_class": "ValueError", "line": 7, "message": "a row without a position"}
    b: list[dict[str, Any]] = [
        {"kind": "rules", "counts": {"validate": 1, rule: 8}},
        job("v", "submitted", 70, "validate", task="task-v"),
        job("v", "running", 64, "validate"),
        job("v", "failed", 30, "validate", **failed),
    ]
    return {"node-a": a, "node-b": b}


@pytest.fixture
def opened(airflow: Airflow, broker: Broker, tab: Callable[..., None]) -> Opened:
    """Opens the Jobs tab of a new run of which the broker was told what is given; the broker's id of it."""

    def open_run(name: str, told: dict[str, list[dict[str, Any]]] | None = None, **changed: Any) -> str:
        airflow.trigger(name)
        run = ""
        if told is not None:
            run = broker.open(name, **changed)
            for node, events in told.items():
                broker.tell(run, node, *events)
        tab(name)
        return run

    return open_run


def click(page: Browser, label: str) -> None:
    page.wait(
        f"[...document.querySelectorAll('button')].find(b => b.innerText.trim() === {json.dumps(label)})",
        f"the button {label!r}",
    )
    page.evaluate(
        f"[...document.querySelectorAll('button')].find(b => b.innerText.trim() === {json.dumps(label)}).click()"
    )


def rows(page: Browser) -> list[str]:
    """What the table's rows say, top to bottom."""
    found: list[str] = page.evaluate(
        f"[...{FRAME}.querySelectorAll('.grid .body [role=row]')].map(r => r.innerText.replaceAll('\\n', ' '))"
    )
    return found


def until_rows(page: Browser, count: int) -> None:
    page.wait(f"{FRAME}.querySelectorAll('.grid .body [role=row]').length === {count}", f"{count} rows")


def test_the_form_says_what_each_field_is_and_has_the_defaults(page: Browser, airflow: Airflow, broker: Broker) -> None:
    page.open(f"{airflow.url}/dags/{DAG}")
    page.sees("Allele frequencies over all nodes", timeout=90)
    click(page, "Trigger")
    for text in ("Datasets", "Their ids, one a line", "Into how many parts each node splits its sites", "Your consent"):
        page.sees(text)
    assert page.evaluate("[...document.querySelectorAll('input')].map(i => i.value)").count("4") >= 1
    page.sees("Good once")
    assert (
        page.evaluate("document.querySelector('a[href*=\"/connect\"]')?.getAttribute('href')")
        == f"{broker.served.url}/connect?workflows={DAG}"
    )
    page.picture(PICTURES / "form.png", height=1300)
    page.evaluate(
        "document.documentElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))"
    )


def test_hostile_rules_wildcards_and_messages_are_text_and_run_no_script(page: Browser, opened: Opened) -> None:
    told = half_done(ATTACK)
    told["node-b"] += [
        job("x", "failed", 5, ATTACK, message=f"why: {ATTACK}", task=f"../{ATTACK}", wildcards={ATTACK: ATTACK}),
        {"kind": "node", "state": "failed", "message": f"line 7: {ATTACK}"},
    ]
    opened("hostile", told)
    shown(page, "4 of 19 jobs")
    until_rows(page, 8)
    assert words(page).count(ATTACK) >= 9  # at two nodes, in jobs, wildcards, messages, the failure
    page.evaluate(f"{FRAME}.querySelector('.grid .body [role=row]').click()")
    page.wait(f"{FRAME}.querySelector('aside')")
    assert page.evaluate("window.hacked === undefined")
    assert (
        page.evaluate(f"{FRAME}.querySelectorAll('img, main script, iframe, object, [onerror], [onclick]').length") == 0
    )
    links = page.evaluate(f"[...{FRAME}.querySelectorAll('main a')].map(a => new URL(a.href).origin + ' ' + a.rel)")
    assert links and set(links) <= {
        "https://gateway.node-a.example noopener noreferrer",
        "https://gateway.node-b.example noopener noreferrer",
    }
    assert not [p for p in page.problems if "Content Security Policy" in p], "no script was even tried"
    page.picture(PICTURES / "hostile.png", height=1300)

    # The test of the test, and the second wall: markup cannot be made of text here, and what got in otherwise runs
    # nothing.
    assert "TrustedHTML" in page.evaluate(
        f"(() => {{ try {{ {FRAME}.body.insertAdjacentHTML('beforeend', {json.dumps(ATTACK)}); return 'made' }} catch"
        " (e) { return String(e) } })()"
    )
    page.evaluate(
        f"{FRAME}.body.append((i => {{ i.src = 'https://example.org/x.png'; return i }})({FRAME}.createElement('img')))"
    )
    page.wait("new Promise(done => setTimeout(() => done(true), 500))")
    assert page.evaluate("window.hacked === undefined")
    assert [p for p in page.problems if "Content Security Policy" in p], "the policy stopped it"


def test_failures_are_on_top_with_their_reason_and_every_state_is_a_word(page: Browser, opened: Opened) -> None:
    told = half_done()
    told["node-b"].append(
        {"kind": "node", "state": "failed", "message": "access withdrawn", "dataset": "EGAD50000000002"}
    )
    opened("failing", told)
    shown(page, "Node node-b failed: access withdrawn")
    until_rows(page, 7)
    seen = words(page)
    assert seen.index("Node node-b failed") < seen.index("Running jobs over time") and "Dataset EGAD50000000002" in seen
    assert "validate at node-b: exit code 1, ValueError, line 7: a row without a position" in seen
    for word in ("Failing", "running", "done", "waiting", "failed"):
        assert word in seen
    assert rows(page)[0].startswith("✕failed node-b validate"), "what failed comes first in the table too"


def test_a_jobs_log_is_a_link_to_its_node_and_opens_outside_the_frame(page: Browser, opened: Opened) -> None:
    opened("logs", half_done())
    until_rows(page, 7)
    found = page.evaluate(f"[...{FRAME}.querySelectorAll('.grid .body a')].map(a => a.href)")
    assert (
        "https://gateway.node-b.example/logs/task-v" in found and "https://gateway.node-a.example/logs/task-3" in found
    )
    # Airflow's sandbox lets the frame open nothing: the click must come to Airflow's own page.
    page.evaluate(
        "window.opened = []; HTMLAnchorElement.prototype.click = function () { window.opened.push([this.href,"
        " this.target, this.rel]) }"
    )
    page.evaluate(f"{FRAME}.querySelector('.grid .body a').click()")
    assert page.evaluate("window.opened") == [
        ["https://gateway.node-b.example/logs/task-v", "_blank", "noopener noreferrer"]
    ]


def test_jobs_are_found_by_words_state_node_and_rule(page: Browser, opened: Opened) -> None:
    opened("filter", half_done())
    until_rows(page, 7)
    page.evaluate("document.querySelector('iframe').focus()")
    page.press("/")
    page.wait(f"{FRAME}.activeElement.type === 'search'", "the key / goes to the search")
    page.type("COUNT part=3")
    until_rows(page, 1)
    shown(page, "1 of 7 jobs")
    page.evaluate(f"[...{FRAME}.querySelectorAll('button')].find(b => b.innerText === 'Clear').click()")
    until_rows(page, 7)
    page.evaluate(f"[...{FRAME}.querySelectorAll('.chip')].find(b => b.innerText.includes('failed')).click()")
    until_rows(page, 1)
    page.evaluate(f"[...{FRAME}.querySelectorAll('button')].find(b => b.innerText === 'Clear').click()")
    until_rows(page, 7)
    page.evaluate(f"[...{FRAME}.querySelectorAll('tr.rule button')].find(b => b.innerText === 'count').click()")
    until_rows(page, 5)
    assert all("node-a count" in r for r in rows(page))


def test_the_table_the_fold_and_a_job_work_by_keyboard_alone(page: Browser, opened: Opened) -> None:
    opened("keyboard", half_done())
    until_rows(page, 7)
    page.evaluate("document.querySelector('iframe').focus()")
    page.evaluate(f"{FRAME}.body.focus()")
    active = f"{FRAME}.activeElement"
    for _ in range(60):
        page.press("Tab")
        if page.evaluate(f"{active}?.className === 'fold'"):
            break
    assert page.evaluate(f"{active}.innerText") == "node-a"
    page.press("Enter")
    page.wait(f"{active}.getAttribute('aria-expanded') === 'false'")
    polled = "performance.getEntriesByType('resource').filter(r => r.name.includes('/gdi/data/')).length"
    before = page.evaluate(f"document.querySelector('iframe').contentWindow.{polled}")
    page.wait(f"document.querySelector('iframe').contentWindow.{polled} > {before} + 1", "two more polls")
    assert page.evaluate(f"{active}.innerText") == "node-a" and "gather" not in words(page), (
        "what was folded stays so, and the focus where it was"
    )
    for _ in range(60):
        page.press("Tab")
        if page.evaluate(f"{active}?.id === 'jobs-grid'"):
            break
    page.press("ArrowDown")
    page.press("ArrowDown")
    page.wait(
        f"{FRAME}.getElementById({active}.getAttribute('aria-activedescendant')).getAttribute('aria-rowindex') === '3'",
        "the second row is active",
    )
    page.press("Enter")
    page.wait(f"{FRAME}.querySelector('aside')?.contains({active})", "the job opens and has the focus")
    page.picture(PICTURES / "job.png")
    page.press("Escape")
    page.wait(
        f"!{FRAME}.querySelector('aside') && {active}.id === 'jobs-grid'", "it closes, and the focus is where it was"
    )


def test_everything_that_can_be_worked_has_a_name(page: Browser, opened: Opened) -> None:
    opened("names", half_done())
    until_rows(page, 7)
    page.evaluate(f"{FRAME}.querySelector('.grid .body [role=row]').click()")
    page.wait(f"{FRAME}.querySelector('aside')")
    unnamed = page.evaluate(
        f"[...{FRAME}.querySelectorAll('button, a, input, select, [role=grid], [role=progressbar], progress, svg,"
        " aside')].filter(e => !(e.getAttribute('aria-label') || e.innerText?.trim() || e.title)).map(e =>"
        " e.outerHTML.slice(0, 200))"
    )
    assert unnamed == []


def test_the_estimate_is_from_the_runs_own_jobs_and_says_what_it_does_not_know(
    page: Browser, opened: Opened, broker: Broker
) -> None:
    waiting = {"node-a": [{"kind": "rules", "counts": {"count": 10}}, job("c0", "running", 5)]}
    run = opened("estimate", waiting)
    shown(page, "no estimate yet: no job has finished")
    done = [e for n in range(1, 6) for e in (job(f"c{n}", "running", 600), job(f"c{n}", "done", 0))]
    broker.tell(run, "node-a", *done, first=3)
    shown(page, "left")
    assert "about" in words(page) and "at least" not in words(page), words(page)
    broker.tell(run, "node-a", {"kind": "rules", "counts": {"count": 10, "report": 1}}, first=13)
    shown(page, "1 rule has not shown yet how long a job takes")
    assert "at least" in words(page)


def test_before_jobs_of_minutes_the_estimate_does_not_say_seconds(page: Browser, opened: Opened) -> None:
    rules = {"kind": "rules", "counts": {"prepare": 3, "count": 4}}
    quick = [
        e for n in (1, 2) for e in (job(f"p{n}", "running", 9, rule="prepare"), job(f"p{n}", "done", 4, rule="prepare"))
    ]
    opened("seconds", {"node-a": [rules, *quick, job("p3", "running", 2, rule="prepare")]})
    shown(page, "no estimate yet; 1 rule has not shown yet how long a job takes")
    assert " left" not in words(page)


def test_a_run_that_was_not_admitted_says_so_and_where_the_reason_is(
    page: Browser, opened: Opened, airflow: Airflow
) -> None:
    opened("refused")
    shown(page, "Waiting to start")
    with sqlite3.connect(
        airflow.folder / "airflow.db"
    ) as database:  # what the scheduler, which does not run here, would store
        database.execute("UPDATE dag_run SET state = 'failed' WHERE run_id = 'refused'")
    shown(page, "The log of the admission task says which dataset was refused")
    page.picture(PICTURES / "refused.png")


def airflow_says(airflow: Airflow, run: str, state: str) -> None:
    """What the scheduler, which does not run here, would store."""
    with sqlite3.connect(airflow.folder / "airflow.db") as database:
        database.execute("UPDATE dag_run SET state = ? WHERE run_id = ?", (state, run))


def test_one_sentence_says_why_on_top_and_nothing_is_green_in_a_run_that_failed(
    page: Browser, opened: Opened, airflow: Airflow, broker: Broker
) -> None:
    run = opened("why", half_done())
    airflow_says(airflow, "why", "failed")
    broker.open("why", state="closed", outcome="failed", failing=m.Failing(node="node-b", reason="a bad line"))
    shown(page, "node-b failed: a bad line.")
    until_rows(page, 7)
    seen = words(page)
    assert seen.index("node-b failed: a bad line.") < seen.index("Jobs") and "7 jobs" in seen and " of 7 jobs" in seen
    green = f"[...{FRAME}.querySelectorAll('.done, .done .sign')].map(e => getComputedStyle(e))"
    colours = page.evaluate(f"{green}.flatMap(s => [s.color, s.backgroundColor])")
    assert colours and not {"rgb(21, 128, 61)", "rgb(74, 222, 128)"} & set(colours)
    assert run in broker.runs


def test_a_broker_that_is_away_is_said_and_what_was_read_stays(page: Browser, opened: Opened, broker: Broker) -> None:
    opened("away", half_done())
    until_rows(page, 7)
    broker.refuses = True
    try:
        shown(page, "The broker has its day off.")
        assert len(rows(page)) == 7
    finally:
        broker.refuses = False
    page.wait(f"!{FRAME}.body.innerText.includes('day off')", "the page goes on by itself", timeout=60)


def test_a_run_that_a_person_ends_keeps_no_ticket(airflow: Airflow) -> None:
    run = airflow.trigger("ended")
    path = f"/api/v2/dags/{DAG}/dagRuns/{run}"
    assert airflow.http.get(path).json()["conf"]["ticket"] == "gdit_planted"
    airflow.http.patch(path, json={"state": "failed"}).raise_for_status()
    assert airflow.http.get(path).json()["conf"]["ticket"] == "used"


def test_progress_goes_on_by_itself_to_a_later_attempt_and_ends_green(
    page: Browser, opened: Opened, broker: Broker
) -> None:
    run = opened("ending", half_done())
    shown(page, "4 of 19 jobs")
    broker.open("ending", attempt=2)
    for node in ("node-a", "node-b"):
        events = [e for n in range(4) for e in (job(f"c{n}", "running", 100), job(f"c{n}", "done", 40))]
        broker.tell(run, node, {"kind": "rules", "counts": {"count": 4}}, *events, {"kind": "node", "state": "success"})
    broker.open("ending", attempt=2, state="closed", outcome="success", closed_at=time.time())
    shown(page, "Done (attempt 2)")
    until_rows(page, 8)
    seen = words(page)
    assert "8 of 8 jobs · 2 nodes · 1 min 0 s" in seen and "validate" not in seen and "failed" not in seen.lower()
    page.picture(PICTURES / "done.png")


def test_the_page_wears_airflows_dress_not_the_systems(page: Browser, opened: Opened) -> None:
    dark = f"getComputedStyle({FRAME}.documentElement).colorScheme"
    token = "d.style.background = 'var(--chakra-colors-bg)'; document.body.append(d)"
    airflows = f"(d => {{ {token}; const c = getComputedStyle(d).backgroundColor; d.remove(); return c }})"
    same = f"getComputedStyle({FRAME}.body).backgroundColor === {airflows}(document.createElement('div'))"
    opened("dress", half_done())
    until_rows(page, 7)
    assert page.evaluate(dark) == "light"
    page.wait(same, "the background is Airflow's")
    page.picture(PICTURES / "light.png", height=1300)
    try:
        page.evaluate("localStorage.setItem('theme', 'dark')")
        page.open(page.evaluate("location.href"))
        until_rows(page, 7)
        page.wait(f"{dark} === 'dark'")
        page.wait(same, "the background is Airflow's")
        page.picture(PICTURES / "dark.png", height=1300)
        # Airflow's own switch, while the page is open
        page.evaluate("document.documentElement.classList.replace('dark', 'light')")
        page.wait(f"{dark} === 'light'")
    finally:
        page.evaluate("localStorage.removeItem('theme')")


def test_home_shows_a_persons_own_runs_and_what_they_may_start(page: Browser, airflow: Airflow) -> None:
    airflow.trigger("at-home")
    page.open(airflow.url)
    card = "document.querySelector('[data-testid=gdi-home]')"
    page.wait(f"{card}?.innerText.includes('Allele frequencies over all nodes')", "the home card", timeout=90)
    links = page.evaluate(f"[...{card}.querySelectorAll('li a')].map(a => new URL(a.href).pathname)")
    assert f"/dags/{DAG}/runs/at-home/plugin/gdi-jobs" in links
    assert not [link for link in links if "recurring" in link or "housekeeping" in link]
    page.picture(PICTURES / "home.png", height=1300)
    signed = airflow.http.post("/auth/token", json={"username": "reader", "password": "pw"}).json()
    other = {"authorization": f"Bearer {signed['access_token']}"}
    theirs = airflow.http.get("/gdi/data/home", headers=other).json()
    assert theirs["runs"] == [], "what the other one started"
    assert {"dag_id": DAG, "title": "Allele frequencies over all nodes"} in theirs["workflows"]
    assert httpx.get(airflow.url + "/gdi/data/home", trust_env=False).status_code == 401


def test_the_page_of_all_nodes_says_how_each_is_within_its_width_and_in_airflows_dress(
    page: Browser, airflow: Airflow, broker: Broker
) -> None:
    now = time.time()
    limits = ["A person of the node looks at each release.", "Only releases of the kind allele-counts may leave."] * 3
    known: dict[str, Any] = {"placement": "node", "version": "0.2.0", "clock_off": 0.1, "limits": limits}
    well = {"gateway": "ok", "tes": "ok", "archive": "ok", "storage": "ok", "launcher": "ok"}
    broker.nodes = [
        NodeStatus(node="se", life="up", seen_at=now - 4, health=well, free_slots=18, orders={"running": 2}, **known),
        NodeStatus(node="fi", life="up", seen_at=now - 9, health=well | {"tes": "away", "archive": ATTACK}, **known),
        NodeStatus(node="hospital-of-a-long-name", life="away", seen_at=now - 3 * 3600, health=well, **known),
        NodeStatus(node="ee", life="never-seen", placement="node"),
        NodeStatus(node="lv", life="never-seen", placement="coordinator"),
    ]
    page.problems.clear()
    page.open(f"{airflow.url}/plugin/gdi-nodes")
    page.wait(f"{FRAME}?.querySelectorAll('tbody tr').length === 5", "the nodes", timeout=90)
    seen = words(page)
    assert "tes: away" in seen and ATTACK in seen and "3 hours ago" in seen and "never seen" in seen
    assert page.evaluate(f"{FRAME}.querySelectorAll('script').length") == 1
    wide = f"(e => e.scrollWidth - e.clientWidth)({FRAME}.documentElement)"
    assert page.evaluate(wide) <= 0, "nothing runs out of the page"
    assert page.evaluate(f"(e => e.scrollWidth - e.clientWidth)({FRAME}.querySelector('.scroll'))") <= 0
    page.picture(PICTURES / "nodes.png")
    try:
        page.evaluate("localStorage.setItem('theme', 'dark')")
        page.open(page.evaluate("location.href"))
        page.wait(f"{FRAME}?.querySelectorAll('tbody tr').length === 5", "the nodes", timeout=90)
        page.wait(f"getComputedStyle({FRAME}.documentElement).colorScheme === 'dark'", "Airflow's own dress")
        page.picture(PICTURES / "nodes-dark.png")
    finally:
        page.evaluate("localStorage.removeItem('theme')")
        broker.nodes = []
    assert not [problem for problem in page.problems if "sandbox" not in problem]


def test_who_is_not_signed_in_sees_nothing_of_a_run(airflow: Airflow, opened: Opened) -> None:
    opened("private", half_done())
    paths = [f"/gdi/{what}/{DAG}/private" for what in ("jobs", "results", "data/jobs", "data/results", "file", "crate")]
    for path in (*(p + ("?name=answer.tsv" if "/file/" in p else "") for p in paths), "/gdi/assets/x/gdi.js"):
        answer = httpx.get(airflow.url + path, trust_env=False)
        assert answer.status_code == 401, path
    policy = airflow.http.get(paths[0]).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "require-trusted-types-for 'script'" in policy
    assert airflow.http.get("/gdi/assets/x/../../etc/passwd").status_code == 404
