"""What waits for a person, or was refused, has not left: it answers nobody. What was approved is remembered."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gdi.kit.problem import ProblemError
from gdi.releases.allele_counts import parquet
from gdi.releases.columns import ABOUT
from node_gateway.db import store as db
from node_gateway.epochs.command import EpochRefused
from tests.support.disclosure_node import PEOPLE, DisclosureNode, disclosure_node, rows_of
from tests.support.second_kind import second_kind  # noqa: F401

SITES = 60
HONEST = rows_of(PEOPLE, SITES)


def invented() -> list[dict[str, Any]]:
    """Other counts of as many people."""
    moved = [dict(row, hom_ref=row["hom_ref"] - 10, het=row["het"] + 10, ac=row["ac"] + 10) for row in HONEST]
    return [row if row["hom_ref"] > 20 else old for row, old in zip(moved, HONEST, strict=True)]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[DisclosureNode]:
    async with disclosure_node(tmp_path / "node", tmp_path / "empty.db") as node:
        await node.open_epoch("DS1", PEOPLE)
        yield node


async def decide(node: DisclosureNode, run: str, approve: bool) -> None:
    case = await node.releases.reviews.case(run, "counts")
    await node.releases.reviews.decide(run, "counts", case.sha256, reviewer="bob", approve=approve, reason="")


@pytest.mark.parametrize("refused", [False, True], ids=["waiting", "refused"])
async def test_numbers_that_did_not_leave_answer_nobody(node: DisclosureNode, refused: bool) -> None:
    alone = (await node.release("DS2", HONEST)).exact()
    _, _, hostile = await node.ask("DS1", invented(), review=True)
    if refused:
        await decide(node, hostile.run, approve=False)
    assert (await node.release("DS1", HONEST)).exact() == alone


async def test_an_approval_beside_something_else_that_left_meanwhile_is_none(node: DisclosureNode) -> None:
    _, _, hostile = await node.ask("DS1", invented(), review=True)
    await node.release("DS1", HONEST)
    with pytest.raises(ProblemError) as error:
        await decide(node, hostile.run, approve=True)
    assert error.value.slug == "rules-changed" and "left since" in str(error.value)
    await decide(node, hostile.run, approve=False)


async def test_two_that_wait_with_the_same_numbers_are_both_approved_and_remembered(node: DisclosureNode) -> None:
    _, _, first = await node.ask("DS1", invented(), review=True)
    _, _, second = await node.ask("DS1", invented(), review=True)
    await decide(node, second.run, approve=True)
    await decide(node, first.run, approve=True)
    _, answer, third = await node.ask("DS1", HONEST)
    told = (await node.published(third.run, answer)).exact()
    before = (await node.published(second.run, answer)).exact()
    assert told == before, "what left is the answer from then on"


async def test_a_budget_is_paid_for_what_only_waited_before(node: DisclosureNode) -> None:
    """Waiting numbers were free for others, and given back when they were refused: frequencies without end."""
    node.describe("DS1", membership="sensitive", run_share=0.9)
    _, _, waiting = await node.ask("DS1", HONEST, review=True)
    await node.release("DS1", HONEST)
    await decide(node, waiting.run, approve=False)
    async with node.database.read() as connection:
        paid = (await connection.execute(db.budget_uses.select())).all()
    assert len(paid) == 1 and paid[0].statistics > 0


async def test_a_first_epoch_after_something_left_wants_the_operators_word(node: DisclosureNode) -> None:
    """Whole (629, before any epoch) less both sexes of the 628 who stayed gave the genotypes of who had left."""
    await node.release("DS2", HONEST)
    with pytest.raises(EpochRefused, match="nobody wrote down of whom"):
        await node.open_epoch("DS2", PEOPLE)
    assert "is open" in await node.open_epoch("DS2", PEOPLE, same_people=True)


def as_columns(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    sorted_rows = sorted(rows, key=lambda row: (row["chrom"], row["pos"], row["ref"], row["alt"]))
    about = json.dumps({"format": parquet.FORMAT})
    pl.DataFrame(sorted_rows, schema=parquet.SCHEMA).write_parquet(out, metadata={ABOUT: about})
    return out.getvalue()


async def test_what_left_in_columns_wants_the_operators_word_too(node: DisclosureNode) -> None:
    await node.ask("DS2", as_columns(HONEST))
    with pytest.raises(EpochRefused, match="nobody wrote down of whom"):
        await node.open_epoch("DS2", PEOPLE)


async def test_another_release_of_the_same_bytes_does_not_make_the_ledger_unreadable(node: DisclosureNode) -> None:
    """An allele that neither lists is in the cells of the second only."""
    rare = dict(HONEST[0], pos=1, ac=1, hom_ref=628, het=1, hom_alt=0, missing=0, an=1258)
    _, first, caller = await node.ask("DS1", as_columns(HONEST))
    _, second, _ = await node.ask("DS1", as_columns([*HONEST, rare]), run=caller.run)
    assert first["sha256"] == second["sha256"]
    assert (await node.release("DS1", HONEST)).exact(), "and others are answered as before"


async def test_a_kind_that_is_not_compared_with_others_is_asked_for_where_the_dataset_names_it(
    node: DisclosureNode, second_kind: str
) -> None:
    kind = second_kind
    node.policy(releases={"kinds": ["allele-counts", kind]})
    for kinds in ([], ["allele-counts"]):
        node.describe("DS1", kinds=kinds)
        with pytest.raises(ProblemError) as error:
            await node.ask("DS1", b"{}", kind=kind)
        assert error.value.slug == "forbidden-check"
    node.describe("DS1", kinds=[kind])
    with pytest.raises(ProblemError) as error:
        await node.ask("DS1", b"{}", kind=kind)
    assert error.value.slug == "release-refused"


@pytest.mark.parametrize("kind", ["table", "variant-statistics"])
async def test_a_kind_that_is_compared_with_others_is_asked_for_unless_the_dataset_names_only_others(
    node: DisclosureNode, kind: str
) -> None:
    node.policy(releases={"kinds": ["allele-counts", kind]})
    for kinds, slug in (([], "release-refused"), ([kind], "release-refused"), (["allele-counts"], "forbidden-check")):
        node.describe("DS1", kinds=kinds)
        with pytest.raises(ProblemError) as error:
            await node.ask("DS1", b"{}", kind=kind)
        assert error.value.slug == slug, kinds
