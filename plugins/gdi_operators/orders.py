"""Orders of a node's own agent, as the coordinator asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from gdi.contracts import approval
from gdi.contracts import broker_api as m
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.contracts.orders import OrderRequest
from gdi.contracts.workflow import CatalogueEntry
from gdi_operators.runs import Context, read_conf
from gdi_operators.settings import settings

LONGEST = timedelta(days=59)  # after the attempt was opened; the broker takes 60


def order_request(
    context: Context, run: m.Run, entry: CatalogueEntry, *, deadline: float, releases: Sequence[ReleaseRequest] = ()
) -> OrderRequest:
    """For this attempt, until `deadline` (epoch seconds). The broker takes it again where it is the same one."""
    return OrderRequest(
        attempt=run.attempt,
        deadline=deadline,
        version=entry.workflow.version,
        parameters=read_conf(context["dag_run"].conf, entry).parameters,
        releases=list(releases),
        approvals=approval.read(settings().need("workflows") / entry.workflow.name),
    )


def release_requests(entry: CatalogueEntry) -> list[ReleaseRequest]:
    """All that the workflow declares."""
    return [ReleaseRequest(name=r.name, path=r.path, kind=r.kind, review=r.review) for r in entry.workflow.releases]
