"""What would come of a start: parameters and consent here, access at the broker, and what each node says itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping

from gdi.contracts import approval
from gdi.contracts import portal_api as p
from gdi.contracts.nodes import NodePreflight, PreflightAnswer, PreflightRequest
from gdi.contracts.overlaps import counted_twice
from gdi.contracts.workflow import CatalogueEntry
from gdi.kit.problem import ProblemError
from gdi.portal.consents import covering
from gdi.portal.door import Door

READY = "Ready."
UNSEEN = "It has not got this version of the workflow yet: check again in a minute, or start, and it decides then."


async def checked(d: Door, token: str, request: p.StartCheck) -> p.StartChecked:
    """ProblemError 404 `workflow-unknown`; what else is wrong is in the answer. The nodes are asked where the broker
    has not had enough questions of this user (30 an hour): else only the centre's part is told.
    """
    entry = await asyncio.to_thread(d.catalogue.entry, request.workflow)
    mistakes = await asyncio.to_thread(entry.workflow.check_parameters, request.parameters)
    known, statuses, grants, answer = await asyncio.gather(
        d.broker.datasets(token),
        d.broker.nodes(token),
        d.broker.grants(token),
        _nodes_say(d, token, request, entry),
    )
    states = {n.id: n for n in (await d.nodes.list(statuses.nodes)).nodes}
    by_id = {found.id: found for found in known.datasets}
    prefixes = tuple(prefix for listed in known.prefixes.values() for prefix in listed)
    unknown = [d for d in request.datasets if d not in by_id and not d.startswith(prefixes or ("\0",))]
    says = {part.node: part for part in answer.nodes} if answer else {}
    chosen: dict[str, list[str]] = {}
    for dataset in request.datasets:
        if dataset in by_id:
            chosen.setdefault(by_id[dataset].node, []).append(dataset)
    nodes = [
        _node(node, [by_id[i] for i in datasets], states, says.get(node), chosen)
        for node, datasets in sorted(chosen.items())
    ]
    wrong = [
        *mistakes,
        *(f"{dataset} is held by no node" for dataset in unknown),
        *(f"{part.node}: {part.sentence}" for part in nodes if not part.ready),
    ]
    return p.StartChecked(
        ready=not wrong,
        mistakes=mistakes,
        nodes=nodes,
        unknown_datasets=unknown,
        grants=[g.id for g in covering(grants, request.workflow, request.datasets)],
        sentence=_one(wrong) if wrong else "Everything is ready.",
    )


async def _nodes_say(d: Door, token: str, request: p.StartCheck, entry: CatalogueEntry) -> PreflightAnswer | None:
    question = PreflightRequest(
        workflow=request.workflow,
        parameters=request.parameters,
        datasets=request.datasets,
        digest=entry.digest,
        approvals=await asyncio.to_thread(approval.read, entry.folder) or None,
    )
    try:
        return await d.broker.preflight(token, question)
    except ProblemError as error:
        if error.problem.status in (401, 403):
            raise
        return None


def _node(
    node: str,
    datasets: list[p.DatasetEntry],
    states: dict[str, p.NodeEntry],
    answer: NodePreflight | None,
    chosen: Mapping[str, Collection[str]],
) -> p.NodeCheck:
    """`chosen`: by node, the datasets of the run."""
    twice = counted_twice({node: answer.overlaps}, chosen) if answer is not None else []
    unseen = answer is not None and answer.admitted is False and answer.reason == "workflow-away"
    refused = [entry for entry in datasets if entry.access.state != "granted"]
    state: p.NodeState = states[node].state if node in states else "unknown"
    if refused:
        sentence = f"{refused[0].id}: {refused[0].access.sentence}"
    elif answer is not None and answer.admitted is False and not unseen:
        sentence = answer.detail or f"The node would not admit it ({answer.reason})."
    elif state == "away":
        sentence = states[node].sentence
    else:
        sentence = ""
    ready = " ".join([_queue(answer) or READY, *twice])
    words = sentence or (UNSEEN if unseen else ready)
    return p.NodeCheck(node=node, state=state, datasets=datasets, ready=not sentence, sentence=words, answer=answer)


def _queue(answer: NodePreflight | None) -> str:
    """That the run would have to wait, where the node says for how long."""
    if answer is None or not answer.expected:
        return ""
    minutes = max(1, round(answer.expected / 60))
    return f"The node is busy: {answer.queued} analyses come first; this one would begin in about {minutes} min."


def _one(wrong: Iterable[str]) -> str:
    return "; ".join(wrong)[:1000]
