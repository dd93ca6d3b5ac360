"""Epochs: who is behind a dataset is frozen by the operator, as keyed hashes, and no two epochs differ by few
people."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from gdi.contracts.cohorts import CohortChoice
from gdi.contracts.descriptor import Descriptor
from gdi.kit.jose import SigningKey
from node_gateway.db import store as db
from node_gateway.db.store import GatewayDatabase
from node_gateway.epochs import command, persons, store
from node_gateway.epochs.admission import cohort_names
from node_gateway.epochs.command import EpochRefused
from node_gateway.epochs.opening import small_parts
from node_gateway.epochs.persons import PersonsError
from node_gateway.release import ledger

KEY = SigningKey.generate()
PEOPLE = [f"HG{number:05d}" for number in range(629)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "persons.txt"


async def opening(database: GatewayDatabase, file: Path, dataset: str, ids: list[str], *, dry_run: bool = False) -> str:
    file.write_text("\n".join(ids) + "\n")
    return await command.open_(database, KEY, command.Opening(dataset, file), dry_run=dry_run)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [("a\nb\n\na\n", "line 4: the person of line 1"), ("", "names nobody"), ("a\tb\n", "line 1: an id is one word")],
)
def test_a_list_that_is_none_is_refused_with_its_line_and_no_id(text: str, mistake: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(PersonsError, match=mistake):
        persons.read(file)


def test_a_level_that_no_run_can_name_is_refused_and_is_not_told_of(file: Path) -> None:
    country = "x" * 101
    file.write_text("person\tcountry\n" + "".join(f"p{n}\t{country}\n" for n in range(30)))
    samples = {"file": "s.tsv.c4gh", "format": "tsv", "person": "person", "country": "country"}
    values = {"dataset": "DS1", "assembly": "GRCh37", "membership": "contract", "samples": samples}
    with pytest.raises(PersonsError, match="a value of country has more than 100 characters") as refused:
        persons.read_table(file, Descriptor.model_validate({**values, "splits": ["country"]}), 20)
    assert country not in str(refused.value)
    before = store.Epoch("DS1", 1, 30, 0.0, {"country": [country, "fr"], "sex": ["female", "male"]})
    assert before.cohorts.splits == {"sex": ("female", "male")}, "opened by a version that did not refuse it"


def test_a_person_has_one_hash_at_a_node_and_another_at_the_next() -> None:
    mine, others = persons.hashed(KEY, ["HG1"]), persons.hashed(SigningKey.generate(), ["HG1"])
    assert mine == persons.hashed(KEY, ["HG1"]) != others
    assert persons.hashed(KEY, ["HG1", "HG2"]) > mine


@pytest.mark.parametrize(
    ("ids", "part"),
    [
        ([*PEOPLE, "NEW"], "joiners"),
        (PEOPLE[:-1], "leavers"),
        ([*PEOPLE[:-1], "NEW"], "leavers"),
        ([*PEOPLE[:19], *(f"NEW{n}" for n in range(100))], "overlap"),
        (PEOPLE[:19], "joiners"),
    ],
    ids=["one joins", "one leaves", "one is swapped", "few are shared", "a small dataset"],
)
async def test_an_epoch_that_differs_by_few_people_does_not_open_and_the_operator_reads_which(
    database: GatewayDatabase, file: Path, ids: list[str], part: str
) -> None:
    await opening(database, file, "DS-1", PEOPLE)
    for dataset in ("DS-1", "DS-2"):  # the next epoch, and another dataset with the same people
        with pytest.raises(EpochRefused) as refused:
            await opening(database, file, dataset, ids)
        found = small_parts(set(ids), dataset, {"DS-1": ("DS-1", set(PEOPLE))}, 20)
        assert part in {small.part for small in found}
        assert all(small.sentence(20) in str(refused.value) for small in found) and "HG0" not in str(refused.value)
    assert [epoch.number for epoch in await all_epochs(database)] == [1]


async def all_epochs(database: GatewayDatabase) -> list[store.Epoch]:
    async with database.read() as connection:
        return await store.all_epochs(connection)


async def test_enough_joiners_open_the_next_epoch_and_a_dry_run_opens_nothing(
    database: GatewayDatabase, file: Path
) -> None:
    assert "629 people would open" in await opening(database, file, "DS-1", PEOPLE, dry_run=True)
    assert await all_epochs(database) == []
    await opening(database, file, "DS-1", PEOPLE)
    await opening(database, file, "DS-1", [*PEOPLE, *(f"NEW{n}" for n in range(20))])
    assert [(e.name, e.people) for e in await all_epochs(database)] == [("DS-1", 629), ("DS-1@2", 649)]
    assert [line.split("\t")[:3] for line in (await command.lines(database)).splitlines()] == [
        ["DS-1", "epoch 1", "629 people"],
        ["DS-1", "epoch 2", "649 people"],
    ]
    async with database.read() as connection:
        facts = [epoch.facts for epoch in await store.all_epochs(connection)]
        assert cohort_names(["DS-1", "DS-9"], facts, CohortChoice()) == ["DS-1@2", "DS-9"]
        assert cohort_names(["DS-1"], facts, CohortChoice(epochs={"DS-1": 1})) == ["DS-1"]
        stored = set((await connection.execute(sa.select(db.epoch_people.c.person))).scalars())
        assert len(stored) == 649 and not any("HG" in person or "NEW" in person for person in stored)


async def test_the_ledgers_cohorts_are_people_where_they_are_listed(database: GatewayDatabase, file: Path) -> None:
    await opening(database, file, "DS-1", PEOPLE)
    await opening(database, file, "DS-2", [*PEOPLE[:300], *(f"NEW{n}" for n in range(50))])
    async with database.write() as connection:
        for names in (["DS-1"], ["DS-2"], ["DS-UNLISTED"]):
            await ledger.datasets_id(connection, names)
    async with database.read() as connection:
        past = await ledger.cohorts(connection, ["DS-2"])
        assert past.listed and len(past.own) == 350 and sorted(map(len, past.cohorts.values())) == [350, 629]
        assert past.number is not None and past.cohorts[past.number] == past.own
        plain = await ledger.cohorts(connection, ["DS-UNLISTED"])
        assert not plain.listed and plain.own == {"dataset DS-UNLISTED"}


def test_a_sample_table_in_parquet_reads_as_the_same_in_tsv_or_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "people"
    good = {"person": ["a", "b"], "age": [40, None], "height": [1.5, 2.0], "case": [True, False]}
    pl.DataFrame(good).write_parquet(file)
    rows = [row for _, row in persons._lines(file, set(good))]
    assert rows == [
        {"person": "a", "age": "40", "height": "1.5", "case": "true"},
        {"person": "b", "age": "", "height": "2.0", "case": "false"},
    ]
    for columns, data in (({"sex"}, None), ({"list"}, None), ({"person"}, b"PAR1 and no more")):
        pl.DataFrame({**good, "list": [[1], [2]]}).write_parquet(file)
        if data is not None:
            file.write_bytes(data)
        with pytest.raises(persons.PersonsError):
            persons.column(file, *columns)
