"""From a workflow to a run: its form, the check of what would come of it, consent, start."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from gdi.contracts import data_use
from gdi.contracts import portal_api as a
from gdi.contracts.cohorts import PARAMETER, CohortChoice
from gdi.contracts.ids import WorkflowName, is_dataset_id
from gdi.kit.problem import ProblemError
from gdi.portal import api
from gdi.portal.catalogue import described
from gdi.portal.consents import covering
from gdi.portal.pages.forms import PREFIX, fields_of, read_parameters
from gdi.portal.pages.visits import P, PageRoute, Visit, see
from gdi.portal.preflight import READY

M = TypeVar("M", a.StartCheck, a.RunStart)
router = APIRouter(route_class=PageRoute, include_in_schema=False)
DAYS = (1, 7, 30, 90)  # for which consent may be given at a start
MAX_PARAMETERS = 1024 * 1024  # bytes, as JSON
MAX_COHORTS = 500  # that a form offers
MAX_EPOCHS = 50  # of a dataset, that a form offers: the newest of them
EPOCH = "epoch."  # of a form's field, before the dataset's id


@dataclass(frozen=True)
class CohortOption:
    """A cohort to choose. `value`: as the form sends it; `only`: the datasets that have it, where not all do."""

    value: str
    choice: CohortChoice
    chosen: bool
    only: list[str]


@dataclass(frozen=True)
class EpochField:
    """A dataset with more than one epoch: `numbers` to choose from, the newest first; `chosen`: the one that is named,
    0 where none is.
    """

    dataset: a.DatasetEntry
    numbers: list[int]
    chosen: int


@router.get("/workflows")
async def workflows(p: P, dataset: Annotated[str, Query(max_length=128)] = "") -> Response:
    """`dataset`: passed on to the form."""
    found = await api.list_workflows(p.door)
    return p.page(
        "workflows.html", section="workflows", workflows=found.workflows, broken=found.broken, dataset=dataset
    )


@router.get("/workflows/{name}")
async def form(
    p: P, name: WorkflowName, dataset: Annotated[list[str] | None, Query(max_length=a.MAX_DATASETS)] = None
) -> Response:
    """`dataset`: ticked already."""
    return await _form(p, name, None, dataset)


@router.post("/workflows/{name}/change")
async def change(p: P, name: WorkflowName) -> Response:
    """The form again, as it was filled in."""
    _, parameters = _given(p, (await _workflow(p, name)).parameters)
    return await _form(p, name, parameters, p.form.get("dataset", []))


@router.post("/workflows/{name}/check")
async def check(p: P, name: WorkflowName) -> Response:
    """What would come of a start, by node, and the consent that it needs. Nothing starts."""
    workflow = await _workflow(p, name)
    datasets, parameters = _given(p, workflow.parameters)
    if not datasets:
        return await _form(p, name, parameters, [], p.texts("start.no_dataset"))
    request = _valid(a.StartCheck, workflow=name, datasets=datasets, parameters=parameters)
    found = await api.preflight(p.door, p.who, request)
    if found.mistakes:
        return await _form(p, name, parameters, datasets, *found.mistakes)
    grants = {g.id: g for g in covering(await p.door.broker.grants(p.who.token), name, datasets)}
    return p.page(
        "check.html",
        section="workflows",
        workflow=workflow,
        datasets=datasets,
        parameters=parameters,
        hidden=json.dumps(parameters),
        check=found,
        startable=_startable(found),
        nothing_wrong=READY,
        refused=_refused(found),
        grant=next((grants[g] for g in found.grants if g in grants), None),
        days=DAYS,
        key=secrets.token_urlsafe(18),
    )


@router.post("/workflows/{name}/start")
async def start(p: P, name: WorkflowName, response: Response) -> Response:
    """Sent twice, it starts one run: the page with the button carries the key."""
    datasets, parameters = _given(p, (await _workflow(p, name)).parameters)
    days = p.first("days")
    consent = None
    if p.first("consent") == "yes" and (days == "once" or (days.isascii() and days.isdigit() and int(days) in DAYS)):
        consent = a.Consent(once=True, days=1) if days == "once" else a.Consent(days=int(days))
    request = _valid(
        a.RunStart,
        workflow=name,
        datasets=datasets,
        parameters=parameters,
        digest=p.first("digest") or None,
        consent=consent,
    )
    run = await api.start_run(p.door, p.who, request, response, p.first("key")[:200] or None)
    return see(f"/runs/{run.id}")


async def _form(
    p: Visit, name: str, parameters: dict[str, Any] | None, chosen: list[str] | None, *mistakes: str
) -> Response:
    workflow = await _workflow(p, name)
    found = await api.list_datasets(p.door, p.who)
    usable = [e for e in found.datasets if e.access.state == "granted"]
    stated = (parameters or {}).get(data_use.PARAMETER)
    ticked = set(chosen) if chosen is not None else {e.id for e in usable} if len(usable) <= 10 else set()
    return p.page(
        "workflow.html",
        status=422 if mistakes else 200,
        section="workflows",
        workflow=workflow,
        fields=fields_of(workflow.parameters, parameters),
        cohorts=cohorts_of(workflow, usable, (parameters or {}).get(PARAMETER)),
        epochs=epochs_of(usable, (parameters or {}).get(PARAMETER)),
        epoch=EPOCH,
        prefix=PREFIX,
        purposes=data_use.PURPOSES,
        stated=[str(code) for code in stated] if isinstance(stated, list) else [],
        usable=usable,
        others=[e for e in found.datasets if e.access.state != "granted"],
        ticked=ticked,
        mistakes=mistakes,
    )


async def _workflow(p: Visit, name: str) -> a.CatalogueWorkflow:
    return described(await asyncio.to_thread(p.door.catalogue.entry, name))


def cohorts_of(
    workflow: a.CatalogueWorkflow, usable: Sequence[a.DatasetEntry], value: object = None
) -> list[CohortOption]:
    """What of the datasets' newest epochs the form offers. `value`: what is chosen."""
    holders: dict[str, list[str]] = {}
    choices: dict[str, CohortChoice] = {}
    for entry in usable:
        for choice in entry.cohorts.choices if entry.cohorts else ():
            if choice.part in workflow.cohorts:
                text = json.dumps(choice.written)
                choices[text] = choice
                holders.setdefault(text, []).append(entry.id)
    part = {name: of for name, of in value.items() if name != "epochs"} if isinstance(value, dict) else value
    return [
        CohortOption(text, choices[text], part == choices[text].written, ids if len(ids) < len(usable) else [])
        for text, ids in list(holders.items())[:MAX_COHORTS]
    ]


def epochs_of(usable: Sequence[a.DatasetEntry], value: object = None) -> list[EpochField]:
    """The datasets of which an older epoch may be asked. `value`: the cohort that is chosen."""
    named = value.get("epochs") if isinstance(value, dict) else None
    found = []
    for entry in usable:
        newest = entry.cohorts.number if entry.cohorts else 1
        numbers = list(range(newest, max(0, newest - MAX_EPOCHS), -1))
        number = named.get(entry.id) if isinstance(named, dict) else None
        if len(numbers) > 1:
            found.append(EpochField(entry, numbers, number if isinstance(number, int) else 0))
    return found


def _startable(check: a.StartChecked) -> bool:
    """A node that is away for a moment forbids no start: the person is told."""
    granted = all(e.access.state == "granted" for part in check.nodes for e in part.datasets)
    return granted and bool(check.nodes) and not check.unknown_datasets and not check.mistakes


def _refused(check: a.StartChecked) -> bool:
    """By a node that has seen the workflow: one that has not yet is no obstacle."""
    return any(not part.ready and part.answer is not None and part.answer.admitted is False for part in check.nodes)


def _given(p: Visit, schema: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Datasets and parameters of the form, or of the page after it, which carries them as JSON."""
    datasets = list(dict.fromkeys(d for d in p.form.get("dataset", []) if is_dataset_id(d)))
    text = p.first("parameters")
    if not text:
        parameters = read_parameters(schema, p.form)
        if cohort := p.first(PARAMETER):
            try:
                parameters[PARAMETER] = json.loads(cohort)
            except (ValueError, RecursionError):
                parameters[PARAMETER] = cohort  # the check says what is wrong with it
        epochs = {d: int(n) for d in datasets if (n := p.first(EPOCH + d)).isascii() and n.isdigit() and len(n) < 8}
        if epochs and isinstance(named := parameters.get(PARAMETER, {}), dict):
            parameters[PARAMETER] = {**named, "epochs": epochs}
        if stated := p.form.get(data_use.PARAMETER, []):
            parameters[data_use.PARAMETER] = stated
        return datasets, parameters
    try:
        found = json.loads(text) if len(text) <= MAX_PARAMETERS else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProblemError(
            422, "bad-parameters", "The parameters are no JSON object.", action="Fill in the form again."
        )
    return datasets, found


def _valid(model: type[M], **values: Any) -> M:
    try:
        return model(**values)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise ProblemError(422, "invalid-request", what, action="Fill in the form again.") from None
