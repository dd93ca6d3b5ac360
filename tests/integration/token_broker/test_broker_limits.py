"""What users, portals, gateways and runs can make a broker do, hold or answer is bounded. Each limit: its effect where
it is wide, its end where it is narrow.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.contracts.beacon import VariantQuestion
from tests.support.broker_kit import DATASETS, USERS, World, refused
from tests.support.broker_pages import csrf, sign_in
from tests.support.broker_planted import event, planted

pytest_plugins = ["tests.support.broker_fixtures"]
NARROW = {
    "USER_TICKETS_PER_MINUTE": "10",
    "GATEWAY_REQUESTS_PER_MINUTE": "20",
    "MAX_EVENT_BYTES": "20000",
    "MAX_EVENT_BYTES_PER_RUN": "100000",
}


@pytest.fixture(scope="module")
def narrow(openbao: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("narrow"), openbao, broker_env=NARROW)  # type: ignore[arg-type]
    made.start_broker(0)
    for dataset in DATASETS.values():
        made.entitle("bob", dataset)  # whose tickets are not used up by the test of tickets
    yield made
    made.stop()


def ask(world: World, token: str, run: str = "r-" + "0" * 20, replica: int = 0) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{world.url(replica)}/v1/runs/{run}", headers=headers, trust_env=False, timeout=60)


def test_a_gateways_assertion_serves_once_at_whichever_replica(world: World) -> None:
    known = [ask(world, world.assertion("node-a")).status_code for _ in range(3)]
    assert known == [404] * 3, "each with an assertion of its own: only the run is unknown"
    token = world.assertion("node-a")
    assert ask(world, token).status_code == 404
    world.start_broker(1)
    for replica in (0, 1):
        again = ask(world, token, replica=replica)
        assert again.status_code == 401 and "used before" in again.json()["detail"]
    assert ask(world, world.assertion("node-a", jti=None)).status_code == 401, "one without a jti serves never"
    assert ask(world, world.assertion("node-a", jti="x" * 300)).status_code == 401


def test_tickets_of_a_user_are_bounded_in_rate(world: World, narrow: World) -> None:
    for where, passing in ((world, 12), (narrow, 5)):
        user = where.user("alice")
        grant = where.grant(user)
        answers = [many(where, user, grant.id) for _ in range(12)]
        assert sum(a.status_code == 201 for a in answers) in (passing, passing + 1)  # one more may have come meanwhile
    late = answers[-1]
    assert late.status_code == 429 and late.json()["type"].endswith(":too-many-requests")
    assert 1 <= int(late.headers["Retry-After"]) <= 60


def many(world: World, user: BrokerClient, grant: str) -> httpx.Response:
    body = {"workflow": "allele-frequency", "parameters": world.parameters()}
    return user._http.post(f"/v1/grants/{grant}/tickets", json=body)


def test_a_gateway_is_bounded_in_rate_and_no_other_with_it(narrow: World) -> None:
    answers = [ask(narrow, narrow.assertion("node-a")) for _ in range(14)]
    assert {a.status_code for a in answers[:10]} == {404} and answers[-1].status_code == 429
    assert answers[-1].headers["Retry-After"].isdecimal()
    assert ask(narrow, narrow.assertion("node-b")).status_code == 404


def test_of_sign_ins_without_consent_only_the_last_are_kept(world: World) -> None:
    for _ in range(13):
        with httpx.Client(base_url=world.url(), trust_env=False, timeout=60) as browser:
            assert sign_in(world, browser, user="bob").status_code == 200
    with sqlite3.connect(f"file:{world.folder / 'broker.db'}?mode=ro", uri=True) as database:
        query = "SELECT count(*) FROM grants WHERE owner = ? AND state = 'pending'"
        assert database.execute(query, (USERS["bob"],)).fetchone() == (10,)


def test_signing_out_ends_the_session_also_for_who_kept_the_cookie(world: World) -> None:
    with httpx.Client(base_url=world.url(), trust_env=False, timeout=60) as browser:
        page = sign_in(world, browser)
        kept = httpx.Cookies(browser.cookies)
        with httpx.Client(base_url=world.url(), trust_env=False, timeout=60, cookies=kept) as thief:
            assert thief.get("/connect/grants").status_code == 200, "the same session until it ends"
            assert browser.post("/connect/sign-out", data={"csrf": csrf(page)}).status_code == 200
            assert thief.get("/connect/grants").status_code == 401
            assert thief.post("/connect/sign-out", data={"csrf": csrf(page)}).status_code == 403


def test_strangers_read_only_whether_the_broker_is_ready(world: World) -> None:
    assert httpx.get(world.url() + "/readyz", trust_env=False).json() == {"status": "ok"}
    assert httpx.get(world.url() + "/metrics", trust_env=False).status_code == 404
    assert "token_broker_request_seconds" in world.watch("/metrics").text
    good = (world.folder / "enrolment.yaml").read_text()
    try:
        world.enrol({**world.enrolment(), "auditor": ["x"]})
        ready = world.watch("/readyz")
        assert ready.status_code == 200 and "auditor" in ready.json()["enrolment"]
        assert "token_broker_enrolment_problem 1.0" in world.watch("/metrics").text
    finally:
        (world.folder / "enrolment.yaml").write_text(good)


def test_an_event_and_a_runs_events_are_bounded_in_bytes(world: World, narrow: World) -> None:
    large = m.Event(seq=1, time=time.time(), kind="rules", counts={f"{i:0200d}": 1 for i in range(200)})
    for where in (world, narrow):
        _, run = where.started(where.user("alice" if where is world else "bob"))
        with where.airflow() as airflow:
            if where is world:
                airflow.post_events(run.id, m.EventBatch(source="airflow", events=[large]))
                for seq in range(2, 12):
                    airflow.post_events(run.id, m.EventBatch(source="airflow", events=[event(seq, 12_000)]))
                continue
            error = refused(airflow.post_events, run.id, m.EventBatch(source="airflow", events=[large]))
            assert (error.problem.status, error.slug) == (413, "too-large")
            for seq in range(2, 10):
                airflow.post_events(run.id, m.EventBatch(source="airflow", events=[event(seq, 12_000)]))
            error = refused(airflow.post_events, run.id, m.EventBatch(source="airflow", events=[event(10, 12_000)]))
            assert (error.problem.status, error.slug) == (429, "too-many-bytes")


def read_all(world: World, run: str) -> tuple[int, int, list[float]]:
    """How many events, the bytes of the largest page, and the seconds of each /livez meanwhile."""
    after, seen, largest, lives = 0, 0, 0, []
    with world.airflow() as airflow:
        while True:
            answer = airflow._http.get(f"/v1/runs/{run}/events", params={"after": after, "limit": 1000})
            page = m.EventPage.model_validate_json(answer.content)
            largest = max(largest, len(answer.content))
            began = time.perf_counter()
            httpx.get(world.url() + "/livez", trust_env=False, timeout=60).raise_for_status()
            lives.append(time.perf_counter() - began)
            if not page.events:
                return seen, largest, lives
            assert [e.number for e in page.events] == sorted(e.number for e in page.events)
            assert page.events[0].number > after and page.next_after == page.events[-1].number
            seen, after = seen + len(page.events), page.next_after


def memory(world: World) -> int:
    """The most bytes that the broker had resident."""
    process = world.brokers[0].popen
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_page_of_events_is_bounded_in_bytes_and_none_is_lost(narrow: World) -> None:
    _, run = narrow.started(narrow.user("bob"))
    count = planted(narrow, run.id, 6_000_000)
    seen, largest, _ = read_all(narrow, run.id)
    assert seen == count and largest < 3_000_000, (seen, count, largest)


@pytest.mark.long
def test_reading_a_hundred_megabytes_of_events_needs_less_than_150_mb(openbao: object, tmp_path: Path) -> None:
    made = World(tmp_path, openbao)  # type: ignore[arg-type]
    made.start_broker()
    try:
        _, run = made.started(made.user("alice"))
        before = memory(made)
        count = planted(made, run.id, 100_000_000)
        seen, largest, lives = read_all(made, run.id)
        most = memory(made)
        print(f"{before / 1e6:.0f} MB before, {most / 1e6:.0f} MB at most, page {largest / 1e6:.1f} MB, {max(lives)} s")
        assert seen == count and most < 150_000_000
    finally:
        made.stop()


def test_a_question_for_carriers_is_a_users_and_names_every_node(world: World) -> None:
    question = VariantQuestion(assembly="GRCh38", chromosome="2", position=1, ref="A", alt="G")
    answer = world.user("alice").carriers(question)
    assert [(n.node, n.state) for n in answer.nodes] == [(n, "no-beacon") for n in sorted(DATASETS)]
    assert answer.datasets == []
    assert refused(world.airflow().carriers, question).slug == "forbidden"
