"""The broker's API, version 1: who may call what. The work itself is in the parts; here each caller is identified and
each path is checked.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy import RowMapping

from gdi.contracts import access as a
from gdi.contracts import broker_api as m
from gdi.contracts.beacon import VariantAnswer, VariantQuestion
from gdi.contracts.ids import GRANT_ID, GrantId, PodName, RunId
from gdi.contracts.notices import NoticeChoice, NoticeSettings
from gdi.kit import tracing
from gdi.kit.problem import ProblemError
from token_broker.authentication.callers import AirflowCaller, Caller, GatewayCaller, PodCaller, UserCaller
from token_broker.broker import Broker
from token_broker.runs.runs import as_run, unknown

router = APIRouter(prefix="/v1")


def the_broker(request: Request) -> Broker:
    broker: Broker = request.app.state.broker
    return broker


async def the_caller(
    request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> Caller:
    b = the_broker(request)
    caller = await b.callers.identify(authorization)
    b.limits.request(caller)
    return caller


def _forbidden(who: str) -> ProblemError:
    return ProblemError(403, "forbidden", f"This call is for {who}.", action="Send the token of the right party.")


async def user_only(caller: Annotated[Caller, Depends(the_caller)]) -> UserCaller:
    if not isinstance(caller, UserCaller):
        raise _forbidden("users")
    return caller


async def airflow_only(caller: Annotated[Caller, Depends(the_caller)]) -> AirflowCaller:
    if not isinstance(caller, AirflowCaller):
        raise _forbidden("Airflow's workload")
    return caller


async def workload_only(caller: Annotated[Caller, Depends(the_caller)]) -> AirflowCaller | PodCaller:
    if not isinstance(caller, (AirflowCaller, PodCaller)):
        raise _forbidden("workloads")
    return caller


async def writer_only(caller: Annotated[Caller, Depends(the_caller)]) -> AirflowCaller | PodCaller | GatewayCaller:
    if isinstance(caller, UserCaller):
        raise _forbidden("workloads and gateways")
    return caller


async def gateway_only(caller: Annotated[Caller, Depends(the_caller)]) -> GatewayCaller:
    if not isinstance(caller, GatewayCaller):
        raise _forbidden("enrolled gateways")
    return caller


B = Annotated[Broker, Depends(the_broker)]
AnyCaller = Annotated[Caller, Depends(the_caller)]
TheUser = Annotated[UserCaller, Depends(user_only)]
TheAirflow = Annotated[AirflowCaller, Depends(airflow_only)]
TheWorkload = Annotated[AirflowCaller | PodCaller, Depends(workload_only)]
TheWriter = Annotated[AirflowCaller | PodCaller | GatewayCaller, Depends(writer_only)]
TheGateway = Annotated[GatewayCaller, Depends(gateway_only)]


async def readable(b: Broker, run: str, caller: Caller) -> RowMapping:
    """The run's row if the caller may look at it: Airflow, its own user, a gateway of its plan. The same 404 for all
    others.
    """
    row = await b.runs.row(run)
    if row is not None:
        if isinstance(caller, AirflowCaller) or (isinstance(caller, UserCaller) and caller.sub == row["owner"]):
            return row
        if isinstance(caller, GatewayCaller) and caller.node.id in {p["node"] for p in row["plan"]}:
            return row
    raise unknown(run)


# --- being told of runs and consents ------------------------------------------------------------


@router.get("/me/notices", tags=["notices"])
async def read_notices(b: B, user: TheUser) -> NoticeSettings:
    return await b.notice_choices.get(user.sub)


@router.put("/me/notices", tags=["notices"])
async def choose_notices(
    b: B, user: TheUser, choice: NoticeChoice, authorization: Annotated[str, Header(include_in_schema=False)]
) -> NoticeSettings:
    """Of what you are told, and where. `secret`, of a new webhook, is told once."""
    return await b.notice_choices.put(user.sub, authorization.partition(" ")[2].strip(), choice)


# --- grants and tickets -------------------------------------------------------------------------


@router.post("/grants", status_code=201, tags=["grants"])
async def create_grant(
    b: B, user: TheUser, request: m.GrantRequest, authorization: Annotated[str, Header(include_in_schema=False)]
) -> m.Grant:
    """A user's consent, posted by their portal with their access token, which is exchanged (RFC 8693) and not kept."""
    return await b.grants.create(user.sub, authorization.partition(" ")[2].strip(), request)


@router.get("/grants", tags=["grants"])
async def list_grants(b: B, user: TheUser) -> list[m.Grant]:
    return await b.grants.list(user.sub)


@router.get("/grants/{grant}", tags=["grants"])
async def get_grant(b: B, user: TheUser, grant: GrantId) -> m.Grant:
    return await b.grants.get(grant, user.sub)


@router.delete("/grants/{grant}", tags=["grants"])
async def revoke_grant(b: B, user: TheUser, grant: GrantId) -> m.Grant:
    """Denied at once here; revoked at the provider (RFC 7009) in the background until that succeeds."""
    return await b.grants.revoke(grant, user.sub, actor=f"user:{user.sub}")


@router.post("/grants/{grant}/tickets", status_code=201, tags=["grants"])
async def create_ticket(b: B, user: TheUser, grant: GrantId, request: m.TicketRequest) -> m.Ticket:
    b.limits.ticket(user)
    return await b.tickets.create(grant, user.sub, request, actor=f"user:{user.sub}")


# --- variants -----------------------------------------------------------------------------------


@router.post("/variants", tags=["variants"])
async def carriers(b: B, user: TheUser, question: VariantQuestion) -> VariantAnswer:
    """Which nodes have carriers of a variant, by their public Beacons, all asked at once; 10 s at the most."""
    return await b.beacons.ask(question)


# --- schedules ----------------------------------------------------------------------------------


@router.post("/schedules/due", tags=["schedules"])
async def due(b: B, airflow: TheAirflow) -> m.DueStarts:
    """What schedules ask to be started now, each with its ticket. A POST: it makes tickets."""
    airflow.need("schedules")
    return m.DueStarts(starts=await b.schedules.due())


@router.post("/schedules/starts", status_code=204, tags=["schedules"])
async def report_start(b: B, airflow: TheAirflow, report: m.StartReport) -> Response:
    airflow.need("schedules")
    await b.schedules.report(report)
    return Response(status_code=204)


# --- runs ---------------------------------------------------------------------------------------


@router.post("/runs", tags=["runs"])
async def admit(b: B, airflow: TheAirflow, request: m.AdmitRequest) -> m.Run:
    airflow.need("admit")
    return await b.runs.admit(request)


@router.get("/runs", tags=["runs"])
async def open_runs(
    b: B,
    _: TheAirflow,
    after: Annotated[str, Query(max_length=22)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> m.OpenRuns:
    """Runs that are open, by id: for housekeeping."""
    return m.OpenRuns(runs=await b.runs.open_runs(after, limit))


@router.get("/runs/{run}", tags=["runs"])
async def get_run(b: B, caller: AnyCaller, run: RunId, response: Response) -> m.Run:
    """A gateway is told of its own node's part only: others are none of its business, and it asks every five seconds
    about a plan of a thousand nodes. The header `traceparent` tells it the run's trace.
    """
    row = await readable(b, run, caller)
    found = as_run(row)
    if isinstance(caller, GatewayCaller):
        if row["trace"]:
            response.headers[tracing.HEADER] = row["trace"]
        if await b.runs.open_for(row, caller.node.id):  # for a late node its run is open
            found = found.model_copy(update={"state": "open", "outcome": "", "closed_at": None})
        plan = [i.model_copy(update={"other_keys": []}) for i in found.plan if i.node == caller.node.id]
        failing = found.failing if found.failing is not None and found.failing.node == caller.node.id else None
        return found.model_copy(
            update={"plan": plan, "datasets": [d for item in plan for d in item.datasets], "failing": failing}
        )
    return found


@router.delete("/runs/{run}", tags=["runs"])
async def close_run(b: B, airflow: TheAirflow, run: RunId, request: m.CloseRequest) -> m.Run:
    airflow.need("close")
    return await b.runs.close(run, request)


@router.put("/runs/{run}/workloads/{pod}", tags=["runs"])
async def put_workload(b: B, airflow: TheAirflow, run: RunId, pod: PodName, request: m.WorkloadRequest) -> m.Workload:
    airflow.need("admit")
    return await b.workloads.put(run, pod, request)


# --- for the API of people and portals ------------------------------------------------------------


@router.get("/me", tags=["users"])
async def me(b: B, user: TheUser) -> a.TokenOwner:
    """Whose token this is: for a portal's own server, which need not be a client of LS AAI for that."""
    own = [committee.name for committee in b.enrolment.current.committees_of(user.sub)]
    return a.TokenOwner(sub=user.sub, client_id=user.client_id, committees=own)


@router.get("/me/runs", tags=["users"])
async def own_runs(
    b: B,
    user: TheUser,
    after: Annotated[float, Query(ge=0, le=1e12, allow_inf_nan=False)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> a.OwnRuns:
    found = await b.runs.owned(user.sub, after, limit + 1)
    return a.OwnRuns(runs=found[:limit], more=len(found) > limit)


@router.get("/datasets", tags=["users"])
async def datasets(
    b: B, user: TheUser, authorization: Annotated[str, Header(include_in_schema=False)]
) -> a.DatasetList:
    """The datasets of the federation, and what the user may use now, by the visas in their passport."""
    return await b.access.datasets(user.sub, authorization.partition(" ")[2].strip())


# --- tokens -------------------------------------------------------------------------------------


@router.post("/runs/{run}/tokens", tags=["tokens"])
async def run_token(b: B, caller: TheWorkload, run: RunId, request: m.TokenRequest) -> m.Token:
    return await b.tokens.run_token(run, caller, request)


@router.post("/runs/{run}/node-tokens", tags=["tokens"])
async def node_token(b: B, gateway: TheGateway, run: RunId, request: m.NodeTokenRequest) -> m.Token:
    return await b.tokens.node_token(run, gateway, request)


# --- events and audit ---------------------------------------------------------------------------


@router.post("/runs/{run}/events", status_code=204, tags=["events"])
async def post_events(b: B, caller: TheWriter, run: RunId, batch: m.EventBatch) -> Response:
    await b.events.post(run, caller, batch)
    return Response(status_code=204)


@router.get("/runs/{run}/events", tags=["events"], response_model=m.EventPage)
async def get_events(
    b: B,
    caller: AnyCaller,
    run: RunId,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> Response:
    """Events with a number above `after`, in order; a page ends early where it would grow large, and `next_after` is
    where the next one begins.
    """
    text = await b.events.page(await _watchable(b, run, caller), after, limit)
    return Response(text, media_type="application/json")


@router.get("/runs/{run}/jobs", tags=["events"], response_model=m.JobPage)
async def get_jobs(
    b: B,
    caller: AnyCaller,
    run: RunId,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=2000)] = 2000,
) -> Response:
    """Jobs of the current attempt with news after event number `after`; ask again with `next_after`, at once where
    there is `more`.
    """
    page = await b.events.jobs(await _watchable(b, run, caller), after, limit)
    return Response(page.model_dump_json(exclude_defaults=True), media_type="application/json")


@router.get("/runs/{run}/progress", tags=["events"])
async def get_progress(b: B, caller: AnyCaller, run: RunId) -> m.Progress:
    progress: m.Progress = await b.events.progress(await _watchable(b, run, caller))
    return progress


async def _watchable(b: Broker, run: str, caller: Caller) -> RowMapping:
    """Events are for Airflow and the run's user: a gateway has no need of another node's."""
    if isinstance(caller, GatewayCaller):
        raise _forbidden("the run's user and Airflow")
    return await readable(b, run, caller)


@router.get("/audit", tags=["audit"])
async def get_audit(
    b: B,
    caller: AnyCaller,
    run: Annotated[RunId | None, Query()] = None,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
) -> m.AuditPage:
    """A user reads what concerns them; an auditor and Airflow (of one run) all."""
    if isinstance(caller, UserCaller):
        auditor = caller.sub in b.enrolment.current.auditors
        return await b.audit.page(run=run, owner=None if auditor else caller.sub, after=after)
    if isinstance(caller, AirflowCaller) and run is not None:
        page = await b.audit.page(run=run, owner=None, after=after)
        return m.AuditPage(entries=[without_grant(entry) for entry in page.entries])
    raise _forbidden("users and auditors")


def without_grant(entry: m.AuditEntry) -> m.AuditEntry:
    """As Airflow reads it: which grant a user has is none of its business."""
    return entry.model_copy(update={"grant": None, "reason": re.sub(GRANT_ID, "g-…", entry.reason)})
