"""Airflow 3.3: api-server, scheduler, dag-processor and triggerer as four processes on SQLite, configured by one
private file.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import sys
from pathlib import Path

import httpx

from gdi.kit.secret_files import Secrets
from gdi.kit.tls import authorities
from gdi.local_federation.layout import Layout
from gdi.local_federation.supervisor import ServiceSpec

PROJECT = Path(__file__).resolve().parents[3]
USERS = {"admin": "admin", "portal": "user", "alice@lifescience-ri.eu": "user", "bob@lifescience-ri.eu": "user"}
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")


def configure(layout: Layout, secrets: Secrets) -> Path:
    """Writes airflow.cfg and the passwords; returns AIRFLOW_HOME. Everything secret is in that file or beside it,
    nothing in the environment.
    """
    home = layout.folder("airflow")
    url = layout.url("airflow")
    passwords = secrets.json(
        "airflow-passwords.json",
        {user: secrets.read(password_name(user), size=9) for user in USERS},
    )
    fernet = base64.urlsafe_b64encode(secrets.read("airflow-fernet").encode()[:32]).decode()
    # os.cpu_count() workers are enough: tasks defer, they do not compute.
    settings = {
        "core": {
            "executor": "LocalExecutor",
            "dags_folder": str(PROJECT / "dags"),
            "plugins_folder": str(PROJECT / "plugins"),
            "load_examples": "False",
            "parallelism": "8",
            "dags_are_paused_at_creation": "False",
            "fernet_key": fernet,
            "simple_auth_manager_users": ",".join(f"{u}:{r}" for u, r in USERS.items()),
            "simple_auth_manager_passwords_file": str(passwords),
            "execution_api_server_url": f"{url}/execution/",
            "test_connection": "Enabled",
            # the audit log keeps the body of every start, but for keys of this name
            "sensitive_var_conn_names": "ticket",
        },
        "database": {
            "sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}?timeout=30",
            "load_default_connections": "False",
        },
        "api": {
            "host": "127.0.0.1",
            "port": str(layout.ports["airflow"]),
            "base_url": url,
            "workers": "1",
            "secret_key": secrets.read("airflow-secret-key"),
        },
        "api_auth": {"jwt_secret": secrets.read("airflow-jwt-secret")},
        "logging": {
            "base_log_folder": str(home / "logs"),
            "worker_log_server_port": str(layout.ports["airflow_worker_log"]),
            "trigger_log_server_port": str(layout.ports["airflow_trigger_log"]),
        },
        "scheduler": {
            "task_instance_heartbeat_timeout": "30",
            "orphaned_tasks_check_interval": "20",
            "scheduler_health_check_threshold": "30",
            # How long a scheduler that had nothing to do looks away: between a trigger and the first task it is twice.
            "scheduler_idle_sleep_time": "0.25",
        },
        # The api-server's first answer to a worker may take long where many processes share few cores; after 5 tries of
        # 5 s the task's try would be lost.
        "workers": {"execution_api_timeout": "30"},
        "dag_processor": {"min_file_process_interval": "30", "parsing_processes": "1", "refresh_interval": "60"},
        # Each rule of each run is a trigger: the default of 1000 would be full with 20 runs of 50 rules, and the
        # Snakemake pods' own triggers would wait.
        "triggerer": {"job_heartbeat_sec": "3", "triggerer_health_check_threshold": "20", "capacity": "5000"},
    }
    parser = configparser.RawConfigParser()
    parser.read_dict(settings)
    file = home / "airflow.cfg"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        parser.write(out)
    return home


def password_name(user: str) -> str:
    """The name of the secret that holds the user's password."""
    return f"airflow-password-{list(USERS).index(user)}"


def environment(layout: Layout, extra: dict[str, str]) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(layout.folder("airflow")),
        "AIRFLOW_CONFIG": str(layout.folder("airflow") / "airflow.cfg"),
        "MPLBACKEND": "Agg",
        **extra,
    }


def services(layout: Layout, extra: dict[str, str], needs: tuple[str, ...] = ()) -> list[ServiceSpec]:
    """The four components; `extra` is the environment by which our operators find the broker, the launcher and the
    catalogue (no secret).
    """
    env = environment(layout, extra)

    def healthy(part: str) -> bool:
        try:
            health = httpx.get(
                layout.url("airflow") + "/api/v2/monitor/health", timeout=3, trust_env=False, verify=authorities()
            ).json()
        except (httpx.HTTPError, ValueError):
            return False
        return (
            bool(health.get(part.replace("-", "_"), {}).get("status") == "healthy")
            if part != "api-server"
            else "metadatabase" in health
        )

    made = []
    for part in COMPONENTS:
        made.append(
            ServiceSpec(
                f"airflow-{part}",
                [sys.executable, "-m", "airflow", part],
                lambda part=part: healthy(part),  # type: ignore[misc]
                env=env,
                needs=("airflow-database", *needs) if part != "api-server" else ("airflow-database",),
                timeout=180,
            )
        )
    database = ServiceSpec(
        "airflow-database",
        [sys.executable, "-m", "airflow", "db", "migrate"],
        lambda: True,
        env=env,
        oneshot=True,
        timeout=200,
    )
    return [database, *made]


def login(layout: Layout, secrets: Secrets, user: str) -> str:
    """An Airflow API token of one of the demo's users (24 h)."""
    password = json.loads((secrets.folder / "airflow-passwords.json").read_text())[user]
    answer = httpx.post(
        layout.url("airflow") + "/auth/token",
        json={"username": user, "password": password},
        timeout=30,
        trust_env=False,
        verify=authorities(),
    )
    answer.raise_for_status()
    return str(answer.json()["access_token"])


def password_of(secrets: Secrets, user: str) -> str:
    return str(json.loads((secrets.folder / "airflow-passwords.json").read_text())[user])
