"""What a run leaves with a node that its answer was made without: the node goes on by itself until its own deadline,
and finds the order to release what it computed (decision 852).
"""

from __future__ import annotations

import logging
from datetime import timedelta

from gdi.contracts import approval
from gdi.contracts import broker_api as m
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.contracts.orders import ENDED_ORDER, OrderRequest, OrderStatus
from gdi_operators.admitted_workflow import entry_of_run
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.runs import Context, read_conf
from gdi_operators.settings import settings

log = logging.getLogger(__name__)
REVIEW = timedelta(days=14)  # beyond the analysis' deadline: a person may have to look
LONGEST = timedelta(days=59)  # after the attempt was opened; the broker takes 60


def leave(hook: TokenBrokerHook, context: Context, run: m.Run) -> list[str]:
    """The nodes that are late: each has, or now gets, an order to release what it computes."""
    found = []
    for status in hook.progress(run.id).orders:
        if status.kind not in ("analyse", "release") or status.state in ENDED_ORDER or status.cancelling:
            continue
        if status.kind == "analyse":
            _order_release(hook, context, run, status)
        found.append(status.node)
    for node in found:
        log.warning("%s is late. It goes on, and its part makes the next version of the answer.", node)
    return found


def _order_release(hook: TokenBrokerHook, context: Context, run: m.Run, analysis: OrderStatus) -> None:
    """Put again, it is the same one: its deadline counts from the analysis' own."""
    entry = entry_of_run(run.workflow, run)
    latest = run.opened_at + LONGEST.total_seconds()
    request = OrderRequest(
        attempt=run.attempt,
        deadline=max(analysis.deadline, min(analysis.deadline + REVIEW.total_seconds(), latest)),
        version=entry.workflow.version,
        parameters=read_conf(context["dag_run"].conf, entry).parameters,
        releases=[
            ReleaseRequest(name=r.name, path=r.path, kind=r.kind, review=r.review) for r in entry.workflow.releases
        ],
        approvals=approval.read(settings().need("workflows") / run.workflow),
    )
    hook.put_order(run.id, analysis.node, "release", request)
