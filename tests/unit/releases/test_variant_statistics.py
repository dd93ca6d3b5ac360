"""The kind `variant-statistics`: who may leave, alleles and strands put right, the formulas of METAL."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gdi.releases.disclosure import vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import BadReleaseError, CheckedUnits, FormatError, Rules, Scope
from gdi.releases.registry import kind_of
from gdi.releases.variant_statistics.merge import MergedVariant, parse
from gdi.releases.variant_statistics.statistics import chi2_tail, inflation, minus_log10_p, pool
from gdi.releases.variant_statistics.table import HEADING, Analysis

KIND = kind_of("variant-statistics")
RULES = Rules(
    5,
    100,
    levels={"diabetes": ("false", "true")},
    columns=frozenset({"ldl", "age", "diabetes"}),
    numbers=frozenset({"ldl", "age"}),
    membership="contract",
)
LINEAR = Analysis(format="gdi-variant-statistics/1", model="linear", phenotype="ldl", people=300, cases=0)
LOGISTIC = LINEAR.model_copy(update={"model": "logistic", "phenotype": "diabetes", "cases": 100})
GOOD: tuple[Any, ...] = ("2", 10, "A", "G", 300, 0, 100, 280, 0, 0, 0.2, 0.123456789, 0.0456789)


def file(*rows: tuple[Any, ...], of: Analysis = LINEAR) -> bytes:
    return "\n".join([of.line, *("\t".join(map(str, row)) for row in (HEADING, *rows)), ""]).encode()


def check(data: bytes, rules: Rules = RULES, past: Past = Past()) -> CheckedUnits[Any]:
    half = KIND.node()
    return half.check(half.read(io.BytesIO(data), rules), rules, past)


def released(data: bytes) -> bytes:
    out, checked = io.BytesIO(), check(data)
    KIND.node().write(out, checked.released, checked.withheld, Scope(), RULES)
    return out.getvalue()


def changed(**values: Any) -> tuple[Any, ...]:
    return tuple(values.get(name, value) for name, value in zip(HEADING, GOOD, strict=True))


def merged(tmp_path: Path, *nodes: list[tuple[Any, ...]]) -> list[MergedVariant]:
    half, releases = KIND.coordinator(), {}
    for number, rows in enumerate(nodes):
        name = f"n{number}"
        (tmp_path / name).write_bytes(released(file(*rows)))
        releases[name] = half.read(name, tmp_path / name)
    found: list[MergedVariant] = half.merge(releases, list(releases))
    return found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1 must be #"),
        (b"#{}\n", "line 1: format"),
        (file(of=LINEAR.model_copy(update={"phenotype": "name"})), "the phenotype is not a column that this node"),
        (file(of=LINEAR.model_copy(update={"covariates": ("age", "id")})), "covariate 2 is not a column"),
        (file().replace(b"BETA", b"EFFECT"), "line 2 must be the heading"),
        (file(GOOD[:5]), "line 3: 5 columns instead of 13"),
        (file(changed(CHROM="2 X")), "line 3: CHROM"),
        (file(changed(POS="0")), "line 3: POS"),
        (file(changed(N="01")), "line 3: N must be a whole number"),
        (file(changed(N=301)), "more people or cases"),
        (file(changed(CARRIERS=10)), "carriers and people do not agree"),
        (file(changed(SE="0")), "line 3: AF must be"),
        (file(changed(BETA="nan")), "line 3: BETA must be a number"),
        (file(changed(BETA="HG00096")), "line 3: BETA must be a number"),
    ],
)
def test_a_bad_file_is_refused_with_its_line_and_no_value(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        check(data)
    assert "HG00096" not in str(caught.value)


@pytest.mark.parametrize("membership", ["", "sensitive"])
def test_it_leaves_only_where_membership_is_contract_or_public(membership: Any) -> None:
    with pytest.raises(FormatError, match="membership is contract or public"):
        check(file(GOOD), replace(RULES, membership=membership))


@pytest.mark.parametrize(
    ("row", "of", "why"),
    [
        (changed(), LINEAR, ""),
        (changed(CARRIERS=19, OTHERS=290), LINEAR, "small"),
        (changed(CARRIERS=290, OTHERS=19), LINEAR, "small"),
        (changed(N=49, CARRIERS=25, OTHERS=40), LINEAR, "few-people"),
        (changed(CASES=100, CASES_CARRIERS=30, CASES_OTHERS=90), LOGISTIC, ""),
        (changed(CASES=100, CASES_CARRIERS=19, CASES_OTHERS=90), LOGISTIC, "small"),
        (changed(CASES=100, CASES_CARRIERS=81, CASES_OTHERS=90), LOGISTIC, "small"),
        (changed(OTHERS=296), LINEAR, "small"),  # four people have two copies
        (changed(CARRIERS=296, OTHERS=200), LINEAR, "small"),  # four have none
        (changed(CASES=100, CASES_CARRIERS=30, CASES_OTHERS=96), LOGISTIC, "small"),  # four cases have two copies
        (changed(CASES=100, CASES_CARRIERS=98, CASES_OTHERS=20), LOGISTIC, "small"),
        (changed(N=297, CARRIERS=100), LINEAR, "small"),  # three have no call
    ],
)
def test_few_people_or_carriers_stay(row: tuple[Any, ...], of: Analysis, why: str) -> None:
    checked = check(file(row, of=of))
    assert dict(checked.withheld) == ({why: 1} if why else {}) and len(checked.released) == (not why)


def test_five_digits_leave() -> None:
    lines = released(file(GOOD, changed(POS=20, N=290, CARRIERS=100, OTHERS=270))).decode().splitlines()
    assert lines[2].split("\t")[4:] == ["300", "0.2", "0.12346", "0.045679"]
    assert lines[3].split("\t")[4] == "290"


@pytest.mark.parametrize(
    ("of", "rules", "message"),
    [
        (LINEAR.model_copy(update={"phenotype": "diabetes"}), RULES, "for a category with two levels choose logistic"),
        (LOGISTIC.model_copy(update={"phenotype": "ldl"}), RULES, "a category with two levels"),
        (LOGISTIC, replace(RULES, levels={"diabetes": ("a", "b", "true")}), "a category with two levels"),
        (LOGISTIC, replace(RULES, levels={"diabetes": ("a", "b")}), "a category with two levels"),
    ],
)
def test_a_model_of_another_kind_of_column_is_refused(of: Analysis, rules: Rules, message: str) -> None:
    """A linear model of a category tells the sum of its people's copies."""
    with pytest.raises(FormatError, match=message):
        check(file(GOOD, of=of), rules)


def test_a_variant_under_two_names_stays() -> None:
    assert check(file(GOOD, changed(CHROM="chr2"))).withheld == {"two-names": 2}
    assert check(file(GOOD, changed(CHROM="another"))).withheld == {"unknown-contig": 1}


MINE = frozenset({f"p{n}" for n in range(300)})


def left(unit: Any, own: frozenset[str] = MINE, number: int | None = None, kind: str = "variant-statistics") -> Past:
    """What the ledger knows after this left of the cohort 1, when `own` asks."""
    cells = {cell.key: {1: cell.numbers} for cell in KIND.node().cells(unit)}
    topics: dict[str, list[str]] = {}
    for name in cells:
        topics.setdefault(vocabulary.topic(kind, name), []).append(name)
    return Past(own, number, {1: MINE}, cells, listed=True, topics=topics)


def test_the_same_question_is_answered_as_before_whatever_the_file_says_now() -> None:
    (unit,) = check(file(GOOD)).released
    (again,) = check(file(changed(CARRIERS=101, OTHERS=281, BETA=0.5)), past=left(unit, number=1)).released
    assert again.row.counts == unit.row.counts and f"{again.row.beta:.5g} {again.row.se:.5g}" == "0.12346 0.045679"


def test_another_analysis_of_the_same_people_leaves_and_one_of_fewer_people_does_not() -> None:
    (unit,) = check(file(GOOD)).released
    other = LINEAR.model_copy(update={"covariates": ("age",)})
    assert check(file(GOOD, of=other), past=left(unit, number=1)).released
    fewer = LINEAR.model_copy(update={"people": 299})
    row = changed(N=299, CARRIERS=99, OTHERS=280)
    assert check(file(row, of=fewer), past=left(unit, MINE - {"p0"})).withheld == {"overlap": 1}
    off = replace(RULES, off=frozenset({Rule.KINDS}))
    assert check(file(row, of=fewer), off, left(unit, MINE - {"p0"})).released, "with the rule off: a carrier less"


def test_a_position_that_is_there_twice_stays() -> None:
    checked = check(file(GOOD, changed(ALT="T"), changed(POS=11)))
    assert checked.withheld == {"duplicate-site": 2} and len(checked.released) == 1


def test_alleles_and_strands_are_put_right(tmp_path: Path) -> None:
    first = [changed(), changed(POS=20, REF="A", ALT="T"), changed(POS=30, REF="A", ALT="T", AF=0.5), changed(POS=40)]
    swap = {"REF": "G", "ALT": "A", "AF": 0.8, "BETA": -0.123456789}
    other = {"REF": "T", "ALT": "C"}
    second = [
        changed(**swap),
        changed(POS=20, REF="T", ALT="A"),
        changed(POS=30, REF="T", ALT="A", AF=0.5),
        changed(POS=40, **other),
    ]
    found = {one.site[1]: one for one in merged(tmp_path, first, second)}
    for position in (10, 20, 40):
        assert found[position].nodes == 2 and abs(found[position].pooled.beta - 0.12346) < 1e-9, position
        assert abs(found[position].frequency - 0.2) < 1e-9
    assert found[30].nodes == 1 and found[30].direction == "+?"


def test_nodes_that_analysed_different_things_are_not_put_together(tmp_path: Path) -> None:
    half = KIND.coordinator()
    (tmp_path / "a").write_bytes(released(file(GOOD)))
    of = LINEAR.model_copy(update={"covariates": ("age",)})
    (tmp_path / "b").write_bytes(released(file(GOOD, of=of)))
    with pytest.raises(BadReleaseError, match="analysed different things"):
        half.merge({"a": parse("a", tmp_path / "a"), "b": parse("b", tmp_path / "b")}, ["a", "b"])
    (tmp_path / "c").write_bytes(released(file(GOOD)) + b"2\t11\tA\tG\t9\t0.2\tinf\t1\n")
    with pytest.raises(BadReleaseError, match="The statistics of c are not of their format: line 4"):
        half.read("c", tmp_path / "c")


def test_a_node_without_variants_changes_nothing(tmp_path: Path) -> None:
    (one,) = merged(tmp_path, [GOOD], [changed(CARRIERS=3, OTHERS=299)])
    assert (one.nodes, one.direction, one.people) == (1, "+?", 300)


def test_the_formulas_are_those_of_metal() -> None:
    pooled = pool([(0.2, 0.1), (0.5, 0.2), (-0.1, 0.15)])
    weights = [100, 25, 1 / 0.0225]
    beta = (0.2 * 100 + 0.5 * 25 - 0.1 / 0.0225) / sum(weights)
    assert math.isclose(pooled.beta, beta) and math.isclose(pooled.se, sum(weights) ** -0.5)
    q = sum(w * (b - beta) ** 2 for w, b in zip(weights, (0.2, 0.5, -0.1), strict=True))
    assert math.isclose(pooled.q, q) and math.isclose(pooled.i2, (q - 2) / q * 100)
    assert math.isclose(pooled.q_p, math.exp(-q / 2))
    assert pooled.se_random > pooled.se and pool([(0.2, 0.1)]).q_p == 1


def test_tails_are_right_far_out() -> None:
    assert math.isclose(minus_log10_p(1.959963984540054, 1), -math.log10(0.05))
    assert math.isclose(minus_log10_p(36.999999, 1), minus_log10_p(37.000001, 1), rel_tol=1e-6)
    assert math.isclose(minus_log10_p(40, 1), 349.135976, rel_tol=1e-6)
    for x, df, tail in ((3.841459, 1, 0.05), (7.814728, 3, 0.05), (11.0705, 5, 0.05), (9.487729, 4, 0.05)):
        assert math.isclose(chi2_tail(x, df), tail, rel_tol=1e-5)
    assert inflation([]) is None and math.isclose(inflation([0.67449] * 5) or 0, 1, rel_tol=1e-4)
