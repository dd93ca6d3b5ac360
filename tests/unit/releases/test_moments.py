"""The kind `moments` from a workflow's file to the answer: groups of enough people, no dominance, three digits, one
grouping for each variable; the answer is that of numpy over the pooled people.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdi.releases.disclosure import vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import BadReleaseError, CheckedUnits, FormatError, NotBesideError, Rules, Scope
from gdi.releases.moments.merge import Bin, parse, quantile
from gdi.releases.moments.table import FORMAT
from gdi.releases.registry import kind_of
from tests.support.moments_kit import bin_of, moments_file

KIND = kind_of("moments")
BINS = (0, 2, 3, 4, 10)
LEVELS = {
    "sex": ("female", "male"),
    "smoker": ("false", "true"),
    "ldl": tuple(f"{a}..{b}" for a, b in itertools.pairwise(BINS)),
}
RULES = Rules(
    5, 10_000, levels=LEVELS, bounds={"ldl": (0, 10), "bmi": (10, 50), "score": (-5, 5)}, scores=frozenset({"score"})
)
MY = frozenset({f"p{n}" for n in range(300)})
RANDOM = np.random.default_rng(865)
PEOPLE = [
    {"sex": ("female", "male")[n % 2], "smoker": ("false", "true")[n % 25 == 0], "ldl": ldl, "bmi": bmi}
    for n, (ldl, bmi) in enumerate(
        zip(RANDOM.normal(3, 0.8, 300).clip(0.1, 9.9), RANDOM.normal(26, 3, 300).clip(11, 49), strict=True)
    )
]

MANY = [{**PEOPLE[n % 300], "ldl": float(ldl)} for n, ldl in enumerate(RANDOM.normal(3, 0.8, 3000).clip(0.1, 9.9))]


def check(data: bytes, past: Past = Past(), rules: Rules = RULES) -> CheckedUnits[Any]:
    half = KIND.node()
    return half.check(half.read(io.BytesIO(data), rules), rules, past)


def released(data: bytes, past: Past = Past()) -> bytes:
    half, out, checked = KIND.node(), io.BytesIO(), check(data, past)
    half.write(out, checked.released, checked.withheld, Scope(), RULES)
    return out.getvalue()


def left(data: bytes, number: int, cohort: frozenset[str], own: frozenset[str]) -> Past:
    """What the ledger knows after this left of `cohort`, when `own` is asked."""
    half = KIND.node()
    cells = {cell.key: {number: cell.numbers} for unit in check(data).released for cell in half.cells(unit)}
    topics: dict[str, list[str]] = {}
    for key in cells:
        topics.setdefault(vocabulary.topic("moments", key), []).append(key)
    return Past(own, number if cohort == own else None, {number: cohort}, cells, listed=True, topics=topics)


def rows(data: bytes, past: Past = Past()) -> dict[tuple[str, ...], tuple[int, float, float]]:
    found = json.loads(released(data, past))["moments"]
    return {(one["variable"], *one["group"]): (one["n"], one["mean"], one["variance"]) for one in found}


def changed(document: bytes, place: int = 0, **changes: Any) -> bytes:
    found = json.loads(document)
    found["moments"][place] |= changes
    return json.dumps(found).encode()


BOTH = moments_file(PEOPLE, ["sex"], ["ldl", "bmi"])


def test_what_leaves_is_n_mean_and_variance_with_three_digits() -> None:
    told = rows(BOTH)
    assert set(told) == {(v, s) for v in ("ldl", "bmi") for s in ("female", "male")}
    women = np.array([one["ldl"] for one in PEOPLE if one["sex"] == "female"])
    assert told["ldl", "female"] == (150, float(f"{women.mean():.3g}"), float(f"{women.var(ddof=1):.3g}"))
    text = released(BOTH)
    assert b"sums" not in text and b"apart" not in text and released(BOTH) == text
    shuffled = moments_file(PEOPLE[::-1], ["sex"], ["bmi", "ldl"])
    assert released(shuffled) == text, "the order carries nothing"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "not of the form"),
        (b"{", "not JSON"),
        (moments_file(PEOPLE, ["ldl"], ["ldl"], histogram="ldl", bins=BINS), "histogram is a column of the groups"),
        (changed(BOTH, variable="height"), "row 3: variable is no number whose bounds this node declares"),
        (changed(BOTH, group=["rs123:0/1"]), "category 1 is not one that this node declares"),
        (changed(BOTH, n=149), "row 3: n is not the number"),
        (changed(BOTH, mean=70), "outside what the declared bounds allow"),
        (changed(BOTH, variance=900), "outside what the declared bounds allow"),
        (changed(BOTH, mean=float("nan")), "not of the form"),
        (changed(BOTH, apart=151), "not of the form"),
        (changed(BOTH, 1, **json.loads(BOTH)["moments"][0]), "there twice"),
        (changed(BOTH, HG00096=1), "not of the form"),
        (moments_file(PEOPLE, [], ["score"]), "at least 100 variants"),
        (
            moments_file(PEOPLE, [], ["score"], scores={"score": {"variants": 99, "largest": 0.02}}),
            "at least 100 variants",
        ),
        (
            moments_file(PEOPLE, [], ["score"], scores={"score": {"variants": 400, "largest": 0.11}}),
            "10% of the variance",
        ),
        (
            moments_file(PEOPLE, [], ["bmi"], scores={"bmi": {"variants": 400, "largest": 0.1}}),
            "does not declare to be a score",
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_place_and_no_value(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        check(data)
    assert "rs123" not in str(caught.value) and "HG00096" not in str(caught.value)


def test_a_score_of_enough_variants_leaves_and_no_table_shows_its_bins() -> None:
    facts = {"score": {"variants": 100, "largest": 0.1}}
    told = rows(moments_file([{"score": one["ldl"] - 3} for one in PEOPLE], [], ["score"], scores=facts))
    assert told["score",][0] == 300
    rules = Rules(5, 100, levels={"score": ("-5..0", "0..5")}, scores=frozenset({"score"}))
    data = json.dumps({"format": "gdi-table/1", "tables": [{"name": "a", "columns": ["score"], "rows": []}]}).encode()
    with pytest.raises(FormatError, match="column 1 is not one"):
        kind_of("table").node().read(io.BytesIO(data), rules)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("few people", [3 + n / 10 for n in range(19)]),
        ("one has most of it", [0.01 * n for n in range(1, 40)] + [10]),
        ("four have most of it", [0.01 * n for n in range(1, 40)] + [10] * 4),
        ("all but four have one value", [1.0] * 16 + [2.0, 2.1, 2.2, 2.3]),
        ("all have one value", [2.0] * 40),
    ],
)
def test_a_group_that_would_tell_of_few_people_stays(name: str, values: list[float]) -> None:
    checked = check(moments_file([{"ldl": value} for value in values], [], ["ldl"]))
    assert not checked.released and checked.withheld == {"small": 1}


def test_a_small_group_stays_alone_and_the_others_total_is_not_told() -> None:
    data = moments_file(PEOPLE, ["smoker"], ["ldl"])
    assert list(rows(data)) == [("ldl", "false")], "12 people smoke"
    with pytest.raises(NotBesideError, match="other groups of these people"):
        check(moments_file(PEOPLE, [], ["ldl"]), left(data, 1, MY, MY))
    with pytest.raises(NotBesideError, match="some of whom are the same"):
        check(data, left(data, 1, MY, frozenset(sorted(MY)[1:])))
    assert rows(moments_file(PEOPLE, ["smoker"], ["ldl", "bmi"]), left(data, 1, MY, MY)).keys() == {
        ("ldl", "false"),
        ("bmi", "false"),
    }


def test_the_same_question_gets_what_left_whatever_the_file_says_now() -> None:
    past = left(BOTH, 1, MY, MY)
    moved = [{**one, "ldl": one["ldl"] + 0.5} for one in PEOPLE]
    assert released(moments_file(moved, ["sex"], ["ldl", "bmi"]), past) == released(BOTH)


def test_people_by_group_are_compared_with_tables_of_the_same_people() -> None:
    table = kind_of("table").node()
    data = json.dumps(
        {
            "format": "gdi-table/1",
            "tables": [{"name": "a", "columns": ["sex"], "rows": [["female", 200], ["male", 100]]}],
        }
    )
    (answered,) = table.check(table.read(io.BytesIO(data.encode()), RULES), RULES, Past()).released
    cells = {cell.key: {1: cell.numbers} for cell in table.cells(answered)}
    past = Past(MY, 1, {1: MY}, cells, listed=True, topics={vocabulary.PEOPLE: list(cells)})
    with pytest.raises(NotBesideError, match="Other people were counted"):
        check(BOTH, past)
    both = left(moments_file(PEOPLE, ["sex", "smoker"], ["bmi"]), 1, MY, MY)
    with pytest.raises(NotBesideError, match="a table of sex, smoker"):
        check(moments_file(PEOPLE, ["sex"], ["ldl"], histogram="ldl", bins=BINS), both)


def test_three_nodes_answer_as_numpy_over_the_pooled_people(tmp_path: Path) -> None:
    half = KIND.coordinator()
    releases = {
        f"n{number}": parse(
            f"n{number}", released(moments_file(MANY[number::3], ["sex"], ["ldl", "bmi"], histogram="ldl", bins=BINS))
        )
        for number in range(3)
    }
    answer = half.merge(releases, list(releases))
    half.write_table(answer, tmp_path / "answer.tsv")
    seen = 0
    for row in csv.DictReader((tmp_path / "answer.tsv").open(), delimiter="\t"):
        values = np.array([one[row["VARIABLE"]] for one in MANY if one["sex"] == row["LEVEL_1"]])
        assert int(row["N"]) == len(values) and row["NODES"] == "3" and not row["REASON"]
        assert float(row["MEAN"]) == pytest.approx(values.mean(), rel=5e-3)
        assert float(row["SD"]) == pytest.approx(values.std(ddof=1), rel=1e-2)
        if row["VARIABLE"] == "ldl":
            for part, name in zip((0.25, 0.5, 0.75), ("Q1", "MEDIAN", "Q3"), strict=True):
                true = np.quantile(values, part)
                low, high = bin_of(true, BINS)
                assert low <= float(row[name]) <= high, "the bin is right; within it people are taken to be even"
                seen += 1
    assert seen == 6 and half.size(answer).withheld == 0
    half.draw(answer, tmp_path / "answer.png", title="Moments", nodes=["a", "b", "c"])
    assert (tmp_path / "answer.png").stat().st_size > 10_000
    assert half.page(tmp_path / "answer.tsv").total == 4


def test_a_node_that_withholds_is_named_as_small(tmp_path: Path) -> None:
    half = KIND.coordinator()
    few = [one for one in PEOPLE if one["sex"] == "female"] + [one for one in PEOPLE if one["sex"] == "male"][:15]
    releases = {"a": parse("a", released(BOTH)), "b": parse("b", released(moments_file(few, ["sex"], ["ldl", "bmi"])))}
    by = {(one.variable, *(level for _, level in one.levels)): one for one in half.merge(releases, ["a", "b"])}
    assert (by["ldl", "male"].nodes, by["ldl", "male"].reason) == (1, "small")
    assert (by["ldl", "female"].pooled.n, by["ldl", "female"].reason) == (300, "")
    nothing = parse("c", released(moments_file(PEOPLE[:10], ["sex"], ["ldl"])))
    assert len(half.merge({"a": releases["a"], "c": nothing}, ["a", "c"])) == 4


def test_a_quantile_is_left_open_where_hidden_bins_decide_it() -> None:
    sure = [Bin(0, 1, 10, 10), Bin(1, 2, 20, 20), Bin(2, 3, 10, 10)]
    assert quantile(sure, 0.5) == pytest.approx(1.5) and quantile([], 0.5) is None
    open_ = [Bin(0, 1, 0, 30), Bin(1, 2, 20, 20), Bin(2, 3, 0, 30)]
    assert quantile(open_, 0.5) is None
    assert math.isclose(quantile([Bin(0, 1, 0, 4), Bin(1, 2, 100, 100), Bin(2, 3, 0, 4)], 0.5) or 0, 1.5, abs_tol=0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"format": FORMAT},
        {"moments": [{"variable": "ldl", "group": [], "n": 3, "mean": 1, "variance": 1}]},
        {"moments": [{"variable": "ldl", "group": ["male"], "n": 0, "mean": 1, "variance": 1}]},
        {"cells": [["female", 5, 1]]},
        {"cells": [["female", "x", 1]]},
        {"group": ["sex", "smoker", "ldl"]},
    ],
    ids=str,
)
def test_a_bad_release_names_its_node(change: dict[str, Any]) -> None:
    document = {**json.loads(released(BOTH)), **change}
    with pytest.raises(BadReleaseError, match="of node-a"):
        parse("node-a", json.dumps(document).encode())
