"""Rounds of the kind `matrix`: what a node's check lets leave at a broadcast, and the coefficients of pooled people."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import BadReleaseError, FormatError, NotBesideError, Rules
from gdi.releases.matrix import round_merge
from gdi.releases.matrix.merge import parse
from gdi.releases.matrix.newton import NewtonState, added, advance
from gdi.releases.matrix.round_merge import ReleasedRound
from gdi.releases.registry import kind_of
from tests.support.matrix_kit import matrix_file
from tests.support.pooled_regression import logistic
from tests.support.round_kit import RoundNode, question, round_file

RULES = Rules(
    5,
    10_000,
    levels={"sex": ("female", "male"), "ill": ("false", "true")},
    bounds={"bmi": (10, 50), "age": (0, 120), "ldl": (-20, 50)},
    numbers=frozenset({"bmi", "age", "ldl"}),
    membership="contract",
    rounds=True,
)
FAR = {Rule.EXTREME, Rule.LEVERAGE, Rule.DOMINANCE}  # what stops a broadcast that leaves hardly anybody a weight
RANDOM = np.random.default_rng(864)


def simulated(count: int) -> list[dict[str, Any]]:
    people = []
    for _ in range(count):
        age, sex = float(RANDOM.integers(20, 85)), "male" if RANDOM.random() < 0.5 else "female"
        bmi = round(float(np.clip(RANDOM.normal(25, 4), 11, 49)), 1)
        odds = -3 + 0.03 * age + 0.05 * bmi + 0.5 * (sex == "male")
        ill = str(RANDOM.random() < 1 / (1 + math.exp(-odds))).lower()
        people.append({"sex": sex, "bmi": bmi, "age": age, "ill": ill})
    return people


PEOPLE = simulated(1200)
ASKED = question("ill:true", ["age", "bmi"])
BITS_OFF = replace(RULES, off=frozenset({Rule.BITS}))


def parsed(node: str, found: dict[str, Any]) -> ReleasedRound:
    released = parse(node, json.dumps(found).encode())
    assert isinstance(released, ReleasedRound)
    return released


def fitted(nodes: Sequence[RoundNode], asked: dict[str, Any], columns: int) -> tuple[NewtonState, list[ReleasedRound]]:
    """The centre's rounds to their end, and the last ones that were released."""
    state = NewtonState((0.0,) * columns)
    while True:
        last = [parsed(f"n{i}", one.round(asked, state.beta, state.number)) for i, one in enumerate(nodes)]
        state = advance(state, added(one.sums for one in last))
        if state.done:
            return state, last
        assert state.number < 15


@pytest.mark.parametrize(
    ("indicators", "rules"), [([], RULES), (["sex:male"], BITS_OFF)], ids=["numbers", "a-category-without-bits"]
)
def test_three_nodes_answer_as_a_regression_over_the_pooled_people(
    indicators: list[str], rules: Rules, tmp_path: Path
) -> None:
    nodes = [RoundNode(part, rules) for part in (PEOPLE[:350], PEOPLE[350:800], PEOPLE[800:])]
    state, last = fitted(nodes, question("ill:true", ["age", "bmi"], indicators), 3 + len(indicators))
    columns = [np.ones(1200), *(np.array([one[name] for one in PEOPLE]) for name in ("age", "bmi"))]
    columns += [np.array([float(one["sex"] == "male") for one in PEOPLE])] if indicators else []
    beta, se = logistic(np.column_stack(columns), np.array([float(one["ill"] == "true") for one in PEOPLE]))
    assert state.number < 9 and np.allclose(state.errors, se, rtol=1e-6)
    half = kind_of("matrix").coordinator()
    answer = half.merge({f"n{i}": one for i, one in enumerate(last)}, ["n0", "n1", "n2"])
    half.write_table(answer, tmp_path / "answer.tsv")
    rows = list(csv.DictReader((tmp_path / "answer.tsv").open(), delimiter="\t"))
    assert [row["TERM"] for row in rows] == ["(constant)", "age", "bmi", *(["sex"] if indicators else [])]
    for row, b, error in zip(rows, beta, se, strict=True):
        assert float(row["BETA"]) == pytest.approx(b, rel=1e-6) and float(row["SE"]) == pytest.approx(error, rel=1e-6)
        assert (row["OUTCOME"], row["NODES"], row["N"], row["REASON"]) == ("ill:true", "3", "1200", "")
        assert float(row["LOW_95"]) < float(row["BETA"]) < float(row["HIGH_95"])
    half.draw(answer, tmp_path / "answer.png", title="Logistic regression", nodes=["a", "b", "c"])


def test_rounds_that_ended_early_say_so() -> None:
    first = parsed("n0", RoundNode(PEOPLE, RULES).round(ASKED, [0, 0, 0]))
    rows = kind_of("matrix").coordinator().merge({"n0": first}, ["n0"])
    assert {(row.reason, row.estimate) for row in rows} == {("rounds", None)}


def test_rounds_of_different_broadcasts_are_no_answer() -> None:
    node = RoundNode(PEOPLE, RULES)
    both = {f"n{i}": parsed(f"n{i}", node.round(ASKED, [0, 0, b])) for i, b in enumerate((0, 0.01))}
    with pytest.raises(BadReleaseError, match="different rounds"):
        kind_of("matrix").coordinator().merge(both, list(both))


def test_a_node_that_serves_no_rounds_refuses_the_file() -> None:
    with pytest.raises(FormatError, match="serves no rounds"):
        RoundNode(PEOPLE, replace(RULES, rounds=False)).round(ASKED, [0, 0, 0])


def test_the_same_round_gets_the_same_bytes_from_the_ledger_and_costs_nothing() -> None:
    node = RoundNode(PEOPLE[:400], RULES)
    first = node.ask(round_file(PEOPLE[:400], ASKED, [0.1, 0, 0]))
    before = dict(node.cells)
    assert node.ask(round_file(PEOPLE[:400], ASKED, [0.1, 0, 0])) == first and node.cells == before
    assert b"leverage" not in first and b"predictor" not in first and b"residuals" not in first


def test_all_rounds_together_are_half_as_many_equations_as_people_who_differ() -> None:
    """Each is 3 + 6 + 1 numbers; of 200 people hardly 90 may be told, whatever the run and the outcome."""
    node = RoundNode(PEOPLE[:200], RULES)
    told = sum(bool(node.round(ASKED, [0, 0, 0.001 * n])["columns"]) for n in range(12))
    assert told == 8 and node.withheld == {"equations": 1}
    assert not node.round(question("ill:false", ["age", "bmi"]), [0, 0, 0])["columns"]
    assert node.withheld == {"equations": 1}


def test_sums_by_who_is_in_a_category_leave_of_many_people_only() -> None:
    """Each of 15 numbers has 40 bits of who is male, and 1,200 people have one each."""
    node = RoundNode(PEOPLE, RULES)
    assert not node.round(question("ill:true", ["age", "bmi"], ["sex:male"]), [0, 0, 0, 0])["columns"]
    assert node.withheld == {"equations": 1}


def test_a_broadcast_that_leaves_somebody_no_weight_is_refused() -> None:
    node = RoundNode(PEOPLE, RULES)
    with pytest.raises(FormatError, match="round-refused"):
        node.round(ASKED, [0, 0.5, 0])
    assert node.round(ASKED, [0, 0.05, 0])["columns"]


def one_apart() -> list[dict[str, Any]]:
    """One person's LDL is far below all others'."""
    people = [one | {"ldl": round(10 + float(RANDOM.normal(0, 0.3)), 2)} for one in PEOPLE]
    people[0] = people[0] | {"ldl": 5.0, "ill": "true"}
    return people


def test_a_broadcast_that_leaves_two_people_most_of_a_sum_gets_nothing() -> None:
    """At β = 0 nobody dominates; at a far one all but one have hardly a weight."""
    asked, beta = question("ill:true", ["ldl"]), [-14.8, 2.9]
    node = RoundNode(one_apart(), replace(RULES, off=frozenset({Rule.EXTREME})))
    assert not node.round(asked, beta)["columns"] and node.withheld == {"small": 1}


@pytest.mark.parametrize(
    ("off", "stopped"),
    [({Rule.LEVERAGE, Rule.DOMINANCE}, True), ({Rule.EXTREME}, True), (FAR, False)],
    ids=["by-the-predictor", "by-leverage", "by-nothing"],
)
def test_one_persons_number_read_off_a_far_broadcast_is_stopped_twice(off: set[Rule], stopped: bool) -> None:
    """With the rules off the ratio of two sums is the number of who alone has a weight left."""
    asked, people = question("ill:true", ["ldl"]), one_apart()
    assert RoundNode(people, RULES).round(asked, [0, 0])["columns"], "at β = 0 nobody stands out"
    node, entries = RoundNode(people, replace(RULES, off=frozenset(off))), []
    try:
        entries = node.round(asked, [-14.8, 2.9])["entries"]
    except FormatError as refused:
        assert "round-refused" in str(refused)
    assert bool(entries) is not stopped
    if entries:
        weights, products = entries[0][2], entries[1][2]
        assert products / weights == pytest.approx(people[0]["ldl"], rel=0.01)


def test_few_cases_of_a_category_get_nothing() -> None:
    people = [one | {"ill": str(n < 15).lower()} for n, one in enumerate(PEOPLE)]
    node = RoundNode(people, RULES)
    assert not node.round(ASKED, [0, 0, 0])["columns"] and node.withheld == {"small": 1}
    people = [
        one | {"ill": str(n < 100).lower(), "sex": "male" if n > 95 else "female"} for n, one in enumerate(PEOPLE)
    ]
    node = RoundNode(people, BITS_OFF)
    assert not node.round(question("ill:true", ["age"], ["sex:male"]), [0, 0, 0])["columns"], "four cases are male"
    assert node.withheld == {"small": 1}


def test_sums_and_rounds_of_the_same_people_are_asked_with_the_same_numbers_and_categories() -> None:
    node = RoundNode(PEOPLE, RULES)
    assert node.round(ASKED, [0, 0, 0])["columns"]
    with pytest.raises(NotBesideError, match="other categories"):
        node.ask(matrix_file(PEOPLE, "bmi", ["age"], ["sex"]))
    with pytest.raises(NotBesideError, match="nearly equal"):
        node.ask(round_file(PEOPLE, question("ill:true", ["age"]), [0, 0]))
    assert json.loads(node.ask(matrix_file(PEOPLE, "bmi", ["age"], ["ill"])))["columns"]


def changed(**changes: Any) -> bytes:
    document = json.loads(round_file(PEOPLE, ASKED, [0, 0, 0]))
    top = {name: value for name, value in changes.items() if name in document}
    inner = {name: value for name, value in changes.items() if name not in document}
    return json.dumps(document | top | {"round": document["round"] | inner} if inner else document | top).encode()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (changed(model="linear"), "model"),
        (changed(outcome="ill:maybe"), "outcome"),
        (changed(outcome="age"), "outcome"),
        (changed(outcome="sex:male"), "outcome"),
        (changed(round=None), "model"),
        (changed(beta=[0, 0]), "beta"),
        (changed(beta=[0, 0, "HG00096"]), "not of the form"),
        (changed(gradient=[1e400, 0, 0]), "not of the form"),
        (changed(gradient=[2000, 0, 0]), "gradient"),
        (changed(information=[0.0] * 6), "information"),
        (changed(information=[301.0, *[0.0] * 5]), "information"),
        (changed(information=[1.0] * 7), "information"),
        (changed(columns=[[], ["age"], ["age"]]), "columns"),
        (changed(columns=[[], ["age"]]), "columns"),
        (changed(columns=[["age"], [], ["bmi"]]), "columns"),
        (changed(leverage=[0.0] * 50), "leverage"),
        (changed(leverage=[1.0]), "share"),
        (changed(residuals=[]), "residuals"),
        (changed(likelihood=[0.5, 0.2, *[1.0] * 48]), "shares"),
        (changed(log_likelihood=1.0), "not of the form"),
        (changed(secret="HG00096"), "not of the form"),
    ],
    ids=range(21),
)
def test_a_file_that_contradicts_itself_is_refused_and_no_value_is_told(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why) as caught:
        RoundNode(PEOPLE, RULES).ask(data)
    assert "HG00096" not in str(caught.value) and "2000" not in str(caught.value)


@pytest.mark.parametrize(("z", "p"), [(0.0, 0.0), (1.959963984540054, 1.3010299956639813), (-40.0, 349.1370)])
def test_p_values_of_the_normal_distribution(z: float, p: float) -> None:
    assert round_merge.minus_log10_p(z) == pytest.approx(p, rel=1e-5)


def test_p_values_do_not_jump_where_the_series_begins() -> None:
    assert round_merge.minus_log10_p(29.9999999) == pytest.approx(round_merge.minus_log10_p(30.0000001), rel=1e-6)
