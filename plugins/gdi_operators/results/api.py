"""`data/results/…`, `file/…?name=`, `crate/…` of a run: the Results tab's data, its files, all of it as an RO-Crate.
For who may see the run.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Any

from airflow.models.dagrun import DagRun
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.session import create_session
from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, JSONResponse, Response
from sqlalchemy import select
from starlette.background import BackgroundTask

from gdi.contracts import broker_api as m
from gdi.contracts.ids import make_run_id
from gdi.contracts.results import (
    MEDIA_TYPES,
    AnswerPage,
    Approval,
    NodeDatasets,
    ReleaseView,
    ResultsFile,
    ResultsView,
    WorkflowView,
)
from gdi.kit.problem import ProblemError
from gdi.kit.settings import SettingsError
from gdi.releases.columns import AnswerSpan
from gdi_operators.admitted_workflow import entry_of_run
from gdi_operators.jobs.api import Unavailable, asking, in_airflow
from gdi_operators.results import answer, crate
from gdi_operators.results.folder import ANSWER, COLUMNS, TITLES, Results, Summary, find, twice_in

router = APIRouter()
MAX_PAGE = 1000  # rows
_paging = asyncio.Semaphore(4)
_packing = asyncio.Semaphore(2)  # a crate may be large: no more than this many are made at once


@router.get("/data/results/{dag_id}/{dag_run_id:path}")
async def read_results(dag_id: str, dag_run_id: str) -> Response:
    """Everything that the Results tab shows."""
    run, approvals, problem = await _broker_view(dag_id, dag_run_id)
    found = await asyncio.to_thread(find, make_run_id(dag_id, dag_run_id))
    if run is None and found.summary is None and problem:
        return JSONResponse({"detail": problem}, status_code=503)
    state = {} if run else await asyncio.to_thread(in_airflow, dag_id, dag_run_id)
    view = await asyncio.to_thread(_view, found, run, [n for n in (problem, found.broken) if n])
    started_by = await asyncio.to_thread(_started_by, dag_id, dag_run_id)
    complete = view.model_copy(update={**state, "started_by": started_by, "approvals": approvals})
    return Response(complete.model_dump_json(), media_type="application/json")


@router.get("/data/rows/{dag_id}/{dag_run_id:path}")
async def read_rows(
    dag_id: str,
    dag_run_id: str,
    start: Annotated[int, Query(ge=0, le=10**9)] = 0,
    count: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 200,
    chrom: Annotated[str, Query(max_length=32)] = "",
    low: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    high: Annotated[int, Query(ge=0, le=2**31 - 1)] = 2**31 - 1,
) -> Response:
    """A page of an answer in columns, of all of it or of a region (VCF positions, both ends included)."""
    found = await asyncio.to_thread(find, make_run_id(dag_id, dag_run_id))
    file = found.files().get(COLUMNS)
    if file is None or found.summary is None:
        return JSONResponse({"detail": "This run has no answer in pages."}, status_code=404)
    span = AnswerSpan(chrom, low, high) if chrom else None
    try:
        async with _paging:
            page = await asyncio.to_thread(answer.rows, file, found.summary.answer_kind, start, count, span)
    except ProblemError as error:
        return JSONResponse({"detail": str(error)}, status_code=500)
    except (OSError, ValueError):
        return JSONResponse({"detail": f"The file {COLUMNS} cannot be read: clear the task gather."}, status_code=500)
    return Response(page.model_dump_json(), media_type="application/json")


@router.get("/file/{dag_id}/{dag_run_id:path}")
async def read_file(dag_id: str, dag_run_id: str, name: Annotated[str, Query(max_length=200)]) -> Response:
    """One file of the results, to be saved."""
    found = await asyncio.to_thread(find, make_run_id(dag_id, dag_run_id))
    path = found.files().get(name)
    if path is None:
        return JSONResponse({"detail": "The results of this run have no such file."}, status_code=404)
    saved = name.removeprefix("releases/").replace("/", "-")
    if name in TITLES and found.summary is not None and found.summary.answer_version > 1:
        saved = f"{path.stem}-version-{found.summary.answer_version}{path.suffix}"
    return FileResponse(path, media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"), filename=saved)


@router.get("/crate/{dag_id}/{dag_run_id:path}")
async def read_crate(dag_id: str, dag_run_id: str) -> Response:
    """The run as an RO-Crate (Workflow Run Crate 0.5), zipped."""
    run, approvals, problem = await _broker_view(dag_id, dag_run_id)
    found = await asyncio.to_thread(find, make_run_id(dag_id, dag_run_id))
    if found.summary is None:
        return JSONResponse({"detail": found.broken or problem or "The run has no results (yet)."}, status_code=404)
    started_by = await asyncio.to_thread(_started_by, dag_id, dag_run_id)
    # removed when it was sent
    file = tempfile.NamedTemporaryFile(prefix="gdi-crate-", suffix=".zip", delete=False)  # noqa: SIM115
    path = Path(file.name)
    file.close()
    try:
        async with _packing:
            proofs = await asyncio.to_thread(found.proofs, _keys(run))
            await asyncio.to_thread(crate.write, path, found, proofs, run, approvals, started_by)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return FileResponse(
        path,
        media_type="application/zip",
        filename=f"{found.summary.run}.crate.zip",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


async def _broker_view(dag_id: str, dag_run_id: str) -> tuple[m.Run | None, list[Approval], str]:
    """The run, and who approved the access of its attempt, as the broker has them; what to say where it is away:
    results are readable without it.
    """
    run = make_run_id(dag_id, dag_run_id)
    try:
        async with asking() as broker:
            known = await broker.get_run(run)
            return known, crate.approvals_of(known, await broker.audit(run)), ""
    except ProblemError:
        return None, [], ""
    except Unavailable as error:
        return None, [], str(error)


def _keys(run: m.Run | None) -> dict[str, dict[str, Any]]:
    return {item.node: item.public_key for item in run.plan} if run else {}


def _started_by(dag_id: str, dag_run_id: str) -> str | None:
    """Whom Airflow authenticated when the run was started; None where a schedule started it."""
    with create_session() as session:
        name = session.scalar(
            select(DagRun.triggering_user_name).where(DagRun.dag_id == dag_id, DagRun.run_id == dag_run_id)
        )
    return None if name is None else str(name)


def _view(found: Results, run: m.Run | None, notes: list[str]) -> ResultsView:
    kept = found.summary
    files = found.files()
    proofs, titles = found.proofs(_keys(run)), TITLES | found.earlier_files()
    if kept is not None:
        notes[:0] = _incomplete(kept)
    table: AnswerPage | None = None
    shown = next((name for name in (COLUMNS, ANSWER) if name in files), None)
    if shown is not None and kept is not None:
        try:
            table = answer.read(files[shown], kept.answer_kind)
        except ProblemError as error:
            notes.append(f"The file {shown} cannot be shown: {error}")
        except (OSError, ValueError) as error:
            notes.append(f"The file {shown} cannot be shown ({type(error).__name__}): clear the task gather.")
    releases = [
        ReleaseView(
            **r.model_dump(exclude={"signature", "suffix", "url", "overlaps"}),
            title=(kept.release_titles.get(r.name) if kept else None) or r.name,
            unit=r.unit,
            reasons=r.reasons,
            verified=proofs[r.file].verified,
            verdict=proofs[r.file].verdict,
            file=r.file if r.file in files else None,
        )
        for r in (kept.releases if kept else [])
    ]
    nodes = (
        {i.node: i.datasets for i in run.plan}
        if run
        else {n: k.datasets for n, k in kept.nodes.items()}
        if kept
        else {}
    )
    name = run.workflow if run else kept.workflow if kept else None
    return ResultsView(
        state=run.state if run else "closed" if kept else "not-admitted",
        outcome=run.outcome if run else "",
        attempt=run.attempt if run else kept.attempt if kept else 0,
        run=run.id if run else kept.run if kept else "",
        workflow=None if name is None else _workflow(name, run, kept),
        user=run.user if run else kept.user if kept else "",
        opened_at=run.opened_at if run else None,
        closed_at=run.closed_at if run else None,
        failing=run.failing if run else None,
        nodes=[NodeDatasets(node=node, datasets=datasets) for node, datasets in nodes.items()],
        releases=releases,
        answer=table,
        files=[ResultsFile(name=n, title=titles[n], bytes=p.stat().st_size) for n, p in files.items() if n in titles],
        crate=kept is not None,
        notes=notes,
    )


def _incomplete(kept: Summary) -> list[str]:
    """What a reader has to know before the numbers: who is not in them, and that there was another answer."""
    found = []
    if kept.missing:
        who = "; ".join(f"{node}: {why}" for node, why in sorted(kept.missing.items()))
        found.append(f"This answer is without {len(kept.missing)} of the run's nodes. {who}.")
    if kept.answer_version > 1:
        found.append(
            f"This is version {kept.answer_version} of the answer; what was there before is among the files, and links"
            " to the run lead here."
        )
    return found + twice_in(kept.releases, {node: one.datasets for node, one in kept.nodes.items()})


def _workflow(name: str, run: m.Run | None, kept: Summary | None) -> WorkflowView:
    """Title and version as they were when the results were gathered; before that, as the run was admitted with them."""
    digest = run.digest if run else kept.digest if kept else ""
    title, version = (kept.title, kept.version) if kept and kept.digest == digest else ("", "")
    if not title and run is not None:
        try:
            entry = entry_of_run(name, run)
            title, version = entry.workflow.title, entry.workflow.version
        except (AirflowFailException, SettingsError):
            title = ""  # another version lies there, or none: its name says enough
    return WorkflowView(name=name, title=title or name, version=version, digest=digest)
