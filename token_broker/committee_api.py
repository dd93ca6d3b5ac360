"""The broker's API for members of access committees: the uses of their datasets, and stops. Whoever is in no committee
of the enrolment is refused.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from gdi.contracts import committees as m
from gdi.contracts.ids import DatasetId, RunId, WorkflowName
from gdi.kit.problem import ProblemError
from token_broker.api import B, TheUser
from token_broker.committees.uses import MAX_PAGE, UseFilter
from token_broker.enrolment import Committee

router = APIRouter(prefix="/v1/committees", tags=["committees"])
Moment = Annotated[float | None, Query(ge=0, le=1e12, allow_inf_nan=False)]


async def own_committees(b: B, user: TheUser) -> list[Committee]:
    found = b.enrolment.current.committees_of(user.sub)
    if not found:
        await b.audit.record(f"user:{user.sub}", "committee.look", allowed=False, owner=user.sub, reason="forbidden")
        raise ProblemError(
            403,
            "forbidden",
            "This call is for members of an access committee.",
            action="The broker's operator names them in the enrolment, under `committees`.",
        )
    return found


Own = Annotated[list[Committee], Depends(own_committees)]


@router.get("")
async def list_committees(own: Own) -> m.Committees:
    """Those that you are a member of."""
    return m.Committees(committees=[m.CommitteeEntry(name=c.name, title=c.title, datasets=c.datasets) for c in own])


@router.get("/uses")
async def list_uses(
    b: B,
    user: TheUser,
    own: Own,
    dataset: Annotated[DatasetId | None, Query()] = None,
    person: Annotated[str | None, Query(max_length=255, alias="user")] = None,
    run: Annotated[RunId | None, Query()] = None,
    workflow: Annotated[WorkflowName | None, Query()] = None,
    since: Moment = None,
    until: Moment = None,
    refused: bool = False,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> m.UsePage:
    """Uses of your committees' datasets, the latest first."""
    wanted = UseFilter(dataset, person, run, workflow, since, until, refused)
    if before is None:
        given = {name: value for name, value in vars(wanted).items() if value not in (None, False)}
        await b.audit.record(f"user:{user.sub}", "committee.look", reason=str(given)[:2000])
    return await b.uses.page(own, wanted, before, limit)


@router.get("/stops")
async def list_stops(b: B, own: Own) -> m.StopList:
    """Your committees' stops, the latest first."""
    return m.StopList(stops=await b.stops.all(own))


@router.post("/{name}/stops", status_code=201)
async def make_stop(
    b: B, user: TheUser, own: Own, name: Annotated[m.CommitteeName, Path()], request: m.CommitteeStop
) -> m.StopAnswer:
    """Stops a run, or a person for all of the committee's datasets: no token is handed out for it any more. Sent again,
    it is the same stop.
    """
    committee = next((one for one in own if one.name == name), None)
    if committee is None:
        raise ProblemError(403, "forbidden", f"You are no member of {name}.", action="List your committees.")
    stop, runs = await b.stops.make(committee, user.sub, request)
    return m.StopAnswer(stop=stop, runs=runs)


@router.delete("/stops/{stop}")
async def lift_stop(b: B, user: TheUser, own: Own, stop: Annotated[int, Path(ge=1, le=2**53)]) -> m.Stop:
    """A person's stop ends: they may start again where their visas allow it."""
    return await b.stops.lift(own, user.sub, stop)
