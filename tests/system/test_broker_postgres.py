"""Two replicas of the broker on one PostgreSQL and one OpenBao: whatever comes to both at once happens once, and nothing is lost, doubled or leaked."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from broker_kit import DATASETS, SNAKEMAKE, USERS, World, refused, wait_for
from postgres_kit import Postgres, PostgresWorld

from broker_client import models as m
from broker_client.client import BrokerClient
from gdi_common.problem import ProblemError
from local_federation.openbao import OpenBao
from token_broker.store import Store, meta

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-postgres")]
pytest_plugins = ["broker_fixtures"]
LEASE = "5"


@pytest.fixture(scope="module")
def world(postgres: Postgres, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresWorld]:
    """Both replicas were started in the same moment on an empty database and an empty Vault path."""
    made = PostgresWorld(tmp_path_factory.mktemp("postgres-world"), openbao, postgres, broker_env={"LEASE_SECONDS": LEASE})
    with ThreadPoolExecutor(2) as pool:  # kept open: the replicas die with the thread that started them
        try:
            list(pool.map(made.start_broker, (0, 1)))
            yield made
        finally:
            made.stop()


@pytest.fixture
def users(world: PostgresWorld) -> tuple[BrokerClient, BrokerClient]:
    """Alice, at either replica."""
    return world.user(replica=0), world.user(replica=1)


def at_both(call: Callable[[int], Any], times: int) -> list[Any]:
    """Calls `call(replica)` `times` times, released in one moment, alternating between the replicas; refusals come as their slugs."""
    gate = threading.Barrier(times)

    def one(i: int) -> Any:
        gate.wait(20)
        try:
            return call(i % 2)
        except ProblemError as error:
            return error.slug

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def admit_at(world: World, replica: int, ticket: str | None, **changes: Any) -> m.Run:
    with world.airflow(replica) as airflow:
        return airflow.admit(world.admit_request(ticket, **changes))


# --- start --------------------------------------------------------------------------------------------------------------------


def test_many_replicas_that_start_at_once_make_the_schema_once(postgres: Postgres) -> None:
    async def start(url: str, replicas: int) -> None:
        stores = [Store.open(url, postgres.password) for _ in range(replicas)]
        try:
            await asyncio.gather(*(s.create() for s in stores))
        finally:
            await asyncio.gather(*(s.close() for s in stores))

    for replicas in (2, 2, 5, 8):
        name = postgres.database()
        asyncio.run(start(f"postgresql+asyncpg://gdi@127.0.0.1:{postgres.port}/{name}", replicas))
        found = {r["tablename"] for r in postgres.query(name, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
        assert found == set(meta.tables)


def test_replicas_that_start_at_once_share_one_signing_key(world: PostgresWorld) -> None:
    first, second = (httpx.get(world.url(r) + "/.well-known/jwks.json", trust_env=False).json()["keys"] for r in (0, 1))
    assert first == second and len(first) == 1


# --- once ---------------------------------------------------------------------------------------------------------------------


def test_a_ticket_shown_to_both_replicas_at_once_starts_exactly_one_run(world: PostgresWorld, users: tuple[BrokerClient, BrokerClient]) -> None:
    grant = world.grant(users[0])
    for _ in range(5):
        ticket = world.ticket(users[1], grant.id)
        outcomes = at_both(lambda replica, t=ticket: admit_at(world, replica, t).id, 8)
        assert sorted(o.startswith("r-") for o in outcomes) == [False] * 7 + [True], outcomes
        assert {o for o in outcomes if not o.startswith("r-")} == {"ticket-used"}
    assert world.query("SELECT count(*) AS n FROM runs WHERE grant_id = $1", grant.id)[0]["n"] == 5


def test_one_start_sent_to_both_replicas_at_once_is_one_run(world: PostgresWorld, users: tuple[BrokerClient, BrokerClient]) -> None:
    """Airflow repeats a request whose answer was lost, and the load balancer sends it elsewhere."""
    for _ in range(4):
        ticket, name = world.ticket(users[0], world.grant(users[0]).id), f"repeated-{secrets.token_hex(6)}"
        made = at_both(lambda replica, t=ticket, n=name: admit_at(world, replica, t, dag_run_id=n), 6)
        assert all(isinstance(r, m.Run) for r in made), made
        assert len({(r.id, r.attempt, r.opened_at) for r in made}) == 1
        second = at_both(lambda replica, n=name: admit_at(world, replica, None, dag_run_id=n, attempt=2), 6)
        assert len({r.opened_at for r in second if isinstance(r, m.Run)}) == 1
        assert {r for r in second if isinstance(r, str)} <= {"attempt-over"}, "whoever lost may be told so, but opens nothing"


def test_a_grant_for_one_run_serves_one_run_though_two_tickets_come_at_once(world: PostgresWorld, users: tuple[BrokerClient, BrokerClient]) -> None:
    for _ in range(4):
        grant = world.grant(users[0], mode="once")
        tickets = [world.ticket(users[r], grant.id) for r in (0, 1)]
        outcomes = at_both(lambda replica, t=tickets: admit_at(world, replica, t[replica]), 2)
        assert [isinstance(o, m.Run) for o in outcomes].count(True) == 1, outcomes
        assert {o for o in outcomes if isinstance(o, str)} == {"grant-inactive"}


def test_pods_registered_at_both_replicas_at_once_never_share_a_generation(world: PostgresWorld, users: tuple[BrokerClient, BrokerClient]) -> None:
    _, run = world.started(users[0])

    def register(replica: int) -> int:
        with world.airflow(replica) as airflow:
            return airflow.put_workload(run.id, f"pod-{secrets.token_hex(4)}", m.WorkloadRequest(node="node-a", attempt=1)).generation

    assert sorted(at_both(register, 10)) == list(range(1, 11))


# --- events -------------------------------------------------------------------------------------------------------------------


def test_events_written_at_both_replicas_are_numbered_without_gap_or_duplicate_and_a_reader_misses_none(
    world: PostgresWorld, users: tuple[BrokerClient, BrokerClient]
) -> None:
    _, run = world.started(users[0])
    pods = {"pod-a": "node-a", "pod-b": "node-b"}
    for pod, node in pods.items():
        world.workload(run, pod, node)
    last, size = 120, 10
    ended = threading.Event()

    def write(source: str, replica: int) -> None:
        identity = world.identity() if source.startswith("airflow") else world.identity(SNAKEMAKE, source, "uid-1")
        with BrokerClient(world.url(replica), lambda: identity) as client:
            for first in range(1, last + 1, size):
                # Each batch overlaps the one before, and every source is written by both replicas at once.
                seqs = range(max(1, first - 3), first + size)
                events = [m.Event(seq=s, time=time.time(), kind="note", message=f"{source} {s}") for s in seqs]
                client.post_events(run.id, m.EventBatch(source=source, node="node-a", events=events))

    def follow(replica: int) -> list[int]:
        seen: list[int] = []
        while True:
            over = ended.is_set()
            page = users[replica].events(run.id, after=seen[-1] if seen else 0)
            seen += [e.number for e in page.events]
            if over and not page.events:
                return seen

    sources = [*pods, "airflow", "airflow-2"]
    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(follow, r) for r in (0, 1)]
        try:
            for done in [pool.submit(write, s, r) for s in sources for r in (0, 1)]:
                done.result(60)
        finally:
            ended.set()
        seen = [r.result(60) for r in readers]
    total = last * len(sources)
    assert seen[0] == seen[1] == list(range(1, total + 1))
    rows = world.query("SELECT source, seq, count(*) AS n FROM events WHERE run_id = $1 GROUP BY source, seq", run.id)
    assert len(rows) == total and {r["n"] for r in rows} == {1}


def test_progress_counts_each_job_once_though_both_replicas_report_it(world: PostgresWorld, users: tuple[BrokerClient, BrokerClient]) -> None:
    _, run = world.started(users[0])
    world.workload(run, "pod-a")
    jobs = [m.Event(seq=i, time=time.time(), kind="job", job=f"j{i}", rule="count", state="done") for i in range(1, 31)]

    def report(replica: int) -> None:
        world.pod("pod-a", replica=replica).post_events(run.id, m.EventBatch(source="pod-a", events=jobs))

    assert at_both(report, 6) == [None] * 6
    found = users[1].progress(run.id)
    assert [(r.rule, r.done) for r in found.rules] == [("count", 30)]


# --- tokens -------------------------------------------------------------------------------------------------------------------


def test_both_replicas_asked_at_once_redeem_a_refresh_token_once(postgres: Postgres, openbao: OpenBao, tmp_path: Any) -> None:
    made = PostgresWorld(tmp_path / "short", openbao, postgres, access=20, refresh=600, broker_env={"LEASE_SECONDS": LEASE})
    try:
        for replica in (0, 1):
            made.start_broker(replica)
        grant, run = made.started(made.user())
        for _ in range(2):
            time.sleep(3.6)  # what is kept has less than 16.5 s left
            answers = at_both(lambda replica: made.node_token("node-a", run.id, min_ttl=16.5, replica=replica).status_code, 8)
            assert answers == [200] * 8
        stats = made.stats()
        assert stats.get("reuse_detected", 0) == 0
        count = stats["refreshes"][USERS["alice"]]
        assert 2 <= count <= 4, count  # one for each round of eight; a machine that stalls for seconds may need another
        wait_for("SQL says the same", lambda: made.user().get_grant(grant.id).refreshes == made.stats()["refreshes"][USERS["alice"]])
    finally:
        made.stop()


# --- what SQLite lets pass and PostgreSQL does not ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("é𝔘" * 125, id="longest-not-ascii"),
        pytest.param("nul-\x00-nul", id="nul"),
    ],
)
def test_a_run_id_of_any_text_is_kept_or_refused_as_bad_input_never_an_error_of_the_server(
    world: PostgresWorld, users: tuple[BrokerClient, BrokerClient], name: str
) -> None:
    grant = world.grant(users[0], label=name)
    assert grant.state == "active"
    request = world.admit_request(world.ticket(users[0], grant.id)).model_dump(mode="json")
    ticket = {"workflow": "allele-frequency", "parameters": world.parameters(text=name), "dag_run_id": name}
    token = world.sign_in().access_token
    with httpx.Client(base_url=world.url(), trust_env=False, timeout=30) as http:
        for change in ({"dag_run_id": name}, {"dag_id": name}, {"triggering_user": name}, {"workflow": name}, {"parameters": {"datasets": [name]}}):
            answer = http.post("/v1/runs", json={**request, **change}, headers={"Authorization": f"Bearer {world.identity()}"})
            assert answer.status_code in (200, 201, 403, 422), (change, answer.text)
        answer = http.post(f"/v1/grants/{grant.id}/tickets", json=ticket, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == (422 if "\x00" in name else 201) or answer.status_code == 200, answer.text


def test_the_longest_events_that_are_allowed_are_kept(world: PostgresWorld, users: tuple[BrokerClient, BrokerClient]) -> None:
    _, run = world.started(users[0])
    text = "𝔘" * 255
    events = [
        m.Event(seq=2**53, time=1.0, kind="job", rule=text, job=text, state="done", message="ß" * 2000, tries=2**31 - 1),
        m.Event(seq=1, time=1.0, kind="rules", counts={text: 2**40}),
        m.Event(seq=2, time=1.0, kind="node", state="failed", message="\x00\ud7ff", dataset=DATASETS["node-a"]),
    ]
    with world.airflow() as airflow:
        airflow.post_events(run.id, m.EventBatch(source="airflow-" + "x" * 50, node="node-a", events=events))
    assert len(users[1].events(run.id).events) == 3
    assert users[1].progress(run.id).failing is not None


# --- PostgreSQL goes away -----------------------------------------------------------------------------------------------------


def test_cut_connections_cost_no_request(world: PostgresWorld, users: tuple[BrokerClient, BrokerClient]) -> None:
    """A fail-over of the database: what lies in the pool is dead, and nobody notices."""
    grant = world.grant(users[0])
    for _ in range(3):
        at_both(lambda replica: users[replica].get_grant(grant.id), 8)  # fill the pools
        world.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        assert all(isinstance(o, m.Grant) for o in at_both(lambda replica: users[replica].get_grant(grant.id), 8))


def test_while_the_database_is_away_the_broker_says_so_and_serves_again_by_itself(
    world: PostgresWorld, users: tuple[BrokerClient, BrokerClient], postgres: Postgres
) -> None:
    grant, run = world.started(users[0])
    ticket = world.ticket(users[0], grant.id)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
    postgres.query("postgres", f"ALTER DATABASE {world.database} ALLOW_CONNECTIONS false")
    try:
        postgres.query("postgres", cut, world.database)
        for replica in (0, 1):
            ready = httpx.get(world.url(replica) + "/readyz", trust_env=False, timeout=20)
            assert ready.status_code == 503 and "database" in ready.json()
            assert httpx.get(world.url(replica) + "/livez", trust_env=False).status_code == 200
            started = time.monotonic()
            answer = world.node_token("node-a", run.id, replica=replica)
            assert answer.status_code >= 500 and answer.headers["content-type"] == "application/problem+json"
            assert time.monotonic() - started < 10 and postgres.password not in answer.text
    finally:
        postgres.query("postgres", f"ALTER DATABASE {world.database} ALLOW_CONNECTIONS true")
    for replica in (0, 1):
        wait_for("it is ready", lambda r=replica: httpx.get(world.url(r) + "/readyz", trust_env=False, timeout=20).status_code == 200)
    assert world.node_token("node-a", run.id, replica=1).status_code == 200
    assert admit_at(world, 1, ticket).state == "open", "the ticket was not lost"


def test_a_replica_killed_while_it_admits_leaves_nothing_half_done(world: PostgresWorld, users: tuple[BrokerClient, BrokerClient]) -> None:
    """SIGKILL with the ticket used up and the run not yet made: the same start at the other replica goes on where it was."""
    ticket, name = world.ticket(users[0], world.grant(users[0], mode="once").id), f"killed-{secrets.token_hex(6)}"
    world.faults({"path": "/oidc/userinfo", "when": "before", "delay": 20})  # the admission hangs there, the ticket is used
    ask = threading.Thread(target=lambda: refusal_or_none(lambda: admit_at(world, 1, ticket, dag_run_id=name)))
    ask.start()
    run = m.run_id("allele-frequency", name)
    wait_for("the ticket is used", lambda: world.query("SELECT count(*) AS n FROM tickets WHERE used_run = $1", run)[0]["n"] == 1)
    assert world.query("SELECT count(*) AS n FROM runs WHERE id = $1", run)[0]["n"] == 0
    killed = next(b for b in world.brokers if b.log.name == "broker-1.log")
    killed.kill()
    ask.join(20)
    world.faults()
    assert refused(admit_at, world, 0, ticket).slug == "ticket-used", "no other run may have it"
    assert admit_at(world, 0, ticket, dag_run_id=name).state == "open"
    killed.start(world.url(1) + "/readyz")
    assert admit_at(world, 1, ticket, dag_run_id=name).state == "open"


def refusal_or_none(call: Callable[[], object]) -> None:
    with contextlib.suppress(ProblemError, httpx.HTTPError):
        call()


# --- last: what all of that left behind ---------------------------------------------------------------------------------------


def test_no_secret_is_in_the_database_its_log_or_the_brokers_logs(world: PostgresWorld, users: tuple[BrokerClient, BrokerClient], postgres: Postgres) -> None:
    ticket = world.ticket(users[0], world.grant(users[0]).id)
    run = admit_at(world, 1, ticket)
    assert world.node_token("node-b", run.id, replica=1).status_code == 200
    planted = [*(world.folder / "issued-tokens").read_text().split(), ticket, *world.secrets.values(), world.bao.secret_id_file.read_text(), postgres.password]
    assert len(planted) > 30
    written = {f.name: f.read_text() for f in world.folder.glob("broker-*.log")}
    for table in meta.tables:
        rows = world.query(f'SELECT to_json(t)::text AS row FROM "{table}" t')
        written[table] = "\n".join(r["row"] for r in rows)
    server_log = postgres.folder / "server.log"
    written["server.log"] = server_log.read_text()
    assert all(len(written[n]) > 500 for n in ("tickets", "runs", "events", "audit", "broker-0.log", "broker-1.log")), {n: len(t) for n, t in written.items()}
    for name, content in written.items():
        assert [s[:6] for s in planted if s in content] == [], name
        assert not re.search(r"eyJ[A-Za-z0-9_-]{20,}\.eyJ", content), name
