"""What PostgreSQL does and SQLite does not: it refuses some texts, loses its connections, and goes away. The broker
loses nothing, and says what is wrong.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.kit.problem import ProblemError
from tests.support.broker_kit import DATASETS, refused, wait_for
from tests.support.postgres_kit import Postgres, PostgresWorld, admit_at, at_both
from token_broker.db.store import meta

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-postgres")]
pytest_plugins = ["tests.support.broker_fixtures"]


# --- what SQLite lets pass and PostgreSQL does not ----------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("é𝔘" * 125, id="longest-not-ascii"),
        pytest.param("nul-\x00-nul", id="nul"),
    ],
)
def test_a_run_id_of_any_text_is_kept_or_refused_as_bad_input_never_an_error_of_the_server(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient], name: str
) -> None:
    grant = replicas.grant(users[0], label=name)
    assert grant.state == "active"
    request = replicas.admit_request(replicas.ticket(users[0], grant.id)).model_dump(mode="json")
    ticket = {"workflow": "allele-frequency", "parameters": replicas.parameters(text=name), "dag_run_id": name}
    token = replicas.sign_in().access_token
    with httpx.Client(base_url=replicas.url(), trust_env=False, timeout=30) as http:
        for change in (
            {"dag_run_id": name},
            {"dag_id": name},
            {"triggering_user": name},
            {"workflow": name},
            {"parameters": {"datasets": [name]}},
        ):
            answer = http.post(
                "/v1/runs", json={**request, **change}, headers={"Authorization": f"Bearer {replicas.identity()}"}
            )
            assert answer.status_code in (200, 201, 403, 422), (change, answer.text)
        answer = http.post(f"/v1/grants/{grant.id}/tickets", json=ticket, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 422, "Airflow takes no such run id, so no ticket is made for it"


def test_the_longest_events_that_are_allowed_are_kept(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient]
) -> None:
    _, run = replicas.started(users[0])
    text = "𝔘" * 255
    events = [
        m.Event(
            seq=2**53, time=1.0, kind="job", rule=text, job=text, state="done", message="ß" * 2000, tries=2**31 - 1
        ),
        m.Event(seq=1, time=1.0, kind="rules", counts={text: 2**40}),
        m.Event(seq=2, time=1.0, kind="node", state="failed", message="\x00\ud7ff", dataset=DATASETS["node-a"]),
    ]
    with replicas.airflow() as airflow:
        airflow.post_events(run.id, m.EventBatch(source="airflow-" + "x" * 50, node="node-a", events=events))
    assert len(users[1].events(run.id).events) == 3
    assert users[1].progress(run.id).failing is not None


# --- PostgreSQL goes away -----------------------------------------------------------------------


def test_cut_connections_cost_no_request(replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient]) -> None:
    """A fail-over of the database: what lies in the pool is dead, and nobody notices."""
    grant = replicas.grant(users[0])
    for _ in range(3):
        at_both(lambda replica: users[replica].get_grant(grant.id), 8)  # fill the pools
        replicas.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <>"
            " pg_backend_pid()"
        )
        assert all(isinstance(o, m.Grant) for o in at_both(lambda replica: users[replica].get_grant(grant.id), 8))


def test_while_the_database_is_away_the_broker_says_so_and_serves_again_by_itself(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient], postgres: Postgres
) -> None:
    grant, run = replicas.started(users[0])
    ticket = replicas.ticket(users[0], grant.id)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
    postgres.query("postgres", f"ALTER DATABASE {replicas.database} ALLOW_CONNECTIONS false")
    try:
        postgres.query("postgres", cut, replicas.database)
        for replica in (0, 1):
            ready = replicas.watch("/readyz", replica)
            assert ready.status_code == 503 and "database" in ready.json()
            assert httpx.get(replicas.url(replica) + "/livez", trust_env=False).status_code == 200
            started = time.monotonic()
            answer = replicas.node_token("node-a", run.id, replica=replica)
            assert answer.status_code == 503 and answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"].endswith(":database-unavailable") and "again" in answer.json()["action"]
            assert time.monotonic() - started < 10 and postgres.password not in answer.text
    finally:
        postgres.query("postgres", f"ALTER DATABASE {replicas.database} ALLOW_CONNECTIONS true")
    for replica in (0, 1):
        wait_for(
            "it is ready",
            lambda r=replica: httpx.get(replicas.url(r) + "/readyz", trust_env=False, timeout=20).status_code == 200,
        )
    assert replicas.node_token("node-a", run.id, replica=1).status_code == 200
    assert admit_at(replicas, 1, ticket).state == "open", "the ticket was not lost"


def test_a_replica_killed_while_it_admits_leaves_nothing_half_done(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient]
) -> None:
    """SIGKILL with the ticket used up and the run not yet made: the same start at the other replica goes on where it
    was.
    """
    ticket, name = replicas.ticket(users[0], replicas.grant(users[0], mode="once").id), f"killed-{secrets.token_hex(6)}"
    replicas.faults(
        {"path": "/oidc/userinfo", "when": "before", "delay": 20}
    )  # the admission hangs there, the ticket is used
    ask = threading.Thread(target=lambda: refusal_or_none(lambda: admit_at(replicas, 1, ticket, dag_run_id=name)))
    ask.start()
    run = m.make_run_id("allele-frequency", name)
    # Not earlier: killed while it redeems the refresh token, the replica would take the provider's answer with it,
    # which is another promise.
    wait_for("the admission hangs", replicas.met)
    assert replicas.query("SELECT count(*) AS n FROM tickets WHERE used_run = $1", run)[0]["n"] == 1
    assert replicas.query("SELECT count(*) AS n FROM runs WHERE id = $1", run)[0]["n"] == 0
    killed = next(b for b in replicas.brokers if b.log.name == "broker-1.log")
    killed.kill()
    ask.join(20)
    replicas.faults()
    assert refused(admit_at, replicas, 0, ticket).slug == "ticket-used", "no other run may have it"
    assert admit_at(replicas, 0, ticket, dag_run_id=name).state == "open"
    killed.start(replicas.url(1) + "/readyz")
    assert admit_at(replicas, 1, ticket, dag_run_id=name).state == "open"


def refusal_or_none(call: Callable[[], object]) -> None:
    with contextlib.suppress(ProblemError, httpx.HTTPError):
        call()


# --- last: what all of that left behind ---------------------------------------------------------


def test_no_secret_is_in_the_database_its_log_or_the_brokers_logs(
    replicas: PostgresWorld, users: tuple[BrokerClient, BrokerClient], postgres: Postgres
) -> None:
    ticket = replicas.ticket(users[0], replicas.grant(users[0]).id)
    run = admit_at(replicas, 1, ticket)
    assert replicas.node_token("node-b", run.id, replica=1).status_code == 200
    with replicas.airflow(1) as airflow:
        airflow.post_events(
            run.id, m.EventBatch(source="airflow", events=[m.Event(seq=1, time=time.time(), kind="note", message="x")])
        )
    planted = [
        *(replicas.folder / "issued-tokens").read_text().split(),
        ticket,
        *replicas.secrets.values(),
        replicas.bao.secret_id_file.read_text(),
        postgres.password,
    ]
    assert len(planted) > 30
    written = {f.name: f.read_text() for f in replicas.folder.glob("broker-*.log")}
    for table in meta.tables:
        rows = replicas.query(f'SELECT to_json(t)::text AS row FROM "{table}" t')
        written[table] = "\n".join(r["row"] for r in rows)
    server_log = postgres.folder / "server.log"
    written["server.log"] = server_log.read_text()
    sizes = {name: len(content) for name, content in written.items()}
    assert all(
        sizes[n] > 100 for n in ("grants", "tickets", "runs", "events", "audit", "broker-0.log", "broker-1.log")
    ), sizes
    for name, content in written.items():
        assert [s[:6] for s in planted if s in content] == [], name
        assert not re.search(r"eyJ[A-Za-z0-9_-]{20,}\.eyJ", content), name
