"""What is kept beside an answer, so that it can be proven and repeated later: the releases as they were signed, and
where all came from. The workflow's files lie there since admission (admitted_workflow.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gdi.contracts import broker_api as m
from gdi.contracts.workflow import CatalogueEntry
from gdi.kit.version import installed
from gdi.releases import columns
from gdi_operators.results.folder import Summary, release_file
from gdi_operators.results.whole_file import write
from gdi_operators.runs import Context, parameters_for_pod, read_conf

SOFTWARE = ("apache-airflow", "snakemake")
OURS = "gdi-workflows"  # its name in an answer, whichever of our wheels is installed


def release(folder: Path, node: str, name: str, suffix: str, fetch: Callable[[Path], object]) -> Path:
    """Keeps one node's release, which `fetch` writes and proves; the file. `suffix`: the kind's, of what is not
    Parquet.
    """
    kept = folder / release_file(node, name, suffix)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write(kept, fetch)
    if not columns.is_parquet_file(kept):
        return kept
    return kept.replace(kept.with_suffix(columns.SUFFIX))


def origin(context: Context, entry: CatalogueEntry, run: m.Run) -> dict[str, Any]:
    """Parameters, names and times of the run, and the software of this side."""
    dag_run = context["dag_run"]
    software = {OURS: installed("apache-airflow-providers-gdi")[1]}
    for name in SOFTWARE:
        try:
            software[name] = version(name)
        except PackageNotFoundError:  # Snakemake lives in its own image
            continue
    return {
        "title": entry.workflow.title,
        "version": entry.workflow.version,
        "images": entry.workflow.needs.images,
        "software": software,
        "parameters": parameters_for_pod(read_conf(dag_run.conf, entry), entry),
        "release_titles": {r.name: r.title for r in entry.workflow.releases},
        "dag_id": str(dag_run.dag_id),
        "dag_run_id": str(dag_run.run_id),
        "started_by": getattr(dag_run, "triggering_user_name", None),
        "opened_at": run.opened_at,
        "gathered_at": time.time(),
    }


def origin_of(answer: Summary) -> dict[str, Any]:
    """The same, as it stands with an answer that is there already; gathered now."""
    fields = {"title", "version", "images", "software", "parameters", "release_titles"}
    fields |= {"dag_id", "dag_run_id", "started_by", "opened_at"}
    return {**answer.model_dump(mode="json", include=fields), "gathered_at": time.time()}
