"""What a release asks: whose numbers, under which rules, beside what left before; and whether it may be asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.cohorts import AdmissionQuestion, CohortChoice
from gdi.contracts.descriptor import Descriptor
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.kit.problem import ProblemError
from gdi.releases import declared
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import Rules
from node_gateway.auth import Caller
from node_gateway.db import store as db
from node_gateway.epochs import admission, contents, store
from node_gateway.policy import Policy, PolicyFile
from node_gateway.release import ledger
from node_gateway.review.cases import AT_NODE


@dataclass(frozen=True)
class Question:
    """`names`: what the ledger calls the cohorts; `past`: what left of them and beside them; `listed`: their people are
    all known. `share`: of the budget that one run may take, None where no dataset is `sensitive`. `levels`: of a
    level of a split, how many people the others have.
    """

    names: list[str]
    rules: Rules
    past: Past
    listed: bool
    share: float | None
    levels: Mapping[str, int] = field(default_factory=dict)


async def admit(policy: PolicyFile, connection: AsyncConnection, question: AdmissionQuestion) -> list[str]:
    """What the ledger calls the cohorts of a question that may be asked. ProblemError as `admission.decide`."""
    epochs = await store.open_epochs(connection)
    admission.decide(policy.current(), policy.datasets.all(), epochs, question)
    return admission.cohort_names(question.datasets, epochs, question.cohort)


def admit_within(connection: sa.Connection, policy: Policy, descriptors: Sequence[Descriptor], caller: Caller) -> None:
    """`admit` of all that a run's caller may ask, in a transaction without an event loop."""
    if caller.datasets:
        admission.decide(policy, descriptors, store.open_epochs_within(connection), of_caller(caller))


async def of_begin(connection: AsyncConnection, request: ReleaseRequest, caller: Caller) -> ReleaseRequest:
    """The request with the numbers of the epochs that were the newest when the run's first task began here, where it
    names none: a later one has other people than its files.
    """
    began = await _began(connection, caller.run)
    unnamed = set(caller.datasets) - set(request.cohort.epochs)
    if began is None or not unnamed:
        return request
    then = [one.facts for one in await store.all_epochs(connection) if one.opened_at <= began]
    numbers = admission.numbered(unnamed, then, request.cohort).epochs
    return request.model_copy(update={"cohort": request.cohort.with_epochs(numbers)})


async def _began(connection: AsyncConnection, run: str) -> float | None:
    """When the run's first task here was made (seconds, UTC)."""
    query = sa.select(sa.func.min(db.tasks.c.created_at)).where(db.tasks.c.run == run)
    began = (await connection.execute(query)).scalar_one()
    return None if began is None else float(began)


async def is_of(
    connection: AsyncConnection, answer: Mapping[str, Any], request: ReleaseRequest, caller: Caller
) -> bool:
    """Whether an answer of before is about the people of this request, which may leave epochs unnamed."""
    names, before = answer.get(AT_NODE, {}).get("cohort"), answer.get("cohort")
    numbers = CohortChoice.model_validate(before).epochs if before else {}
    choice, epochs = request.cohort.with_epochs(numbers), await store.open_epochs(connection)
    return names is None or sorted(names) == sorted(admission.cohort_names(tuple(caller.datasets), epochs, choice))


async def with_levels(connection: AsyncConnection, request: ReleaseRequest, caller: Caller) -> ReleaseRequest:
    """The admitted request, with the files of the other levels where it names only their folder (`levels_in`)."""
    choice = request.cohort
    if choice.split is None or request.levels or request.levels_in is None:
        return request
    levels = _levels(caller.datasets, await store.open_epochs(connection), choice)
    ending = PurePosixPath(request.path).suffix
    files = {level: f"{request.levels_in}/{place}{ending}" for place, level in enumerate(levels)}
    files.pop(choice.level or "", None)
    return request.model_copy(update={"levels": files})


async def with_numbers(
    connection: AsyncConnection, choice: CohortChoice, datasets: Collection[str]
) -> CohortChoice | None:
    """The cohort with the number of each dataset's epoch, for who reads its numbers; None where there is no epoch."""
    found = admission.numbered(datasets, await store.open_epochs(connection), choice)
    return found if found.epochs else None


def _levels(datasets: Collection[str], epochs: Sequence[admission.OpenEpoch], choice: CohortChoice) -> list[str]:
    """All levels of the split, of any of the datasets' epochs."""
    of_each = admission.epochs_of(datasets, epochs, choice)
    return sorted({level for epoch in of_each for level in epoch.splits.get(choice.split or "", ())})


async def expect_begun(connection: AsyncConnection, request: ReleaseRequest, caller: Caller) -> None:
    """ProblemError 403 `not-open` where a dataset's first epoch opened while the run was at work (`of_begin`)."""
    if await _began(connection, caller.run) is None:
        return
    for dataset in sorted(set(caller.datasets) - set(request.cohort.epochs)):
        if await contents.newest(connection, dataset):
            raise ProblemError(
                403,
                "not-open",
                f"An epoch of {dataset} opened after this run began, which may have counted others.",
                action="Start a new run.",
            )


async def expect_unchanged(connection: AsyncConnection, question: AdmissionQuestion) -> None:
    """ProblemError 403 `changed-files` where files of the datasets changed since the epochs that are asked opened."""
    epochs = await store.open_epochs(connection)
    for dataset in question.datasets:
        epoch = admission.epoch_of(dataset, epochs, question.cohort)
        await contents.expect_one(connection, dataset, epoch.number if epoch else 0)


def of_caller(caller: Caller, *kinds: str, cohort: CohortChoice | None = None) -> AdmissionQuestion:
    """The question of a run, by its token."""
    return AdmissionQuestion(
        workflow=caller.workflow,
        digest=caller.digest,
        datasets=tuple(sorted(caller.datasets)),
        kinds=kinds,
        cohort=cohort or CohortChoice(),
    )


def of_request(request: ReleaseRequest, caller: Caller) -> AdmissionQuestion:
    """The question that a release puts."""
    return of_caller(caller, request.kind, cohort=request.cohort)


async def read(policy: PolicyFile, connection: AsyncConnection, request: ReleaseRequest, caller: Caller) -> Question:
    """The question with its rules and what left before. ProblemError as `admission.decide`."""
    question = of_request(request, caller)
    names = await admit(policy, connection, question)
    await expect_begun(connection, request, caller)
    await expect_unchanged(connection, question)
    past = await ledger.cohorts(connection, names)
    known = await store.people(connection, names)
    described = [policy.datasets.required(dataset) for dataset in question.datasets]
    levels = await _other_levels(connection, request, question, past)
    shares = [one.run_share for one in described if one.membership == "sensitive"]
    rules = rules_of(policy.current(), described, one_epoch=not any("@" in name or "/" in name for name in names))
    return Question(names, rules, past, all(name in known for name in names), min(shares, default=None), levels)


async def _other_levels(
    connection: AsyncConnection, request: ReleaseRequest, question: AdmissionQuestion, past: Past
) -> dict[str, int]:
    """The people of each other level of the split. ProblemError 422 `invalid-request` where the request does not bring
    their files, 403 `not-beside` where the whole was not asked for.
    """
    choice = question.cohort
    if choice.split is None:
        if request.levels:
            raise ProblemError(422, "invalid-request", "No level is asked for.", action="Name a split and its level.")
        return {}
    epochs = await store.open_epochs(connection)
    levels = set(_levels(question.datasets, epochs, choice)) - {choice.level}
    if levels != set(request.levels):
        raise ProblemError(
            422,
            "invalid-request",
            "All levels of a split leave, or none: the file of each other level is looked at too.",
            action=f"Bring the files of {', '.join(sorted(levels))[:1000]} in `levels`.",
        )
    whole = admission.cohort_names(question.datasets, epochs, choice.model_copy(update={"split": None, "level": None}))
    everybody = frozenset[str]().union(*(await store.people(connection, whole)).values())
    if everybody not in past.cohorts.values():
        raise ProblemError(
            403,
            "not-beside",
            "Levels of a split leave where the whole left.",
            action="Ask for the whole of the epoch first, then for its levels.",
        )
    found = {}
    for level in levels:
        names = admission.cohort_names(question.datasets, epochs, choice.model_copy(update={"level": level}))
        found[level] = len(frozenset[str]().union(*(await store.people(connection, names)).values()))
    return found


def rules_of(policy: Policy, described: Sequence[Descriptor], *, one_epoch: bool = True) -> Rules:
    """The node's rules for these datasets together: the stricter word of each counts."""
    reference = bool(described) and all(one.absent == "reference" for one in described)
    zero = one_epoch and bool(described) and all(one.zero == "show" for one in described)
    return Rules(
        policy.floor,
        policy.releases.max_rows,
        "reference" if reference else "unknown",
        classes=bool(described) and all(one.classes for one in described),
        levels=declared.levels(described),
        columns=declared.columns(described),
        numbers=declared.numbers(described),
        bounds=declared.bounds(described),
        scores=declared.scores(described),
        membership=declared.membership(described),
        off=frozenset({Rule.ZERO}) if zero else frozenset(),
        max_parquet_rows=policy.releases.max_parquet_rows,
        whole_tables=any(one.tables_whole for one in described),
        rounds=policy.releases.rounds is not False,
    )
