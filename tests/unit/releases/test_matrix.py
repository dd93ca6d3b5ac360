"""The kind `matrix` from a workflow's file to the answer: the coefficients of pooled least squares, and what stays."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdi.releases.disclosure import vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import BadReleaseError, CheckedUnits, FormatError, NotBesideError, Rules, Scope
from gdi.releases.matrix import least_squares
from gdi.releases.matrix.beside import question_key
from gdi.releases.matrix.merge import parse
from gdi.releases.registry import kind_of
from tests.support.matrix_kit import matrix_file
from tests.support.moments_kit import moments_file

KIND = kind_of("matrix")
RULES = Rules(
    5,
    10_000,
    levels={"sex": ("female", "male"), "smoker": ("false", "true"), "ill": ("false", "true")},
    bounds={"ldl": (0, 10), "bmi": (10, 50), "age": (0, 120), "score": (-5, 5)},
    numbers=frozenset({"ldl", "bmi", "age", "score"}),
    scores=frozenset({"score"}),
    membership="contract",
)
RANDOM = np.random.default_rng(862)
MY = frozenset({f"p{n}" for n in range(900)})


def simulated(count: int, male: float = 0.5) -> list[dict[str, Any]]:
    people = []
    for n in range(count):
        age, sex = float(RANDOM.integers(20, 85)), "male" if RANDOM.random() < male else "female"
        bmi = round(float(np.clip(RANDOM.normal(25 + 0.05 * age, 3), 11, 49)), 1)
        ldl = round(
            float(np.clip(1 + 0.05 * bmi + 0.01 * age + 0.4 * (sex == "male") + RANDOM.normal(0, 0.6), 0, 10)), 2
        )
        smoker = "true" if n % 5 == 0 else "false"
        people.append({"sex": sex, "smoker": smoker, "ldl": ldl, "bmi": bmi, "age": age})
    return people


PEOPLE = simulated(900)
WHOLE = matrix_file(PEOPLE, "ldl", ["age", "bmi"], ["sex", "smoker"])


def check(data: bytes, past: Past = Past(), rules: Rules = RULES) -> CheckedUnits[Any]:
    half = KIND.node()
    return half.check(half.read(io.BytesIO(data), rules), rules, past)


def released(data: bytes, past: Past = Past(), rules: Rules = RULES) -> bytes:
    half, out, checked = KIND.node(), io.BytesIO(), check(data, past, rules)
    half.write(out, checked.released, checked.withheld, Scope(), rules)
    return out.getvalue()


def left(data: bytes, own: frozenset[str] = MY, kind: str = "matrix") -> Past:
    """What the ledger knows after this left of `MY`, when `own` is asked."""
    half = kind_of(kind).node()
    units = half.check(half.read(io.BytesIO(data), RULES), RULES, Past()).released
    cells = {cell.key: {1: cell.numbers} for unit in units for cell in half.cells(unit)}
    assert cells
    topics: dict[str, list[str]] = {}
    for key in cells:
        topics.setdefault(vocabulary.topic(kind, key), []).append(key)
    return Past(own, 1 if own == MY else None, {1: MY}, cells, listed=True, topics=topics)


def pooled(
    people: Sequence[Mapping[str, Any]], outcome: str, numbers: Sequence[str], categories: Mapping[str, str]
) -> Any:
    """Coefficients, standard errors, R² and residual standard deviation of numpy, over the people in one table."""
    columns = [np.ones(len(people)), *([float(one[name]) for one in people] for name in numbers)]
    columns += [[float(one[name] == level) for one in people] for name, level in categories.items()]
    x, y = np.array(columns).T, np.array([one[outcome] for one in people])
    beta, residual, *_ = np.linalg.lstsq(x, y, rcond=None)
    variance = residual[0] / (len(y) - x.shape[1])
    errors = np.sqrt(variance * np.diag(np.linalg.inv(x.T @ x)))
    return beta, errors, 1 - residual[0] / ((y - y.mean()) ** 2).sum(), math.sqrt(variance)


def test_three_nodes_answer_as_least_squares_over_the_pooled_people(tmp_path: Path) -> None:
    half = KIND.coordinator()
    parts = [PEOPLE[0:280], PEOPLE[280:580], PEOPLE[580:]]
    releases = {
        f"n{number}": parse(f"n{number}", released(matrix_file(part, "ldl", ["age", "bmi"], ["sex", "smoker"])))
        for number, part in enumerate(parts)
    }
    answer = half.merge(releases, list(releases))
    half.write_table(answer, tmp_path / "answer.tsv")
    beta, errors, r2, sigma = pooled(PEOPLE, "ldl", ["age", "bmi"], {"sex": "male", "smoker": "true"})
    rows = list(csv.DictReader((tmp_path / "answer.tsv").open(), delimiter="\t"))
    terms = [(row["TERM"], row["LEVEL"]) for row in rows]
    assert terms == [("(constant)", ""), ("age", ""), ("bmi", ""), ("sex", "male"), ("smoker", "true")]
    for row, b, se in zip(rows, beta, errors, strict=True):
        assert float(row["BETA"]) == pytest.approx(b, rel=1e-6, abs=1e-8) and row["N"] == "900" and row["NODES"] == "3"
        assert float(row["SE"]) == pytest.approx(se, rel=1e-6) and not row["REASON"]
        assert float(row["LOW_95"]) < float(row["BETA"]) < float(row["HIGH_95"])
        assert float(row["R2"]) == pytest.approx(r2, rel=1e-6) and float(row["SIGMA"]) == pytest.approx(sigma, rel=1e-6)
    half.draw(answer, tmp_path / "answer.png", title="Regression", nodes=["a", "b", "c"])
    assert (tmp_path / "answer.png").stat().st_size > 10_000 and half.size(answer).rows == 5
    assert half.page(tmp_path / "answer.tsv").total == 5


def test_the_same_people_in_any_order_give_the_same_bytes_and_no_facts_leave() -> None:
    text = released(WHOLE)
    assert b"apart" not in text and b"squares" not in text
    assert released(matrix_file(PEOPLE[::-1], "ldl", ["bmi", "age"], ["sex", "smoker"])) == text
    rows = KIND.node().rows(io.BytesIO(text), 0, 3)
    assert rows[0] == ("1", "1", 900.0) and rows[1][1] == "age"


@pytest.mark.parametrize(("t", "df", "p"), [(2.228138852, 10, 0.05), (12.70620474, 1, 0.05), (3.174, 1000, 0.00155)])
def test_students_t_is_that_of_its_tables(t: float, df: int, p: float) -> None:
    assert least_squares.minus_log10_p(t, df) == pytest.approx(-math.log10(p), rel=2e-3)
    assert least_squares.student_quantile(1 - p / 2, df) == pytest.approx(t, rel=2e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 4), st.booleans())
def test_any_numbers_give_numpys_coefficients(seed: int, numbers: int, categories: bool) -> None:
    random = np.random.default_rng(seed)
    names = [f"x{n}" for n in range(numbers)]
    people = [
        {"y": round(random.normal(50, 9), 1), "g": "ab"[n // 2 % 2]}
        | {name: random.integers(50, 150) for name in names}
        for n in range(600)
    ]
    bounds = dict.fromkeys(["y", *names], (-1000.0, 1000.0))
    rules = replace(RULES, levels={"g": ("a", "b")}, bounds=bounds, numbers=frozenset(bounds))
    columns = ["g"] if categories else []
    releases = {
        node: parse(node, released(matrix_file(people[n::2], "y", names, columns), rules=rules))
        for n, node in enumerate("ab")
    }
    beta, errors, *_ = pooled(people, "y", names, {"g": "b"} if categories else {})
    for one, b, se in zip(KIND.coordinator().merge(releases, list(releases)), beta, errors, strict=True):
        assert one.estimate and one.estimate.beta == pytest.approx(b, rel=1e-6, abs=1e-6)
        assert one.estimate.se == pytest.approx(se, rel=1e-6)


def test_a_column_that_follows_from_the_others_has_no_coefficient(tmp_path: Path) -> None:
    people = [{**one, "bmi": one["age"] / 4 + 10} for one in PEOPLE]
    data = released(matrix_file(people, "ldl", ["age", "bmi"]))
    answer = KIND.coordinator().merge({"a": parse("a", data)}, ["a"])
    assert [(one.term, one.reason) for one in answer] == [("(constant)", ""), ("age", ""), ("bmi", "dependent")]
    assert KIND.coordinator().size(answer).withheld == 1
    KIND.coordinator().draw(answer, tmp_path / "a.svg", title="A", nodes=["a"])


def changed(place: str = "", number: int = 0, **changes: Any) -> bytes:
    found = json.loads(WHOLE)
    (found[place][number] if place else found).update(changes)
    return json.dumps(found).encode()


FIRST = next(one for one in json.loads(WHOLE)["sums"] if one["number"] == "ldl" and one["category"] is None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "not of the form"),
        (b"{", "not JSON"),
        (changed(model="logistic"), "model: it is not of the form"),
        (changed(numbers=["ldl", "height"]), "number 2 is none whose bounds this node declares"),
        (changed(outcome="height"), "lacks the outcome"),
        (changed(categories=["sex", "rs123"]), "column 2 is not one"),
        (changed("sums", number=1, people=3), "not of the form"),
        (changed("sums", sum=1e9), "outside what the declared bounds allow"),
        (changed("sums", number=1, level="rs123"), "sums must have one for each number"),
        (changed("sums", sums=[0.5, 0.1]), "not of the form"),
        (changed("products", sum=1e9), "outside what the declared bounds allow"),
        (changed("products", sum=1.0), "larger than"),
        (changed("products", apart=901), "apart or odd is more than people"),
        (changed("products", products=[]), "share for each person"),
        (changed(HG00096=1), "not of the form"),
        (changed(steps={"ldl": 0.7}), "no multiple of its step"),
        (changed(steps={"ldl": 0}), "not of the form"),
        (changed(steps={"ldl": 1e-9}, sums=[{**FIRST, "sum": 1e308}]), "no multiple of its step"),
        (changed(steps={"ldl": 1.0}, sums=[{**FIRST, "sum": 9.0}]), "more values than its bounds have steps"),
        (changed(support=[900]), "support: it is not of the form|support.0|not of the form"),
        (changed(support=[300, 901]), "support: it is more than there are people"),
        (changed(arrangements={"ldl": 1.0}), "arrangements must have each number"),
        (changed(arrangements=dict.fromkeys(("ldl", "age", "bmi"), 1e9)), "more than the values of a number allow"),
        (changed("sums", odd=901), "not of the form"),
        (changed("products", odd=901), "apart or odd is more than people"),
        (changed(leverage=None), "leverage: it is not of the form"),
        (changed(leverage=[]), "leverage: there must be a share for each person"),
        (changed(leverage=[0.1] * 49 + [math.nan]), "leverage"),
        (changed(leverage=[0.0] * 50), "leverage: it is less than that of the smallest category"),
        (matrix_file([{**one, "score": one["ldl"] / 10} for one in PEOPLE], "ldl", ["score"]), "number 2 is a score"),
    ],
)
def test_a_bad_file_is_refused_with_its_place_and_no_value(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        check(data)
    assert "rs123" not in str(caught.value) and "HG00096" not in str(caught.value)


def test_sums_of_sensitive_people_do_not_leave() -> None:
    for membership in ("sensitive", ""):
        with pytest.raises(FormatError, match="membership is contract or public"):
            check(WHOLE, rules=replace(RULES, membership=membership))


def mixed(change: Callable[[int, dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**one, **change(n, one)} for n, one in enumerate(PEOPLE[:300])]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("few people", matrix_file(PEOPLE[:49], "ldl", ["age"])),
        ("a small category", matrix_file(mixed(lambda n, _: {"ill": str(n < 19).lower()}), "ldl", [], ["ill"])),
        (
            "two categories that few have",
            matrix_file(
                mixed(lambda n, _: {"ill": str(n < 40).lower(), "smoker": str(36 <= n < 200).lower()}),
                *("ldl", [], ["ill", "smoker"]),
            ),
        ),
        (
            "a difference of two categories",
            matrix_file(
                mixed(lambda n, _: {"ill": str(n < 110).lower(), "smoker": str(n < 100).lower()}),
                *("ldl", [], ["ill", "smoker"]),
            ),
        ),
        ("one has most", matrix_file(mixed(lambda n, _: {"ldl": 10 if n == 7 else n % 40 / 2000}), "ldl")),
        ("few values", matrix_file(mixed(lambda n, _: {"ldl": n % 19 / 2}), "ldl")),
        (
            "two numbers that are equal for all but four",
            matrix_file(
                mixed(lambda n, one: {"bmi": one["age"] / 4 + 10 + (n * 77 % 300 < 4) * (1 + n / 300)}),
                *("ldl", ["age", "bmi"]),
            ),
        ),
        (
            "a difference of two columns' categories, whoever has most of it",
            matrix_file(
                mixed(lambda n, _: {"ill": str(n < 150).lower(), "smoker": str(n < 100).lower()}),
                *("ldl", [], ["ill", "smoker"]),
            ),
        ),
        (
            "two numbers that are equal for all but nineteen",
            matrix_file(
                mixed(lambda n, one: {"bmi": one["age"] / 4 + 10 + (n % 15 == 0 and n < 285) * (1 + n / 300)}),
                *("ldl", ["age", "bmi"]),
            ),
        ),
        (
            "four have decimals",
            matrix_file(mixed(lambda n, one: {"ldl": 1 + n * 7 % 43 / 5 + (n < 4) * 0.03}), "ldl", ["age"]),
        ),
        (
            "four have decimals of both numbers",
            matrix_file(
                mixed(
                    lambda n, one: {
                        "bmi": round(one["bmi"]) + (n < 64) * 0.1,
                        "age": one["age"] + (60 <= n < 200) * 0.1,
                    }
                ),
                *("ldl", ["age", "bmi"]),
            ),
        ),
        ("all but few are alike", matrix_file(mixed(lambda n, _: {"ldl": 1 + n / 10 if n < 4 else 1.0}), "ldl")),
        (
            "two marks that four people share",
            matrix_file(
                mixed(
                    lambda n, _: {
                        "ldl": 1 + n / 300 if n < 30 else 1.0,
                        "bmi": 20 + n / 100 if 26 <= n < 60 else 20.0,
                    }
                ),
                *("ldl", ["bmi"]),
            ),
        ),
    ],
)
def test_what_would_tell_of_few_people_stays(name: str, data: bytes) -> None:
    checked = check(data)
    assert not checked.released and checked.withheld == {"small": 1}
    answer = KIND.coordinator().merge({"a": parse("a", released(WHOLE)), "b": parse("b", released(data))}, ["a", "b"])
    assert {(one.nodes, one.reason) for one in answer} == {(1, "small")}
    assert KIND.coordinator().merge({"b": parse("b", released(data))}, ["b"]) == []


def test_fewer_sums_leave_than_half_as_many_as_there_are_people() -> None:
    bounds = {f"x{n}": (-9.0, 9.0) for n in range(20)}
    rules = replace(RULES, bounds=bounds, numbers=frozenset(bounds))
    people = [dict(zip(bounds, RANDOM.normal(0, 1, 20), strict=True)) for _ in range(150)]
    assert check(matrix_file(people, "x0", list(bounds)[1:10]), rules=rules).withheld == {"equations": 1}, (
        "10 + 55 of fewer than 130"
    )
    most = matrix_file(people, "x0", list(bounds)[1:9])
    assert check(most, rules=rules).released, "9 + 45 of 150 people, of whom 110 have nearly all of a combination"
    half = KIND.node()
    (unit,) = half.read(io.BytesIO(most), rules)
    assert unit.equations == 54
    cells = {cell.key: {1: cell.numbers} for cell in half.cells(check(most, rules=rules).released[0])}
    topics: dict[str, list[str]] = {}
    for key in cells:
        topics.setdefault(vocabulary.topic("matrix", key), []).append(key)
    past = Past(MY, 1, {1: MY}, cells, listed=True, topics=topics)
    assert topics[vocabulary.QUESTION] == [question_key(unit)]
    more = matrix_file(people, "x10", list(bounds)[:9])
    assert check(more, past, rules).withheld == {"equations": 1}, "10 + 55 of 150"
    assert check(matrix_file(people, "x3", ["x4"]), past, rules).released, "its sums left before"
    with pytest.raises(NotBesideError, match="nearly equal") as caught:
        check(matrix_file(people, "x10", ["x11", *list(bounds)[2:9]]), past, rules)
    assert caught.value.action == "Ask with these numbers as well: x0, x1."


def test_a_question_that_has_all_numbers_of_the_last_counts_once() -> None:
    people = PEOPLE[:120]
    past = left(matrix_file(people, "ldl", ["age"]))
    assert check(matrix_file(people, "bmi", ["age", "ldl"]), past).released
    with pytest.raises(NotBesideError, match="nearly equal"):
        check(matrix_file(people, "ldl", ["bmi"]), past)
    without = left(matrix_file(people, "ldl"), own=frozenset(sorted(MY)[1:]))
    with pytest.raises(NotBesideError, match="some of whom are the same"):
        check(matrix_file(people[1:], "bmi"), without)


def test_a_number_of_few_common_values_has_fewer_sums_than_one_of_many() -> None:
    """Three sums of 40 bits each, of 200 people: 1,000 bits of who has which of many values, some 200 of two."""
    many = [{**one, "ldl": one["ldl"] + n * 1e-9, "bmi": one["bmi"] + n * 1e-9} for n, one in enumerate(PEOPLE[:200])]
    assert check(matrix_file(many, "ldl", ["bmi"])).released
    few = [{**one, "ldl": 3 + n % 2 if n % 8 else 1 + n / 50} for n, one in enumerate(many)]
    (unit,) = KIND.node().read(io.BytesIO(matrix_file(few, "ldl", ["bmi"])), RULES)
    assert unit.bits_of_numbers["ldl"] == 19 + 40 + 27 and 300 < unit.arrangements["ldl"] < 400
    document = json.loads(matrix_file(few, "ldl", ["bmi"]))
    for arrangements, leaves in ((172.1, True), (171.9, False)):
        document["arrangements"]["ldl"] = arrangements
        assert bool(check(json.dumps(document).encode()).released) is leaves, "86 bits of at most half as many"


def test_who_has_most_of_a_combination_is_found_whatever_else_the_columns_have() -> None:
    for apart in (6, 30, 80):
        few = {n for n in range(300) if n * 77 % 300 < apart}
        people = mixed(lambda n, one, few=few: {"bmi": one["age"] / 4 + 10 + (n in few) * (1 + n % 9 / 10)})  # type: ignore[misc]
        found = json.loads(matrix_file(people, "ldl", ["age", "bmi"], ["sex", "smoker"]))["support"]
        assert found[0] <= found[1] <= apart and found[1] > 0.8 * apart


def test_leverage_is_that_of_the_hat_matrix() -> None:
    people = PEOPLE[:60]
    found = json.loads(matrix_file(people, "ldl", ["age", "bmi"], ["sex"]))["leverage"]
    columns = [[1.0] * 60, *([float(one[name]) for one in people] for name in ("ldl", "age", "bmi"))]
    x = np.array([*columns, [float(one["sex"] == "male") for one in people]]).T
    each = sorted(np.diag(x @ np.linalg.inv(x.T @ x) @ x.T), reverse=True)
    assert np.allclose(found, np.minimum(1, np.cumsum(each))[:50], atol=1e-9)


def test_sums_over_categories_have_fewer_bits_than_half_as_many_as_there_are_people() -> None:
    (unit,) = KIND.node().read(io.BytesIO(WHOLE), RULES)
    assert unit.bits == 2 * (17 + 19 + 20), "900 people × 120 years, × 400 of a tenth, × 1,000 of a hundredth"
    for count, decimals, leaves in ((120, 2, True), (60, 2, True), (60, 9, False), (120, 9, True)):
        people = [{**one, "ldl": round(float(RANDOM.normal(4, 1)), decimals)} for one in PEOPLE[:count]]
        checked = check(matrix_file(people, "ldl", [], ["sex"]))
        assert bool(checked.released) is leaves, (count, decimals, checked.withheld)
    assert check(matrix_file(PEOPLE[:150], "ldl", ["age", "bmi"], ["sex"])).released, "15 + 16 + 18 of 150"
    exact = [{**one, "ldl": one["ldl"] + n * 1e-9} for n, one in enumerate(PEOPLE[:150])]
    assert check(matrix_file(exact, "ldl", ["age", "bmi"], ["sex"])).withheld == {"equations": 1}, "40 + 16 + 15 of 150"


def test_sums_over_a_category_have_fewer_bits_than_who_is_in_it() -> None:
    people = [{**one, "ill": str(n % 45 == 0).lower()} for n, one in enumerate(PEOPLE)]
    exact = [{**one, "ldl": one["ldl"] + n * 1e-9, "bmi": one["bmi"] + n * 1e-9} for n, one in enumerate(people)]
    (unit,) = KIND.node().read(io.BytesIO(matrix_file(exact, "ldl", ["bmi"], ["ill"])), RULES)
    assert unit.bits == unit.bits_of_category == 80
    assert unit.choices == pytest.approx([math.log2(math.comb(900, 20))] * 2), "134 bits, of 900 people"
    assert check(matrix_file(exact, "ldl", ["bmi"], ["ill"])).withheld == {"equations": 1}, "80 of 67"
    assert check(matrix_file(exact, "ldl", [], ["ill"])).released, "40 of 67"
    for differ, leaves in ((180, True), (110, False)):
        some = [{**one, "bmi": one["bmi"] if n < differ else 20.0} for n, one in enumerate(exact)]
        mixture = [{**one, "ill": str(n % 2 == 0).lower(), "ldl": PEOPLE[n]["ldl"]} for n, one in enumerate(some)]
        checked = check(matrix_file(mixture, "ldl", ["bmi"], ["ill"]))
        assert bool(checked.released) is leaves, "60 bits of those whose body-mass index is not the commonest"


def test_the_same_question_gets_what_left_whatever_the_file_says_now() -> None:
    past = left(WHOLE)
    moved = [{**one, "ldl": min(one["ldl"] + 0.5, 10)} for one in PEOPLE]
    assert released(matrix_file(moved, "ldl", ["age", "bmi"], ["sex", "smoker"]), past) == released(WHOLE)
    part = released(matrix_file(moved, "bmi", ["ldl"], ["sex", "smoker"]), past)
    told = {json.dumps(one[:2]): one[2] for one in json.loads(released(WHOLE))["entries"]}
    assert all(told[json.dumps([a, b])] == number for a, b, number in json.loads(part)["entries"])


def test_a_number_is_told_of_by_one_set_of_categories_and_of_one_cohort() -> None:
    past = left(matrix_file(PEOPLE, "ldl", ["age"], ["sex"]))
    for columns in ([], ["smoker"], ["sex", "smoker"]):
        with pytest.raises(NotBesideError, match="told of before"):
            check(matrix_file(PEOPLE, "ldl", ["age", "bmi"], columns), past)
    assert check(matrix_file(PEOPLE, "ldl", ["age", "bmi"], ["sex"]), past).released
    without = frozenset(sorted(MY)[1:])
    with pytest.raises(NotBesideError, match="some of whom are the same"):
        check(matrix_file(PEOPLE[1:], "ldl", ["bmi"], ["sex"]), left(WHOLE, own=without))


def test_means_and_sums_of_one_number_are_not_told_beside_each_other() -> None:
    moments, mine = kind_of("moments").node(), left(WHOLE)
    for columns in ([], ["sex"], ["smoker"]):
        (unit,) = moments.read(io.BytesIO(moments_file(PEOPLE, columns, ["ldl"])), RULES)
        with pytest.raises(NotBesideError, match="other groups of these people"):
            moments.check([unit], RULES, mine)
    for columns in ([], ["sex"]):
        with pytest.raises(NotBesideError, match="as a mean"):
            check(WHOLE, left(moments_file(PEOPLE, columns, ["ldl"]), kind="moments"))
    alone = left(matrix_file(PEOPLE, "ldl", ["age"]))
    (unit,) = moments.read(
        io.BytesIO(moments_file([{**one, "ldl": 5.0 + n % 30 / 10} for n, one in enumerate(PEOPLE)], [], ["ldl"])),
        RULES,
    )
    (answered,) = moments.check([unit], RULES, alone).released
    assert answered.rows[0].shown[0] == f"{np.mean([one['ldl'] for one in PEOPLE]):.3g}", "the ledger's, not the file's"


def test_a_reviewer_reads_how_much_it_is() -> None:
    (text, smallest) = KIND.node().remarks(check(WHOLE).released, RULES)
    assert "900 people: 5 columns, 20 equations and 112 bits over categories, of at most" in text and smallest.endswith(
        "(true)."
    )


@pytest.mark.parametrize(
    "change",
    [
        {"format": "gdi-matrix/1"},
        {"columns": [[], ["ldl"], ["ldl"]]},
        {"columns": [["ldl"], ["age"]]},
        {"outcome": "height"},
        {"entries": []},
        {"entries": [[[], [], 1]]},
        {"entries": [[[], [], "nan"]]},
        {"entries": [[[], [], 1e300]]},
        {"columns": [[], ["ldl"], ["sex", "a", "b"]]},
    ],
    ids=str,
)
def test_a_bad_release_names_its_node(change: dict[str, Any]) -> None:
    document = {**json.loads(released(WHOLE)), **change}
    with pytest.raises(BadReleaseError, match="of node-a"):
        parse("node-a", json.dumps(document).encode())


def test_nodes_with_other_numbers_are_not_added_up() -> None:
    two = {"a": parse("a", released(WHOLE)), "b": parse("b", released(matrix_file(PEOPLE, "ldl", ["age"])))}
    with pytest.raises(BadReleaseError, match="different columns"):
        KIND.coordinator().merge(two, ["a", "b"])
