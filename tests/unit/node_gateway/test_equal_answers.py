"""Refusals, preflight and what is told of cohorts say nothing about people: at two nodes whose cohorts differ, but for
what rounding shows, the answers are the same, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gdi.contracts.cohorts import CohortChoice
from gdi.kit.problem import ProblemError
from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.judge import Judge
from node_gateway.node_orders import NodeOrders
from node_gateway.release import verdict
from tests.support.disclosure_node import DIGEST, DisclosureNode, disclosure_node, rows_of

STATUS = {"column": "status", "type": "category", "categories": ["case", "control"]}
SAMPLES = {"file": "s.tsv.c4gh", "format": "tsv", "person": "person", "phenotypes": [STATUS]}
FEWER, MORE = range(601), range(20, 629)  # both round to 600
CASE = CohortChoice(split="status", level="case")


def rows(people: Sequence[int]) -> list[dict[str, str]]:
    return [{"person": f"HG{one:05d}", "status": "case" if one % 3 else "control"} for one in people]


async def refusal(node: DisclosureNode, counted: Sequence[int], **how: Any) -> str:
    with pytest.raises(ProblemError) as refused:
        await node.release("DS1", rows_of(counted, 20), **how)
    return refused.value.problem.model_dump_json()


async def answers(node: DisclosureNode, people: Sequence[int]) -> list[str]:
    """Everything that says no, or says what may be asked, before and after something left."""
    node.describe("DS1", samples=SAMPLES, splits=["status"])
    await node.open_table("DS1", rows(people))
    orders, rest = NodeOrders(node.database), cast(Any, SimpleNamespace())
    judge = Judge("node-a", node.folder, "http://broker", node.releases.policy, rest, rest, orders, rest, rest, rest)
    claims = cast(Any, SimpleNamespace(workflow="allele-frequency", digest=DIGEST, datasets=["DS1"]))
    files = cast(Any, SimpleNamespace(workflow=SimpleNamespace(releases=[SimpleNamespace(kind="allele-counts")])))
    found = [str({name: one.model_dump_json() for name, one in (await orders.newest_cohorts()).items()})]
    for choice in (CohortChoice(), CASE, CohortChoice(epochs={"DS1": 2}), CohortChoice(split="status", level="x")):
        try:
            await judge._open(claims, files, choice)
            found.append("admitted")
        except RefusedOrder as refused:
            found.append(f"{refused.reason}: {refused.detail}")
    case, control = [one for one in people if one % 3], [one for one in people if not one % 3]
    levels = {"control": rows_of(control, 20)}
    found.append(await refusal(node, case, cohort=CASE, levels=levels))
    found.append(await refusal(node, people[1:]))
    await node.release("DS1", rows_of(people, 20))
    found.append(await refusal(node, case[1:], cohort=CASE, levels=levels))
    found.append(await refusal(node, case, cohort=CASE, levels={"control": rows_of(control[1:], 20)}))
    found.append(await refusal(node, case, cohort=CASE))
    return found


async def test_answers_that_release_nothing_are_equal_for_cohorts_of_other_sizes(tmp_path: Path) -> None:
    told = []
    for name, people in (("fewer", FEWER), ("more", MORE)):
        async with disclosure_node(tmp_path / name, tmp_path / "empty.db") as node:
            told.append(await answers(node, people))
    assert told[0] == told[1] and len(set(told[0])) == 7


async def test_with_numbers_in_a_refusal_the_same_reader_tells_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison finds what it looks for."""
    people = FEWER

    def counted() -> ProblemError:
        return ProblemError(403, "other-people", f"It has {len(people)} people.", action="Count all of them.")

    monkeypatch.setattr(verdict, "other_people", counted)
    told = []
    for name, people in (("fewer", FEWER), ("more", MORE)):
        async with disclosure_node(tmp_path / name, tmp_path / "empty.db") as node:
            told.append(await answers(node, people))
    assert told[0] != told[1]
