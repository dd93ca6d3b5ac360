"""A row of the table as the API shows it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from sqlalchemy import RowMapping

from gdi.contracts.portal_api import RunEntry, RunLinks, RunSummary
from gdi.contracts.run_endings import Standing


def links_of(row: RowMapping, airflow: str | None) -> RunLinks:
    here = f"/v1/runs/{row['id']}"
    page = None if airflow is None else f"{airflow}/dags/{quote(row['dag_id'])}/runs/{quote(row['dag_run_id'])}"
    return RunLinks(self=here, jobs=f"{here}/jobs", results=f"{here}/results", crate=f"{here}/crate", airflow=page)


def summary_of(row: RowMapping) -> RunSummary:
    return RunSummary(**_common(row))


def entry_of(row: RowMapping, standing: Standing | None, parameters: dict[str, Any], airflow: str | None) -> RunEntry:
    """`standing` where it was just asked for; else what the row says."""
    common = _common(row)
    more: dict[str, Any] = {"next_step": row["next_step"]}
    if standing is not None and standing.known:
        common |= {
            "state": standing.standing,
            "sentence": standing.sentence,
            "ended_at": (standing.ended_at or row["ended_at"]) if standing.ended else None,
        }
        more = {
            "next_step": standing.next_step,
            "attempt": max(1, standing.attempt),
            "nodes": standing.nodes,
            "jobs_done": sum(n.done for n in standing.nodes),
            "jobs_total": sum(n.total for n in standing.nodes),
            "waiting_for": standing.waiting_for,
        }
    return RunEntry(**common, **more, parameters=parameters, links=links_of(row, airflow))


def _common(row: RowMapping) -> dict[str, Any]:
    return {
        "id": row["id"],
        "workflow": row["workflow"],
        "title": row["title"],
        "version": row["version"],
        "digest": row["digest"],
        "state": row["standing"],
        "sentence": row["sentence"],
        "datasets": row["datasets"],
        "tags": row["tags"],
        "by": row["started_by"],
        "created_at": row["created_at"],
        "ended_at": row["ended_at"],
        "stop_requested_at": row["stop_requested_at"],
    }
