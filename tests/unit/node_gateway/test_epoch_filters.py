"""Which genotypes count belongs to an epoch; another filter is another epoch. Beside it: a release says which datasets
elsewhere have some of the same people.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts.descriptor import Descriptor, GenotypeFilter
from gdi.contracts.workflow import Workflow
from gdi.kit.problem import ProblemError
from node_gateway.agent.decision import RefusedOrder, need_filters
from node_gateway.datasets import _described
from node_gateway.epochs import command, store
from node_gateway.epochs.admission import OpenEpoch
from node_gateway.explanation import of_descriptor
from tests.support.disclosure_node import PEOPLE, DisclosureNode, disclosure_node, rows_of

PASSED, DEEP = GenotypeFilter(passed=True), GenotypeFilter(least_quality=20, least_depth=8, ploidy=2)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[DisclosureNode]:
    async with disclosure_node(tmp_path / "node", tmp_path / "empty.db") as node:
        yield node


async def opened(node: DisclosureNode, counts: GenotypeFilter | None) -> Descriptor:
    """An epoch of everybody, with the filter that the descriptor has then."""
    node.describe("DS1", filter=counts and counts.model_dump(mode="json", exclude_defaults=True))
    described = node.releases.policy.datasets.required("DS1")
    await node.open_epoch("DS1", PEOPLE, descriptor=described)
    return described


async def test_an_epoch_keeps_the_filter_that_it_opened_with(node: DisclosureNode) -> None:
    for counts in (None, PASSED, DEEP):
        described = await opened(node, counts)
    async with node.database.read() as connection:
        epochs = await store.all_epochs(connection)
    assert [one.genotypes for one in epochs] == [None, PASSED, DEEP]
    assert [one.facts.filtered for one in epochs] == [False, True, True]
    told = _described(described, [one.cohorts for one in epochs]).model_dump(mode="json")["epochs"]
    assert "filter" not in told[0] and told[2]["filter"]["least_depth"] == 8, "what a workflow reads"
    lines = (await command.lines(node.database)).splitlines()
    assert len(lines[0].split("\t")) == 4
    assert lines[2].endswith("genotypes with GQ of at least 20, DP of at least 8, ploidy 2")
    assert any("the next epoch counts genotypes with GQ" in line for line in of_descriptor(described))


async def test_what_left_of_the_same_people_answers_the_next_filter_too(node: DisclosureNode) -> None:
    """Two filters over the same people would tell whose genotypes are poor."""
    await opened(node, None)
    before = (await node.release("DS1", rows_of(PEOPLE, 40))).exact()
    await opened(node, PASSED)
    fewer = rows_of(PEOPLE, 40)
    for row in fewer:
        if row["het"]:
            row.update(het=row["het"] - 1, missing=row["missing"] + 1, ac=row["ac"] - 1, an=row["an"] - 2)
    assert before and (await node.release("DS1", fewer)).exact() == before


async def test_filtered_genotypes_are_answered_with_an_epoch_only(node: DisclosureNode) -> None:
    node.describe("DS1", filter={"passed": True})
    with pytest.raises(ProblemError, match="no epoch says how"):
        await node.ask("DS1", rows_of(PEOPLE, 5))


@pytest.mark.parametrize(
    "wrong",
    [{}, {"passed": False}, {"least_quality": 0}, {"ploidy": 3}, {"least_depth": 1.5}, {"where": "GQ>20"}],
    ids=str,
)
def test_a_filter_that_is_none_is_refused_by_its_field(wrong: dict[str, Any]) -> None:
    described = {"dataset": "DS1", "assembly": "GRCh37", "membership": "contract"}
    with pytest.raises(ValueError, match="filter"):
        Descriptor.model_validate({**described, "filter": wrong})
    with pytest.raises(ValueError, match="names no people"):
        Descriptor.model_validate({**described, "dataset": "DS*", "filter": {"passed": True}})


def test_a_workflow_that_knows_no_filters_is_refused_by_name() -> None:
    named = {"name": "sample-qc", "title": "", "version": "1"}
    plain, able = (Workflow.model_validate({**named, "filters": filters}) for filters in (False, True))
    epochs = [OpenEpoch("DS1", 1), OpenEpoch("DS2", 4, filtered=True)]
    with pytest.raises(RefusedOrder, match=r"Epoch 4 of DS2 counts some genotypes only, and sample-qc knows no"):
        need_filters(plain, epochs)
    need_filters(able, epochs)
    need_filters(plain, epochs[:1])


async def test_a_release_names_datasets_elsewhere_with_the_same_people(node: DisclosureNode) -> None:
    node.describe("DS2", overlaps=[{"dataset": "DS9", "node": "node-b"}, {"dataset": "DS8"}])
    told = (await node.release("DS2", rows_of(PEOPLE, 5))).released["overlaps"]
    assert [(one["dataset"], one["other"], one["node"]) for one in told] == [
        ("DS2", "DS9", "node-b"),
        ("DS2", "DS8", None),
    ]
    assert "overlaps" not in (await node.release("DS1", rows_of(PEOPLE, 5))).released
