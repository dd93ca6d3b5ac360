"""The ledger keeps what left by kind and key, for every set of datasets that shares one with it."""

from __future__ import annotations

import pytest

from gdi.releases.kind import Cell
from node_gateway.db import store as db
from node_gateway.db.store import GatewayDatabase
from node_gateway.release import ledger


@pytest.mark.parametrize("sets", [1, ledger.FEW + 5])
async def test_what_left_is_found_by_kind_key_and_shared_dataset(database: GatewayDatabase, sets: int) -> None:
    async with database.write() as c:
        for number in range(sets):
            of = await ledger.datasets_id(c, ["DS-A", f"DS-{number}"])
            await ledger.write(c, of, "one", [Cell("x", (number + 7, 20)), Cell("y", (9,))], number)
            await ledger.write(c, of, "one", [Cell("x", (number + 7, 20))], 99)  # the same again is kept once
        stranger = await ledger.datasets_id(c, ["DS-OTHER"])
        await ledger.write(c, stranger, "one", [Cell("x", (1000,))], 0)
        await ledger.write(c, await ledger.datasets_id(c, ["DS-A"]), "two", [Cell("x", (2000,))], 0)
    async with database.read() as c:
        past = await ledger.with_cells(c, await ledger.cohorts(c, ["DS-A"]), "one", ["x", "z"])
        assert list(past.cells) == ["x"] and "DS-OTHER" not in frozenset().union(*past.cohorts.values())
        assert sorted(past.cells["x"].values()) == [(number + 7, 20) for number in range(sets)]
        two = await ledger.with_cells(c, past, "two", ["x", "y"])
        assert two.number is not None and two.cells == {"x": {two.number: (2000,)}} and two.same("x") == (2000,)
        new = await ledger.with_cells(c, await ledger.cohorts(c, ["DS-NEW"]), "one", ["x"])
        assert new.cells == {} and new.number is None


async def test_of_what_left_of_one_cohort_the_first_counts(database: GatewayDatabase) -> None:
    async with database.write() as c:
        of = await ledger.datasets_id(c, ["DS-A"])
        for release, count in ((7, 30), (3, 20), (5, 25)):
            await ledger.write(c, of, "one", [Cell("x", (count,))], release)
    async with database.read() as c:
        past = await ledger.with_cells(c, await ledger.cohorts(c, ["DS-A"]), "one", ["x"])
        assert past.same("x") == (20,)


async def test_more_cells_than_are_asked_for_at_once_are_all_kept(database: GatewayDatabase) -> None:
    keys = [f"1:{i}:A:C" for i in range(2 * ledger.BATCH + 1)]
    async with database.write() as c:
        of = await ledger.datasets_id(c, ["DS-A"])
        await ledger.write(c, of, "one", (Cell(key, (i,)) for i, key in enumerate(keys)), 1)
    async with database.read() as c:
        past = await ledger.with_cells(c, await ledger.cohorts(c, ["DS-A"]), "one", keys)
        assert past.cells == {key: {of: (i,)} for i, key in enumerate(keys)}


@pytest.mark.parametrize("cell", [Cell("x" * (db.MAX_KEY + 1), (1,)), Cell("ü", (1,)), Cell("x", ())])
async def test_a_cell_that_the_ledger_cannot_hold_stops_the_release(database: GatewayDatabase, cell: Cell) -> None:
    with pytest.raises(ValueError, match="the kind one names a cell that the ledger cannot hold"):
        async with database.write() as c:
            await ledger.write(c, await ledger.datasets_id(c, ["DS-A"]), "one", [cell], 1)
