"""Tasks that the executor makes of a job, and their commands run here."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tes.models import Input

from gdi.contracts.tes import to_json
from snakemake_tes_auth.tasks.tasks import Builder
from snakemake_tes_auth.workflow.jobview import JobView
from tests.support import snakemake_jobs

BASH = "set -euo pipefail;"


def view(**changes: Any) -> JobView:
    return snakemake_jobs.view(**{"shell": f"{BASH} cat a > b", "image": "python:3.13", **changes})


def built(tmp_path: Path, job: JobView, **how: Any) -> dict[str, Any]:
    plan = Builder(tmp_path, image="gdi-task:1", work=tmp_path, **how).plan(job)
    return to_json(plan.task(key="k", tries="1", sources=[Input(content="", path=plan.at(f)) for f in plan.files]))


def run(tmp_path: Path, job: JobView) -> subprocess.CompletedProcess[str]:
    """Runs the task's command here, in the folder that stands for the task's own."""
    command = built(tmp_path, job)["executors"][0]["command"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={"PATH": "/usr/bin:/bin"}, check=False
    )
