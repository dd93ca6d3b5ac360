"""gwas over the demo's people at two nodes: each node's effects are those of numpy's least squares and of a plain
Newton's method; the causal site is found; a covariate takes the confounding away. With plink2: tests/system.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pysam
import pytest

from gdi.contracts.sections import SectionPlan
from gdi.local_federation import phenotypes
from gdi.releases.variant_statistics.statistics import inflation, pool
from tests.support import gwas_kit
from tests.support.gwas_kit import Question, analyse, script

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return gwas_kit.cohorts(tmp_path_factory.mktemp("gwas"), 2)


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((line for line in file.open() if line[0] != "#"), delimiter="\t"))


def table(node: Path) -> dict[str, np.ndarray[Any, Any]]:
    found = list(csv.DictReader((node / "samples.tsv").open(), delimiter="\t"))
    numbers = {name: np.array([float(row[name]) for row in found]) for name in ("age", "ancestry", "ldl", "bmi")}
    levels = {"sex": "male", "diabetes": "true"}
    return numbers | {name: np.array([float(row[name] == one) for row in found]) for name, one in levels.items()}


def newton(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> tuple[float, float]:
    b = np.zeros(x.shape[1])
    for _ in range(25):
        mean = 1 / (1 + np.exp(-(x @ b)))
        hessian = x.T @ (x * (mean * (1 - mean))[:, None])
        b = b + np.linalg.solve(hessian, x.T @ (y - mean))
    return float(b[-1]), float(np.sqrt(np.linalg.inv(hessian)[-1, -1]))


@pytest.mark.parametrize(("phenotype", "model"), [("ldl", "linear"), ("diabetes", "logistic")])
def test_a_nodes_effects_are_those_of_plain_regression(phenotype: str, model: str, nodes: list[Path]) -> None:
    names, copies = phenotypes.genotypes(nodes[0] / "cohort.vcf.gz")
    of = table(nodes[0])
    found = [row for row in rows(analyse(nodes[0], Question(phenotype, model))) if int(row["CARRIERS"]) >= 20]
    by_count = {(int(np.nansum(g)), int((~np.isnan(g)).sum())): g for g in copies}
    seen = 0
    for row in found[::4]:
        g = by_count[round(float(row["AF"]) * 2 * int(row["N"])), int(row["N"])]
        called = ~np.isnan(g)
        x = np.column_stack([np.ones(len(names)), of["age"], of["sex"], of["ancestry"], g])[called]
        y = of[phenotype][called]
        if model == "linear":
            b, left, _, _ = np.linalg.lstsq(x, y, rcond=None)
            error = np.sqrt(left[0] / (len(y) - 5) * np.linalg.inv(x.T @ x)[-1, -1])
            beta = b[-1]
        else:
            beta, error = newton(x, y)
        if not np.isclose(beta, float(row["BETA"]), rtol=1e-6):
            continue  # another site with the same counts
        assert np.isclose(error, float(row["SE"]), rtol=1e-6)
        seen += 1
    assert seen > 0.9 * len(found[::4]) > 10


def test_the_causal_site_is_found_over_both_nodes_and_drawn(nodes: list[Path], tmp_path: Path) -> None:
    found = rows(gwas_kit.answer(nodes, Question("ldl"), tmp_path / "answer.tsv"))
    best = max(found, key=lambda row: float(row["MLOG10P"]))
    assert best["POS"] == "10297" and float(best["MLOG10P"]) > 5 and best["DIRECTION"] == "++"
    assert 0.2 < float(best["BETA"]) < 0.6
    assert (tmp_path / "answer.png").stat().st_size > 20_000


def test_ancestry_as_a_covariate_takes_the_confounding_away(nodes: list[Path]) -> None:
    def factor(*covariates: str) -> float:
        found = rows(analyse(nodes[0], Question("bmi", covariates=covariates)))
        common = [float(r["BETA"]) / float(r["SE"]) for r in found if int(r["CARRIERS"]) >= 20]
        return inflation(common) or 0

    assert factor("age", "sex") > 2 * factor("age", "sex", "ancestry")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda text: text.replace("ldl", "hdl", 1), 1),
        (lambda text: text + text.splitlines()[1] + "\n", 317),
        (lambda text: text.replace("\n", "\tx\n", 2), 3),
        (lambda text: text.splitlines()[0] + "\n", 1),
    ],
)
def test_a_bad_sample_table_fails_with_its_line(change: Any, line: int, nodes: list[Path], tmp_path: Path) -> None:
    analyse_first = nodes[0] / "regions.json"
    assert analyse_first.exists()
    (tmp_path / "s.tsv").write_text(change((nodes[0] / "samples.tsv").read_text()))
    arguments = (nodes[0] / "cohort.vcf.gz", tmp_path / "s.tsv", analyse_first, 0, tmp_path / "out")
    done = script("regress.py", *arguments, "--question", Question("ldl").json)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == f"GDI-ERROR class=SampleTableError line={line}"
    assert "HG0" not in done.stderr


def test_sections_and_a_parquet_table_give_the_same(nodes: list[Path], tmp_path: Path) -> None:
    expected = analyse(nodes[0], Question("ldl")).read_text()
    vcf, table = Path(shutil.copy(nodes[0] / "cohort.vcf.gz", tmp_path / "c.vcf.gz")), tmp_path / "samples.parquet"
    pysam.tabix_index(str(vcf), preset="vcf", force=True)
    pl.read_csv(nodes[0] / "samples.tsv", separator="\t").write_parquet(table)
    places, validated, ranges = tmp_path / "places.json", tmp_path / "D.0.json", tmp_path / "r.json"
    gwas_kit.must("sections.py", f"{vcf}.tbi", tmp_path / "plan.json", places, "--sections", 2, "--header")
    plan = SectionPlan.model_validate_json((tmp_path / "plan.json").read_text())
    whole = vcf.read_bytes()
    sections = [tmp_path / f"section-{n}" for n in range(3)]
    for n, section in enumerate(sections):
        section.write_bytes(b"".join(whole[start:end] for start, end in plan.ranges(n, len(whole))))
    gwas_kit.must("validate.py", sections[0], validated, "--places", places)
    gwas_kit.must("regions.py", validated, ranges, "--regions", 2)
    (tmp_path / "D").mkdir()
    parts = [tmp_path / "D" / f"0.{n}.tsv" for n in range(2)]
    for n, part in enumerate(parts):
        more = ("--question", Question("ldl").json, "--places", places)
        gwas_kit.must("regress.py", sections[n + 1], table, ranges, n, part, *more)
    gwas_kit.must("gather.py", tmp_path / "out.tsv", *parts)
    assert (tmp_path / "out.tsv").read_text() == expected


def test_a_nodes_datasets_are_put_together_as_nodes_are(nodes: list[Path], tmp_path: Path) -> None:
    files = [analyse(node, Question("ldl")) for node in nodes]
    gwas_kit.must("gather.py", tmp_path / "both.tsv", *files)
    each = [{row["POS"]: row for row in rows(file)} for file in files]
    for row in rows(tmp_path / "both.tsv"):
        of = [one[row["POS"]] for one in each if row["POS"] in one]
        expected = pool([(float(one["BETA"]), float(one["SE"])) for one in of])
        assert np.isclose(float(row["BETA"]), expected.beta, rtol=1e-6)
        assert np.isclose(float(row["SE"]), expected.se, rtol=1e-6)
        assert int(row["N"]) == sum(int(one["N"]) for one in of)
        assert int(row["CARRIERS"]) == sum(int(one["CARRIERS"]) for one in of)
    about = json.loads((tmp_path / "both.tsv").read_text().partition("\n")[0][1:])
    assert about["people"] == 629 and len(rows(tmp_path / "both.tsv")) == len(set(each[0]) | set(each[1]))


def with_first(text: str, column: str, value: str) -> str:
    """The sample table with another value of its first person."""
    heading, first, *rest = text.splitlines()
    cells = first.split("\t")
    cells[heading.split("\t").index(column)] = value
    return "\n".join([heading, "\t".join(cells), *rest]) + "\n"


@pytest.mark.parametrize(
    ("column", "value", "line"), [("ldl", "NaN", 0), ("age", "NULL", 0), ("ldl", "Inf", 2), ("age", "-inf", 1)]
)
def test_one_person_without_a_number_costs_that_person_and_one_of_infinity_is_said(
    column: str, value: str, line: int, nodes: list[Path], tmp_path: Path
) -> None:
    """`NaN` was a number, and made every effect one that is not there: an empty answer, with exit code 0."""
    ranges = nodes[0] / "regions.json"
    assert ranges.exists()
    (tmp_path / "s.tsv").write_text(with_first((nodes[0] / "samples.tsv").read_text(), column, value))
    arguments = (nodes[0] / "cohort.vcf.gz", tmp_path / "s.tsv", ranges, 0, tmp_path / "out")
    done = script("regress.py", *arguments, "--question", Question("ldl").json)
    if line:
        assert done.stderr.splitlines()[-1] == f"GDI-ERROR class=SampleTableError line={line}", done.stderr
    else:
        counts = {int(row["N"]) for row in rows(tmp_path / "out")}
        assert done.returncode == 0 and max(counts) == 314, done.stderr


def test_of_a_variable_set_the_complete_people_alone_are_analysed(nodes: list[Path], tmp_path: Path) -> None:
    """As if the others were in no table: and the table that has only them is the pooled one of numpy above."""
    heading, *people = (nodes[0] / "samples.tsv").read_text().splitlines()
    place = heading.split("\t").index("bmi")
    part, alone = tmp_path / "part", tmp_path / "alone"
    for folder in (part, alone):
        folder.mkdir()
        shutil.copy(nodes[0] / "cohort.vcf.gz", folder)
    kept = [one for number, one in enumerate(people) if number % 4]
    without = ["\t".join([*one.split("\t")[:place], "", *one.split("\t")[place + 1 :]]) for one in people]
    table = [full if full in kept else empty for full, empty in zip(people, without, strict=True)]
    (part / "samples.tsv").write_text("\n".join([heading, *table]) + "\n")
    (alone / "samples.tsv").write_text("\n".join([heading, *kept]) + "\n")
    described = {"person": "person", "format": "tsv", "variable_sets": {"weight": ["bmi", "sex"]}}
    question = json.dumps({"cohort": {"variables": "weight"}, "people": described, "all": ["complete"]})
    gwas_kit.must(
        *("people.py", part / "cohort.vcf.gz", part / "samples.tsv", part / "cohort.json", "--question", question)
    )
    asked = Question("ldl", covariates=("age",))
    found = analyse(part, asked, "--cohort", part / "cohort.json").read_text()
    assert found == analyse(alone, asked).read_text() != analyse(nodes[0], asked).read_text()
    assert json.loads(found.splitlines()[0][1:])["people"] == len(kept)
