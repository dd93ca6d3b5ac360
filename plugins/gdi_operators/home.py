"""`GET data/home`: what the card *Your runs* on Airflow's home page shows. A person's own runs of the catalogue's
analyses, newest first, and the analyses that they may start; operations such as `recurring` are not among them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import select

router = APIRouter()
NEWEST = 10
TAG = "workflow"  # of each DAG of the catalogue (dags/catalogue.py)


class HomeRun(BaseModel):
    """`since`: when it began, or was asked for (epoch seconds). `state`: Airflow's."""

    dag_id: str
    dag_run_id: str
    title: str
    state: str
    since: float


class HomeWorkflow(BaseModel):
    dag_id: str
    title: str


class HomeRuns(BaseModel):
    runs: list[HomeRun]
    workflows: list[HomeWorkflow]


@router.get("/data/home")
async def read_home(user: GetUserDep) -> HomeRuns:
    """NEWEST runs at most. A DAG that the person may no longer see is left out, with their runs of it."""
    return await asyncio.to_thread(_read, user)


def _read(user: Any) -> HomeRuns:
    allowed = get_auth_manager().get_authorized_dag_ids(user=user)
    with create_session() as session:
        analyses = (
            select(DagModel.dag_id, DagModel.dag_display_name)
            .join(DagTag, DagTag.dag_id == DagModel.dag_id)
            .where(DagTag.name == TAG, DagModel.is_stale.is_(False))
            .order_by(DagModel.dag_id)
        )
        titles = {dag: title for dag, title in session.execute(analyses) if dag in allowed}
        began = (DagRun.dag_id, DagRun.run_id, DagRun.state, DagRun.start_date, DagRun.queued_at, DagRun.run_after)
        mine = select(*began).where(DagRun.triggering_user_name == user.get_name(), DagRun.dag_id.in_(titles))
        rows = session.execute(mine.order_by(DagRun.run_after.desc()).limit(NEWEST)).all()
    return HomeRuns(
        runs=[
            HomeRun(
                dag_id=row.dag_id,
                dag_run_id=row.run_id,
                title=titles[row.dag_id],
                state=str(row.state),
                since=(row.start_date or row.queued_at or row.run_after).timestamp(),
            )
            for row in rows
        ],
        workflows=[HomeWorkflow(dag_id=dag, title=title) for dag, title in titles.items()],
    )
