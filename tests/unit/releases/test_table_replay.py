"""The reader who knows how cells of a table are withheld, and replays it for every table there could be: with whole
tables no group has a count of 1 to floor - 1; where cells are withheld around small ones, many have. Whole small
domains.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from gdi.contracts.descriptor import Descriptor
from gdi.releases.cross_table.node import AnsweredTable, answer
from gdi.releases.cross_table.table import CrossTable
from gdi.releases.disclosure import vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import Rules
from gdi.releases.registry import kind_of
from node_gateway.policy import Policy
from node_gateway.release.question import rules_of

WHOLE = Rules(2, 100, whole_tables=True)
BOXES = replace(WHOLE, off=frozenset({Rule.WHOLE}))
DOMAINS = [((4,), 8, 2), ((2, 2), 8, 2), ((2, 2), 8, 3), ((3, 2), 7, 2)]


def tables(cells: int, people: int) -> Iterator[tuple[int, ...]]:
    if cells == 1:
        yield (people,)
        return
    for first in range(people + 1):
        for rest in tables(cells - 1, people - first):
            yield first, *rest


def table(sizes: Sequence[int], counts: Sequence[int]) -> CrossTable:
    columns = tuple("abc"[: len(sizes)])
    levels = tuple(tuple(f"{column}{n}" for n in range(size)) for column, size in zip(columns, sizes, strict=True))
    cells = dict(zip(itertools.product(*map(range, sizes)), counts, strict=True))
    return CrossTable("t", columns, levels, {key: count for key, count in cells.items() if count})


def told(answered: AnsweredTable | str) -> object:
    return answered if isinstance(answered, str) else tuple(sorted(answered.ranges.items(), key=str))


def pinned(sizes: Sequence[int], people: int, floor: int, rules: Rules) -> tuple[int, int]:
    """(answers that pin a group of people, all answers)."""
    classes: dict[object, list[tuple[int, ...]]] = {}
    for counts in tables(len(list(itertools.product(*map(range, sizes)))), people):
        rule = replace(rules, floor=floor)
        classes.setdefault(told(answer(table(sizes, counts), rule, Past(), {})), []).append(counts)
    cells = range(len(next(iter(classes.values()))[0]))
    groups = [group for n in range(1, len(cells)) for group in itertools.combinations(cells, n)]

    def pins(same: list[tuple[int, ...]]) -> bool:
        sums = ([sum(one[cell] for cell in group) for one in same] for group in groups)
        return any(min(of) >= 1 and max(of) < floor for of in sums)

    return sum(map(pins, classes.values())), len(classes)


@pytest.mark.parametrize(("sizes", "people", "floor"), DOMAINS, ids=str)
def test_whole_tables_pin_nobody_and_withheld_cells_do(sizes: Sequence[int], people: int, floor: int) -> None:
    found, answers = pinned(sizes, people, floor, WHOLE)
    assert found == 0 and answers > 5, "and honest readers read something"
    assert pinned(sizes, people, floor, BOXES)[0] > 0


def test_of_two_by_two_categories_the_figures_are_those_of_the_threat_model() -> None:
    assert pinned((2, 2), 8, 2, BOXES) == (24, 107)


def test_a_larger_table_after_its_columns_tells_no_more_than_at_once() -> None:
    """Columns first, or a smaller table first: the answer to the last is the same."""
    half = kind_of("table").node()
    mine = frozenset(f"p{n}" for n in range(40))
    for counts in ((5, 9, 11, 15), (1, 9, 15, 15), (0, 10, 14, 16), (3, 4, 5, 28)):
        unit = table((2, 2), counts)
        column = CrossTable("c", unit.columns[:1], unit.levels[:1], {(0,): sum(counts[:2]), (1,): sum(counts[2:])})
        rules = replace(WHOLE, floor=5)
        first = answer(column, rules, Past(mine), {})
        assert isinstance(first, AnsweredTable)
        cells = {cell.key: {0: cell.numbers} for cell in half.cells(first)}
        past = Past(mine, 0, {0: mine}, cells, listed=True, topics={vocabulary.PEOPLE: list(cells)})
        assert told(answer(unit, rules, past, {})) == told(answer(unit, rules, Past(mine), {}))


@pytest.mark.parametrize(
    ("said", "whole"),
    [
        ([{"membership": "contract"}], False),
        ([{"membership": "contract", "whole_tables": True}], True),
        ([{"membership": "sensitive"}], True),
        ([{"membership": "sensitive", "whole_tables": False}], False),
        ([{"membership": "contract"}, {"membership": "contract", "whole_tables": True}], True),
    ],
    ids=str,
)
def test_the_descriptor_says_so_and_of_several_the_stricter_counts(said: list[dict[str, object]], whole: bool) -> None:
    described = [
        Descriptor.model_validate({"dataset": f"EGAD{n}", "assembly": "GRCh38", **one}) for n, one in enumerate(said)
    ]
    assert rules_of(Policy(), described).whole_tables is whole
    assert Rule.ZERO not in rules_of(Policy(), described, one_epoch=False).off
