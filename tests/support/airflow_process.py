"""Airflow's own commands in a home of a test's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def bare_environment(folder: Path, **users: str) -> dict[str, str]:
    """An Airflow with the project's DAGs and plugins. `users`: roles by name; each has the password `pw`."""
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps(dict.fromkeys(users, "pw")))
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in users.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
    }


def python(arguments: list[str], environment: Mapping[str, str], folder: Path, stdin: str = "") -> str:
    """What a program of this Python says. AssertionError with it where it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=dict(environment),
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


MIGRATE = ["-m", "airflow", "db", "migrate"]
