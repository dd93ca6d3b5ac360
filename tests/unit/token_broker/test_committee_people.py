"""What a committee's stop is of, and whose uses it sees: a person by each of their identities, datasets by their exact
letters, in SQLite too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gdi.contracts.committees import CommitteeStop
from token_broker.audit import Audit
from token_broker.committees.stops import Stops
from token_broker.committees.uses import UseFilter, Uses
from token_broker.db.store import BrokerDatabase
from token_broker.enrolment import Committee, EnrolmentFile

COMMITTEE = Committee(name="dac-a", members=["bob"], datasets=["EGAD*"])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BrokerDatabase]:
    found = BrokerDatabase.open(f"sqlite+aiosqlite:///{tmp_path}/broker.db")
    await found.create()
    yield found
    await found.close()


async def test_a_stop_is_of_the_person_by_whichever_identity(store: BrokerDatabase, tmp_path: Path) -> None:
    file = tmp_path / "enrolment.yaml"
    file.write_text("committees: [{name: dac-a, members: [bob], datasets: ['EGAD*']}]\n")
    stops = Stops(store, EnrolmentFile(file), Audit(store))
    await stops.make(COMMITTEE, "bob", CommitteeStop(person="mallory", reason="why not"))
    for people, stopped in ((["mallory"], 1), (["alice", "mallory"], 1), (["alice"], 0), ([], 0)):
        assert len(await stops.of_person(people, ["EGAD1", "egad1"])) == stopped


async def test_a_dataset_in_other_letters_is_not_the_committees(store: BrokerDatabase) -> None:
    """Anybody may ask for `egad1`, and is refused: that line must not break the committee's page."""
    audit = Audit(store)
    for dataset in ("EGAD1", "egad1", "EGA", "EGAD", "xEGAD1"):
        await audit.record("broker", "run.admit", allowed=False, owner="eve", run="r-" + "0" * 20, dataset=dataset)
    page = await Uses(store).page([COMMITTEE], UseFilter(), None, 10)
    assert [use.dataset for use in page.uses] == ["EGAD", "EGAD1"]
