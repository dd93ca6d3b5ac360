"""People who are in datasets of two nodes: what is said before a run, and of its answer."""

from __future__ import annotations

from typing import Any

import pytest

from gdi.contracts.access import DatasetEntry
from gdi.contracts.descriptor import Descriptor
from gdi.contracts.gateway_api import Released
from gdi.contracts.nodes import NodePreflight, PreflightReply
from gdi.contracts.overlaps import MOST, SharedPeople, counted_twice, shared_people
from gdi.portal import preflight

SAYS = "Some people of DS1 at node-a are in DS2 at node-b as well, as node-a says: a sum over both counts them twice."


def shared(**changes: Any) -> SharedPeople:
    return SharedPeople.model_validate({"dataset": "DS1", "other": "DS2", "node": "node-b", **changes})


@pytest.mark.parametrize(
    ("says", "datasets", "sentences"),
    [
        ({"node-a": [shared()]}, {"node-a": ["DS1"], "node-b": ["DS2"]}, [SAYS]),
        ({"node-a": [shared(node=None)]}, {"node-a": ["DS1"], "node-b": ["DS2", "DS3"]}, [SAYS]),
        (
            {"node-a": [shared()], "node-b": [shared(dataset="DS2", other="DS1", node="node-a")]},
            {"node-a": ["DS1"], "node-b": ["DS2"]},
            [SAYS],
        ),
        ({"node-a": [shared()]}, {"node-a": ["DS1"], "node-c": ["DS2"]}, []),
        ({"node-a": [shared()]}, {"node-a": ["DS4"], "node-b": ["DS2"]}, []),
        ({"node-a": [shared(node=None)]}, {"node-a": ["DS1", "DS2"], "node-b": ["DS3"]}, []),
        ({}, {"node-a": ["DS1"], "node-b": ["DS2"]}, []),
    ],
    ids=["named", "somewhere", "both say it", "another node", "not asked", "at one node", "nobody says it"],
)
def test_a_sum_over_both_is_said_once(
    says: dict[str, list[SharedPeople]], datasets: dict[str, list[str]], sentences: list[str]
) -> None:
    assert counted_twice(says, datasets) == sentences


def test_it_is_of_the_descriptor_and_bounded() -> None:
    described = {"assembly": "GRCh37", "membership": "contract"}
    many = [{"dataset": f"DS{n}"} for n in range(2, 802)]
    two = [Descriptor.model_validate({"dataset": f"DS{n}", "overlaps": many, **described}) for n in (900, 901)]
    found = shared_people([two[0], None, two[1]])
    assert len(found) == MOST and found[0] == shared(dataset="DS900", node=None)


def test_who_has_none_says_what_older_readers_know() -> None:
    assert "overlaps" not in PreflightReply(admitted=True).model_dump()
    url = "https://n.example/releases/r/counts"
    plain = Released(name="counts", sha256="0" * 64, url=url, signature="a.b.c")
    assert "overlaps" not in plain.model_dump() and plain.model_copy(update={"overlaps": [shared()]}).overlaps


def test_the_check_before_a_start_says_it_beside_the_node() -> None:
    access = {"state": "granted", "sentence": ""}
    entries = [DatasetEntry.model_validate({"id": "DS1", "node": "node-a", "access": access})]
    answer = NodePreflight(
        node="node-a", datasets=["DS1"], life="up", placement="node", admitted=True, overlaps=[shared()]
    )
    for asked, says in ((["DS2"], SAYS), (["DS3"], "")):
        found = preflight._node("node-a", entries, {}, answer, {"node-a": ["DS1"], "node-b": asked})
        assert found.ready and found.sentence == f"Ready. {says}".strip()
