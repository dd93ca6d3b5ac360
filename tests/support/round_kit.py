"""Rounds of a logistic regression as nodes and centre compute them, without the wire: the workflow's own script, the
node's check with its ledger, Newton's step.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from gdi.releases.disclosure import vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules, Scope
from gdi.releases.registry import kind_of
from tests.support.matrix_kit import ENTRY, gather
from tests.support.modules import module_at

Person = Mapping[str, Any]


@cache
def rounds_script() -> ModuleType:
    """The workflow's script as a module; it imports the one beside it."""
    sys.modules["gather"] = gather()
    try:
        return module_at(ENTRY / "scripts" / "fit_round.py")
    finally:
        del sys.modules["gather"]


def question(outcome: str, numbers: Sequence[str], indicators: Sequence[str] = ()) -> dict[str, Any]:
    columns = dict.fromkeys(text.partition(":")[0] for text in (outcome, *indicators))
    return {
        "outcome": outcome,
        "numbers": list(numbers),
        "indicators": list(indicators),
        "categories": list(columns),
    }


def round_file(people: Sequence[Person], asked: Mapping[str, Any], beta: Sequence[float], number: int = 1) -> bytes:
    """`gdi-matrix/1` of a round, of people by column."""
    levels = [[str(one[column]) for column in asked["categories"]] for one in people]
    values = np.array([[float(one[name]) for name in asked["numbers"]] for one in people])
    found = rounds_script().round_of(dict(asked), levels, values, number, [float(one) for one in beta])
    return json.dumps(found).encode()


@dataclass
class RoundNode:
    """A node with one cohort, and a ledger of what left of it."""

    people: Sequence[Person]
    rules: Rules
    own: frozenset[str] = frozenset({"p1"})
    cells: dict[str, dict[int, tuple[int, ...]]] = field(default_factory=dict)
    withheld: dict[str, int] = field(default_factory=dict)

    def past(self) -> Past:
        topics: dict[str, list[str]] = {}
        for key in self.cells:
            topics.setdefault(vocabulary.topic("matrix", key), []).append(key)
        if not self.cells:
            return Past(self.own, listed=True)
        return Past(self.own, 1, {1: self.own}, self.cells, listed=True, topics=topics)

    def ask(self, data: bytes) -> bytes:
        """What leaves, remembered. FormatError, NotBesideError."""
        half, out = kind_of("matrix").node(), io.BytesIO()
        checked = half.check(half.read(io.BytesIO(data), self.rules), self.rules, self.past())
        for unit in checked.released:
            for cell in half.cells(unit):
                self.cells.setdefault(cell.key, {})[1] = cell.numbers
        self.withheld = dict(checked.withheld)
        half.write(out, checked.released, checked.withheld, Scope(), self.rules)
        return out.getvalue()

    def round(self, asked: Mapping[str, Any], beta: Sequence[float], number: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask(round_file(self.people, asked, beta, number)))
        return found
