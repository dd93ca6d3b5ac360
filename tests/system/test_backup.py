"""docs/operate.md, "Backup and restore", as it is written: everything is lost and restored by its commands, and what it
says of the users is true.

Kubernetes' own words are done here by hand (`kubectl` starts and stops the processes); tests/kubernetes/test_install.py
runs those on pods.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gdi.result_store.folder import FolderStore
from gdi.result_store.model import release_key
from tests.support.broker_kit import USERS, refused, wait_for
from tests.support.recovery_kit import NODE, Installation, Vaults, installation, signing_kid
from tests.support.runbook import Shell, under

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
SAVE, RESTORE_COORDINATOR, RESTORE_NODE = under("operate.md", "Backup and restore")
SAVE_RESULTS, RESTORE_RESULTS = under("operate.md", "Backup and restore of the result store")


class Operator:
    """Who reads the document here."""

    def __init__(self, made: Installation, vaults: Vaults, folder: Path) -> None:
        self.made, self.vaults, self.folder = made, vaults, folder
        self.node = made.gateway_of_node

    def shell(self) -> Shell:
        replicas = len(self.made.brokers)
        names = {
            "vault ": "bao ",
            "DAY=2026-11-22": "DAY=$(date +%F)",
            "kubectl exec -n gdi-node-a deploy/node-a-gateway -- python3 ": f"{sys.executable} ",
            "kubectl exec -n gdi-node-a deploy/node-a-gateway -- rm ": "rm ",
            "kubectl exec -n gdi-node-a restore -- sh ": "sh ",
            'kubectl cp -n gdi-node-a "$(kubectl get pod -n gdi-node-a -l app.kubernetes.io/name=gdi-gateway'
            ' -o name | cut -d/ -f2)":': "cp ",
            "kubectl cp -n gdi-node-a gateway-$DAY.db restore:": "cp gateway-$DAY.db ",
            "/var/lib/gdi/": f"{self.node.folder}/",
        }
        nothing: Callable[[], object] = lambda: None  # noqa: E731
        instead: dict[str, Callable[[], object]] = {
            "kubectl scale deploy/gdi-broker -n gdi --replicas=0": self.made.stop_brokers,
            f"kubectl scale deploy/gdi-broker -n gdi --replicas={max(replicas, 2)}": self.made.start_brokers,
            "vault operator unseal": self.vaults.unseal,
            "kubectl scale deploy/node-a-gateway -n gdi-node-a --replicas=0": nothing,  # it is lost already
            "kubectl scale deploy/node-a-gateway -n gdi-node-a --replicas=1": self.node.start,
            "kubectl wait ": nothing,
            "kubectl apply -n gdi-node-a -f - <<'P'": nothing,
            "kubectl delete pod restore ": nothing,
        }
        return Shell(self.folder, names, instead, self.made.shell)

    def save(self) -> None:
        self.shell().run_all(SAVE)

    def lose_the_vault(self) -> None:
        self.made.stop_brokers()
        self.made.bao = self.vaults.lose()

    def lose_the_database(self) -> None:
        self.made.postgres.query("postgres", f"DROP DATABASE {self.made.database} WITH (FORCE)")
        self.made.postgres.query("postgres", f"CREATE DATABASE {self.made.database}")

    def lose_the_volume(self) -> None:
        self.node.kill()
        for file in self.node.folder.glob("gateway.db*"):
            file.unlink()

    def restore_the_coordinator(self) -> None:
        self.shell().run_all(RESTORE_COORDINATOR)

    def restore_the_node(self) -> None:
        self.shell().run_all(RESTORE_NODE)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    folder = tmp_path / "backups"
    folder.mkdir()
    with installation(tmp_path) as (made, vaults):
        yield Operator(made, vaults, folder)


def refreshes(made: Installation) -> int:
    return int(made.stats()["refreshes"].get(USERS["alice"], 0))


def test_after_everything_was_lost_and_restored_consent_key_and_ledger_are_what_they_were(operator: Operator) -> None:
    made = operator.made
    grant, run = made.open_run()
    signed_before, kid = made.pods_token(run), signing_kid(made)
    left = made.release(run, het=20)
    assert left["sites_released"] == 3
    operator.save()
    assert {
        f.name.split("-")[0]: f.stat().st_mode & 0o077
        for f in operator.folder.iterdir()
        if f.is_file() and f.suffix in (".dump", ".snap", ".db")
    } == {"broker": 0, "vault": 0, "gateway": 0}
    assert not (operator.node.folder / "backup.db").exists()

    operator.lose_the_vault()
    operator.lose_the_database()
    operator.lose_the_volume()
    operator.restore_the_coordinator()
    operator.restore_the_node()

    assert signing_kid(made) == kid
    assert made.at_gateway(signed_before, run) == 200, "a token that was signed before still verifies"
    assert made.at_gateway(made.pods_token(run), run) == 200, "the pod mints the next one under the same grant"
    with made.user() as user:
        assert user.get_grant(grant.id).state == "active"
        before = refreshes(made)
        assert made.redeem(run).status_code == 200 and refreshes(made) == before + 1, (
            "the refresh token of before serves"
        )
        assert made.stats().get("reuse_detected", 0) == 0
        next_run = made.admit(made.ticket(user, grant.id))
        assert next_run.state == "open" and next_run.id != run.id
        assert "run.admit" in " ".join(e.action for e in user.audit(run.id).entries), "what was audited before is there"
    assert made.release(run, het=20) == left, (
        "the same release again is answered the same, with the signature that it had"
    )
    again = made.release(next_run, het=21)
    assert again["sha256"] == left["sha256"], (
        "what left before is not forgotten: the same answer, whatever the file says"
    )
    operator.node.stop()
    checked = subprocess.run(
        [sys.executable, "-m", "node_gateway.main", "verify-audit"],
        env=operator.node.environment(),
        cwd=operator.node.folder,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0 and "each follows the one before it" in checked.stdout, checked.stderr
    operator.node.start()


def test_a_vault_older_than_the_database_costs_consent_and_says_so(operator: Operator) -> None:
    made = operator.made
    _, its_run = made.open_run()
    used, used_run = made.open_run()
    operator.save()
    older = operator.folder / "older.snap"
    shutil.copy(next(operator.folder.glob("vault-*.snap")), older)
    assert made.redeem(used_run).status_code == 200, (
        "after the snapshot its refresh token is redeemed: LS AAI knows the next one only"
    )
    later, later_run = made.open_run()
    idle, _ = made.open_run()
    operator.save()
    shutil.copy(older, next(operator.folder.glob("vault-*.snap")))
    operator.lose_the_vault()
    operator.restore_the_coordinator()

    for run, why in ((used_run, "no longer accepts"), (later_run, "gone from Vault")):
        answer = made.redeem(run)
        problem = answer.json()
        assert answer.status_code == 403 and problem["type"].endswith(":grant-inactive"), answer.text
        assert why in problem["detail"] and "Give consent again" in problem["action"]
    with made.user() as user:
        listed = {g.id: user.get_grant(g.id) for g in (used, later)}
        assert {g.state for g in listed.values()} == {"dead"}
        assert "older snapshot" in listed[later.id].detail
        assert refused(made.ticket, user, later.id).slug == "grant-inactive"
        again = made.grant(user)
        assert made.admit(made.ticket(user, again.id)).state == "open", "consent again, and it goes on"
        # What nobody uses is told when its refresh is due, and does not stand in the way of the others.
        due = "UPDATE grants SET refresh_due = 0 WHERE id = $1"
        made.query(due, idle.id)
        wait_for("the idle grant is dead", lambda: user.get_grant(idle.id).state == "dead")
    assert made.redeem(its_run).status_code == 200, "a grant that nobody refreshed since the snapshot serves on"
    assert httpx.get(made.public_url + "/readyz", trust_env=False).json() == {"status": "ok"}
    log = made.brokers[0].log.read_text()
    assert "Traceback" not in log and log.count(f"grant {idle.id} is dead") == 1


def test_what_was_done_after_the_backup_is_undone_as_the_table_says(operator: Operator) -> None:
    made = operator.made
    revoked, its_run = made.open_run()
    with made.user() as user:
        ticket = made.ticket(
            user, made.started(user)[0].id
        )  # a grant's first run redeems the token that its consent gave: that is behind it
        operator.save()
        user.revoke_grant(revoked.id)
        wait_for(
            "LS AAI has heard of the revocation",
            lambda: made.query("SELECT revoke_due FROM grants WHERE id = $1", revoked.id)[0]["revoke_due"] is None,
        )
        later = made.grant(user)
        used_before = made.admit(ticket)
        operator.lose_the_vault()
        operator.lose_the_database()
        operator.restore_the_coordinator()
        assert user.get_grant(revoked.id).state == "active"
        answer = made.redeem(its_run)
        assert answer.status_code == 403 and "no longer accepts" in answer.json()["detail"], answer.text
        assert user.revoke_grant(revoked.id).state == "revoked"
        assert refused(user.get_grant, later.id).slug == "grant-unknown"
        assert made.admit(ticket).id != used_before.id, "good again until its ten minutes are over"


def test_a_broker_at_the_wrong_vault_ends_no_grant(operator: Operator) -> None:
    """A Vault that stands there empty, without the engine: not "the tokens are gone" but "this is not the Vault"."""
    made = operator.made
    grant, run = made.open_run()
    with made.bao.as_operator() as vault:
        vault.post("/v1/sys/remount", json={"from": "gdi", "to": "elsewhere"}).raise_for_status()
        answer = made.redeem(run)
        assert answer.status_code == 503 and answer.json()["type"].endswith(":vault-unavailable"), answer.text
        wait_for("it sees that", lambda: httpx.get(made.public_url + "/readyz", trust_env=False).status_code == 503)
        vault.post("/v1/sys/remount", json={"from": "elsewhere", "to": "gdi"}).raise_for_status()
    wait_for("it is ready", lambda: httpx.get(made.public_url + "/readyz", trust_env=False).status_code == 200)
    assert made.redeem(run).status_code == 200
    with made.user() as user:
        assert user.get_grant(grant.id).state == "active"
    assert made.at_gateway(made.pods_token(run), run) == 200


def test_releases_answers_and_a_push_that_was_cut_off_are_there_after_the_folder_was_lost(tmp_path: Path) -> None:
    folder, root = tmp_path / "backups", tmp_path / "results"
    folder.mkdir()
    run, body = "r-" + "1" * 20, b"a release" * 1000
    key, begun = (release_key(run, NODE, name, hashlib.sha256(body).hexdigest()) for name in ("counts", "late"))
    store = FolderStore(root)
    store.put(key, io.BytesIO(body))
    store.append(begun, io.BytesIO(body[:100]), offset=0, size=100, last=False)
    modes = {f.relative_to(root): f.stat().st_mode for f in root.rglob("*")}
    shell = Shell(folder, {"DAY=2026-11-22": "DAY=$(date +%F)"}, environment={"RESULT_STORE": str(root)})
    shell.run_all(SAVE_RESULTS)
    assert [f.stat().st_mode & 0o077 for f in folder.iterdir()] == [0]

    shutil.rmtree(root)
    shell.run_all(RESTORE_RESULTS)

    assert {f.relative_to(root): f.stat().st_mode for f in root.rglob("*")} == modes
    store, fetched = FolderStore(root), io.BytesIO()
    store.fetch(key, fetched, len(body))
    assert fetched.getvalue() == body
    assert store.upload(begun).offset == 100
    store.append(begun, io.BytesIO(body[100:]), offset=100, size=len(body) - 100, last=True)
    store.complete(begun, hashlib.sha256(body).hexdigest())
    assert store.upload(begun).complete
