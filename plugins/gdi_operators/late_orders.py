"""What a run leaves with a node that its answer was made without: the node goes on by itself until its own deadline,
and finds the order to release what it computed (decision 852).
"""

from __future__ import annotations

import logging
from datetime import timedelta

from gdi.contracts import broker_api as m
from gdi.contracts.orders import ENDED_ORDER, OrderStatus
from gdi_operators.admitted_workflow import entry_of_run
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.orders import LONGEST, order_request, release_requests
from gdi_operators.runs import Context

log = logging.getLogger(__name__)
REVIEW = timedelta(days=14)  # beyond the analysis' deadline: a person may have to look


def leave(hook: TokenBrokerHook, context: Context, run: m.Run) -> list[str]:
    """The nodes that are late: each has, or now gets, an order to release what it computes."""
    found = dict[str, None]()  # at a second try an analysis and its release may both go on
    for status in hook.progress(run.id).orders:
        if status.kind not in ("analyse", "release") or status.state in ENDED_ORDER or status.cancelling:
            continue
        if status.kind == "analyse":
            _order_release(hook, context, run, status)
        found[status.node] = None
    for node in found:
        log.warning("%s is late. It goes on, and its part makes the next version of the answer.", node)
    return list(found)


def _order_release(hook: TokenBrokerHook, context: Context, run: m.Run, analysis: OrderStatus) -> None:
    """Put again, it is the same one: its deadline counts from the analysis' own."""
    entry = entry_of_run(run.workflow, run)
    latest = run.opened_at + LONGEST.total_seconds()
    deadline = max(analysis.deadline, min(analysis.deadline + REVIEW.total_seconds(), latest))
    request = order_request(context, run, entry, deadline=deadline, releases=release_requests(entry))
    hook.put_order(run.id, analysis.node, "release", request)
