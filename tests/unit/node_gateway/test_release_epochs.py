"""A release is of the epoch whose people its run counted, and of no later one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts.cohorts import CohortChoice
from gdi.kit.problem import ProblemError
from node_gateway.db import store as db
from node_gateway.epochs.contents import FileContents
from node_gateway.listed_files import Listed
from tests.support.disclosure_node import PEOPLE, DisclosureNode, disclosure_node, rows_of

RUN = "r-" + "9" * 20
BEFORE, AFTER = PEOPLE[:600], PEOPLE[20:620]
FIRST, SECOND = CohortChoice(epochs={"DS1": 1}), CohortChoice(epochs={"DS1": 2})


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[DisclosureNode]:
    async with disclosure_node(tmp_path / "node", tmp_path / "empty.db") as node:
        yield node


async def begin(node: DisclosureNode) -> None:
    """The run's first task."""
    values: dict[str, Any] = {"run": RUN, "job": "count", "try": "1", "attempt": 1, "user": "mallory", "intent": "i"}
    values |= {"phase": "created", "key_fingerprint": "k", "created_at": time.time()}
    async with node.database.write() as connection:
        await connection.execute(db.tasks.insert().values(**values, inputs=[], outputs=[]))


async def refusal(node: DisclosureNode, cohort: CohortChoice | None = None, dataset: str = "DS1") -> str:
    with pytest.raises(ProblemError) as error:
        await node.ask(dataset, rows_of(BEFORE, 20), run=RUN, cohort=cohort)
    return error.value.slug


async def test_an_epoch_that_opens_while_a_run_counts_is_not_the_one_it_counted(node: DisclosureNode) -> None:
    await node.open_epoch("DS1", BEFORE)
    await begin(node)
    await node.open_epoch("DS1", AFTER)
    for _ in range(2):  # again the same
        assert (await node.ask("DS1", rows_of(BEFORE, 20), run=RUN))[1]["cohort"]["epochs"] == {"DS1": 1}


async def test_a_first_epoch_that_opens_while_a_run_counts_is_refused(node: DisclosureNode) -> None:
    await begin(node)
    await node.open_epoch("DS1", BEFORE)
    assert await refusal(node) == "not-open"


async def test_the_same_bytes_are_no_answer_for_others(node: DisclosureNode) -> None:
    await node.open_epoch("DS1", BEFORE)
    await node.open_epoch("DS1", AFTER)
    first = (await node.ask("DS1", rows_of(BEFORE, 20), run=RUN, cohort=FIRST))[1]
    assert await refusal(node, SECOND) == "release-mismatch"
    assert await refusal(node, None, "DS2") == "release-mismatch"
    for again in (FIRST, None):
        assert (await node.ask("DS1", rows_of(BEFORE, 20), run=RUN, cohort=again))[1] == first


@pytest.mark.parametrize("read_before", [True, False], ids=["read before too", "read after only"])
async def test_files_that_were_read_after_the_next_epoch_opened_are_of_that(
    node: DisclosureNode, read_before: bool
) -> None:
    contents, file = FileContents(node.database), Listed("cohort.vcf.gz.c4gh", 9, None, checksum="a" * 64)
    await node.open_epoch("DS1", BEFORE)
    if read_before:
        await contents.note("DS1", file)
    await node.open_epoch("DS1", AFTER)
    await contents.note("DS1", file)
    if read_before:
        await node.ask("DS1", rows_of(BEFORE, 20), run=RUN, cohort=FIRST)
    else:
        assert await refusal(node, FIRST) == "changed-files"
