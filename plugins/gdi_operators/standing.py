"""`GET data/standing/{dag}/{run}`: how a run stands and why, in one sentence, for both tabs and for the portal."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from gdi.contracts import broker_api as m
from gdi.contracts.ids import make_run_id
from gdi.contracts.run_endings import RunFacts, Standing, judge
from gdi.kit.problem import ProblemError
from gdi.releases.registry import kinds
from gdi_operators.jobs.api import Unavailable, asking
from gdi_operators.results.folder import Results, find
from gdi_operators.standing_facts import AirflowFacts, read

router = APIRouter()


@router.get("/data/standing/{dag_id}/{dag_run_id:path}")
async def read_standing(dag_id: str, dag_run_id: str) -> Response:
    """`gdi.contracts.run_endings.Standing`; 503 with a sentence where the broker is away."""
    try:
        found = await standing(dag_id, dag_run_id)
    except Unavailable as error:
        return JSONResponse({"detail": str(error)}, status_code=503)
    return Response(found.model_dump_json(), media_type="application/json")


async def standing(dag_id: str, dag_run_id: str) -> Standing:
    """Unavailable where the broker cannot be asked and Airflow alone does not say how the run stands."""
    airflow = await asyncio.to_thread(read, dag_id, dag_run_id)
    if airflow.state is None:
        sentence = "Airflow has no run of this name."
        return Standing(known=False, standing="starting", sentence=sentence)
    run: m.Run | None = None
    progress: m.Progress | None = None
    if airflow.state != "queued":
        try:
            async with asking() as broker:
                run_id = make_run_id(dag_id, dag_run_id)
                run, progress = await asyncio.gather(broker.get_run(run_id), broker.progress(run_id))
        except ProblemError:
            run = progress = None  # it was not admitted (yet)
    results = await asyncio.to_thread(find, make_run_id(dag_id, dag_run_id)) if airflow.state == "success" else None
    verdict = judge(facts_of(airflow, run, progress, results))
    return Standing(
        standing=verdict.standing,
        sentence=verdict.sentence,
        next_step=verdict.next_step,
        waiting_for=list(verdict.waiting_for),
        fault=verdict.fault,
        attempt=run.attempt if run else 0,
        admitted_at=run.opened_at if run else None,
        ended_at=airflow.ended_at if verdict.ended else None,
        nodes=progress.nodes if progress else [],
    )


def facts_of(
    airflow: AirflowFacts, run: m.Run | None, progress: m.Progress | None, results: Results | None
) -> RunFacts:
    """What Airflow, the broker and the results folder say, put side by side."""
    kept = results.summary if results else None
    merged = kept.releases if kept else []
    return RunFacts(
        airflow=airflow.state,
        admitted=run is not None,
        outcome=run.outcome if run and run.state == "closed" else "",
        closing=airflow.closing,
        failing=run.failing if run else None,
        nodes=progress.nodes if progress else (),
        steps=airflow.steps,
        reason=airflow.reason,
        stop_requested=airflow.stopped_by is not None,
        stopped_by=airflow.stopped_by or "",
        released=sum(r.sites_released for r in merged) if merged else None,
        unit=merged[0].unit if merged else "row",
        rows=kept.answer_rows if kept else None,
        row=kinds()[kept.answer_kind].row if kept and kept.answer_kind in kinds() else "row",
    )
