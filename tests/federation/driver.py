"""Drives a whole local federation in tests: starts runs, waits for conditions, reads logs, tasks and audits, breaks
things.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from gdi.contracts.ids import make_run_id
from gdi.local_federation.demo import WORKFLOW, DemoAnswer, compare, read_answer
from gdi.local_federation.federation import Federation
from gdi.local_federation.parts.node import TES_USER
from gdi.local_federation.portal import DemoPortal
from tests.support.waiting import wait_for as wait_for

FINAL = ("success", "failed")


@dataclass
class Started:
    """A run that was triggered."""

    workflow: str
    dag_run: str
    run: str


class Driver:
    """One federation and its users' portal."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.layout = federation.layout
        self.runs: list[Started] = []
        self.portals = {user: DemoPortal(federation.layout, federation.secrets, user) for user in ("alice", "bob")}

    @property
    def datasets(self) -> list[str]:
        return [self.layout.dataset(n) for n in self.layout.nodes]

    # --- runs ------------------------------------------------------------------------------------

    def start(
        self,
        parameters: dict[str, Any] | None = None,
        *,
        datasets: list[str] | None = None,
        workflow: str = WORKFLOW,
        user: str = "alice",
    ) -> Started:
        """Grant, ticket, trigger, as a portal does."""
        portal = self.portals[user]
        chosen = datasets or self.datasets
        grant = portal.grant(workflow, chosen)
        dag_run = portal.start(grant, workflow, {"datasets": chosen, **(parameters or {})})
        self.runs.append(Started(workflow, dag_run, make_run_id(workflow, dag_run)))
        return self.runs[-1]

    def api(self, user: str) -> httpx.Client:
        """A client of the portal's API and of WES with the user's own token, a fresh one for each call."""
        portal = self.portals[user]

        def signed(request: httpx.Request) -> httpx.Request:
            request.headers["Authorization"] = f"Bearer {portal.access_token()}"
            return request

        return httpx.Client(base_url=self.layout.url("portal"), auth=signed, timeout=60, trust_env=False)

    def start_by_wes(self, client: httpx.Client, parameters: dict[str, Any], workflow: str = WORKFLOW) -> Started:
        """Consent and start in one WES request."""
        fields = {
            "workflow_url": workflow,
            "workflow_type": "SMK",
            "workflow_type_version": "9",
            "workflow_params": json.dumps({"datasets": self.datasets, **parameters}),
            "workflow_engine_parameters": json.dumps({"consent_days": "1"}),
        }
        answer = client.post("/ga4gh/wes/v1/runs", files={name: (None, text) for name, text in fields.items()})
        assert answer.status_code == 200, answer.text
        run = str(answer.json()["run_id"])
        page = str(client.get(f"/v1/runs/{run}").json()["links"]["airflow"])
        self.runs.append(Started(workflow, page.rpartition("/")[2], run))
        return self.runs[-1]

    def revoke_grants(self) -> None:
        """Ends all grants made so far: a standing grant is kept alive, by refreshes, until it ends."""
        for portal in self.portals.values():
            with portal.broker() as broker:
                for grant in portal.grants:
                    broker.revoke_grant(grant.id)
            portal.grants.clear()

    def state(self, run: Started) -> str:
        try:
            return self.portals["alice"].dag_run(run.workflow, run.dag_run)
        except httpx.HTTPError:
            return "unknown"

    def finish(self, run: Started, *, timeout: float = 600) -> str:
        """The final state of the DAG run."""
        return wait_for(
            f"the end of {run.dag_run}",
            lambda: s if (s := self.state(run)) in FINAL else None,
            timeout=timeout,
            every=1,
        )

    def succeed(self, run: Started, *, timeout: float = 600) -> None:
        state = self.finish(run, timeout=timeout)
        assert state == "success", self.explain(run)

    def explain(self, run: Started) -> str:
        from gdi.local_federation.demo import why

        return why(self.federation, self.portals["alice"], run.dag_run, run.run)

    def instances(self, run: Started) -> list[dict[str, Any]]:
        return self.portals["alice"].task_instances(run.workflow, run.dag_run)

    def task_log(self, run: Started, task: str, *, map_index: int = -1) -> str:
        """Everything that a task logged in all its tries, as the UI shows it."""
        tries = max(
            (t["try_number"] for t in self.instances(run) if t["task_id"] == task and t["map_index"] == map_index),
            default=1,
        )
        path = f"/api/v2/dags/{run.workflow}/dagRuns/{run.dag_run}/taskInstances/{task}/logs"
        return "\n".join(
            self.portals["alice"].airflow("GET", f"{path}/{n}", params={"map_index": map_index}).text
            for n in range(1, tries + 1)
        )

    def answer(self, run: Started, pooled: dict[Any, tuple[int, int]]) -> DemoAnswer:
        return compare(read_answer(self.layout.results / run.run / "answer.tsv"), pooled, self.layout)

    # --- the nodes -------------------------------------------------------------------------------

    def tes(self, node: str, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """The node's own TES, asked by the node's own operator."""
        password = self.federation.secrets.read(f"{node}-tes-password")
        return httpx.request(
            method,
            self.layout.url(f"{node}/tes") + "/ga4gh/tes/v1" + path,
            auth=(TES_USER, password),
            timeout=60,
            trust_env=False,
            **kwargs,
        )

    def tasks(self, node: str, run: str, *, view: str = "FULL") -> list[dict[str, Any]]:
        """All tasks of a run in the node's TES."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            query = {
                "view": view,
                "tag_key": "gdi-run",
                "tag_value": run,
                "page_size": 256,
                **({"page_token": token} if token else {}),
            }
            answer = self.tes(node, "GET", "/tasks", params=query)
            answer.raise_for_status()
            found += answer.json()["tasks"]
            token = answer.json().get("next_page_token") or ""
            if not token:
                return found

    def all_tasks(self, run: str) -> list[dict[str, Any]]:
        return [t for node in self.layout.nodes for t in self.tasks(node, run)]

    def running(self, run: str, rule: str, *, node: str | None = None) -> list[dict[str, Any]]:
        tasks = self.tasks(node, run) if node else self.all_tasks(run)
        return [t for t in tasks if t["state"] == "RUNNING" and t["tags"].get("gdi-rule") == rule]

    def audit(self, node: str) -> list[dict[str, Any]]:
        """The gateway's audit, by its internal listener, newest last."""
        transport = httpx.HTTPTransport(uds=str(self.layout.internal_socket(node)))
        with httpx.Client(transport=transport, base_url="http://gateway", timeout=60) as client:
            answer = client.get("/audit", params={"limit": 1000})
            answer.raise_for_status()
            return [json.loads(line) for line in answer.text.splitlines()]

    def broker_audit(self, run: str) -> list[dict[str, Any]]:
        with self.portals["alice"].broker() as broker:
            return [e.model_dump() for e in broker.audit(run).entries]

    # --- LS AAI and REMS -------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        key = self.federation.secrets.read("aai-admin-key")
        answer = httpx.get(
            self.layout.issuer + "/admin/stats", headers={"x-admin-key": key}, timeout=60, trust_env=False
        )
        answer.raise_for_status()
        return dict(answer.json())

    def entitle(self, method: str, body: dict[str, Any]) -> None:
        """REMS grants (POST) or withdraws (DELETE) an entitlement."""
        headers = {"x-rems-api-key": self.federation.secrets.read("rems-api-key"), "x-rems-user-id": "owner"}
        url = self.layout.url("aai") + "/rems/api/entitlements"
        answer = httpx.request(method, url, headers=headers, json=body, timeout=60, trust_env=False)
        assert answer.is_success, answer.text

    def replace_entitlement(self, dataset: str, **fields: Any) -> None:
        """Alice's entitlement for `dataset` becomes another one."""
        self.entitle("DELETE", {"user": "alice@lifescience-ri.eu", "dataset": dataset})
        self.entitle("POST", {"user": "alice@lifescience-ri.eu", "dataset": dataset, **fields})
