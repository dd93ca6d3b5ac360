"""A DAG run as a run of the broker: its id, what its conf asks for, and the attempt that is open (or is opened anew).
No operator's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.log import mask_secret
from pydantic import ValidationError

from gdi.contracts import broker_api as m
from gdi.contracts import cohorts
from gdi.contracts.ids import is_dataset_id, make_run_id
from gdi.contracts.workflow import RESERVED, SHARED, CatalogueEntry
from gdi.kit.problem import ProblemError
from gdi_operators.admitted_workflow import entry_of_run
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.launchers import wrong_wish
from gdi_operators.retry import is_away, short

NODE = "node"  # PlanItem.placement
USED_TICKET = "used"  # what listeners/used_tickets.py leaves in conf
Context = Mapping[
    str, Any
]  # airflow.sdk.Context, of which dag_run (conf, ids, triggering user, clears) and ti (tries) are used


def run_id_of(context: Context) -> str:
    dag_run = context["dag_run"]
    return make_run_id(str(dag_run.dag_id), str(dag_run.run_id))


@dataclass(frozen=True)
class StartRequest:
    """What a conf asks for. `parameters` is all of it but ticket and grant, as given: the ticket is bound to exactly
    that. `ticket` never shows in a repr.

    `used`: conf says that its ticket was used; then ticket and grant are None, and only a run that the broker knows
    goes on.
    """

    ticket: str | None
    grant: str | None
    parameters: dict[str, Any]
    used: bool = False

    def __repr__(self) -> str:
        ticket = "used" if self.used else "given" if self.ticket else None
        return f"Asked(ticket={ticket}, grant={self.grant!r}, parameters={self.parameters!r})"


def read_conf(conf: Mapping[str, Any] | None, entry: CatalogueEntry) -> StartRequest:
    """Checks a conf against the workflow. AirflowFailException naming each mistake; a ticket's value is never
    repeated.
    """
    given = dict(conf or {})
    ticket, grant = given.pop("ticket", None), given.pop("grant", None)
    used = ticket == USED_TICKET
    if isinstance(ticket, str) and ticket and not used:
        mask_secret(ticket)
    wrong = []
    known = sorted({*entry.workflow.parameters, *RESERVED})
    for key in sorted(str(k) for k in given if k not in known)[:20]:
        wrong.append(
            f"undeclared-parameter: conf has {key[:100]!r}, which {entry.workflow.name} does not declare (it knows:"
            f" {', '.join(known)})"
        )
    for name, value in (("ticket", ticket), ("grant", grant)):
        if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 200):
            wrong.append(f"{name}: must be a text of at most 200 characters, or null")
    if ticket and grant:
        wrong.append("ticket, grant: give one of them, not both")
    datasets = given.get("datasets")
    if (
        not isinstance(datasets, list)
        or not datasets
        or not all(isinstance(d, str) for d in datasets)
        or len(set(datasets)) != len(datasets)
    ):
        wrong.append("datasets: must be a list of at least one dataset id, none twice")
    elif strange := [d for d in datasets if not is_dataset_id(d)]:
        wrong.append(f"datasets: {strange[0][:100]!r} is not a dataset id (accession, DOI, URL; 128 letters)")
    if given.get("pod") is not None:
        wrong += wrong_wish(given["pod"])
    values = {k: v for k, v in given.items() if k in entry.workflow.parameters or k in SHARED}
    wrong += entry.workflow.check_parameters(values)
    if wrong:
        raise AirflowFailException(
            "The run was not started: " + "; ".join(wrong) + ". Correct conf and start a new run."
        )
    return StartRequest(None if used else ticket or None, grant or None, given, used)


def parameters_for_pod(request: StartRequest, entry: CatalogueEntry) -> dict[str, Any]:
    """The workflow's parameters with its defaults filled in, without the datasets, and the cohort where one is named:
    what the Snakefile sees.
    """
    defaults = {name: schema["default"] for name, schema in entry.workflow.parameters.items() if "default" in schema}
    cohort = cohort_of(request)
    own = {k: v for k, v in request.parameters.items() if k in entry.workflow.parameters}
    return {**defaults, **own, **({cohorts.PARAMETER: cohort.written} if cohort.written else {})}


def cohort_of(request: StartRequest) -> cohorts.CohortChoice:
    """Whose numbers a conf asks for, which `read_conf` looked at."""
    return cohorts.chosen(request.parameters.get(cohorts.PARAMETER))


def admit_run(hook: TokenBrokerHook, context: Context, entry: CatalogueEntry, request: StartRequest) -> m.Run:
    """Admits the DAG run: the first attempt at its first try, later the one that there is; cleared, the next where that
    is closed or failing.

    At a first try a closed run is not opened again: its id would be that of a deleted DAG run, maybe somebody else's.
    AirflowFailException for a refusal.
    """
    with _refusals():
        known = hook.get_run(run_id_of(context)) if context["ti"].try_number > 1 else None
        if known is None and request.used:
            raise AirflowFailException(
                "ticket-used: this conf's ticket was used before, or its run ended without being admitted. Make a new"
                " ticket (at the portal, or POST /v1/grants/{id}/tickets) and start a new run with it."
            )
        attempt = 1 if known is None else next_attempt(context, known)
        if known is not None and known.state == "closed" and attempt == known.attempt:
            raise AirflowFailException(
                f"Run {known.id} was closed before: clear this task with its downstream tasks to go on, or start a new"
                " run."
            )
        run = _admit(hook, context["dag_run"], entry, request, attempt=attempt)
    if run.state != "open":
        raise AirflowFailException(
            f"Run {run.id} was closed before, and its DAG run's id cannot be used again: start a new run with"
            " another id."
        )
    return run


def next_attempt(context: Context, known: m.Run) -> int:
    """The attempt that the task works in: the one that there is, or, where that is over and somebody cleared the task
    since it was opened, the next.

    Attempts are numbered by Airflow's count of clears, so that all tasks of one clear, however late, and their retries
    ask for the same one; a failure in it is begun again by another clear only. A number is left out where a run was
    cleared while its attempt was open.
    """
    ti = context["ti"]
    cleared = ti.max_tries > ti.task.retries  # Airflow raises `max_tries` when a task is cleared
    return max(known.attempt, 1 + (context["dag_run"].clear_number or 0)) if _over(known) and cleared else known.attempt


def first_try(context: Context) -> bool:
    """Whether this is the task's first try of all, or since somebody cleared it. Airflow counts tries on, and raises
    `max_tries` with a clear.
    """
    ti = context["ti"]
    return bool(ti.try_number <= ti.max_tries - ti.task.retries + 1)


def _over(run: m.Run) -> bool:
    return run.state == "closed" or run.failing is not None


def open_run(hook: TokenBrokerHook, context: Context, workflow: str) -> m.Run:
    """The run's open attempt. A task that is cleared alone, after the attempt was closed or failed, opens the next one.

    Airflow's own retry of a task that nobody cleared does not: nothing that failed for good is begun again unless a
    person says so, and Airflow also retries a task that it only takes for lost (triggers/settled.py). Idempotent: tasks
    of one run that ask at the same time get the same attempt. AirflowFailException where there is none.
    """
    with _refusals():
        known = hook.get_run(run_id_of(context))
        if known is not None and (attempt := next_attempt(context, known)) > known.attempt:
            entry = entry_of_run(workflow, known)
            known = _admit(hook, context["dag_run"], entry, read_conf(context["dag_run"].conf, entry), attempt=attempt)
    if known is None or known.state == "closed":
        raise AirflowFailException(
            f"Run {run_id_of(context)} is not open: {'it was closed' if known else 'it was never admitted'}. Clear the"
            " task admit too."
        )
    return known


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ProblemError as error:
        raise refusal(error) from None
    except ValidationError as error:  # its message repeats values: a ticket may be among them
        fields = ", ".join(".".join(str(p) for p in e["loc"]) for e in error.errors())
        raise AirflowFailException(
            f"The run was not started: conf has a wrong value in {fields}. Correct it and start a new run."
        ) from None


def _admit(hook: TokenBrokerHook, dag_run: Any, entry: CatalogueEntry, request: StartRequest, *, attempt: int) -> m.Run:
    first = attempt == 1
    return hook.admit(
        m.AdmitRequest(
            dag_id=str(dag_run.dag_id),
            dag_run_id=str(dag_run.run_id),
            attempt=attempt,
            workflow=entry.workflow.name,
            digest=entry.digest,
            parameters=request.parameters,
            ticket=request.ticket if first else None,
            grant=request.grant if first else None,
            triggering_user=getattr(dag_run, "triggering_user_name", None),
            run_after=_epoch(getattr(dag_run, "run_after", None)),
        )
    )


def _epoch(moment: Any) -> float | None:
    return moment.timestamp() if isinstance(moment, datetime) else None


def refusal(error: ProblemError) -> AirflowException:
    """A refusal as Airflow's failure without retry: each dataset with its reason and how to apply. A server that is
    away may be tried again.
    """
    if is_away(error):
        return AirflowException(short(error))
    lines = [f"{error.slug}: {error}"]
    refusals = (error.problem.model_extra or {}).get("refusals")
    for one in refusals[:50] if isinstance(refusals, list) else []:
        if isinstance(one, dict):
            lines.append(
                f"  dataset {str(one.get('dataset'))[:128]}: {str(one.get('reason'))[:200]}"
                + (f" (node {str(one.get('node'))[:31]})" if one.get("node") else "")
                + (f"; to apply for access: {str(one['how_to_apply'])[:500]}" if one.get("how_to_apply") else "")
                + (f" {str(one['apply_url'])[:700]}" if one.get("apply_url") else "")
            )
    return AirflowFailException("\n".join(lines))


def item_of(run: m.Run, node: str) -> m.PlanItem:
    """The node's part of the plan. AirflowFailException where a later attempt was admitted without it."""
    for item in run.plan:
        if item.node == node:
            return item
    raise AirflowFailException(
        f"Node {node} is not in the plan of attempt {run.attempt} of run {run.id}: it holds none of the run's datasets"
        " any more."
    )
