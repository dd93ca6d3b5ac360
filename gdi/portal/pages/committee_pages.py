"""For members of access committees: which of their datasets were used, by whom, under which visa, what left; stop a run
or a person after a question; a report for a period. The broker says who is a member, and shows each their own only.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Response

from gdi.contracts.committees import CommitteeEntry, CommitteeStop, DatasetUse, StoppedRun
from gdi.contracts.ids import RUN_ID, WORKFLOW_NAME, is_dataset_id, matches
from gdi.contracts.run_endings import COMMITTEE_NOTE
from gdi.kit.problem import ProblemError
from gdi.kit.report import MOST_IN_CSV, MOST_IN_PDF, TableReport, download
from gdi.kit.times import date as moment
from gdi.portal.pages.visits import P, PageRoute, Visit, see

log = logging.getLogger(__name__)
router = APIRouter(prefix="/committee", route_class=PageRoute, include_in_schema=False)
Text = Annotated[str, Query(max_length=300)]
PAGE, PERIOD = 50, 30  # rows; days before today, where no period is chosen
COLUMNS = ("time", "dataset", "node", "person", "visa", "visa_ends", "workflow", "run", "ended", "left")
WIDTHS = (9, 11, 7, 14, 18, 9, 16, 13, 9, 20)


@dataclass(frozen=True)
class Chosen:
    """The form above the table, as it was sent: days are whole, in UTC, and the last is included."""

    since: str
    until: str
    dataset: str = ""
    user: str = ""
    run: str = ""
    workflow: str = ""
    refused: bool = False

    def query(self) -> dict[str, Any]:
        """For the broker. ValueError for what is no day, id or name."""
        since, until = (
            datetime.combine(date.fromisoformat(d), datetime.min.time(), UTC) for d in (self.since, self.until)
        )
        if self.dataset and not is_dataset_id(self.dataset):
            raise ValueError(self.dataset)
        for pattern, text in ((RUN_ID, self.run), (WORKFLOW_NAME, self.workflow)):
            if text and not matches(pattern, text):
                raise ValueError(text)
        named = {"dataset": self.dataset, "user": self.user, "run": self.run, "workflow": self.workflow}
        period = {"since": since.timestamp(), "until": (until + timedelta(days=1)).timestamp()}
        return {**period, **{k: v for k, v in named.items() if v}, **({"refused": True} if self.refused else {})}


async def chosen(
    since: Text = "",
    until: Text = "",
    dataset: Text = "",
    user: Text = "",
    run: Text = "",
    workflow: Text = "",
    refused: Text = "",
) -> Chosen:
    today = datetime.now(UTC).date()
    first = since.strip() or (today - timedelta(days=PERIOD)).isoformat()
    last, person = until.strip() or today.isoformat(), user.strip()
    return Chosen(first, last, dataset.strip(), person, run.strip(), workflow.strip(), bool(refused))


W = Annotated[Chosen, Depends(chosen)]


def _query(p: Visit, wanted: Chosen) -> dict[str, Any]:
    try:
        return wanted.query()
    except (ValueError, OverflowError):
        raise ProblemError(
            422, "invalid-request", p.texts("committee.bad_filter"), action=p.texts("problem.back")
        ) from None


async def _own(p: Visit) -> list[CommitteeEntry]:
    """ProblemError 403 for whoever is in no committee."""
    return (await p.door.broker.committees(p.who.token)).committees


@router.get("")
async def uses(
    p: P,
    wanted: W,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
) -> Response:
    own = await _own(p)
    query = _query(p, wanted)
    page = await p.door.broker.uses(p.who.token, {**query, "limit": PAGE, **({"before": before} if before else {})})
    stops = (await p.door.broker.stops(p.who.token)).stops
    people = {(s.committee, s.person) for s in stops if s.person and s.lifted_at is None}
    return p.page(
        "committee.html",
        section="committee",
        committees=own,
        wanted=wanted,
        address="&".join(f"{k}={v}" for k, v in _address(wanted).items()),
        uses=page.uses,
        next_before=page.next_before,
        stops=stops,
        stopped_runs={s.run for s in stops if s.run},
        stopped_people=people,
    )


def _address(wanted: Chosen) -> dict[str, str]:
    given = {k: str(v) for k, v in vars(wanted).items() if v and k != "refused"}
    return {k: quote(v, safe="") for k, v in given.items()} | ({"refused": "yes"} if wanted.refused else {})


# --- the report ----------------------------------------------------------------------------------


@router.get("/report.{kind}")
async def report(
    p: P,
    wanted: W,
    kind: Literal["csv", "pdf"],
) -> Response:
    """All uses of a period, the oldest first."""
    own = await _own(p)
    query, most = _query(p, wanted), MOST_IN_CSV if kind == "csv" else MOST_IN_PDF
    found: list[DatasetUse] = []
    before: int | None = None
    while True:
        page = await p.door.broker.uses(p.who.token, {**query, "limit": 1000, **({"before": before} if before else {})})
        found += page.uses
        before = page.next_before
        if len(found) > most:
            raise ProblemError(
                422, "invalid-request", p.texts("committee.too_long", count=most), action=p.texts("committee.narrow")
            )
        if before is None:
            break
    return await download(_report(p, own, wanted, found[::-1]), kind, f"uses-{wanted.since}-{wanted.until}")


def _report(p: Visit, own: list[CommitteeEntry], wanted: Chosen, found: list[DatasetUse]) -> TableReport:
    t = p.texts
    admitted = [use for use in found if use.allowed]
    counts = {
        "uses": len(admitted),
        "people": len({use.user for use in admitted}),
        "datasets": len({use.dataset for use in admitted}),
        "refused": len(found) - len(admitted),
        "releases": sum(len(use.released) for use in found),
    }
    facts = [
        (t("committee.period"), t("committee.from_to", since=wanted.since, until=wanted.until)),
        (t("committee.of"), "; ".join(f"{c.title or c.name} ({', '.join(c.datasets)})" for c in own)),
        *((t.word("usecount", name), str(count)) for name, count in counts.items()),
        (t("committee.made"), f"{moment(datetime.now(UTC).timestamp())}, {p.who.caller.sub}"),
    ]
    filters = {k: v for k, v in vars(wanted).items() if k not in ("since", "until") and v}
    if filters:
        facts.append((t("committee.only"), ", ".join(f"{k}: {v}" for k, v in filters.items())))
    return TableReport(
        title=t("committee.report"),
        facts=facts,
        columns=[t.word("usecolumn", name) for name in COLUMNS],
        rows=[_row(p, use) for use in found],
        widths=WIDTHS,
    )


def _row(p: Visit, use: DatasetUse) -> list[str]:
    t, visa = p.texts, use.visa or {}
    return [
        moment(use.time),
        use.dataset,
        use.node or "",
        use.user,
        f"{visa.get('source', '')} ({visa.get('by') or visa.get('iss', '')})" if visa else "",
        moment(float(visa["ends_at"])) if visa.get("ends_at") else "",
        f"{use.workflow} {(use.digest or '')[:19]}",
        use.run,
        t.word("useend", use.outcome or use.state) if use.allowed else f"{t('committee.refused')}: {use.reason}",
        "; ".join(f"{one.name}: {one.count} ({one.kind}), SHA-256 {one.sha256[:16]}" for one in use.released),
    ]


# --- stopping --------------------------------------------------------------------------------------


@router.get("/stop")
async def ask_stop(p: P, committee: Text = "", run: Text = "", user: Text = "") -> Response:
    """Says what would end."""
    await _known(p, committee)
    query: dict[str, Any] = {"run": run} if run else {"user": user, "limit": 1000}
    if bool(run) == bool(user) or (run and not matches(RUN_ID, run)):
        raise ProblemError(422, "invalid-request", p.texts("committee.bad_filter"), action=p.texts("problem.back"))
    found = (await p.door.broker.uses(p.who.token, query)).uses
    going = {use.run: use for use in found if use.state == "open" and use.committee == committee}
    return p.page(
        "committee_stop.html",
        section="committee",
        committee=committee,
        run=run,
        person=user,
        going=list(going.values()),
    )


@router.post("/stop")
async def stop(p: P) -> Response:
    await _known(p, p.first("committee"))
    run, person, reason = p.first("run"), p.first("person"), p.first("reason")
    if bool(run) == bool(person) or not 3 <= len(reason) <= 500 or (run and not matches(RUN_ID, run)):
        raise ProblemError(422, "invalid-request", p.texts("committee.need_reason"), action=p.texts("problem.back"))
    request = CommitteeStop(run=run or None, person=person or None, reason=" ".join(reason.split()))
    made = await p.door.broker.make_stop(p.who.token, p.first("committee"), request)
    note = f"{COMMITTEE_NOTE}{made.stop.committee}: {made.stop.reason}"
    away = [one for one in made.runs if not await _end(p, one, note)]
    return p.page("committee_stopped.html", section="committee", stop=made.stop, runs=made.runs, away=away)


async def _end(p: Visit, run: StoppedRun, note: str) -> bool:
    """Whether Airflow was told. The stop holds without: the run's jobs get no token any more."""
    try:
        await p.door.airflow.stop(run.dag_id, run.dag_run_id, note)
    except ProblemError as error:
        log.warning("run %s was stopped by a committee, and Airflow could not be told: %s", run.id, error.slug)
        return False
    return True


@router.post("/lift/{number}")
async def lift(p: P, number: Annotated[int, Path(ge=1, le=2**53)]) -> Response:
    await p.door.broker.lift_stop(p.who.token, number)
    return see("/committee")


async def _known(p: Visit, committee: str) -> None:
    if committee not in {one.name for one in await _own(p)}:
        raise ProblemError(403, "forbidden", p.texts("committee.not_yours"), action=p.texts("problem.back"))
