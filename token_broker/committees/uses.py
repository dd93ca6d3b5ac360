"""Which datasets were used, by whom, under which visa, with which workflow, and what left: the audit's admissions
beside the runs that came of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping

from gdi.contracts.committees import DatasetUse, Departure, UsePage
from token_broker.db.store import BrokerDatabase, audit, runs
from token_broker.enrolment import Committee

MAX_PAGE = 1000
ADMIT = "run.admit"


@dataclass(frozen=True)
class UseFilter:
    """Uses that have all that is given. Times in seconds, `until` without itself; `refused`: only those."""

    dataset: str | None = None
    user: str | None = None
    run: str | None = None
    workflow: str | None = None
    since: float | None = None
    until: float | None = None
    refused: bool = False


class Uses:
    def __init__(self, store: BrokerDatabase) -> None:
        self._store = store

    async def page(self, committees: Sequence[Committee], wanted: UseFilter, before: int | None, limit: int) -> UsePage:
        """Uses of these committees' datasets, of no other."""
        covered = sa.or_(sa.false(), *(_claim(c) for one in committees for c in one.datasets))
        query = (
            sa.select(audit, *(column.label(f"run_{column.name}") for column in runs.c))
            .select_from(audit.outerjoin(runs, runs.c.id == audit.c.run))
            .where(audit.c.action == ADMIT, audit.c.run.is_not(None), audit.c.dataset.is_not(None), covered)
        )
        for column, value in (
            (audit.c.dataset, wanted.dataset),
            (audit.c.owner, wanted.user),
            (audit.c.run, wanted.run),
            (runs.c.workflow, wanted.workflow),
        ):
            query = query if value is None else query.where(column == value)
        if wanted.since is not None:
            query = query.where(audit.c.time >= wanted.since)
        if wanted.until is not None:
            query = query.where(audit.c.time < wanted.until)
        if wanted.refused:
            query = query.where(audit.c.allowed.is_(False))
        if before is not None:
            query = query.where(audit.c.number < before)
        async with self._store.read() as c:
            ordered = query.order_by(audit.c.number.desc()).limit(limit + 1)
            found = list((await c.execute(ordered)).mappings())
        uses = [_use(row, committees) for row in found[:limit]]
        return UsePage(uses=uses, next_before=uses[-1].number if len(found) > limit else None)


def _claim(claim: str) -> sa.ColumnElement[bool]:
    """As `Committee.covers` has it: SQLite's LIKE would take `egad…` for `EGAD*`, other people's text among it."""
    if claim.endswith("*"):
        return sa.func.substr(audit.c.dataset, 1, len(claim) - 1) == claim[:-1]
    return audit.c.dataset == claim


def _use(row: RowMapping, committees: Sequence[Committee]) -> DatasetUse:
    left: list[dict[str, Any]] = row["run_released"] or []
    return DatasetUse(
        number=row["number"],
        time=row["time"],
        committee=next(one.name for one in committees if one.covers(row["dataset"])),
        dataset=row["dataset"],
        node=row["node"],
        user=row["owner"] or "",
        allowed=row["allowed"],
        reason=row["reason"],
        visa=row["visa"],
        run=row["run"],
        dag_id=row["run_dag_id"] or "",
        dag_run_id=row["run_dag_run_id"] or "",
        workflow=row["run_workflow"] or "",
        digest=row["run_digest"],
        state=row["run_state"] or "refused",  # a refused start has no run
        outcome=row["run_outcome"] or "",
        ended_at=row["run_closed_at"],
        released=[Departure.model_validate(one) for one in left if one["node"] == row["node"]],
    )
