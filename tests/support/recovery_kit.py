"""A coordinator that may be lost and restored: a broker on its own PostgreSQL and its own OpenBao, and a real gateway
that knows only this broker.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from gdi.contracts import broker_api as m
from gdi.kit.secret_files import write_private
from gdi.local_federation.openbao import OpenBao, running
from gdi.releases.allele_counts.table import FORMAT
from tests.support.broker_kit import PORTS, wait_for
from tests.support.gateway_releases import row
from tests.support.gateway_world import World as GatewayWorld
from tests.support.postgres_kit import Postgres, PostgresWorld, running_postgres

ACCESS = 120  # seconds; who asks for more than is left has the refresh token redeemed
FRESH = ACCESS - 1.5
NODE = "node-a"
POD = "pod-a"


class Gateway(GatewayWorld):
    """The gateway of node-a, with its S3; its TES and archive are stand-ins that nothing here asks."""

    def __init__(self, folder: Path, broker_url: str) -> None:
        self.broker_url = broker_url
        folder.mkdir()
        super().__init__(folder)
        self.describe("EGAD*")

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "NODE_GATEWAY_BROKER_URL": self.broker_url}


class Installation(PostgresWorld):
    """A world whose Vault, database and gateway are nobody else's."""

    node: Gateway | None = None

    def __init__(self, folder: Path, bao: OpenBao, postgres: Postgres, **options: Any) -> None:
        super().__init__(folder, bao, postgres, **options)
        self.node = Gateway(folder / "node", self.public_url)
        self.node_keys[NODE] = self.node.gateway_key
        # A copy of its own: LS AAI has the other.
        self.client_secret_file = write_private(folder / "client-secret", self.secrets["broker"])
        self.broker_env["CLIENT_SECRET_FILE"] = str(self.client_secret_file)
        self.enrol()

    @property
    def gateway_of_node(self) -> Gateway:
        assert self.node is not None
        return self.node

    def enrolment(self) -> dict[str, Any]:
        document = super().enrolment()
        if self.node is not None:
            document["nodes"][0] |= {"gateway_url": self.node.url}
        return document

    def start_brokers(self) -> None:
        """One, or the replicas that ran before."""
        for number, broker in enumerate(self.brokers):
            broker.start(f"http://127.0.0.1:{self.ports[number]}/readyz")
        if not self.brokers:
            self.start_broker()

    def stop_brokers(self) -> None:
        for broker in self.brokers:
            broker.stop()

    def restart_brokers(self) -> None:
        self.stop_brokers()
        self.start_brokers()

    def stop(self) -> None:
        super().stop()
        self.gateway_of_node.close()

    @property
    def shell(self) -> dict[str, str]:
        """The operator's environment: where Vault and the database are, and by which right."""
        password_file = self.folder / "pgpass"
        password_file.write_text(f"127.0.0.1:{self.postgres.port}:*:gdi:{self.postgres.password}\n")
        password_file.chmod(0o600)
        with self.bao.as_operator() as operator:
            right = operator.headers["x-vault-token"]
        return {
            "VAULT_ADDR": self.bao.url,
            "VAULT_TOKEN": right,
            "PGPASSFILE": str(password_file),
            "BROKER_DATABASE": f"postgresql://gdi@127.0.0.1:{self.postgres.port}/{self.database}",
            "PATH": f"{Path(sys.executable).parent}:{self.postgres.binaries}:{os.environ['PATH']}",
        }

    # --- what runs do ----------------------------------------------------------------------------

    def open_run(self, **grant: Any) -> tuple[m.Grant, m.Run]:
        """A grant and an open run, whose pod may ask for tokens."""
        with self.user() as user:
            made, run = self.started(user, **grant)
        self.workload(run, POD)
        return made, run

    def pods_token(self, run: m.Run) -> str:
        with self.pod(POD) as client:
            return client.token(run.id, m.TokenRequest(audience=self.audience(run))).token

    def redeem(self, run: m.Run) -> httpx.Response:
        """The node asks for a user's token that lives longer than what is kept by then, so that the refresh token is
        redeemed.
        """
        time.sleep(ACCESS - FRESH + 0.2)
        return self.node_token(NODE, run.id, min_ttl=FRESH)

    def at_gateway(self, token: str, run: m.Run) -> int:
        """The gateway's answer to a pod with this token."""
        return self._call("GET", f"/workspace/{run.id}", token).status_code

    def release(self, run: m.Run, het: int) -> dict[str, Any]:
        """Airflow asks for a release of three sites, the second with `het` heterozygotes; the gateway's answer."""
        rows = [row(1), row(2, het=het), row(3)]
        self.gateway_of_node.s3.put(
            f"{run.id}/release.json", httpx.Response(200, json={"format": FORMAT, "sites": rows}).content
        )
        with self.airflow() as airflow:
            token = airflow.token(run.id, m.TokenRequest(audience=self.audience(run))).token
        body = {
            "name": "counts",
            "path": "release.json",
            "check": "allele-counts",
            "schema": {},
            "workflow": "allele-frequency",
            "attempt": run.attempt,
        }
        answer = self._call("POST", f"/releases/{run.id}", token, json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def _call(self, method: str, path: str, token: str, **request: Any) -> httpx.Response:
        return httpx.request(
            method,
            self.gateway_of_node.url + path,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            trust_env=False,
            **request,
        )


class Vaults:
    """The OpenBao at one address: may be lost with all that it holds, and another, empty one stands there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._ports = (PORTS.take(), PORTS.take())
        self.first = self.now = self._make("vault-1")

    def _make(self, name: str) -> OpenBao:
        made = OpenBao(self.folder / name, *self._ports)
        made.folder.mkdir()
        self._stack.enter_context(running(made))
        return made

    def lose(self) -> OpenBao:
        """Its storage is gone; what stands there afterwards is new, unsealed, and knows nothing. The broker's own login
        files are the broker's: they stay.
        """
        self._stack.close()
        shutil.rmtree(self.now.folder / "raft")
        self.now = self._make("vault-2")
        return self.now

    def unseal(self) -> None:
        """Once it has sealed itself, with the key of the first: what the reader of `vault operator unseal` types."""
        wait_for("the restored Vault is sealed", self._sealed, 60)
        self.now.operator_file.write_text(self.first.operator_file.read_text())
        self.now.settle()

    def _sealed(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):  # it does not answer while it changes what it stands on
            return bool(httpx.get(self.now.url + "/v1/sys/seal-status", timeout=5, trust_env=False).json()["sealed"])
        return False

    def close(self) -> None:
        self._stack.close()


@contextmanager
def installation(folder: Path) -> Iterator[tuple[Installation, Vaults]]:
    """Everything up, with one broker, and access tokens of ACCESS seconds."""
    vaults = Vaults(folder)
    with contextlib.closing(vaults), running_postgres() as postgres:
        made = Installation(folder / "world", vaults.first, postgres, access=ACCESS)
        try:
            made.start_brokers()
            yield made, vaults
        finally:
            made.stop()


def signing_kid(made: Installation) -> str:
    """The kid that the broker signs with."""
    keys = httpx.get(made.public_url + "/.well-known/jwks.json", trust_env=False).raise_for_status().json()["keys"]
    return str(keys[0]["kid"])
