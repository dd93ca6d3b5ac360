"""What a committee's stop is of, and whose uses it sees: a person by each of their identities, datasets by their exact
letters, in SQLite too.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gdi.contracts.committees import CommitteeStop
from gdi.kit.problem import ProblemError
from token_broker.audit import Audit
from token_broker.committees.stops import Stops
from token_broker.committees.uses import UseFilter, Uses
from token_broker.db.store import BrokerDatabase, runs
from token_broker.enrolment import Committee, EnrolmentFile

COMMITTEE = Committee(name="dac-a", members=["bob"], datasets=["EGAD*"])


def stops_of(store: BrokerDatabase, folder: Path) -> Stops:
    file = folder / "enrolment.yaml"
    file.write_text("committees: [{name: dac-a, members: [bob], datasets: ['EGAD*']}]\n")
    return Stops(store, EnrolmentFile(file), Audit(store))


async def test_a_stop_is_of_the_person_by_whichever_identity(store: BrokerDatabase, tmp_path: Path) -> None:
    stops = stops_of(store, tmp_path)
    await stops.make(COMMITTEE, "bob", CommitteeStop(person="mallory", reason="why not"))
    for people, stopped in ((["mallory"], 1), (["alice", "mallory"], 1), (["alice"], 0), ([], 0)):
        assert len(await stops.of_person(people, ["EGAD1", "egad1"])) == stopped


async def test_a_run_on_another_identitys_visa_ends_with_that_identity(store: BrokerDatabase, tmp_path: Path) -> None:
    """Stopped while it runs: no token is handed out for it any more."""
    stops, run = stops_of(store, tmp_path), "r-" + "0" * 20
    values = {"id": run, "dag_id": "x", "dag_run_id": "y", "attempt": 1, "state": "open", "owner": "alice"}
    values |= {"workflow": "x", "digest": "", "grant_id": "", "parameters_hash": "", "plan": [], "opened_at": 0.0}
    async with store.write() as c:
        await c.execute(runs.insert().values(**values, datasets=["EGAD1", "EGAD2"]))
    for visa in ({"value": "EGAD1"}, None, {"value": "EGAD2", "sub": "mallory"}):
        await Audit(store).record("broker", "run.admit", owner="alice", run=run, dataset="EGAD1", visa=visa)
    _, ended = await stops.make(COMMITTEE, "bob", CommitteeStop(person="eve", reason="why not"))
    assert not ended
    await stops.check(run)
    _, ended = await stops.make(COMMITTEE, "bob", CommitteeStop(person="mallory", reason="why not"))
    assert [(one.id, one.user) for one in ended] == [(run, "alice")], "Airflow is told, once"
    with pytest.raises(ProblemError) as refused:
        await stops.check(run)
    assert refused.value.slug == "stopped-by-committee"


async def test_a_dataset_in_other_letters_is_not_the_committees(store: BrokerDatabase) -> None:
    """Anybody may ask for `egad1`, and is refused: that line must not break the committee's page."""
    audit = Audit(store)
    for dataset in ("EGAD1", "egad1", "EGA", "EGAD", "xEGAD1"):
        await audit.record("broker", "run.admit", allowed=False, owner="eve", run="r-" + "0" * 20, dataset=dataset)
    page = await Uses(store).page([COMMITTEE], UseFilter(), None, 10)
    assert [use.dataset for use in page.uses] == ["EGAD", "EGAD1"]
