"""The node's half: two whole numbers a question, both at least the floor, also beside what left before."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, NamedTuple

from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Cell, CheckedUnits, FormatError, NodeHalf, Rules, Scope


class Question(NamedTuple):
    question: str
    yes: int
    no: int


class YesNoNode(NodeHalf[Question, Question]):
    columns = Question._fields

    def read(self, file: IO[bytes], rules: Rules) -> list[Question]:
        try:
            rows = json.load(file)
        except ValueError:
            raise FormatError("it is not JSON") from None
        if not isinstance(rows, list) or len(rows) > rules.max_rows:
            raise FormatError(f"it must be a list of at most {rules.max_rows} questions")
        return sorted(self._question(row, number) for number, row in enumerate(rows, 1))

    def _question(self, row: object, number: int) -> Question:
        if not isinstance(row, dict) or set(row) != set(self.columns):
            raise FormatError(f"row {number}: it must have exactly the fields {', '.join(self.columns)}")
        if not isinstance(row["question"], str) or not re.fullmatch("[a-z]{1,32}", row["question"]):
            raise FormatError(f"row {number}: question is not of the form [a-z]{{1,32}}")
        if any(type(row[name]) is not int or row[name] < 0 for name in ("yes", "no")):
            raise FormatError(f"row {number}: yes and no must be whole numbers")
        return Question(**row)

    def keys(self, unit: Question) -> list[str]:
        return [unit.question]

    def check(self, units: Sequence[Question], rules: Rules, past: Past) -> CheckedUnits[Question]:
        verdicts = [self._verdict(unit, rules.floor, past) for unit in units]
        released = [unit for unit, why in zip(units, verdicts, strict=True) if not why]
        return CheckedUnits(released, Counter(why for why in verdicts if why))

    def _verdict(self, unit: Question, floor: int, past: Past) -> str:
        if unit.yes < floor or unit.no < floor:
            return "few"
        same = past.same(unit.question)
        if same is not None:
            return "" if same == unit[1:] else "changed"
        passes = past.passes(unit.question, unit[1:], lambda _: True, lambda numbers: numbers, floor)
        return "" if passes else "parts"

    def cells(self, left: Question) -> list[Cell]:
        return [Cell(left.question, left[1:])]

    def write(
        self, out: IO[bytes], left: Iterable[Question], withheld: Mapping[str, int], scope: Scope, rules: Rules
    ) -> None:
        out.write(
            json.dumps({"rows": [list(unit) for unit in left], "withheld": dict(sorted(withheld.items()))}).encode()
        )

    def rows(self, file: IO[bytes], start: int, count: int) -> list[tuple[str | int | float, ...]]:
        return [tuple(row) for row in json.load(file)["rows"][start : start + count]]
