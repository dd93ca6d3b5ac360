"""The node's half of `moments`: groups of enough people, in whom few have not most of a number; n as a table tells it,
mean and variance with three digits. No least, no greatest, no sum of everybody beside those of groups.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, NamedTuple

from gdi.releases.cross_table import node as cross_table
from gdi.releases.cross_table.node import SMALL, AnsweredTable
from gdi.releases.disclosure import people, vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.sums import LEAST_OF_GROUP, MOST_OF_TWO, digits_of, group_key, largest_share
from gdi.releases.kind import Cell, CheckedUnits, NodeHalf, NotBesideError, Rules, Scope
from gdi.releases.moments import table
from gdi.releases.moments.table import RELEASED, GroupedMoments, MomentsRow


class LeavingRow(NamedTuple):
    """What leaves of a variable in a group; `mean` and `variance` as digits and an exponent of ten each."""

    variable: str
    group: tuple[str, ...]
    n: int
    mean: tuple[int, int]
    variance: tuple[int, int]

    @property
    def shown(self) -> tuple[str, str]:
        """Mean and variance as text."""
        return tuple(f"{float(f'{digits}e{power}'):.10g}" for digits, power in (self.mean, self.variance))  # type: ignore[return-value]  # two


@dataclass(frozen=True)
class AnsweredMoments:
    """A file as it is answered."""

    unit: GroupedMoments
    table: AnsweredTable
    rows: tuple[LeavingRow, ...]


class MomentsNode(NodeHalf[GroupedMoments, AnsweredMoments]):
    """The unit is the file. Its cells in the ledger are those of its table of people, and one for each variable and
    group.
    """

    columns = ("variable", "group", "people", "mean", "variance")

    def read(self, file: IO[bytes], rules: Rules) -> list[GroupedMoments]:
        return table.read(file, rules)

    def keys(self, unit: GroupedMoments) -> list[str]:
        counts = cross_table.names_of(unit.table, unit.table.all_counts())
        return [*counts.values(), *(key_of(row, unit) for row in unit.rows)]

    def scope(self, units: Sequence[GroupedMoments]) -> Scope:
        of = max((unit.table.people for unit in units), default=0)
        return Scope(of, fewest=of)

    def check(self, units: Sequence[GroupedMoments], rules: Rules, past: Past) -> CheckedUnits[AnsweredMoments]:
        checked = CheckedUnits[AnsweredMoments]([], Counter[str]())
        for unit in units:
            expect_one_grouping(unit, rules, past)
            answered = cross_table.answer(unit.table, rules, past, {})
            if isinstance(answered, str):
                checked.withheld[answered] += 1
                continue
            rows = tuple(row for one in unit.rows if (row := leaving(one, unit, answered, rules, past)) is not None)
            if rows:
                checked.released.append(AnsweredMoments(unit, answered, rows))
            else:
                checked.withheld[SMALL] += 1
        return checked

    def cells(self, left: AnsweredMoments) -> list[Cell]:
        found = cross_table.CrossTableNode().cells(left.table)
        for row in left.rows:
            found.append(Cell(key_of(row, left.unit), (row.n, *row.mean, *row.variance)))
        return found

    def remarks(self, left: Sequence[AnsweredMoments], rules: Rules) -> list[str]:
        found = []
        for one in left:
            gone = len(one.unit.rows) - len(one.rows)
            if gone:
                found.append(
                    f"{gone} of {len(one.unit.rows)} means stay: too few people, or few have most of the number."
                )
            nearest = min(one.rows, key=lambda row: row.n)
            found.append(f"The smallest group is of {nearest.n} people ({' × '.join(nearest.group) or 'all'}).")
        return found

    def write(
        self, out: IO[bytes], left: Iterable[AnsweredMoments], withheld: Mapping[str, int], scope: Scope, rules: Rules
    ) -> None:
        """JSON: people by group and bin, then a line for each variable and group whose moments leave."""
        answers = list(left)
        head: dict[str, object] = {"format": RELEASED, "group": [], "histogram": None, "levels": [], "cells": []}
        if answers:
            (one,) = answers
            cells = [[*_levels(one, key), ends.low, ends.high] for key, ends in one.table.ranges.items()]
            about = {"group": one.unit.group, "histogram": one.unit.histogram}
            head |= {**about, "levels": one.table.table.levels, "cells": cells}
        out.write((_json(head)[:-1] + ',"moments":[').encode())
        for number, row in enumerate(row for one in answers for row in one.rows):
            mean, variance = row.shown
            fields = f'"n":{row.n},"mean":{mean},"variance":{variance}'
            names = f'"variable":{_json(row.variable)},"group":{_json(row.group)}'
            out.write((("," if number else "") + "\n{" + names + "," + fields + "}").encode())
        out.write(b"\n]}\n")

    def rows(self, file: IO[bytes], start: int, count: int) -> list[tuple[str | int | float, ...]]:
        lines = (line for line in islice(file, 1 + start, 1 + start + count) if line.startswith(b'{"variable"'))
        found = (json.loads(line.rstrip().rstrip(b",")) for line in lines)
        return [
            (row["variable"], " × ".join(row["group"]) or "all", row["n"], row["mean"], row["variance"])
            for row in found
        ]


def key_of(row: MomentsRow | LeavingRow, unit: GroupedMoments) -> str:
    """What the ledger calls a variable in a group: the order of columns does not matter."""
    return group_key(row.variable, zip(unit.group, row.group, strict=True))


def expect_one_grouping(unit: GroupedMoments, rules: Rules, past: Past) -> None:
    """NotBesideError where a variable was told of by other groups of these people, or of other people of whom some are
    the same: groups that stayed would follow from what left.
    """
    if Rule.LINKED in rules.off:
        return
    mine = {key_of(row, unit) for row in unit.rows}
    for variable in unit.variables:
        for key in past.topics.get(vocabulary.topic(vocabulary.MOMENTS, f"={variable}|"), ()):
            if not key.startswith(f"={variable}|"):
                continue
            if any(past.own & cohort for cohort, _ in past.statements(key)):
                raise NotBesideError(
                    "Means of this number left before of other people, some of whom are the same.",
                    "Ask of the same datasets and cohort as then, or of another number.",
                )
            if past.number in past.cells.get(key, {}) and key not in mine:
                raise NotBesideError(
                    "Means of this number left before by other groups of these people.",
                    "Ask by the same groups as then, or of another number.",
                )


def leaving(
    row: MomentsRow, unit: GroupedMoments, answered: AnsweredTable, rules: Rules, past: Past
) -> LeavingRow | None:
    """The row as it leaves: what left before, whatever the file says now; None where it stays."""
    if (same := past.same(key_of(row, unit), rules.off)) is not None and len(same) == 5:
        return LeavingRow(row.variable, row.group, same[0], (same[1], same[2]), (same[3], same[4]))
    ends = answered.ranges[unit.place(row.group)]
    if ends.exact and ends.low != row.n:
        raise people.other_people()
    if not ends.exact or stays(row, rules):
        return None
    digits = 12 if Rule.DIGITS in rules.off else 3
    return LeavingRow(row.variable, row.group, row.n, digits_of(row.mean, digits), digits_of(row.variance, digits))


def stays(row: MomentsRow, rules: Rules) -> bool:
    """Whether the group is too small, or few people have most of the number, or few differ from all others."""
    floor = rules.floor
    if row.n < max(LEAST_OF_GROUP, floor) and Rule.GROUPS not in rules.off:
        return True
    if not row.n:
        return True
    if Rule.DOMINANCE not in rules.off:
        most = max(largest_share(row.sums, floor), largest_share(row.squares, floor))
        if row.variance <= 0 or most >= MOST_OF_TWO:
            return True
    return row.apart < floor and Rule.APART not in rules.off


def _levels(one: AnsweredMoments, key: tuple[int | None, ...]) -> list[str | None]:
    return [None if level is None else one.table.table.levels[i][level] for i, level in enumerate(key)]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
