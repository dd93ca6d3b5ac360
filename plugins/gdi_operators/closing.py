"""Telling a run's gateways that an attempt is over, before the broker closes it: while it is open there are run tokens
for them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

import httpx

from gdi.contracts import broker_api as m
from gdi.contracts.orders import ENDED_ORDER, OrderRequest
from gdi.kit.problem import ProblemError
from gdi_operators.hooks.gateway import GatewayClient
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.orders import LONGEST
from gdi_operators.retry import short
from gdi_operators.runs import NODE

log = logging.getLogger(__name__)
POLL = 0.5


def untold(hook: TokenBrokerHook, run: m.Run, *, patience: float, late: Collection[str] = ()) -> list[str]:
    """The gateways of the plan that could not be told, each with what went wrong; the others cancelled the attempt's
    tasks and ended its capabilities.

    None where somebody else closed the attempt meanwhile (housekeeping beside the DAG run's own teardown, or twice at
    once): they told the gateways, and there are no tokens of it any more to tell them with.
    """
    found = []
    for item in run.plan:
        if item.node in late:  # it goes on
            continue
        if item.placement == NODE:
            order_close(hook, run, item.node, patience)
            continue
        try:
            GatewayClient(hook, run.id, item.model_dump(mode="json"), patience=patience).close(run.attempt)
        except (httpx.TransportError, ProblemError) as error:
            log.warning("The gateway of %s could not be told: %s", item.node, short(error))
            found.append(f"{item.node} ({short(error)})")
    if found and _closed_meanwhile(hook, run):
        log.info("Run %s, attempt %d was closed by another meanwhile.", run.id, run.attempt)
        return []
    return found


def _closed_meanwhile(hook: TokenBrokerHook, run: m.Run) -> bool:
    now = hook.get_run(run.id)
    return now is not None and now.attempt == run.attempt and now.state == "closed"


def order_close(hook: TokenBrokerHook, run: m.Run, node: str, patience: float) -> None:
    """An order of the node's own agent; it is waited for, but one that is away hears it when it is back."""
    deadline = run.opened_at + LONGEST.total_seconds()
    try:
        status = hook.put_order(run.id, node, "close", OrderRequest(attempt=run.attempt, deadline=deadline))
        end = time.monotonic() + patience
        while status.state not in ENDED_ORDER and time.monotonic() < end:
            time.sleep(POLL)
            status = hook.order(run.id, node, "close", run.attempt)
    except (httpx.TransportError, ProblemError) as error:
        log.warning("%s has no order to close: %s", node, short(error))
        return
    if status.state not in ENDED_ORDER:
        log.warning("%s has not closed the run yet: it does so when it is back.", node)
