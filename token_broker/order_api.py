"""The broker's API on nodes with an agent of their own: orders, work, workflows' files, pushed releases, status,
preflight.
"""

from __future__ import annotations

import base64
import re
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from gdi.contracts import orders as o
from gdi.contracts.ids import DIGEST, NODE_ID, RUN_ID, Digest, NodeId, ReleaseName, RunId, Sha256
from gdi.contracts.nodes import Heartbeat, Nodes, PreflightAnswer, PreflightReply, PreflightRequest
from gdi.contracts.packed_workflow import MAX_PACK
from gdi.kit.problem import ProblemError
from gdi.result_store.model import CHUNK
from token_broker.api import AnyCaller, B, TheAirflow, TheGateway, TheUser
from token_broker.authentication.callers import AirflowCaller, GatewayCaller

router = APIRouter(prefix="/v1")
LARGER = {  # bytes of a body, where they may be more than elsewhere
    rf"/v1/workflows/{DIGEST}": MAX_PACK,
    rf"/v1/runs/{RUN_ID}/releases/{NODE_ID}/[a-z0-9-]+": CHUNK,
}
MAX_WAIT = 30.0


def need_own(gateway: GatewayCaller, node: str) -> None:
    if gateway.node.id != node:
        raise ProblemError(403, "wrong-node", f"This is {gateway.node.id}'s key.", action="A node acts for itself.")


# --- orders -------------------------------------------------------------------------------------


@router.put("/runs/{run}/orders/{node}/{kind}", tags=["orders"])
async def put_order(
    b: B, airflow: TheAirflow, run: RunId, node: NodeId, kind: o.OrderKind, request: o.OrderRequest
) -> o.OrderStatus:
    """What the node's agent is to do. The same again changes nothing; another body is 409."""
    airflow.need({"release": "releases", "close": "close"}.get(kind, "admit"))  # type: ignore[arg-type]
    return await b.orders.put(run, node, kind, request)


@router.get("/runs/{run}/orders/{node}/{kind}", tags=["orders"])
async def get_order(
    b: B, caller: AnyCaller, run: RunId, node: NodeId, kind: o.OrderKind, attempt: Annotated[int, Query(ge=1)]
) -> o.OrderStatus:
    if isinstance(caller, GatewayCaller):
        need_own(caller, node)
    elif not isinstance(caller, AirflowCaller):
        raise ProblemError(403, "forbidden", "This call is for Airflow and the node.", action="Ask for the progress.")
    return await b.orders.get(run, node, kind, attempt)


@router.delete("/runs/{run}/orders/{node}/{kind}", tags=["orders"])
async def cancel_order(
    b: B,
    airflow: TheAirflow,
    run: RunId,
    node: NodeId,
    kind: o.OrderKind,
    attempt: Annotated[int, Query(ge=1)],
    why: Annotated[str, Query(max_length=500)] = "a person ended it",
) -> o.OrderStatus:
    """Asks for its end, whatever its state; no error where it is over."""
    airflow.need({"release": "releases", "close": "close"}.get(kind, "admit"))  # type: ignore[arg-type]
    return await b.orders.cancel(run, node, kind, attempt, why)


@router.post("/runs/{run}/orders/{node}/{kind}/take", tags=["orders"])
async def take_order(
    b: B, gateway: TheGateway, run: RunId, node: NodeId, kind: o.OrderKind, request: o.OrderTake
) -> o.OrderStatus:
    need_own(gateway, node)
    return await b.orders.take(run, node, kind, request)


@router.post("/runs/{run}/orders/{node}/{kind}/report", tags=["orders"])
async def report_order(
    b: B, gateway: TheGateway, run: RunId, node: NodeId, kind: o.OrderKind, request: o.OrderReport
) -> o.OrderStatus:
    need_own(gateway, node)
    return await b.orders.report(run, node, kind, request)


@router.get("/late-parts", tags=["orders"])
async def get_late_parts(b: B, airflow: TheAirflow) -> o.LateParts:
    """Parts of closed runs that came late, or will not come any more: to be added to the answer, and forgotten."""
    airflow.need("releases")
    return await b.orders.late_parts()


@router.delete("/runs/{run}/late-parts/{node}", status_code=204, tags=["orders"])
async def forget_late_part(
    b: B, airflow: TheAirflow, run: RunId, node: NodeId, attempt: Annotated[int, Query(ge=1)]
) -> Response:
    airflow.need("releases")
    await b.orders.forget_late(run, node, attempt)
    return Response(status_code=204)


# --- nodes --------------------------------------------------------------------------------------


@router.get("/nodes", tags=["nodes"])
async def get_nodes(b: B, _: AnyCaller) -> Nodes:
    """All enrolled nodes as they were last heard of; one that was never seen says so."""
    return Nodes(nodes=await b.nodes.all())


@router.put("/nodes/{node}/status", status_code=204, tags=["nodes"])
async def put_status(b: B, gateway: TheGateway, node: NodeId, beat: Heartbeat) -> Response:
    need_own(gateway, node)
    await b.nodes.heard(gateway.node, beat)
    return Response(status_code=204)


@router.get("/nodes/{node}/work", tags=["nodes"])
async def get_work(
    b: B,
    gateway: TheGateway,
    node: NodeId,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT)] = 0,
) -> o.Work:
    """Orders and questions with news since `after`, at once or within `wait` seconds."""
    need_own(gateway, node)
    return await b.board.work(node, after, wait)


# --- preflight ----------------------------------------------------------------------------------


@router.post("/preflight", tags=["nodes"])
async def preflight(
    b: B, user: TheUser, request: PreflightRequest, authorization: Annotated[str, Header(include_in_schema=False)]
) -> PreflightAnswer:
    """Asks all nodes at once whether a run would be admitted; answers within 10 s, by node."""
    return await b.preflights.ask(user.sub, authorization.partition(" ")[2].strip(), request)


@router.post("/preflights/{preflight}/{node}", status_code=204, tags=["nodes"])
async def answer_preflight(
    b: B, gateway: TheGateway, preflight: o.Nonce, node: NodeId, reply: PreflightReply
) -> Response:
    need_own(gateway, node)
    await b.preflights.reply(preflight, node, reply)
    return Response(status_code=204)


# --- files --------------------------------------------------------------------------------------


@router.post("/workflows/missing", tags=["orders"])
async def missing_workflows(b: B, airflow: TheAirflow, versions: o.WorkflowDigests) -> o.WorkflowDigests:
    """Which of these versions' files the broker has not: Airflow brings those of its catalogue before they are run, so
    that nodes can judge them at a preflight.
    """
    airflow.need("admit")
    return o.WorkflowDigests(digests=await b.workflows.missing(versions.digests))


@router.put("/workflows/{digest}", status_code=204, tags=["orders"])
async def put_workflow(b: B, airflow: TheAirflow, digest: Digest, request: Request) -> Response:
    """A workflow's files, as the bytes that their digest is of; 4 MiB at most."""
    airflow.need("admit")
    await b.workflows.put(digest, await request.body())
    return Response(status_code=204)


@router.get("/workflows/{digest}", tags=["orders"])
async def get_workflow(b: B, caller: AnyCaller, digest: Digest) -> Response:
    if not isinstance(caller, (AirflowCaller, GatewayCaller)):
        raise ProblemError(403, "forbidden", "This call is for nodes and Airflow.", action="See the catalogue.")
    return Response(await b.workflows.get(digest), media_type="application/octet-stream")


@router.get("/runs/{run}/releases/{node}/{name}", tags=["orders"])
async def get_offset(
    b: B, gateway: TheGateway, run: RunId, node: NodeId, name: ReleaseName, sha256: Annotated[Sha256, Query()]
) -> o.StoredRelease:
    """How much of a release the coordinator has: where to go on."""
    need_own(gateway, node)
    await b.orders.need_release(run, node, name)
    return await b.release_store.offset(run, node, name, sha256)


@router.put("/runs/{run}/releases/{node}/{name}", tags=["orders"])
async def put_chunk(
    request: Request,
    gateway: TheGateway,
    run: RunId,
    node: NodeId,
    name: ReleaseName,
    sha256: Annotated[Sha256, Query()],
    offset: Annotated[int, Query(ge=0)],
    total: Annotated[int, Query(ge=1, le=2**40)],
    content_digest: Annotated[str, Header(max_length=200)],
    b: B,
) -> o.StoredRelease:
    """The next chunk (8 MiB at most) of the release of this SHA-256; `Content-Digest` (RFC 9530) is the chunk's own."""
    need_own(gateway, node)
    await b.orders.need_release(run, node, name)
    return await b.release_store.put(
        run,
        node,
        name,
        sha256,
        offset=offset,
        total=total,
        chunk_sha256=_chunk_sha256(content_digest),
        body=request.stream(),
    )


def _chunk_sha256(header: str) -> str:
    """In hex. ProblemError 422 where the header (a dictionary of digests, RFC 9530 §2) has no SHA-256."""
    for one in header.split(","):  # no digest has a comma
        found = re.fullmatch(r"sha-256=:([A-Za-z0-9+/]{43}=):(?:;.*)?", one.strip(" \t"))
        if found is not None:
            return base64.b64decode(found[1]).hex()
    raise ProblemError(
        422, "wrong-hash", "The header Content-Digest has no SHA-256 (RFC 9530).", action="Send sha-256=:BASE64:."
    )
