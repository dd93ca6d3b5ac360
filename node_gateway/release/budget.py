"""The budget of `sensitive` people: what releases took of it, and which units another may still release."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.kit.problem import ProblemError
from gdi.releases.disclosure import membership
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Cell, CheckedUnits, NodeHalf
from node_gateway.db import store as db

BUDGET = "membership-budget"  # the reason of units that stay for it, at the node


@dataclass(frozen=True)
class CohortBudget:
    """What is `left` of it for those of a cohort of `people` who have least, and what this run may take of that."""

    people: int
    left: float
    run: float

    @property
    def statistics(self) -> int:
        """How many numbers that have not left yet may leave now."""
        return membership.affordable(self.people, max(0.0, min(self.left, self.run)))


async def read(connection: AsyncConnection, past: Past, run: str, share: float) -> CohortBudget:
    """The cohort's budget. Costs of all cohorts add up for the people that they share with this one; what a refused
    release held was given back with its row.
    """
    u, r = db.budget_uses.c, db.releases.c
    query = sa.select(u.cohort, u.statistics, u.people, r.run).join(db.releases, r.number == u.release)
    costs: dict[int, float] = {}
    own = 0.0
    for row in await connection.execute(query):
        cost = membership.cost(row.statistics, row.people)
        costs[row.cohort] = costs.get(row.cohort, 0.0) + cost
        own += cost if row.run == run else 0.0
    used = membership.most_spent(past.own, [(past.cohorts[n], cost) for n, cost in costs.items() if n in past.cohorts])
    whole = membership.budget() * (1 - membership.RESERVE)
    return CohortBudget(len(past.own), whole - used, whole * share - own)


def afford(
    budget: CohortBudget, checked: CheckedUnits[Any], half: NodeHalf[Any, Any], known: frozenset[str]
) -> tuple[CheckedUnits[Any], int]:
    """What may leave of what passed, and how many numbers of it are new. Units leave in one public order, so that nodes
    answer the same ones; those that left before are free. `known`: keys that left of this very cohort. ProblemError 403
    `membership-budget` where there is something new, and no budget for any of it, and nothing that left before.
    """
    new: list[list[Cell]] = [[cell for cell in half.cells(unit) if cell.key not in known] for unit in checked.released]
    chosen = membership.chosen([[cell.key for cell in cells] for cells in new], budget.statistics)
    kept = [unit for place, unit in enumerate(checked.released) if place in chosen]
    if checked.released and not kept:
        raise used_up()
    withheld = Counter(checked.withheld)
    if len(kept) < len(checked.released):
        withheld[BUDGET] += len(checked.released) - len(kept)
    return replace(checked, released=kept, withheld=withheld), sum(len(new[place]) for place in chosen)


async def use(connection: AsyncConnection, release: int, cohort: int, statistics: int, people: int) -> None:
    """Takes it, in the transaction that admits the release."""
    if statistics:
        values = {"release": release, "cohort": cohort, "statistics": statistics, "people": people}
        await connection.execute(db.budget_uses.insert().values(**values))


async def give_back(connection: AsyncConnection, release: int) -> None:
    """Of a release that was refused or that expired: nothing of it left."""
    await connection.execute(sa.delete(db.budget_uses).where(db.budget_uses.c.release == release))


def used_up() -> ProblemError:
    """The same words for everybody."""
    return ProblemError(
        403,
        "membership-budget",
        "This dataset's budget for frequencies is used up. Sites that left before may be asked again.",
        action="Ask again for sites that left before.",
    )
