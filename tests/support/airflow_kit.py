"""A real Airflow for tests: each component a process that a test may kill; and a broker whose progress it writes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from fastapi import Request

from gdi.contracts import broker_api as m
from gdi.contracts.workflow import RulesLock
from gdi.contracts.workflow_files import digest_of
from tests.support.airflow_process import MIGRATE, python
from tests.support.operators_world import TICKET, WORKFLOW, Broker, Node, World
from tests.support.processes import free_port
from tests.support.waiting import wait_for as wait_for

PROJECT = Path(__file__).resolve().parents[2]
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
FINAL = ("success", "failed")


class RulesBroker(Broker):
    """The operators' broker, with a progress that tests write: by run and attempt, `{rule: {node: (total, done,
    running, failed)}}` and states of nodes.
    """

    def __init__(self, nodes: list[Node]) -> None:
        self.rules: dict[tuple[str, int], dict[str, dict[str, tuple[int, int, int, int]]]] = {}
        self.states: dict[tuple[str, int], dict[str, str]] = {}
        self.requests: list[tuple[float, str]] = []
        self.held: set[str] = set()  # runs of which it does not tell until they are taken out
        super().__init__(nodes)

        @self.served.app.middleware("http")
        async def count(request: Request, call_next: Any) -> Any:
            self.requests.append((time.monotonic(), request.url.path))
            return await call_next(request)

    async def _get(self, run: str) -> m.Run:
        while run in self.held:
            await asyncio.sleep(0.05)
        return await super()._get(run)

    async def _progress(self, run: str) -> m.Progress:
        known = self._known(run)
        key = (run, known.attempt)
        told, states = self.rules.get(key, {}), self.states.get(key, {})
        rules = [
            m.RuleProgress(
                node=node, rule=rule, total=n[0], done=n[1], running=n[2], failed=n[3], started_at=time.time()
            )
            for rule, nodes in told.items()
            for node, n in nodes.items()
        ]
        nodes = [
            m.NodeProgress(node=n.name, state=states.get(n.name, "running"), message=self.messages.get(n.name, ""))
            for n in self.nodes
        ]  # type: ignore[arg-type]
        return m.Progress(
            run=run,
            attempt=known.attempt,
            state=known.state,
            outcome=known.outcome,
            failing=known.failing,
            nodes=nodes,
            rules=rules,
        )

    def all_done(self, run: str, attempt: int, *rules: str) -> None:
        """Every node has done one job of each of the rules, and ended well."""
        self.rules[run, attempt] = {rule: {n.name: (1, 1, 0, 0) for n in self.nodes} for rule in rules}
        self.states[run, attempt] = {n.name: "success" for n in self.nodes}


class RulesWorld(World):
    """The operators' world with that broker, and a workflow `probe` whose rules.lock names `rules`."""

    def __init__(self, folder: Path, *, nodes: int = 2, rules: tuple[str, ...] = (), releases: Any = ()) -> None:
        super().__init__(folder, nodes=nodes)
        self.broker.served.stop()
        self.broker: RulesBroker = RulesBroker(self.nodes)
        self.broker.served.stop()
        self.broker.served.start()  # again on its port, with the middleware
        self.environment["GDI_BROKER_URL"] = self.broker.served.url
        host = yaml.safe_load(self.config.read_text())
        host["broker"]["port"] = self.broker.served.port
        self.config.write_text(yaml.safe_dump(host))
        entry = folder / "workflows" / "probe"
        (entry / "workflow.yaml").write_text(yaml.safe_dump({**WORKFLOW, "releases": list(releases)}))
        (entry / "rules.lock").write_text(
            RulesLock(digest=digest_of(entry), snakemake="9.27.1", rules=list(rules)).text()
        )

    def conf(self, mode: str, seconds: float = 600) -> dict[str, Any]:
        return {
            "ticket": TICKET,
            "datasets": [f"DS-{n.name[-1].upper()}" for n in self.nodes],
            "mode": mode,
            "seconds": seconds,
        }

    def end_pods(self, run: str) -> None:
        """Lets the pods of a run end as if their workflow had succeeded: the probe ends when it finds the file."""
        for place in (self.folder / "state" / "work").glob(f"{run}/*"):
            (place / "end").touch()


def _celery(queue: str) -> dict[str, str]:
    return {
        "AIRFLOW__CELERY__BROKER_URL": queue,
        "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS": "gdi_operators.celery_settings.CELERY_CONFIG",
    }


class RealAirflow:
    """An own AIRFLOW_HOME. `dags` is the DAGs' folder; `environment` how the operators find the rest; `database` a URL,
    where it is not SQLite.

    executor: with CeleryExecutor `queue` is Redis's URL, and components whose names begin with `worker` are Celery
    workers of `concurrency` processes. Those that begin with `triggerer-` are more triggerers. `patience`: seconds for
    its start.
    """

    patience = 200.0

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        *,
        dags: Path = PROJECT / "dags",
        executor: str = "LocalExecutor",
        database: str = "",
        queue: str = "",
        concurrency: int = 2,
        **config: str,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "passwords.json").write_text(json.dumps({"admin": "pw"}))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
            "AIRFLOW__CORE__EXECUTOR": executor,
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SENSITIVE_VAR_CONN_NAMES": "ticket",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": "s" * 32,
            "AIRFLOW__API_AUTH__JWT_SECRET": "j" * 64,
            "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": "2000",
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__TRIGGERER__CAPACITY": "5000",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            # SQLite waits for a lock as long as in the local federation
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or f"sqlite:///{folder / 'airflow.db'}?timeout=30",
            **(_celery(queue) if queue else {}),
            **environment,
            **config,
        }
        self.concurrency = concurrency
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        python(MIGRATE, self.environment, folder)
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def start(self, *components: str) -> None:
        """Starts them and waits until the api-server answers and lets us in."""
        self.launch(*(components or COMPONENTS))
        wait_for("Airflow's api-server", self._lets_us_in, timeout=self.patience, every=0.5)

    def launch(self, *components: str) -> None:
        for name in components:
            command = [name]
            if name == "api-server":
                command += ["--host", "127.0.0.1", "--port", str(self.port)]
            elif name.startswith("triggerer-"):
                command = ["triggerer", "--skip-serve-logs"]
            elif name.startswith("worker"):  # logs are read from the folder that all share
                command = [
                    "celery",
                    "worker",
                    "--celery-hostname",
                    f"{name}@%h",
                    "--concurrency",
                    str(self.concurrency),
                    "--pid",
                    f"{name}.pid",
                    "--skip-serve-logs",
                ]
            with (self.folder / f"{name}.log").open("ab") as log:
                before, environment, place = self.place_of(name)
                self.processes[name] = subprocess.Popen(
                    [*before, sys.executable, "-m", "airflow", *command],
                    env=environment,
                    cwd=place,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def place_of(self, name: str) -> tuple[list[str], dict[str, str], Path]:
        """What goes before a component's command, its environment and its working folder; here all share one."""
        return [], self.environment, self.folder

    def _lets_us_in(self) -> bool:
        for name, process in self.processes.items():
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()[-4000:]
        try:
            answer = self.http.post("/auth/token", json={"username": "admin", "password": "pw"})
        except httpx.HTTPError:
            return False
        if answer.is_success:
            self.http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return answer.is_success

    def kill(self, name: str) -> None:
        """SIGKILL to the process and its children."""
        os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes.pop(name).wait(120)

    def tree(self, name: str) -> list[psutil.Process]:
        """The component's process and all below it."""
        process = psutil.Process(self.processes[name].pid)
        return [process, *process.children(recursive=True)]

    def tasks_in(self, name: str) -> dict[str, psutil.Process]:
        """The processes of tasks below a component, by the ids of their task instances: Airflow writes those into their
        titles.
        """
        found = {}
        for process in self.tree(name):
            with contextlib.suppress(psutil.Error):
                if match := re.fullmatch(r"airflow worker -- ([0-9a-f-]{36})", " ".join(process.cmdline()).strip()):
                    found[match[1]] = process
        return found

    def close(self) -> None:
        for process in self.processes.values():
            os.killpg(process.pid, signal.SIGTERM)
        until = time.monotonic() + 20
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
        for process in self.processes.values():  # all of them, before any of them is waited for
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait(60)
        self.processes.clear()
        self.http.close()

    # --- its API ---------------------------------------------------------------------------------

    def api(self, method: str, path: str, **kwargs: Any) -> Any:  # whatever JSON it answers
        for _ in range(60):  # a killed api-server comes back
            try:
                answer = self.http.request(method, f"/api/v2{path}", **kwargs)
            except httpx.TransportError:
                time.sleep(1)
                continue
            assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
            return answer.json() if answer.content else None
        raise AssertionError(f"{method} {path}: no answer")

    def has_dag(self, dag: str) -> bool:
        return self.http.get(f"/api/v2/dags/{dag}").is_success

    def trigger(self, dag: str, conf: dict[str, Any], run: str) -> str:
        return str(
            self.api("POST", f"/dags/{dag}/dagRuns", json={"dag_run_id": run, "logical_date": None, "conf": conf})[
                "dag_run_id"
            ]
        )

    def run_state(self, dag: str, run: str) -> str:
        return str(self.api("GET", f"/dags/{dag}/dagRuns/{run}")["state"])

    def instances(self, dag: str, run: str) -> list[dict[str, Any]]:
        return list(
            self.api("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances", params={"limit": 1000})["task_instances"]
        )

    def states(self, dag: str, run: str) -> dict[str, str | None]:
        """By task id, mapped ones with `[index]`."""
        return {
            t["task_id"] + (f"[{t['map_index']}]" if t["map_index"] >= 0 else ""): t["state"]
            for t in self.instances(dag, run)
        }

    def tries(self, dag: str, run: str, task: str, map_index: int = -1) -> int:
        return max(
            int(t["try_number"])
            for t in self.instances(dag, run)
            if t["task_id"] == task and t["map_index"] == map_index
        )

    def wait_states(
        self, dag: str, run: str, wanted: dict[str, str | None], *, timeout: float = 90
    ) -> dict[str, str | None]:
        """Until all these tasks have these states; AssertionError showing what they have."""
        last: dict[str, str | None] = {}

        def reached() -> bool:
            last.update(self.states(dag, run))
            return all(last.get(name) == state for name, state in wanted.items())

        try:
            wait_for(f"states {wanted} of {run}", reached, timeout=timeout)
        except AssertionError as error:
            logs = [
                self._told(dag, run, name)
                for name, state in last.items()
                if state == "failed" or (name in wanted and state != wanted[name])
            ]
            raise AssertionError("\n".join([f"{error}; they are {last}", *logs])) from None
        return last

    def explain(self, dag: str, run: str) -> str:
        """What became of each task of a run, with the end of each try's log and of the scheduler's."""
        states = self.states(dag, run)
        scheduler = (self.folder / "scheduler.log").read_text()[-3000:]
        return "\n".join([f"{dag} {run}: {states}", *(self._told(dag, run, name) for name in states), scheduler])

    def _told(self, dag: str, run: str, name: str) -> str:
        """The end of each try's log of a task, for who reads why a test failed."""
        task, _, index = name.partition("[")
        told = []
        for number in range(1, 5):
            with contextlib.suppress(AssertionError):
                told.append(
                    f"--- {name}, try {number}\n"
                    + self.log(dag, run, task, number=number, map_index=int(index.rstrip("]") or -1))[-3000:]
                )
        return "\n".join(told)

    def finish(self, dag: str, run: str, *, timeout: float = 180) -> str:
        return wait_for(
            f"the end of {run}",
            lambda: s if (s := self.run_state(dag, run)) in FINAL else None,
            timeout=timeout,
            every=0.5,
        )

    def log(self, dag: str, run: str, task: str, *, number: int = 1, map_index: int = -1) -> str:
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{number}"
        content = self.api("GET", path, params={"map_index": map_index}, headers={"accept": "application/json"})[
            "content"
        ]
        return "\n".join(str(e.get("event", e)) if isinstance(e, dict) else str(e) for e in content)

    def clear(self, dag: str, run: str, tasks: list[str], *, downstream: bool) -> list[str]:
        """As the UI does; the ids of what was cleared."""
        body = {
            "dry_run": False,
            "dag_run_id": run,
            "task_ids": tasks,
            "only_failed": False,
            "include_downstream": downstream,
            "reset_dag_runs": True,
        }
        return sorted(
            t["task_id"] for t in self.api("POST", f"/dags/{dag}/clearTaskInstances", json=body)["task_instances"]
        )

    def mark(self, dag: str, run: str, task: str, state: str) -> None:
        self.api("PATCH", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}", json={"new_state": state})

    def mark_run(self, dag: str, run: str, state: str) -> None:
        self.api("PATCH", f"/dags/{dag}/dagRuns/{run}", json={"state": state})
