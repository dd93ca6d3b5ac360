"""The kind `table` from a workflow's file to the answer: declared categories only, the ledger's cells, the sums."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from gdi.releases.cross_table.merge import parse
from gdi.releases.cross_table.table import FORMAT
from gdi.releases.disclosure import vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import BadReleaseError, CheckedUnits, FormatError, NotBesideError, Rules, Scope
from gdi.releases.registry import kind_of

LEVELS = {"sex": ("female", "male"), "smoker": ("false", "true"), "country": tuple(f"C{n}" for n in range(40))}
RULES = Rules(5, 10_000, levels=LEVELS)
KIND = kind_of("table")
ROWS = [["female", "true", 20], ["female", "false", 200], ["male", "true", 30], ["male", "false", 180]]
MY = frozenset({f"p{n}" for n in range(430)})


def file(columns: Any = ("sex", "smoker"), rows: Any = ROWS, name: str = "people", **more: Any) -> bytes:
    tables = [{"name": name, "columns": columns, "rows": rows}]
    return json.dumps({"format": FORMAT, "tables": tables, **more}).encode()


def check(data: bytes, past: Past = Past()) -> CheckedUnits[Any]:
    half = KIND.node()
    return half.check(half.read(io.BytesIO(data), RULES), RULES, past)


def released(data: bytes, past: Past = Past()) -> bytes:
    half, out, checked = KIND.node(), io.BytesIO(), check(data, past)
    half.write(out, checked.released, checked.withheld, Scope(), RULES)
    return out.getvalue()


def people(data: bytes, past: Past = Past()) -> dict[tuple[str | None, ...], tuple[int, int]]:
    return {tuple(row["cell"]): (row["min"], row["max"]) for row in json.loads(released(data, past))["cells"]}


def left(data: bytes, number: int, cohort: frozenset[str], own: frozenset[str]) -> Past:
    """What the ledger knows after this left of `cohort`, when `own` is asked."""
    half = KIND.node()
    cells: dict[str, dict[int, tuple[int, ...]]] = {}
    for unit in check(data).released:
        for cell in half.cells(unit):
            cells[cell.key] = {number: cell.numbers}
    mine = number if cohort == own else None
    return Past(own, mine, {number: cohort}, cells, listed=True, topics={vocabulary.PEOPLE: list(cells)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "exactly the fields format and tables"),
        (b"{", "not JSON"),
        (file(more=1), "exactly the fields"),
        (file(columns=["sex", "genotype"]), "column 2 is not one whose categories this node declares"),
        (file(columns=["sex"], rows=[["rs123:0/1", 9]]), "row 1: category 1 is not one that this node declares"),
        (file(columns=["sex", "sex"]), "named twice"),
        (file(columns=["sex"] * 5), "list of 1 to 4"),
        (file(columns=["country", "country", "sex"]), "named twice"),
        (file(rows=[["female", "true", -1]]), "row 1: the count must be a whole number"),
        (file(rows=[["female", "true", True]]), "row 1: the count must be a whole number"),
        (file(rows=[["female", 3]]), "row 1: it must be a list"),
        (file(rows=[["female", "true", 5], ["female", "true", 6]]), "row 2: its categories are there twice"),
        (file(name="HG00096"), "name is not of the form"),
    ],
)
def test_a_bad_file_is_refused_with_its_place_and_no_value(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        check(data)
    assert "rs123" not in str(caught.value) and "HG00096" not in str(caught.value)


def test_too_many_cells_are_refused() -> None:
    rules = Rules(5, 10_000, levels={"a": LEVELS["country"], "b": LEVELS["country"], "c": LEVELS["country"]})
    data = file(columns=["a", "b", "c"], rows=[])
    with pytest.raises(FormatError, match="more than 10000 cells"):
        KIND.node().read(io.BytesIO(data), rules)


def test_the_order_of_rows_and_unknown_levels_carry_nothing() -> None:
    assert released(file()) == released(file(rows=ROWS[::-1]))
    cells = people(file())
    assert cells["female", "true"] == (20, 20) and cells[None, None] == (430, 430)
    assert cells["unknown", None] == (0, 0)  # follows from the others


def test_fewer_people_than_the_floor_release_no_table() -> None:
    checked = check(file(columns=["sex"], rows=[["female", 2], ["male", 2]]))
    assert not checked.released and checked.withheld == {"small": 1}


def test_the_same_question_gets_the_same_answer_and_margins_of_another_are_known() -> None:
    past = left(file(), 1, MY, MY)
    assert released(file(), past) == released(file())
    turned = [[smoker, sex, n] for sex, smoker, n in ROWS]
    assert people(file(columns=["smoker", "sex"], rows=turned), past)["true", "female"] == (20, 20)
    fewer = file(columns=["sex"], rows=[["female", 220], ["male", 210]])
    assert people(fewer, past) == {key[:1]: ends for key, ends in people(file()).items() if key[1] is None}
    swapped = [["female", "true", 21], ["female", "false", 199], *ROWS[2:]]
    assert people(file(rows=swapped), past) == people(file()), "whatever the file says now"


@pytest.mark.parametrize(
    ("first", "then"), [(["sex", "country"], ["sex", "smoker"]), (["sex", "smoker"], ["smoker", "country"])], ids=str
)
def test_tables_that_share_a_column_are_refused_with_what_may_be_asked(first: list[str], then: list[str]) -> None:
    """Three linked tables, none of which tells, tell together."""
    level = {"sex": "female", "smoker": "true", "country": "C1"}

    def table(columns: list[str]) -> bytes:
        return file(columns=columns, rows=[[*(level[name] for name in columns), 430]])

    with pytest.raises(NotBesideError, match=f"a table of {', '.join(sorted(first))}") as caught:
        check(table(then), left(table(first), 1, MY, MY))
    assert "columns that no table had" in caught.value.action
    free = {"sex", "smoker", "country"} - set(first)
    assert check(table(sorted(free)), left(table(first), 1, MY, MY)).released, "no column of it was told of"
    assert check(table(["sex", "smoker", "country"]), left(table(first), 1, MY, MY)).released, "all of them and more"


def test_two_tables_of_one_release_share_no_column_either() -> None:
    rows = [["female", 220], ["male", 210]]
    two = [{"name": name, "columns": ["sex"], "rows": rows} for name in ("a", "b")]
    data = json.dumps({"format": FORMAT, "tables": two}).encode()
    assert len(check(data).released) == 2, "the same one again"
    of_country = [["female", "C1", 220], ["male", "C1", 210]]
    linked = [{"name": "a", "columns": ["sex", "country"], "rows": of_country}, {**two[0], "name": "b"}]
    linked[1] |= {"columns": ["sex", "smoker"], "rows": ROWS}
    with pytest.raises(NotBesideError):
        check(json.dumps({"format": FORMAT, "tables": linked}).encode())


def test_a_cohort_that_lost_people_is_refused_and_as_many_under_one_name_are_not_counted_anew() -> None:
    fewer = frozenset(sorted(MY)[1:])
    now = file(rows=[["female", "true", 19], *ROWS[1:]])
    with pytest.raises(NotBesideError, match="some of whom are the same"):
        check(now, left(file(), 1, MY, fewer))
    with pytest.raises(NotBesideError, match="Other people were counted"):
        check(now, left(file(), 1, MY, MY))


def test_nodes_add_up_and_intervals_stay_intervals() -> None:
    half = KIND.coordinator()
    small = [["female", "true", 2], *ROWS[1:]]
    releases = {"a": parse("a", released(file())), "b": parse("b", released(file(rows=small)))}
    answer = {cell.levels: cell for cell in half.merge(releases, ["a", "b"])}
    assert answer[()].count == 842
    cell = answer[("sex", "female"), ("smoker", "true")]
    assert cell.count is None and cell.people[0] <= 22 <= cell.people[1] and cell.reason == "small"
    assert answer[("sex", "female"),].count == 422


def test_a_node_that_withholds_its_table_leaves_no_upper_end(tmp_path: Path) -> None:
    half = KIND.coordinator()
    nothing = file(columns=["sex", "smoker"], rows=[["female", "true", 2]])
    answer = half.merge({"a": parse("a", released(file())), "b": parse("b", released(nothing))}, ["a", "b"])
    half.write_table(answer, tmp_path / "answer.tsv")
    half.draw(answer, tmp_path / "answer.png", title="People", nodes=["a", "b"])
    page = half.page(tmp_path / "answer.tsv")
    row = dict(zip(page.columns, page.rows[0], strict=True))
    assert (row["PEOPLE"], row["PEOPLE_MIN"], row["PEOPLE_MAX"], row["NODES"]) == (None, 430, None, 1)
    assert page.withheld == page.total == len(answer) and (tmp_path / "answer.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"format": "gdi-table/1"}, "format"),
        ({"tables": []}, "of no table"),
        ({"cells": [{"table": "people", "cell": ["female", None], "min": 5, "max": 1}]}, "ends before it begins"),
        ({"cells": [{"table": "people", "cell": ["a\nb", None], "min": 5, "max": 5}]}, "cells.0.cell"),
    ],
)
def test_a_release_of_another_form_is_refused_by_the_coordinator(change: dict[str, Any], place: str) -> None:
    document = json.loads(released(file())) | change
    with pytest.raises(BadReleaseError, match=place):
        parse("node-a", json.dumps(document).encode())


def test_the_reviewer_reads_cells_by_name() -> None:
    half = KIND.node()
    rows = half.rows(io.BytesIO(released(file())), 0, 3)
    assert half.columns == ("table", "cell", "people_min", "people_max") and rows[0][0] == "people"
    assert half.scope(half.read(io.BytesIO(file()), RULES)) == Scope(430, fewest=430)
