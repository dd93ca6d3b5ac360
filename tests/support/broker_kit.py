"""A real OpenBao, the LS AAI + REMS stand-in and token brokers as processes, for the broker's tests. Every process dies
with its test.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import write_private
from gdi.local_federation.aai.client import TokenAnswer, sign_in
from gdi.local_federation.openbao import OpenBao
from gdi.local_federation.ports import Ports
from gdi.oauth.client_auth.rfc7523 import public_jwks
from tests.support.processes import die_with_parent
from tests.support.waiting import wait_for as wait_for

REDIRECT = "http://127.0.0.1/portal/callback"
CLUSTER = "https://cluster.test"
AIRFLOW, SNAKEMAKE = "system:serviceaccount:gdi:airflow", "system:serviceaccount:gdi:snakemake"
DIGEST = "sha256:" + "a" * 64
DATASETS = {"node-a": "EGAD00000000001", "node-b": "EGAD00000000002"}
USERS = {"alice": "alice@lifescience-ri.eu", "bob": "bob@lifescience-ri.eu"}
PORTS = Ports()


def refused(call: Any, *args: Any, **kwargs: Any) -> ProblemError:
    """The refusal of a call; it must say what to do next."""
    try:
        call(*args, **kwargs)
    except ProblemError as error:
        assert error.problem.action, "an error says what to do next"
        return error
    raise AssertionError("was not refused")


@dataclass
class Process:
    """A server as a child process with its log."""

    argv: list[str]
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    popen: subprocess.Popen[bytes] | None = None

    def start(self, ready_url: str, timeout: float = 180) -> Process:
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **self.env}
        with self.log.open("ab") as out:
            self.popen = subprocess.Popen(
                self.argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

        def up() -> bool:
            assert self.popen is not None
            if self.popen.poll() is not None:
                raise AssertionError(
                    f"{self.argv[-1]} ended with {self.popen.returncode}:\n{self.log.read_text()[-3000:]}"
                )
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(ready_url, timeout=10, trust_env=False).status_code == 200
            return False

        wait_for(f"{ready_url} answers", up, timeout)
        return self

    def kill(self) -> None:
        assert self.popen is not None
        self.popen.kill()
        self.popen.wait(120)

    def stop(self) -> None:
        if self.popen is not None and self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(120)
            except subprocess.TimeoutExpired:
                self.kill()


class World:
    """One LS AAI with REMS, one broker database, any number of broker replicas, two enrolled nodes, one cluster."""

    def __init__(
        self,
        folder: Path,
        bao: OpenBao,
        *,
        access: int = 600,
        refresh: int = 3600,
        broker_env: dict[str, str] | None = None,
        client_key: SigningKey | None = None,
        provider: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.bao, self.broker_env = folder, bao, broker_env or {}
        self.provider = provider or {}  # further settings of LS AAI
        self.other_env: dict[str, str] = {}  # of the brokers, as it is
        self.client_key = client_key  # the broker's OAuth client authenticates with it, instead of a secret
        folder.mkdir(parents=True, exist_ok=True)
        self.aai_port = PORTS.take()
        self.aai_url = f"http://127.0.0.1:{self.aai_port}"
        self.issuer = self.aai_url + "/oidc"
        self.secrets = {
            n: secrets.token_urlsafe(24) for n in ("portal", "broker", "stranger", "admin", "rems", "alice", "bob")
        }
        self.files = {n: write_private(folder / f"secret-{n}", v) for n, v in self.secrets.items()}
        self.node_keys = {n: SigningKey.generate() for n in DATASETS}
        self.cluster_key = SigningKey.generate()
        self.ports = [PORTS.take(), PORTS.take()]
        self.operations = [PORTS.take(), PORTS.take()]
        self.public_url = f"http://127.0.0.1:{self.ports[0]}"
        self._config_aai(access, refresh)
        self.enrol()
        self.aai = Process(
            [sys.executable, "-m", "gdi.local_federation.aai", "--config", str(folder / "aai.yaml")], folder / "aai.log"
        )
        self.aai.start(self.issuer + "/.well-known/openid-configuration")
        self.brokers: list[Process] = []

    def _config_aai(self, access: int, refresh: int) -> None:
        def client(name: str, who: str, grants: list[str], **more: Any) -> dict[str, Any]:
            return {
                "id": name,
                "secret_file": str(self.files[who]),
                "redirect_uris": [REDIRECT],
                "grants": grants,
                **more,
            }

        config = {
            "port": self.aai_port,
            "admin_key_file": str(self.files["admin"]),
            "rems_api_key_file": str(self.files["rems"]),
            "lifetimes": {"access": access, "refresh": refresh},
            "record_issued": str(self.folder / "issued-tokens"),
            "clients": [
                client("user-portal", "portal", ["authorization_code", "refresh_token"]),
                client("stranger", "stranger", ["authorization_code", "refresh_token"]),
                client(
                    "token-broker", "broker", ["authorization_code", "refresh_token", "token_exchange"], introspect=True
                )
                | {"redirect_uris": [self.public_url + "/connect/callback"], **self._client_keys()},
            ],
            "users": [{"name": n, "sub": s, "password_file": str(self.files[n])} for n, s in USERS.items()],
            "entitlements": [{"user": USERS["alice"], "dataset": d} for d in DATASETS.values()],
            "catalogue": [{"dataset": d, "title": f"Title of {d}"} for d in DATASETS.values()],
            "handlers": ["alice"],
            **self.provider,
        }
        write_private(self.folder / "aai.yaml", yaml.safe_dump(config))

    def _client_keys(self) -> dict[str, Any]:
        if self.client_key is None:
            return {}
        pem = write_private(self.folder / "client-key.pem", self.client_key.pem()).read_bytes()
        return {
            "secret_file": None,
            "jwks_file": str(write_private(self.folder / "client-jwks.json", json.dumps(public_jwks(pem)))),
        }

    def enrolment(self) -> dict[str, Any]:
        rems = self.aai_url + "/rems/"
        return {
            "nodes": [
                {
                    "id": node,
                    "gateway_url": f"http://127.0.0.1:1/{node}",
                    "public_key": self.node_keys[node].jwk(),
                    "datasets": [dataset],
                    "sda_audience": f"http://sda.{node}",
                    "tes_audience": f"http://tes.{node}",
                    "placement": "coordinator",
                    "apply_url": rems + "apply-for?resource={dataset}",
                }
                for node, dataset in DATASETS.items()
            ],
            "portals": [{"client_id": "user-portal", "airflow_users": ["portal"]}],
            "believe_airflow_users": "the tests start runs as Airflow's users",
            "visa_issuers": [{"iss": rems, "jku": rems + "api/jwk"}],
            "workload_issuers": [
                {
                    "issuer": CLUSTER,
                    "jwks_file": str(self.folder / "cluster-jwks.json"),
                    "airflow": [AIRFLOW],
                    "snakemake": [SNAKEMAKE],
                }
            ],
        }

    def enrol(self, document: dict[str, Any] | None = None) -> None:
        (self.folder / "cluster-jwks.json").write_text(json.dumps({"keys": [self.cluster_key.jwk()]}))
        draft = self.folder / "enrolment.draft"
        draft.write_text(yaml.safe_dump(document or self.enrolment()))
        draft.replace(self.folder / "enrolment.yaml")

    def environment(self, replica: int = 0) -> dict[str, str]:
        env = {
            "HOST": "127.0.0.1",
            "PORT": str(self.ports[replica]),
            "OPERATIONS_PORT": str(self.operations[replica]),
            "PUBLIC_URL": self.public_url,
            "DATABASE_URL": f"sqlite+aiosqlite:///{self.folder / 'broker.db'}",
            "VAULT_ADDR": self.bao.url,
            "VAULT_ROLE_ID_FILE": str(self.bao.role_id_file),
            "VAULT_SECRET_ID_FILE": str(self.bao.secret_id_file),
            "OIDC_ISSUER": self.issuer,
            "CLIENT_ID": "token-broker",
            **self._client_proof(),
            "ENROLMENT_FILE": str(self.folder / "enrolment.yaml"),
            **self.broker_env,
        }
        return {f"TOKEN_BROKER_{k}": v for k, v in env.items()} | self.other_env

    def _client_proof(self) -> dict[str, str]:
        if self.client_key is None:
            return {"CLIENT_SECRET_FILE": str(self.files["broker"])}
        return {"CLIENT_KEY_FILE": str(self.folder / "client-key.pem")}

    def start_broker(self, replica: int = 0, *, wait: bool = True) -> Process:
        process = Process(
            [sys.executable, "-m", "token_broker.main"],
            self.folder / f"broker-{replica}.log",
            self.environment(replica),
        )
        self.brokers.append(process)
        return process.start(self.url(replica) + ("/readyz" if wait else "/livez"))

    def url(self, replica: int = 0) -> str:
        return f"http://127.0.0.1:{self.ports[replica]}"

    def watch(self, path: str, replica: int = 0) -> httpx.Response:
        """What the operator's monitoring reads."""
        return httpx.get(f"http://127.0.0.1:{self.operations[replica]}{path}", trust_env=False, timeout=60)

    def stop(self) -> None:
        for process in [*self.brokers, self.aai]:
            process.stop()

    # --- who calls -------------------------------------------------------------------------------

    def sign_in(self, user: str = "alice", client: str = "user-portal") -> TokenAnswer:
        secret = self.secrets["portal" if client == "user-portal" else client]
        return sign_in(
            self.issuer,
            client_id=client,
            client_secret=secret,
            redirect_uri=REDIRECT,
            username=user,
            password=self.secrets[user],
        )

    def user(self, user: str = "alice", client: str = "user-portal", replica: int = 0) -> BrokerClient:
        token = self.sign_in(user, client).access_token
        return BrokerClient(self.url(replica), lambda: token)

    def identity(
        self, sub: str = AIRFLOW, pod: str = "airflow-worker-0", uid: str = "uid-airflow", **changes: Any
    ) -> str:
        namespace, account = sub.split(":")[2:4]
        bound = {"namespace": namespace, "serviceaccount": {"name": account}, "pod": {"name": pod, "uid": uid}}
        key = changes.pop("key", self.cluster_key)
        claims = {"iss": CLUSTER, "aud": "token-broker", "sub": sub, "kubernetes.io": bound, **changes}
        token: str = key.sign(claims, lifetime=600)
        return token

    def airflow(self, replica: int = 0) -> BrokerClient:
        return BrokerClient(self.url(replica), self.identity)

    def pod(self, name: str, uid: str = "uid-1", replica: int = 0, **changes: Any) -> BrokerClient:
        return BrokerClient(self.url(replica), lambda: self.identity(SNAKEMAKE, name, uid, **changes))

    def assertion(self, node: str, **changes: Any) -> str:
        claims = {"iss": node, "sub": node, "aud": self.public_url, **changes}
        return self.node_keys[node].sign(claims, lifetime=60)

    def gateway(self, node: str, replica: int = 0) -> BrokerClient:
        return BrokerClient(self.url(replica), lambda: self.assertion(node))

    def node_token(
        self, node: str, run: str, audience: str = "sda", min_ttl: float = 5, replica: int = 0
    ) -> httpx.Response:
        with httpx.Client(base_url=self.url(replica), trust_env=False, timeout=60) as http:
            headers = {"Authorization": f"Bearer {self.assertion(node)}"}
            return http.post(
                f"/v1/runs/{run}/node-tokens", json={"audience": audience, "min_ttl": min_ttl}, headers=headers
            )

    # --- what they do ----------------------------------------------------------------------------

    def grant(
        self, user: BrokerClient, *, workflows: tuple[str, ...] = ("allele-frequency",), days: float = 1, **more: Any
    ) -> m.Grant:
        request = m.GrantRequest(
            workflows=list(workflows),
            datasets=more.pop("datasets", list(DATASETS.values())),
            expires_at=time.time() + days * 86400,
            **more,
        )
        return user.create_grant(request)

    @staticmethod
    def parameters(**more: Any) -> dict[str, Any]:
        return {"datasets": list(DATASETS.values()), "regions": 4, **more}

    def ticket(
        self, user: BrokerClient, grant: str, parameters: dict[str, Any] | None = None, dag_run_id: str | None = None
    ) -> str:
        request = m.TicketRequest(
            workflow="allele-frequency", parameters=parameters or self.parameters(), dag_run_id=dag_run_id
        )
        return user.create_ticket(grant, request).ticket

    def admit(self, ticket: str | None = None, **changes: Any) -> m.Run:
        with self.airflow() as airflow:
            return airflow.admit(self.admit_request(ticket, **changes))

    def admit_request(self, ticket: str | None = None, **changes: Any) -> m.AdmitRequest:
        values: dict[str, Any] = {
            "dag_id": "allele-frequency",
            "dag_run_id": f"manual-{secrets.token_hex(6)}",
            "attempt": 1,
            "workflow": "allele-frequency",
            "digest": DIGEST,
            "parameters": self.parameters(),
            "ticket": ticket,
        }
        return m.AdmitRequest(**{**values, **changes})

    def started(self, user: BrokerClient, **grant: Any) -> tuple[m.Grant, m.Run]:
        """A grant, a ticket, an open run."""
        made = self.grant(user, **grant)
        return made, self.admit(self.ticket(user, made.id))

    def workload(self, run: m.Run, pod: str, node: str = "node-a", uid: str | None = "uid-1") -> m.Workload:
        with self.airflow() as airflow:
            made = airflow.put_workload(run.id, pod, m.WorkloadRequest(node=node, attempt=run.attempt))
            if uid is not None:
                made = airflow.put_workload(run.id, pod, m.WorkloadRequest(node=node, attempt=run.attempt, uid=uid))
            return made

    def audience(self, run: m.Run, node: str = "node-a") -> str:
        return next(p.audience for p in run.plan if p.node == node)

    # --- the stand-in's operator -----------------------------------------------------------------

    def entitle(self, user: str, dataset: str, **more: Any) -> None:
        self._rems("POST", json={"user": USERS[user], "dataset": dataset, **more})

    def withdraw(self, user: str, dataset: str) -> None:
        self._rems("DELETE", params={"user": USERS[user], "dataset": dataset})

    def _rems(self, method: str, **more: Any) -> None:
        headers = {"x-rems-api-key": self.secrets["rems"], "x-rems-user-id": "owner"}
        httpx.request(
            method, self.aai_url + "/rems/api/entitlements", headers=headers, trust_env=False, **more
        ).raise_for_status()

    def stats(self) -> dict[str, Any]:
        answer = httpx.get(
            self.issuer + "/admin/stats", headers={"X-Admin-Key": self.secrets["admin"]}, trust_env=False
        )
        stats: dict[str, Any] = answer.raise_for_status().json()
        return stats

    def faults(self, *faults: dict[str, Any]) -> None:
        headers = {"X-Admin-Key": self.secrets["admin"]}
        httpx.put(self.issuer + "/admin/faults", json=list(faults), headers=headers, trust_env=False).raise_for_status()

    def met(self) -> bool:
        """Whether every fault was met by a request."""
        return bool(
            httpx.get(self.issuer + "/admin/faults", headers={"X-Admin-Key": self.secrets["admin"]}, trust_env=False)
            .raise_for_status()
            .json()
            == []
        )
