"""An order is admitted by the same decision as a run at the gateway's own door."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gdi.contracts.cohorts import CohortChoice
from gdi.contracts.orders import OrderClaims
from node_gateway.agent.decision import Admitted, RefusedOrder, need_images, need_purpose
from node_gateway.agent.judge import Judge
from node_gateway.node_orders import NodeOrders
from node_gateway.policy import Policy
from tests.support.disclosure_node import DIGEST, PEOPLE, disclosure_node, rows_of

FEMALE = CohortChoice(split="sex", level="female")


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
async def test_an_order_of_what_is_not_open_is_refused_before_anything_runs(tmp_path: Path, listed: bool) -> None:
    async with disclosure_node(tmp_path / "node", tmp_path / "empty.db") as node:
        node.describe("DS1", identifiers="one-per-person" if listed else None)
        await node.open_epoch("DS1", PEOPLE)
        rest: Any = SimpleNamespace()
        policy, orders = node.releases.policy, NodeOrders(node.database)
        judge = Judge("node-a", tmp_path, "http://broker", policy, rest, rest, orders, rest, rest, rest)
        claims = cast(Any, SimpleNamespace(workflow="allele-frequency", digest=DIGEST, datasets=["DS1"]))
        counts = SimpleNamespace(kind="allele-counts")
        files = cast(Any, SimpleNamespace(workflow=SimpleNamespace(releases=[counts])))
        if listed:
            await judge._open(claims, files, CohortChoice())
            await judge._open(claims, files, CohortChoice(epochs={"DS1": 1}))
            refusals = {"no such epoch": CohortChoice(epochs={"DS1": 2}), "no such level": FEMALE}
        else:
            refusals = {"are not listed": CohortChoice()}
        for why, cohort in refusals.items():
            with pytest.raises(RefusedOrder, match=why) as refused:
                await judge._open(claims, files, cohort)
            assert refused.value.reason == "not-open"
        counts.kind = "table"
        with pytest.raises(RefusedOrder, match=r"which the kind table cannot say|nothing of the kind table"):
            await judge._open(claims, files, FEMALE)


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        (["DUO:0000033"], "DS1 may not be used for the purpose that the run states: its use is limited to health"),
        (["DUO:0000006"], "is no purpose of research"),
        ("DUO:0000037", "must be a list"),
    ],
)
def test_a_run_whose_purpose_the_data_use_terms_forbid_is_refused_with_what_to_do(stated: Any, why: str) -> None:
    claims = cast(Any, SimpleNamespace(parameters={"purpose": stated}, datasets=["DS0", "DS1"]))
    terms = {"DS0": (), "DS1": ("DUO:0000006",)}
    with pytest.raises(RefusedOrder, match=why) as refused:
        need_purpose(claims, terms.__getitem__)
    assert refused.value.reason == "parameters"
    for good in ({"purpose": ["DUO:0000037"]}, {}):
        need_purpose(cast(Any, SimpleNamespace(parameters=good, datasets=["DS0", "DS1"])), terms.__getitem__)


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"images": ["a:*"]}, "does not allow the workflow's image b:1"),
        ({"images": ["*"], "present_images": ["a:*"]}, "image b:1 is missing at this node.*gdi workflow images w"),
        ({"images": ["*"], "present_images": []}, "image a:1 is missing at this node"),
        ({"images": ["*"], "present_images": ["a:1", "b:1"]}, ""),
        ({"images": ["*"]}, ""),
    ],
    ids=["not allowed", "one missing", "none there", "all there", "fetched when needed"],
)
def test_a_workflow_is_refused_by_the_name_of_the_image_that_is_missing(policy: dict[str, Any], why: str) -> None:
    workflow = cast(Any, SimpleNamespace(name="w", needs=SimpleNamespace(images=["a:1", "b:1"])))
    if not why:
        need_images(workflow, Policy.model_validate(policy))
        return
    with pytest.raises(RefusedOrder, match=why) as refused:
        need_images(workflow, Policy.model_validate(policy))
    assert refused.value.reason == "not-open"


async def test_a_run_keeps_the_epochs_of_its_first_analysis(tmp_path: Path) -> None:
    """One of as many people opens before the release: the counts are still those of the first, and are named so."""
    before, after = PEOPLE[:600], PEOPLE[20:620]
    async with disclosure_node(tmp_path / "node", tmp_path / "empty.db") as node:
        rest: Any = SimpleNamespace()
        orders = NodeOrders(node.database)
        judge = Judge("node-a", tmp_path, "http://broker", node.releases.policy, rest, rest, orders, rest, rest, rest)
        run = "r-" + "0" * 20

        async def analysed(attempt: int, dataset: str = "DS1") -> dict[str, Any]:
            claims = analysis_claims(run, attempt, dataset)
            await orders.add(claims, 1)
            admitted = await judge.one_analysis(claims, Admitted({"regions": 2}, approved=True, by="policy"))
            order = await orders.get(run, "analyse", attempt)
            assert order is not None
            await orders.change(order, state="running", parameters=admitted.parameters)
            await orders.change(order, state="succeeded")
            return admitted.parameters

        await node.open_epoch("DS1", before)
        parameters = await analysed(1)
        assert parameters == {"regions": 2, "cohort": {"epochs": {"DS1": 1}}}
        rows = rows_of(before)
        await node.open_epoch("DS1", after)
        assert await analysed(2) == parameters, "files of the first attempt may be among those of the second"
        cohort = await judge.analysed(analysis_claims(run, 2).model_copy(update={"kind": "release"}))
        answer = (await node.ask("DS1", rows, run=run, cohort=cohort))[1]
        assert answer["cohort"]["epochs"] == {"DS1": 1}
        later = analysis_claims(run, 3).model_copy(update={"parameters": {"cohort": {"epochs": {"DS1": 2}}}})
        with pytest.raises(RefusedOrder, match="Attempt 1 of this run was of other") as refused:
            await judge.one_analysis(later, Admitted({"regions": 2, **later.parameters}, approved=True, by="policy"))
        assert refused.value.reason == "order-differs"
        run = "r-" + "1" * 20
        assert await analysed(1, "DS2") == {"regions": 2}
        await node.open_epoch("DS2", PEOPLE[:40])
        with pytest.raises(RefusedOrder, match="An epoch of DS2 opened after this run began here"):
            await analysed(2, "DS2")


def analysis_claims(run: str, attempt: int, dataset: str = "DS1") -> OrderClaims:
    return OrderClaims(
        jti=f"{run[2]}{attempt:031x}",
        sub="mallory",
        node="node-a",
        workflow="allele-frequency",
        digest=DIGEST,
        datasets=[dataset],
        run=run,
        attempt=attempt,
        kind="analyse",
        deadline=time.time() + 600,
    )
