"""docs/install.md as it is written, from an empty cluster to the first admitted run: each command is run, or named in
NOT_RUN with the reason why not.

And, on what stands then: the commands of docs/operate.md that need pods.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import yaml

from gdi.contracts import broker_api as m
from gdi.kit.problem import ProblemError
from tests.kubernetes.cluster import until
from tests.kubernetes.install_kit import DOCUMENT, NOT_RUN, Reader, Users, reading

from tests.support.broker_kit import DATASETS  # isort: skip
from tests.support.runbook import blocks, in_row, under  # isort: skip

pytestmark = pytest.mark.timeout(900)
SECTIONS = list(dict.fromkeys(b.heading for b in blocks(DOCUMENT) if b.language == "sh"))
PROGRAMS = ("kubectl ", "helm ", "vault ", "docker run ", "crypt4gh-keygen ", "for namespace in ")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """In a cluster of its own: an empty one."""
    with reading(tmp_path_factory.mktemp("install")) as made:
        yield made


def test_every_command_of_the_document_is_known_here() -> None:
    listed = [c for section in SECTIONS for block in under(DOCUMENT, section) for c in block]
    assert [c for c in listed if not c.startswith((*PROGRAMS, *NOT_RUN))] == []
    assert [n for n in NOT_RUN if not any(c.startswith(n) for c in listed)] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_the_commands_of_each_section_succeed_in_their_order(reader: Reader, section: str) -> None:
    reader.before(section)
    reader.follow(section)
    if section.startswith("4."):
        assert next(said for command, said in reader.said.items() if "/readyz" in command) == '{"status":"ok"}'


def first_run(users: Users, dataset: str) -> m.Run:
    """Of a new consent, as soon as the broker has read the enrolment again."""
    parameters = {"datasets": [dataset], "regions": 1}

    def admitted() -> list[m.Run]:
        try:
            return [users.admit(users.ticket(user, grant.id, parameters), parameters=parameters)]
        except ProblemError as error:
            assert error.slug == "access-denied" and "no enrolled node" in str(error), error
            return []

    with users.user() as user:
        grant = users.grant(user, datasets=[dataset])
        return until("a run is admitted", admitted, 120, every=3)[0]


def at_gateway(reader: Reader, run: m.Run) -> int:
    """The gateway's answer to Airflow, which asks for a release of the run, which there is not. The token stays in
    here: pytest shows what a test compares.
    """
    with reader.users.airflow() as airflow:
        token = airflow.token(run.id, m.TokenRequest(audience=run.plan[0].audience)).token
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(
        f"{reader.gateway}/releases/{run.id}/counts", headers=headers, trust_env=False, timeout=60
    ).status_code


def test_the_first_run_is_admitted_at_the_node_that_was_enrolled(reader: Reader) -> None:
    dataset = DATASETS["node-a"]
    run = first_run(reader.users, dataset)
    (part,) = run.plan
    assert (part.node, part.datasets, part.gateway_url) == ("node-a", [dataset], "https://node-a.example.org")
    assert httpx.get(f"{reader.gateway}/releases/{run.id}/counts", trust_env=False).status_code == 401
    until(
        "each of the broker's replicas, which the gateway asks about the run, has read the enrolment",
        lambda: at_gateway(reader, run) == 404,
        90,
        every=3,
    )


COUNT = (
    "import sqlite3; print(sqlite3.connect('/var/lib/gdi/gateway.db').execute('SELECT count(*) FROM"
    " audit').fetchone()[0])"
)


def test_the_gateways_backup_is_taken_and_restored_on_pods_by_the_commands_of_the_operators_document(
    reader: Reader,
) -> None:
    """The rest of that section: tests/system/test_backup.py."""
    save, _, restore = under("operate.md", "Backup and restore")
    shell = reader.shell()

    def entries() -> int:
        return int(
            reader.cluster.kubectl("exec", "-n", "gdi-node-a", "deploy/node-a-gateway", "--", "python3", "-c", COUNT)
        )

    before = entries()
    assert before > 0
    shell.run_all([c for c in save if not c.startswith(("pg_dump ", "vault "))])
    assert httpx.get(f"{reader.gateway}/releases/r-{'0' * 20}/counts", trust_env=False).status_code == 401
    assert entries() == before + 1, "what happened after the backup"
    shell.run_all(restore)
    reader.cluster.rollout("deployment/node-a-gateway", "gdi-node-a", 90)
    assert entries() == before


def test_the_brokers_signing_key_is_rotated_on_pods(reader: Reader) -> None:
    """What pods and gateways make of it: tests/system/test_rotation.py."""
    users = reader.users
    keys = f"http://127.0.0.1:{users.ports[0]}/.well-known/jwks.json"
    before = httpx.get(keys, trust_env=False).raise_for_status().json()
    gone = next(
        c for c in under("operate.md", "Backup and restore")[1] if c.startswith("kubectl wait -n gdi --for=delete ")
    )
    stop, delete, start = in_row("operate.md", "broker's signing key")
    reader.shell().run_all([stop, gone])
    reader.shell(inside=False).run(delete)
    reader.shell().run(start)
    reader.cluster.rollout("deployment/gdi-broker", "gdi", 180)
    after = httpx.get(keys, trust_env=False).raise_for_status().json()
    assert len(after["keys"]) == 1 and after != before
    run = first_run(users, DATASETS["node-a"])
    assert at_gateway(reader, run) == 404, "the gateway learns the new key"


def test_a_node_is_removed_and_its_ledger_stays(reader: Reader) -> None:
    users, dataset = reader.users, DATASETS["node-a"]
    run = first_run(users, dataset)
    values = yaml.safe_load((reader.folder / "values.yaml").read_text())
    values["enrolment"]["nodes"] = []
    (reader.folder / "values.yaml").write_text(yaml.safe_dump(values))
    upgrade, pods, tasks, uninstall = under("operate.md", "Add and remove a node")[0]
    reader.shell().run(upgrade)
    until("the gateway is a stranger", lambda: at_gateway(reader, run) == 503, 120, every=3)
    parameters = {"datasets": [dataset], "regions": 1}

    def refused() -> bool:
        with users.user() as user:
            try:
                users.admit(
                    users.ticket(user, users.grant(user, datasets=[dataset]).id, parameters), parameters=parameters
                )
            except ProblemError as error:
                return "no enrolled node" in str(error)
        return False

    until("both replicas of the broker have read the enrolment", lambda: all(refused() for _ in range(4)), 120, every=3)
    assert reader.shell().run(pods) == reader.shell().run(tasks) == ""
    reader.shell().run(uninstall)
    left = reader.cluster.kubectl(
        "get", "deployments,services,persistentvolumeclaims", "-n", "gdi-node-a", "-o", "name"
    ).split()
    assert left == ["persistentvolumeclaim/node-a-gateway"]
