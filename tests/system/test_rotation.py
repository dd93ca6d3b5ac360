"""docs/operate.md, "Rotate keys": each row that needs no Kubernetes, over real processes. Nobody consents again, and
what is said of the meantime is true.
"""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gdi.contracts import broker_api as m
from gdi.kit.bearer import BearerAuth
from gdi.kit.jose import SigningKey, TokenError, verify
from gdi.kit.secret_files import write_private
from snakemake_tes_auth.credentials.tokens import CachedTokens
from tests.support.broker_kit import refused, wait_for
from tests.support.postgres_kit import Postgres
from tests.support.recovery_kit import NODE, Installation, installation, signing_kid
from tests.support.runbook import Shell, in_row

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two replicas; Airflow and pods talk to the first, as does the gateway."""
    with installation(tmp_path_factory.mktemp("rotation")) as (made, _):
        made.start_broker(1)
        yield made


class PodTokens(CachedTokens):
    """A Snakemake pod's source of run tokens."""

    def __init__(self, made: Installation, run: m.Run) -> None:
        super().__init__()
        self._made, self._run = made, run

    async def _fetch(self) -> tuple[str, float]:
        return await asyncio.to_thread(self._made.pods_token, self._run), time.time() + 300

    async def aclose(self) -> None:
        return None


def test_a_new_signing_key_of_the_broker_costs_a_pod_one_more_request(made: Installation, tmp_path: Path) -> None:
    grant, run = made.open_run()
    _, other = made.open_run()
    pod = PodTokens(made, run)
    before, kid = made.pods_token(other), signing_kid(made)

    async def work(between: bool) -> list[int]:
        """A pod's requests to its gateway; the second time, after another pod has shown the gateway the new key."""
        async with httpx.AsyncClient(auth=BearerAuth(pod), trust_env=False, timeout=30) as client:
            if between:
                token = await asyncio.to_thread(made.pods_token, other)
                assert await asyncio.to_thread(made.at_gateway, token, other) == 200, (
                    "the gateway learns the key at the first token that carries it"
                )
            return [(await client.get(f"{made.gateway_of_node.url}/workspace/{run.id}")).status_code for _ in range(3)]

    assert asyncio.run(work(False)) == [200] * 3
    shell = Shell(
        tmp_path,
        {"vault ": "bao "},
        {
            "kubectl scale deploy/gdi-broker -n gdi --replicas=0": made.stop_brokers,
            "kubectl scale deploy/gdi-broker -n gdi --replicas=2": made.start_brokers,
        },
        made.shell,
    )
    shell.run_all(in_row("operate.md", "broker's signing key"))
    keys = [
        httpx.get(f"http://127.0.0.1:{port}/.well-known/jwks.json", trust_env=False).json()["keys"]
        for port in made.ports
    ]
    assert keys[0] == keys[1] and keys[0][0]["kid"] == signing_kid(made) != kid
    assert asyncio.run(work(True)) == [200] * 3 and pod.fetched == 2
    assert made.at_gateway(before, other) == 401, "what the old key signed is refused from then on"
    assert made.redeem(run).status_code == 200
    with made.user() as user:
        assert user.get_grant(grant.id).state == "active"


def test_a_new_client_secret_is_in_force_without_a_restart_and_no_grant_is_lost_meanwhile(made: Installation) -> None:
    grant, run = made.open_run()
    with made.user() as user:
        new = secrets.token_urlsafe(24)
        made.aai.stop()
        write_private(made.files["broker"], new)  # LS AAI's side
        made.aai.start(made.issuer + "/.well-known/openid-configuration")
        answer = made.redeem(run)
        assert answer.status_code == 502 and answer.json()["type"].endswith(":provider-refused"), answer.text
        assert "OIDC client" in answer.json()["action"]
        write_private(made.client_secret_file, new)
        made.secrets["broker"] = new
        assert made.redeem(run).status_code == 200, "read at each use"
        assert user.get_grant(grant.id).state == "active"
        assert made.started(user)[1].state == "open"


def test_an_interrupted_refresh_outlives_a_wrong_client_secret(made: Installation) -> None:
    """A broker was killed while it redeemed, and its secret is changed: what the provider says of the client is no word
    about the grant.
    """
    grant, run = made.open_run()
    path = f"/v1/gdi/data/grants/{grant.id}"
    with made.bao.as_operator() as vault:
        found = vault.get(path).raise_for_status().json()["data"]
        record = {**found["data"], "redeeming": "killed-1", "redeeming_until": time.time() - 1}
        vault.post(path, json={"data": record, "options": {"cas": found["metadata"]["version"]}}).raise_for_status()
    with made.user() as user:
        right = made.client_secret_file.read_text()
        write_private(made.client_secret_file, secrets.token_urlsafe(24))
        answer = made.redeem(run)
        assert answer.status_code == 502 and answer.json()["type"].endswith(":provider-refused"), answer.text
        write_private(made.client_secret_file, right)
        assert made.redeem(run).status_code == 200
        assert user.get_grant(grant.id).state == "active"


def test_a_new_password_of_the_database_leaves_open_connections_alone_until_the_restart(
    made: Installation, tmp_path: Path
) -> None:
    postgres: Postgres = made.postgres
    grant, _ = made.open_run()
    new = secrets.token_urlsafe(24)
    postgres.query("postgres", f"ALTER ROLE gdi PASSWORD '{new}'")
    postgres.password = new
    with made.user() as user:
        assert user.get_grant(grant.id).state == "active", "open connections last"
        made.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <>"
            " pg_backend_pid()"
        )
        error = refused(user.get_grant, grant.id)
        assert (error.problem.status, error.slug) == (503, "database-unavailable")
        wait_for("it sees that", lambda: httpx.get(made.public_url + "/readyz", trust_env=False).status_code == 503)
        write_private(made.folder / "database-password", new)
        shell = Shell(tmp_path, {}, {"kubectl rollout restart deploy/gdi-broker -n gdi": made.restart_brokers})
        shell.run_all([c for c in in_row("operate.md", "database password") if c.startswith("kubectl")])
        assert user.get_grant(grant.id).state == "active"


def test_a_nodes_new_signing_key_is_enrolled_and_signs_what_is_admitted_from_then_on(
    made: Installation, tmp_path: Path
) -> None:
    node = made.gateway_of_node
    _, before = made.open_run()
    made_key = subprocess.run(
        [sys.executable, "-m", "node_gateway.main", "init-key", str(tmp_path / "new.pem")],
        capture_output=True,
        text=True,
        check=True,
    )
    new = SigningKey.from_pem((tmp_path / "new.pem").read_bytes())
    assert (tmp_path / "new.pem").stat().st_mode & 0o077 == 0 and new.jwk()["kid"] in made_key.stdout
    made.node_keys[NODE] = new
    made.enrol()
    _, after = made.open_run()
    token = made.pods_token(after)
    wait_for("the broker refuses the old key's assertions", lambda: made.at_gateway(token, after) == 503)
    write_private(node.folder / "key.pem", new.pem())
    node.stop()
    node.start()
    assert made.at_gateway(token, after) == 200
    assert made.node_token(NODE, after.id).status_code == 200
    for run, proven in ((after, True), (before, False)):
        signature = made.release(run, het=20)["signature"]
        key = next(item.public_key for item in run.plan if item.node == NODE)
        try:
            verify(signature, [key], issuer=NODE, audience=run.id, typ="release+jwt")
            assert proven, "its plan names the old key"
        except TokenError:
            assert not proven
