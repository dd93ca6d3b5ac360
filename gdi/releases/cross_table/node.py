"""The node's half of `table`: reads the workflow's file, withholds small cells and those that would tell them, writes
what leaves.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO

from gdi.releases.cross_table import table
from gdi.releases.cross_table.suppression import Suppression, intervals
from gdi.releases.cross_table.table import RELEASED, CrossTable, Key
from gdi.releases.cross_table.whole import beside_whole
from gdi.releases.disclosure import people, vocabulary
from gdi.releases.disclosure.floor import Range
from gdi.releases.disclosure.past import Numbers, Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import Cell, CheckedUnits, NodeHalf, Rules, Scope

SMALL = "small"


@dataclass(frozen=True)
class AnsweredTable:
    """A table as it is answered: what each cell and margin lies between."""

    table: CrossTable
    counts: Mapping[Key, int]
    ranges: Mapping[Key, Range]


class CrossTableNode(NodeHalf[CrossTable, AnsweredTable]):
    """A unit is a table; its cells in the ledger are its cells and margins, named by columns and categories, so that
    the margin of one table is the same cell as that of another.
    """

    columns = ("table", "cell", "people_min", "people_max")

    def read(self, file: IO[bytes], rules: Rules) -> list[CrossTable]:
        scores = frozenset() if Rule.SCORES in rules.off else rules.scores  # `moments` knows what they are made of
        known = {column: levels for column, levels in rules.levels.items() if column not in scores}
        return table.read(file, known, max_rows=rules.max_rows)

    def keys(self, unit: CrossTable) -> list[str]:
        return list(names_of(unit, unit.all_counts()).values())

    def scope(self, units: Sequence[CrossTable]) -> Scope:
        people = [unit.people for unit in units] or [0]
        return Scope(max(people), fewest=min(people))

    def check(self, units: Sequence[CrossTable], rules: Rules, past: Past) -> CheckedUnits[AnsweredTable]:
        checked = CheckedUnits[AnsweredTable]([], Counter[str]())
        now: dict[str, Numbers] = {}  # what leaves of the tables before this one
        for unit in units:
            answered = answer(unit, rules, past, now)
            if isinstance(answered, str):
                checked.withheld[answered] += 1
            else:
                checked.released.append(answered)
                now.update((cell.key, cell.numbers) for cell in self.cells(answered))
        return checked

    def cells(self, left: AnsweredTable) -> list[Cell]:
        names = names_of(left.table, left.counts)
        return [Cell(names[key], (ends.low, ends.high, left.counts[key])) for key, ends in left.ranges.items()]

    def write(
        self, out: IO[bytes], left: Iterable[AnsweredTable], withheld: Mapping[str, int], scope: Scope, rules: Rules
    ) -> None:
        """JSON with a cell a line between the first line and the last. A cell names the level of each column, null
        where it counts all.
        """
        answers = list(left)
        head = [{"name": one.table.name, "columns": one.table.columns, "levels": one.table.levels} for one in answers]
        out.write((_json({"format": RELEASED, "tables": head})[:-1] + ',"cells":[').encode())
        first = True
        for one in answers:
            for key, ends in one.ranges.items():
                row = {"table": one.table.name, "cell": _levels(one.table, key), "min": ends.low, "max": ends.high}
                out.write((("" if first else ",") + "\n" + _json(row)).encode())
                first = False
        counts = {why: n for why, n in sorted(withheld.items()) if why == SMALL}
        out.write(f'\n],"withheld":{_json(counts)}}}\n'.encode())

    def rows(self, file: IO[bytes], start: int, count: int) -> list[tuple[str | int | float, ...]]:
        lines = (line for line in islice(file, 1 + start, 1 + start + count) if line.startswith(b"{"))
        rows = (json.loads(line.rstrip().rstrip(b",")) for line in lines)
        return [
            (
                row["table"],
                " × ".join("all" if level is None else level for level in row["cell"]),
                row["min"],
                row["max"],
            )
            for row in rows
        ]


def answer(unit: CrossTable, rules: Rules, past: Past, now: Mapping[str, Numbers]) -> AnsweredTable | str:
    """The table as it leaves, or the reason why it does not. `now`: by key, what the same release told already.
    NotBesideError where it may not be asked beside what left.
    """
    people.same_people(unit.people, past)
    counts = unit.all_counts()
    names = names_of(unit, counts)
    left = {key: now.get(name) or past.same(name, rules.off) for key, name in names.items()}
    if all(left.values()) and Rule.LEDGER not in rules.off:
        return again(unit, {key: numbers for key, numbers in left.items() if numbers})
    people.answered(unit.columns, [name for name in names.values() if name not in now], rules, past)
    if Rule.LINKED not in rules.off:
        people.not_linked(unit.columns, now)
    earlier = {key: numbers for key, numbers in left.items() if numbers}
    if any(numbers[2] != counts[key] for key, numbers in earlier.items()):
        raise people.other_people()
    known = {key for key, (low, high, *_) in earlier.items() if low == high}
    everybody: Key = (None,) * len(unit.columns)
    if counts[everybody] < rules.floor:
        return SMALL
    sizes = [len(levels) for levels in unit.levels]
    if rules.whole_tables and Rule.WHOLE not in rules.off:
        stay = beside_whole(counts, sizes, rules.floor, earlier.keys() - known) - known
    else:
        stay = Suppression(counts, sizes, rules.floor, known, earlier.keys() - known).withheld()
    ranges = intervals({key: count for key, count in counts.items() if key not in stay}, sizes)
    return AnsweredTable(unit, counts, ranges)


def again(unit: CrossTable, left: Mapping[Key, Numbers]) -> AnsweredTable:
    """The same cells get what left, whatever the file says now."""
    ranges = {key: Range(numbers[0], numbers[1]) for key, numbers in left.items()}
    return AnsweredTable(unit, {key: numbers[2] for key, numbers in left.items()}, ranges)


def names_of(unit: CrossTable, keys: Iterable[Key]) -> dict[Key, str]:
    """What the ledger calls the cells: `column=level`, sorted, `*` for everybody. The order of columns does not
    matter.
    """
    quoted = [[people.quoted(level) for level in levels] for levels in unit.levels]
    found = {}
    for key in keys:
        parts = [
            f"{column}={quoted[i][level]}"
            for i, (column, level) in enumerate(zip(unit.columns, key, strict=True))
            if level is not None
        ]
        found[key] = vocabulary.shortened("&".join(sorted(parts)) or "*")
    return found


def _levels(unit: CrossTable, key: Key) -> list[str | None]:
    return [None if level is None else unit.levels[i][level] for i, level in enumerate(key)]


def _text(levels: list[str | None]) -> str:
    return " × ".join("all" if level is None else level for level in levels)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
