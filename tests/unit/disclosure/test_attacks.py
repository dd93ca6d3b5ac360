"""Hostile authors, users and pairs of users over the real cohort, at the gateway's own check: each program learns
something true with the one rule off that stops it, and nothing with it on; its honest twin gets its numbers.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from node_gateway.db import store as db
from tests.support import (  # noqa: F401  # they register themselves
    attacks_author,
    attacks_kinds,
    attacks_matrix,
    attacks_moments,
    attacks_pair,
    attacks_user,
)
from tests.support.attacks import ATTACKS, Attack, switched_off
from tests.support.disclosure_node import DisclosureNode, disclosure_node


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("disclosure") / "empty.db"


def test_there_are_enough_of_them() -> None:
    assert len(ATTACKS) >= 40 and len({one.name for one in ATTACKS}) == len(ATTACKS)
    assert set(Counter(one.who for one in ATTACKS)) == {"author", "user", "pair"}


async def effects(node: DisclosureNode) -> None:
    """What is left of an attack: the store has files of releases only, the ledger cells of published ones only, and the
    audit tells of each of those, in a chain that is whole.
    """
    r, c = db.releases.c, db.ledger_cells.c
    async with node.database.read() as connection:
        rows = (await connection.execute(sa.select(r.number, r.state, r.key))).all()
        numbers = set((await connection.execute(sa.select(c.release).distinct())).scalars())
    published = {row.number for row in rows if row.state == "published"}
    assert numbers <= published
    assert all(any(name.startswith(row.key) for row in rows) for name in node.area.objects)
    audit = node.releases.audit
    actions = Counter([str(one["action"]) async for one in audit.lines()])
    approved = actions["review-approved"]
    assert await audit.verify() == actions.total() and actions["release-published"] + approved == len(published)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: f"{one.who}-{one.name}")
async def test_an_attack_learns_nothing_and_much_without_its_rule(
    attack: Attack, template: Path, tmp_path: Path
) -> None:
    async with disclosure_node(tmp_path / "on", template) as node:
        assert await attack.program(node) == [], attack.rule
        exact = await attack.twin(node)
        await effects(node)
    async with disclosure_node(tmp_path / "off", template) as node:
        with switched_off(attack.rule, node):
            learnt = await attack.program(node)
    assert learnt, f"the attack is none: with the rule {attack.rule} off it learns nothing"
    assert exact > 50, "an honest user of the same node gets numbers"
    print(
        f"{attack.who} {attack.name}: {len(learnt)} facts without {attack.rule}; the honest user gets {exact} numbers"
    )
