"""Two gateways of one node on one PostgreSQL: what comes to both at once happens once, and what one has seen the other
knows.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata

from gdi.kit.problem import ProblemError
from gdi.releases.allele_counts.table import FORMAT
from node_gateway.agent import one_agent
from node_gateway.audit import Audit, AuditEvent
from node_gateway.db import store as db
from node_gateway.db.copy import CopyError, copy_from
from node_gateway.db.migrations import first
from node_gateway.db.store import GatewayDatabase
from tests.support.gateway_pair import Pair, at_once
from tests.support.gateway_releases import row
from tests.support.gateway_world import Run, c4gh, slug, wait
from tests.support.postgres_kit import Postgres

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-postgres")]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "databases"
TASKS = "/ga4gh/tes/v1/tasks"


@pytest.fixture(scope="module")
def pair(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("pair"), postgres)
    try:
        yield made
    finally:
        made.close()


def submit(pair: Pair, i: int, run: Run, task: dict[str, Any]) -> httpx.Response:
    return pair.public(i % 2, "POST", TASKS, run.token(), json=task)


def made(pair: Pair, run: Run) -> list[dict[str, Any]]:
    """The run's tasks at the TES."""
    return [t for t in list(pair.tes.tasks.values()) if t["tags"].get("gdi-run") == run.id]


def test_both_made_the_schema_once_and_migrate_says_where_it_stands(pair: Pair) -> None:
    async def differences() -> list[Any]:
        url = f"postgresql+asyncpg://gdi@127.0.0.1:{pair.postgres.port}/{pair.database}"
        database = GatewayDatabase.open(url, pair.postgres.password)
        async with database.read() as c:
            found = await c.run_sync(lambda s: compare_metadata(db.SCHEMA.context(s), db.metadata))
        await database.close()
        return list(found)

    assert asyncio.run(differences()) == []
    ended = pair.command("migrate")
    assert ended.returncode == 0 and f"already at {db.SCHEMA.head}" in ended.stderr
    pair.query("ALTER TABLE emptied RENAME COLUMN attempt TO try")
    ended = pair.command("migrate")
    assert ended.returncode == 1 and "the table emptied lacks the column attempt" in ended.stderr
    pair.query("ALTER TABLE emptied RENAME COLUMN try TO attempt")


def test_a_release_that_is_written_while_the_ledger_moves_is_not_forgotten(postgres: Postgres) -> None:
    """A gateway of revision 0001 may commit one in the middle of the upgrade: it left, so it must be compared with."""
    url = f"postgresql+asyncpg://gdi@127.0.0.1:{postgres.port}/{postgres.database('gateway')}"
    insert = sa.text("INSERT INTO ledger VALUES (1, '1', 5, 'A', 'C', '40,200', 1)")
    waits = sa.text("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'ledger'::regclass")

    async def run() -> list[Any]:
        database = GatewayDatabase.open(url, postgres.password)
        async with database.write() as c:
            await c.run_sync(first.metadata.create_all)
            await c.execute(sa.text("INSERT INTO dataset_sets (names) VALUES ('[]')"))
        async with asyncio.timeout(60), database.read() as older:
            await older.execute(insert)
            upgrade = asyncio.create_task(database.create())
            async with database.read() as c:
                while (await c.execute(waits)).first() is None:
                    await asyncio.sleep(0.01)
            await older.commit()
            await upgrade
        async with database.read() as c:
            found = list((await c.execute(sa.select(db.ledger_cells.c.key, db.ledger_cells.c.numbers))).tuples())
        await database.close()
        return found

    assert asyncio.run(run()) == [("1:5:A:C", "40,200")]


def test_a_job_sent_to_both_at_once_is_one_task(pair: Pair) -> None:
    run = pair.new_run()
    for _ in range(6):
        task = run.task()
        answers = at_once(lambda i, t=task: submit(pair, i, run, t), 6)  # type: ignore[misc]
        assert {a.status_code for a in answers} == {200}, [a.text for a in answers]
        assert len({a.json()["id"] for a in answers}) == 1
    assert len(made(pair, run)) == 6
    assert pair.query("SELECT count(*) AS n FROM tasks WHERE run = $1", run.id)[0]["n"] == 6


def test_a_run_never_has_more_tasks_than_the_node_allows(pair: Pair) -> None:
    pair.policy(max_tasks_per_run=5)
    run = pair.new_run()
    answers = at_once(lambda i: submit(pair, i, run, run.task()), 16)
    pair.policy()
    assert sorted(a.status_code for a in answers) == [200] * 5 + [403] * 11
    assert {slug(a) for a in answers if a.status_code == 403} == {"too-many-tasks"} and len(made(pair, run)) == 5


def test_a_task_that_one_is_making_is_not_given_up_by_the_other(pair: Pair) -> None:
    pair.sda.files["DS-A", "cohort.vcf.gz.c4gh"] = c4gh(1000)
    run = pair.new_run()
    pair.tes.create_faults.append("slow")
    answers: list[httpx.Response] = []
    making = threading.Thread(target=lambda: answers.append(submit(pair, 0, run, run.task())))
    making.start()
    wait(lambda: bool(pair.query("SELECT 1 FROM tasks WHERE run = $1", run.id)), what="the trail of the task")
    while making.is_alive():
        assert pair.public(1, "GET", TASKS, run.token()).status_code == 200
    (answer,) = answers
    assert answer.status_code == 200, answer.text
    capability = pair.tes.capability(answer.json()["id"])
    headers = {"Authorization": f"Bearer {capability}", "Client-Public-Key": public_key()}
    with pair.inside_of(1) as client:
        assert client.get("/s3/DS-A/cohort.vcf.gz.c4gh", headers=headers).status_code == 200


def public_key() -> str:
    import base64

    from tests.support.gateway_world import KEY

    return base64.b64encode(KEY).decode()


def test_a_trail_that_is_lost_leaves_no_task_behind(pair: Pair) -> None:
    """The maker's lock went with its connection, and another gateway gave its trail up meanwhile."""
    run = pair.new_run()
    pair.tes.create_faults.append("slow")
    answers: list[httpx.Response] = []
    making = threading.Thread(target=lambda: answers.append(submit(pair, 0, run, run.task())))
    making.start()
    wait(lambda: bool(pair.query("SELECT 1 FROM tasks WHERE run = $1", run.id)), what="the trail of the task")
    pair.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    wait(lambda: pair.public(1, "GET", TASKS, run.token()).status_code == 200, what="the other's listing")
    making.join(30)
    assert answers[0].status_code == 503, answers[0].text
    assert [t["state"] for t in made(pair, run)] == ["CANCELED"]


def test_what_is_closed_at_one_is_closed_at_the_other_at_once(pair: Pair) -> None:
    pair.sda.files["DS-A", "cohort.vcf.gz.c4gh"] = c4gh(1000)
    for _ in range(5):
        run = pair.new_run()
        task = submit(pair, 0, run, run.task()).json()["id"]
        assert submit(pair, 1, run, run.task()).status_code == 200  # both have seen the run
        headers = {"Authorization": f"Bearer {pair.tes.capability(task)}", "Client-Public-Key": public_key()}
        closed = pair.public(0, "POST", f"/runs/{run.id}/close", run.token("close"), json={"attempt": 1})
        assert closed.status_code == 200 and closed.json()["cancelled"] == 2
        assert slug(submit(pair, 1, run, run.task())) == "run-closed"
        with pair.inside_of(1) as client:
            assert client.get("/s3/DS-A/cohort.vcf.gz.c4gh", headers=headers).status_code == 401


def test_a_replaced_workload_is_fenced_at_both_at_once(pair: Pair) -> None:
    run = pair.new_run()
    old = run.token()
    assert all(pair.public(i, "GET", TASKS, old).status_code == 200 for i in (0, 1))
    run.generation = 2
    assert pair.public(0, "GET", TASKS, run.token()).status_code == 200
    assert slug(pair.public(1, "GET", TASKS, old)) == "stale-workload"
    run.admit(2)
    assert pair.public(1, "GET", TASKS, run.token()).status_code == 200
    assert slug(pair.public(0, "GET", TASKS, run.token(attempt=1))) == "stale-attempt"


def release(pair: Pair, i: int, run: Run, name: str, path: str) -> httpx.Response:
    body = {"name": name, "path": path, "check": "allele-counts", "workflow": "allele-frequency", "attempt": 1}
    return pair.public(i % 2, "POST", f"/releases/{run.id}", run.token("releases close"), json=body)


def test_two_releases_at_once_cannot_be_subtracted_from_each_other(pair: Pair) -> None:
    """Each alone may leave; together they would tell one person: whichever is second is answered what the first was."""
    for round_ in range(5):
        dataset = f"LG-{secrets.token_hex(4)}"
        runs = [pair.new_run(datasets=(dataset,)) for _ in (0, 1)]
        for run, het in zip(runs, (20, 21), strict=True):
            sites = json.dumps({"format": FORMAT, "sites": [row(round_ + 1, het=het)]}).encode()
            pair.s3.put(f"{run.id}/release.json", sites)
        answers = at_once(lambda i, r=runs: release(pair, i, r[i], "counts", "release.json"), 2)  # type: ignore[misc]
        assert [a.status_code for a in answers] == [200, 200], [a.text for a in answers]
        assert len({a.json()["sha256"] for a in answers}) == 1, [a.text for a in answers]


def test_one_release_asked_of_both_at_once_is_one(pair: Pair) -> None:
    run = pair.new_run(datasets=(f"LG-{secrets.token_hex(4)}",))
    pair.s3.put(f"{run.id}/release.json", json.dumps({"format": FORMAT, "sites": [row(9)]}).encode())
    answers = at_once(lambda i: release(pair, i, run, "counts", "release.json"), 6)
    assert {a.status_code for a in answers} == {200} and len({a.text for a in answers}) == 1
    assert pair.query("SELECT count(*) AS n FROM releases WHERE run = $1", run.id)[0]["n"] == 1


def test_a_decision_at_one_ends_the_wait_at_the_other_and_of_two_the_first_counts(pair: Pair) -> None:
    pair.policy(review=True)
    run = pair.new_run(datasets=(f"LG-{secrets.token_hex(4)}",))
    pair.s3.put(f"{run.id}/release.json", json.dumps({"format": FORMAT, "sites": [row(9)]}).encode())
    assert release(pair, 0, run, "counts", "release.json").status_code == 202
    pair.policy()
    seen: list[tuple[float, str]] = []

    def wait_for_it() -> None:
        path = f"/releases/{run.id}/counts/review"
        answer = pair.public(1, "GET", path, run.token("releases close"), params={"wait": 15})
        seen.append((time.monotonic(), answer.text))

    waiter = threading.Thread(target=wait_for_it)
    waiter.start()
    with pair.inside_of(0) as client:
        (case,) = [c for c in client.get("/review").json()["waiting"] if c["run"] == run.id]
    time.sleep(0.5)

    def decide(i: int) -> int:
        decision = {"sha256": case["sha256"], "reviewer": f"reviewer-{i}", "approve": i == 0, "reason": "seen"}
        with pair.inside_of(i) as client:
            return client.post(f"/review/{run.id}/counts", json=decision).status_code

    assert sorted(at_once(decide, 2)) == [204, 404]
    decided = time.monotonic()
    waiter.join(30)
    (state,) = {r["state"] for r in pair.query("SELECT state FROM releases WHERE run = $1", run.id)}
    assert seen and seen[0][0] - decided < 10 and json.loads(seen[0][1]) == {"state": state}
    assert len({r["reviewer"] for r in pair.query("SELECT reviewer FROM releases WHERE run = $1", run.id)}) == 1


def test_workspaces_are_emptied_once(pair: Pair) -> None:
    run = pair.new_run()
    submit(pair, 0, run, run.task())
    pair.s3.put(f"{run.id}/out/1.json", b"x")
    pair.broker.runs[run.id] |= {"state": "closed", "outcome": "success", "closed_at": time.time() - 90_000}
    pair.policy(retention_days=1)

    def tidy(i: int) -> Any:
        with pair.inside_of(i) as client:
            return client.post("/housekeeping").json()["emptied"]

    found = at_once(tidy, 2)
    pair.policy()
    assert sorted(emptied.get(run.id, 0) for emptied in found) == [0, 1]
    assert [e["action"] for e in audit(pair, run.id)].count("workspace-emptied") == 1


def audit(pair: Pair, run: str) -> list[dict[str, Any]]:
    with pair.inside_of(1) as client:
        text = client.get("/audit", params={"run": run, "limit": 10_000}).text
    return [json.loads(line) for line in text.splitlines()]


def test_the_audit_of_both_is_one_chain_that_can_only_be_added_to(pair: Pair) -> None:
    run = pair.new_run()
    outputs = [{"url": f"workspace://{run.id}/{i}.json", "path": f"/gdi/work/{i}"} for i in range(20)]
    assert submit(pair, 0, run, run.task(outputs=outputs)).status_code == 200  # only what a task declares is there
    answers = at_once(lambda i: pair.public(i % 2, "DELETE", f"/workspace/{run.id}/{i}.json", run.token()), 20)
    assert {a.status_code for a in answers} == {204}
    assert len([e for e in audit(pair, run.id) if e["action"] == "workspace-delete"]) == 20
    ended = pair.command("verify-audit")
    assert ended.returncode == 0 and "each follows the one before it" in ended.stdout, ended.stderr
    for statement in ("UPDATE audit SET line = ''", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            pair.query(statement)


def test_what_a_killed_gateway_held_is_free(pair: Pair) -> None:
    """Runs last: one of the two is gone then."""
    run = pair.new_run()
    pair.tes.create_faults.append("slow")
    task = run.task()

    def cut_off() -> None:
        with pytest.raises(httpx.HTTPError):
            submit(pair, 1, run, task)

    cut = threading.Thread(target=cut_off)
    cut.start()
    wait(lambda: bool(pair.query("SELECT 1 FROM tasks WHERE run = $1", run.id)), what="the trail of the task")
    wait(lambda: not pair.tes.create_faults, what="the TES's work on it")
    pair.processes[1].kill()
    cut.join(30)
    wait(lambda: bool(made(pair, run)), what="the task of the killed gateway")
    answer = submit(pair, 0, run, task)
    assert answer.status_code == 200 and len(made(pair, run)) == 1, answer.text


async def test_a_state_of_sqlite_is_copied_and_its_numbers_go_on(postgres: Postgres, tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((FIXTURES / "gateway-e175df6.sqlite.sql").read_text())
    connection.close()
    name = await asyncio.to_thread(postgres.database, "gateway")
    url = f"postgresql+asyncpg://gdi@127.0.0.1:{postgres.port}/{name}"
    target = GatewayDatabase.open(url, postgres.password)
    await target.create()
    counts = await copy_from(path, target)
    audit = Audit(target)
    assert counts["releases"] == 2 and await audit.verify() == counts["audit"] > 0
    await audit.record(AuditEvent("request", True, "operator"))
    assert await audit.verify() == counts["audit"] + 1
    async with target.write() as c:
        values = {"names": '["DS-NEW"]'}
        await c.execute(db.dataset_sets.insert().values(**values))
        highest = (await c.execute(sa.select(sa.func.max(db.dataset_sets.c.id)))).scalar_one()
    assert highest == counts["dataset_sets"] + 1
    with pytest.raises(CopyError, match="has rows in"):
        await copy_from(path, target)
    await target.close()


async def test_of_two_agents_one_works_and_one_whose_lock_is_lost_ends(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_agent, "LOOK", 0.05)
    monkeypatch.setattr(one_agent, "PROOF", 0.05)
    name = await asyncio.to_thread(postgres.database, "agents")
    url = f"postgresql+asyncpg://gdi@127.0.0.1:{postgres.port}/{name}"
    begun: list[str] = []

    async def agent(which: str) -> None:
        async with one_agent.one_agent(url, postgres.password, tmp_path) as lost:
            begun.append(which)
            await lost  # its work would be cancelled now

    first = asyncio.create_task(agent("first"))
    while not begun:
        await asyncio.sleep(0.05)
    second = asyncio.create_task(agent("second"))
    await asyncio.sleep(0.5)
    assert begun == ["first"]
    other = await asyncpg.connect(
        host="127.0.0.1", port=postgres.port, user="gdi", password=postgres.password, database=name
    )
    await other.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    with pytest.raises(ProblemError, match="database is away"):
        await asyncio.wait_for(first, 60)
    while begun != ["first", "second"]:
        await asyncio.sleep(0.05)
    await other.close()
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
