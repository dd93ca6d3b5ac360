"""Two replicas of the broker on one PostgreSQL and one OpenBao: whatever comes to both at once happens once, and
nothing is lost, doubled or leaked.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.local_federation.openbao import OpenBao
from tests.support.broker_kit import SNAKEMAKE, USERS, wait_for
from tests.support.postgres_kit import Postgres, PostgresWorld, admit_at, at_both
from token_broker.db.store import BrokerDatabase, meta

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-postgres")]
pytest_plugins = ["tests.support.broker_fixtures"]


# --- start --------------------------------------------------------------------------------------


def test_many_replicas_that_start_at_once_make_the_schema_once(postgres: Postgres) -> None:
    async def start(url: str, replicas: int) -> None:
        stores = [BrokerDatabase.open(url, postgres.password) for _ in range(replicas)]
        try:
            await asyncio.gather(*(s.create() for s in stores))
        finally:
            await asyncio.gather(*(s.close() for s in stores))

    for replicas in (2, 2, 5, 8):
        name = postgres.database()
        asyncio.run(start(f"postgresql+asyncpg://gdi@127.0.0.1:{postgres.port}/{name}", replicas))
        found = {
            r["tablename"] for r in postgres.query(name, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        }
        assert found == {*meta.tables, "alembic_version_token_broker"}


def test_replicas_that_start_at_once_share_one_signing_key(replicas: PostgresWorld) -> None:
    first, second = (
        httpx.get(replicas.url(r) + "/.well-known/jwks.json", trust_env=False).json()["keys"] for r in (0, 1)
    )
    assert first == second and len(first) == 1


# --- once ---------------------------------------------------------------------------------------


def test_a_ticket_shown_to_both_replicas_at_once_starts_exactly_one_run(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient]
) -> None:
    grant = replicas.grant(users[0])
    for _ in range(5):
        ticket = replicas.ticket(users[1], grant.id)
        outcomes = at_both(lambda replica, t=ticket: admit_at(replicas, replica, t).id, 8)
        assert sorted(o.startswith("r-") for o in outcomes) == [False] * 7 + [True], outcomes
        assert {o for o in outcomes if not o.startswith("r-")} == {"ticket-used"}
    assert replicas.query("SELECT count(*) AS n FROM runs WHERE grant_id = $1", grant.id)[0]["n"] == 5


def test_one_start_sent_to_both_replicas_at_once_is_one_run(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient]
) -> None:
    """Airflow repeats a request whose answer was lost, and the load balancer sends it elsewhere."""
    for _ in range(4):
        ticket, name = replicas.ticket(users[0], replicas.grant(users[0]).id), f"repeated-{secrets.token_hex(6)}"
        made = at_both(lambda replica, t=ticket, n=name: admit_at(replicas, replica, t, dag_run_id=n), 6)
        assert all(isinstance(r, m.Run) for r in made), made
        assert len({(r.id, r.attempt, r.opened_at) for r in made}) == 1
        second = at_both(lambda replica, n=name: admit_at(replicas, replica, None, dag_run_id=n, attempt=2), 6)
        assert len({r.opened_at for r in second if isinstance(r, m.Run)}) == 1
        assert {r for r in second if isinstance(r, str)} <= {"attempt-over"}, (
            "whoever lost may be told so, but opens nothing"
        )


def test_a_grant_for_one_run_serves_one_run_though_two_tickets_come_at_once(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient]
) -> None:
    for _ in range(4):
        grant = replicas.grant(users[0], mode="once")
        tickets = [replicas.ticket(users[r], grant.id) for r in (0, 1)]
        outcomes = at_both(lambda replica, t=tickets: admit_at(replicas, replica, t[replica]), 2)
        assert [isinstance(o, m.Run) for o in outcomes].count(True) == 1, outcomes
        assert {o for o in outcomes if isinstance(o, str)} == {"grant-inactive"}


def test_pods_registered_at_both_replicas_at_once_never_share_a_generation(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient]
) -> None:
    _, run = replicas.started(users[0])

    def register(replica: int) -> int:
        with replicas.airflow(replica) as airflow:
            return airflow.put_workload(
                run.id, f"pod-{secrets.token_hex(4)}", m.WorkloadRequest(node="node-a", attempt=1)
            ).generation

    assert sorted(at_both(register, 10)) == list(range(1, 11))


# --- events -------------------------------------------------------------------------------------


def test_events_written_at_both_replicas_are_numbered_without_gap_or_duplicate_and_a_reader_misses_none(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient]
) -> None:
    _, run = replicas.started(users[0])
    pods = {"pod-a": "node-a", "pod-b": "node-b"}
    for pod, node in pods.items():
        replicas.workload(run, pod, node)
    last, size = 120, 10
    ended = threading.Event()

    def write(source: str, replica: int) -> None:
        identity = (
            replicas.identity() if source.startswith("airflow") else replicas.identity(SNAKEMAKE, source, "uid-1")
        )
        with BrokerClient(replicas.url(replica), lambda: identity) as client:
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
    rows = replicas.query(
        "SELECT source, seq, count(*) AS n FROM events WHERE run_id = $1 GROUP BY source, seq", run.id
    )
    assert len(rows) == total and {r["n"] for r in rows} == {1}


def test_progress_counts_each_job_once_though_both_replicas_report_it(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient]
) -> None:
    _, run = replicas.started(users[0])
    replicas.workload(run, "pod-a")
    jobs = [m.Event(seq=i, time=time.time(), kind="job", job=f"j{i}", rule="count", state="done") for i in range(1, 31)]

    def report(replica: int) -> None:
        replicas.pod("pod-a", replica=replica).post_events(run.id, m.EventBatch(source="pod-a", events=jobs))

    assert at_both(report, 6) == [None] * 6
    found = users[1].progress(run.id)
    assert [(r.rule, r.done) for r in found.rules] == [("count", 30)]


# --- tokens -------------------------------------------------------------------------------------


def test_both_replicas_asked_at_once_redeem_a_refresh_token_once(
    postgres: Postgres, openbao: OpenBao, tmp_path: Any
) -> None:
    made = PostgresWorld(
        tmp_path / "short", openbao, postgres, access=20, refresh=600, broker_env={"LEASE_SECONDS": "5"}
    )
    try:
        for replica in (0, 1):
            made.start_broker(replica)
        grant, run = made.started(made.user())
        for _ in range(2):
            time.sleep(3.6)  # what is kept has less than 16.5 s left
            answers = at_both(
                lambda replica: made.node_token("node-a", run.id, min_ttl=16.5, replica=replica).status_code, 8
            )
            assert answers == [200] * 8
        stats = made.stats()
        assert stats.get("reuse_detected", 0) == 0
        count = stats["refreshes"][USERS["alice"]]
        assert 2 <= count <= 4, count  # one for each round of eight; a machine that stalls for seconds may need another
        wait_for(
            "SQL says the same",
            lambda: made.user().get_grant(grant.id).refreshes == made.stats()["refreshes"][USERS["alice"]],
        )
    finally:
        made.stop()
