"""What a user portal does: signs its user in at LS AAI, makes a grant and a ticket at the broker, triggers the DAG,
follows the run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.kit.secret_files import Secrets
from gdi.kit.tls import authorities
from gdi.local_federation.aai.client import TokenAnswer, sign_in
from gdi.local_federation.layout import Layout
from gdi.local_federation.parts import airflow, core

TRIES, PAUSE = (
    6,
    2.0,
)  # a start that Airflow's own database had no time for (SQLite, many processes) is tried again; seconds between


class StartRefused(RuntimeError):
    """Airflow or the broker refused the start; says what they said."""


@dataclass
class DemoPortal:
    """One signed-in user at the portal. Tokens live in this object's memory only and are renewed before they end."""

    layout: Layout
    secrets: Secrets
    user: str = "alice"
    grants: list[m.Grant] = field(default_factory=list, repr=False)  # those made here
    _tokens: TokenAnswer | None = field(default=None, repr=False)
    _until: float = 0
    _airflow: str = field(default="", repr=False)

    def access_token(self) -> str:
        """The user's LS AAI access token, good for at least some seconds."""
        if self._tokens is not None and time.time() < self._until:
            return self._tokens.access_token
        self._tokens = sign_in(
            self.layout.issuer,
            client_id=core.PORTAL,
            client_secret=self.secrets.read("client-user-portal"),
            redirect_uri=core.PORTAL_REDIRECT,
            username=self.user,
            password=self.secrets.read(f"user-{self.user}", size=9),
        )
        self._until = time.time() + self._tokens.expires_in * 0.7
        return self._tokens.access_token

    def broker(self) -> BrokerClient:
        return BrokerClient(self.layout.url("broker"), self.access_token)

    def airflow(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """A call of Airflow's REST API as the portal's service account."""
        if not self._airflow:
            self._airflow = airflow.login(self.layout, self.secrets, "portal")
        headers = {"Authorization": f"Bearer {self._airflow}", "Accept": "application/json"}
        return httpx.request(
            method,
            self.layout.url("airflow") + path,
            headers=headers,
            timeout=60,
            trust_env=False,
            verify=authorities(),
            **kwargs,
        )

    def grant(self, workflow: str, datasets: list[str], *, days: float = 30) -> m.Grant:
        request = m.GrantRequest(
            workflows=[workflow],
            datasets=datasets,
            expires_at=time.time() + days * 86400,
            label=f"{workflow} at {len(datasets)} nodes",
        )
        with self.broker() as broker:
            self.grants.append(broker.create_grant(request))
        return self.grants[-1]

    def start(self, grant: m.Grant, workflow: str, parameters: dict[str, Any]) -> str:
        """A ticket, then `POST /api/v2/dags/<workflow>/dagRuns`; the DAG run's id."""
        dag_run_id = f"portal__{time.strftime('%Y-%m-%dT%H-%M-%S')}__{time.time_ns() % 1_000_000:06d}"
        with self.broker() as broker:
            ticket = broker.create_ticket(
                grant.id, m.TicketRequest(workflow=workflow, parameters=parameters, dag_run_id=dag_run_id)
            )
        body = {"dag_run_id": dag_run_id, "logical_date": None, "conf": {"ticket": ticket.ticket, **parameters}}
        for again in range(TRIES):
            answer = self.airflow("POST", f"/api/v2/dags/{workflow}/dagRuns", json=body)
            if answer.is_success or (
                again and answer.status_code == 409
            ):  # the run id is ours: 409 says that an earlier try arrived
                return dag_run_id
            if answer.status_code < 500:
                break
            time.sleep(PAUSE)
        raise StartRefused(f"Airflow refused the start with {answer.status_code}: {answer.text[:500]}")

    def dag_run(self, workflow: str, dag_run_id: str) -> str:
        answer = self.airflow("GET", f"/api/v2/dags/{workflow}/dagRuns/{dag_run_id}")
        answer.raise_for_status()
        return str(answer.json()["state"])

    def task_instances(self, workflow: str, dag_run_id: str) -> list[dict[str, Any]]:
        answer = self.airflow("GET", f"/api/v2/dags/{workflow}/dagRuns/{dag_run_id}/taskInstances")
        answer.raise_for_status()
        return list(answer.json()["task_instances"])

    def progress(self, run: str) -> m.Progress | None:
        """None while the broker does not know the run yet, or is away."""
        try:
            with self.broker() as broker:
                return broker.progress(run)
        except Exception:  # the display goes on without; the run's own state decides
            return None
