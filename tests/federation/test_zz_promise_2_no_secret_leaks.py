"""Promise 2: no secret is where it does not belong. Runs last: it searches what all the other runs left behind."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts.grants import Ticket
from gdi.local_federation.federation import Federation
from tests.federation.driver import Driver, Started, wait_for


@dataclass
class Finding:
    kind: str
    where: str


@dataclass
class Search:
    """Values by kind; `look` searches bytes for each of them, also in JSON's and URLs' escapes where those differ."""

    values: dict[str, str] = field(default_factory=dict)  # value → kind
    found: list[Finding] = field(default_factory=list)

    def look(self, data: bytes, where: str) -> None:
        for value, kind in self.values.items():
            if value.encode() in data:
                self.found.append(Finding(kind, where))


def secrets_of(federation: Federation) -> dict[str, str]:
    """Every secret of the federation that a run might have touched. Access and refresh tokens: those that LS AAI really
    issued.
    """
    values: dict[str, str] = {}
    for line in (federation.work / "issued-tokens").read_text().split("\n"):
        for part in line.split():
            if len(part) > 30:
                values[part.rsplit(".", 1)[-1] if part.count(".") == 2 else part] = "a token of LS AAI"
    for file in federation.secrets.folder.iterdir():
        if file.suffix in (".pem", ".sec", ".json", ".tmp") or not file.is_file():
            continue
        values[file.read_text().strip()] = f"secret {file.name}"
    for file in federation.secrets.folder.glob("*-s3-*.json"):
        if "identities" not in file.name:
            values[json.loads(file.read_text())["secret_key"]] = f"S3 key of {file.name}"
    return values


class Processes(threading.Thread):
    """Reads arguments and environments of every process below this one, as often as it can, while a run goes on."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.seen: dict[bytes, str] = {}

    def run(self) -> None:
        while not self.ended.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                for what in ("cmdline", "environ"):
                    try:
                        data = Path(f"/proc/{process.pid}/{what}").read_bytes()
                    except OSError:
                        continue
                    if data not in self.seen:
                        self.seen[data] = f"{what} of {process.pid}"


def places(driver: Driver, runs: list[str]) -> Iterator[tuple[str, bytes]]:
    """Where secrets must not be: (name, content)."""
    work = driver.layout.work
    database = sqlite3.connect(f"file:{work / 'airflow' / 'airflow.db'}?mode=ro", uri=True)
    for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
        for row in database.execute(f'select * from "{table}"'):
            yield f"Airflow's table {table}", repr(row).encode()
    database.close()
    pods = [work / "host" / "pods", *(work / "nodes" / node / "host" / "pods" for node in driver.layout.nodes)]
    for folder in (work / "logs", work / "airflow" / "logs", *pods, work / "results", work / "store"):
        for file in folder.rglob("*"):
            if file.is_file() and file.name != "token":
                yield str(file.relative_to(work)), file.read_bytes()
    for run in runs:
        for task in driver.all_tasks(run):
            yield f"TES FULL view of {task['id']}", json.dumps(task).encode()


def test_no_secret_in_airflow_logs_tasks_arguments_or_environments(driver: Driver, federation: Federation) -> None:
    watcher = Processes()
    watcher.start()
    run = driver.start({"regions": 2, "slow_seconds": 2})
    driver.succeed(run)
    watcher.ended.set()
    watcher.join()
    search = Search(secrets_of(federation))
    assert sum(kind.startswith("a token") for kind in search.values.values()) >= 10, (
        "the search knows the tokens that LS AAI issued"
    )
    for where, data in places(driver, [run.run]):
        search.look(data, where)
    for data, where in watcher.seen.items():
        search.look(data, where)
    assert len(watcher.seen) > 20
    assert search.found == []


def test_run_tokens_and_identity_tokens_are_nowhere(driver: Driver) -> None:
    """Whatever looks like a JSON web token of the broker or the host, by its header, in any place."""
    import base64
    import re

    assert driver.runs, "the test before this one made a run"
    pattern = re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}")
    for where, data in places(driver, [run.run for run in driver.runs]):
        for match in pattern.findall(data):
            header = json.loads(base64.urlsafe_b64decode(match.split(b".")[0] + b"=="))
            assert header.get("typ") == "release+jwt", f"{where}: a token of type {header.get('typ')}"


def test_a_used_ticket_is_nowhere(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in Airflow's database either, where `conf` had it: the word `used` takes its place as soon as the run is
    admitted.
    """
    tickets: list[str] = []
    create = BrokerClient.create_ticket

    def remember(self: BrokerClient, *args: Any, **kwargs: Any) -> Ticket:
        ticket = create(self, *args, **kwargs)
        tickets.append(ticket.ticket)
        return ticket

    monkeypatch.setattr(BrokerClient, "create_ticket", remember)
    run = driver.start({"regions": 2, "slow_seconds": 4})
    refused = driver.start(
        {"regions": 1}, datasets=["EGAD-MISSING", driver.datasets[0]], user="bob"
    )  # used up too, though nothing came of it
    wait_for("the ticket to leave conf while the run goes on", lambda: ticket_of(driver, run) == "used", timeout=240)
    assert driver.state(run) == "running"
    driver.succeed(run)
    assert driver.finish(refused) == "failed"
    wait_for("the other ticket to leave conf", lambda: ticket_of(driver, refused) == "used", timeout=240)
    search = Search(dict.fromkeys(tickets, "a used ticket"))
    assert len(search.values) == 2
    for where, data in places(driver, [run.run]):
        search.look(data, where)
    assert search.found == []


def ticket_of(driver: Driver, run: Started) -> str | None:
    """What stands in the ticket's place in the run's conf now; None where Airflow does not answer."""
    try:
        answer = driver.portals["alice"].airflow("GET", f"/api/v2/dags/{run.workflow}/dagRuns/{run.dag_run}")
    except httpx.HTTPError:
        return None
    return str(answer.json()["conf"]["ticket"]) if answer.is_success else None


def test_the_search_finds_a_planted_leak(driver: Driver, federation: Federation) -> None:
    values = secrets_of(federation)
    token = next(v for v, kind in values.items() if kind == "a token of LS AAI")
    planted = federation.layout.logs / "planted.log"
    planted.write_text(f"Authorization: Bearer {token}\n")
    watcher = Processes()
    watcher.start()
    process = psutil.Popen(["sleep", "600"], env={"LEAK": token})
    try:
        wait_for(
            "the watcher to see the process", lambda: any(token.encode() in data for data in watcher.seen), timeout=60
        )
        search = Search(values)
        for where, data in places(driver, []):
            search.look(data, where)
        assert [f.where for f in search.found] == ["logs/planted.log"]
    finally:
        process.kill()
        process.wait()
        watcher.ended.set()
        planted.unlink()
