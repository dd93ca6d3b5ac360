"""A job as Snakemake gives it, and a pod's run.json, with what a test changes of them."""

from __future__ import annotations

from typing import Any

from snakemake_tes_auth.workflow.jobview import JobFile, JobView

RUN = "r-0123456789abcdef0123"


def view(**changes: Any) -> JobView:
    values: dict[str, Any] = {
        "jobid": 1,
        "rule": "count",
        "wildcards": {"i": "1"},
        "attempt": 1,
        "threads": 2,
        "resources": {"mem_mb": 1500, "disk_mb": 10},
        "inputs": [JobFile("s/sda/D/a.c4gh", "sda://D/a.c4gh")],
        "outputs": [JobFile("s/workspace/o ut/x", f"workspace://{RUN}/o ut/x")],
        "logs": [],
        "shell": "cat a > b",
        "image": "gdi-task:1",
    }
    return JobView(**{**values, **changes})


def run_file(**changes: Any) -> dict[str, Any]:
    return {
        "run": RUN,
        "attempt": 1,
        "node": "node-a",
        "pod": "pod-1",
        "broker_url": "http://broker.test",
        "gateway_url": "http://gateway.test",
        "audience": "http://gateway.test",
        "workflow": "w",
        "digest": "sha256:" + "0" * 64,
        **changes,
    }
