"""How the pod starts Snakemake: its arguments and its environment. Nothing secret is in either."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from gdi.contracts.run_file import RunFile
from gdi.contracts.urls import WorkspaceUrl
from snakemake_tes_auth.folders import Folders

JOBS = 500  # live tasks at once; the node's TES queues what it cannot run


def events_of(folders: Folders, run: RunFile) -> Path:
    """Where Snakemake's logger writes."""
    return folders.state / f"events-{run.pod}.jsonl"


def sent_of(folders: Folders, run: RunFile) -> Path:
    """What the pods of this attempt sent to the broker, where the work folder stayed: the logger leaves it out."""
    return folders.state / f"sent-{run.attempt}.jsonl"


def arguments(folders: Folders, run: RunFile) -> list[str]:
    """Snakemake's command line, as `waiting` takes it. `-P`: a file in the work folder must not shadow a module."""
    run_file = str(folders.run_file)
    events, sent = str(events_of(folders, run)), str(sent_of(folders, run))
    return [
        *(sys.executable, "-P", "-m", "snakemake_tes_auth.pod.waiting"),
        *("--snakefile", str(folders.workflow / "Snakefile")),
        *("--configfile", str(folders.state / "config.json")),
        *("--executor", "tes-auth", "--tes-auth-run-file", run_file, "--jobs", str(JOBS), "--local-cores", "1"),
        *("--default-storage-provider", "sda", "--default-storage-prefix", str(WorkspaceUrl(run.run, "")).rstrip("/")),
        *("--storage-sda-run-file", run_file),
        *("--logger", "airflow", "--logger-airflow-file", events, "--logger-airflow-sent", sent),
        # The pod starts again in the same folder after any end: no lock to be left behind, unfinished outputs are made
        # anew or adopted, and only files decide what has to run (the workflow itself is pinned by its digest).
        *("--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime"),
        # Snakemake's own defaults ask for 50 GB of disk and read every input's size.
        *("--default-resources", "mem_mb=1000", "disk_mb=1000"),
        # Snakemake's own default of 100 jobs a second protects batch systems; here the TES itself sets the pace.
        *("--max-jobs-per-timespan", f"{JOBS}/1s"),
        *("--scheduler", "greedy", "--latency-wait", "10", "--nocolor"),
    ]


def environment(folders: Folders, around: Mapping[str, str]) -> dict[str, str]:
    """A small environment of its own: no HOME, proxy or credential of the surroundings."""
    work = str(folders.work)
    found = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": work,
        "XDG_CACHE_HOME": f"{work}/.cache",
        "TMPDIR": str(folders.state / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in (
        "PYTHONPATH",
        "SSL_CERT_FILE",
    ):  # where the packages are, and whose certificates the federation uses: the launcher's to say
        if name in around:
            found[name] = around[name]
    return found
