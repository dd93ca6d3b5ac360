"""regression over the demo's real people, at three nodes: coefficients, errors and R² of numpy's least squares over the
pooled table.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from gdi.contracts.descriptor import Descriptor
from gdi.local_federation import phenotypes
from gdi.local_federation.federation import COHORT
from gdi.local_federation.parts.node import descriptor
from gdi.releases import declared
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules, Scope
from gdi.releases.matrix.merge import parse
from gdi.releases.registry import kind_of

ENTRY = Path(__file__).parents[3] / "workflows" / "regression"
SCHEMA = json.loads((ENTRY / "release.schema.json").read_text())
DEMO = [Descriptor.model_validate(descriptor("EGAD1"))]
RULES = Rules(
    5,
    10_000,
    levels=declared.levels(DEMO),
    numbers=declared.numbers(DEMO),
    bounds=declared.bounds(DEMO),
    scores=declared.scores(DEMO),
    membership=declared.membership(DEMO),
)


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", str(ENTRY / "scripts" / name), *map(str, arguments)], capture_output=True, text=True
    )


def question(**changes: Any) -> str:
    usual = {"person": "person", "model": "linear", "outcome": "ldl", "numbers": ["age"], "categories": ["sex"]}
    return json.dumps({**usual, **changes})


def release(tables: list[Path], folder: Path, asked_for: str) -> dict[str, Any]:
    """The workflow at one node, without Snakemake."""
    found = [folder / f"{table.stem}.json" for table in tables]
    for table, out in zip(tables, found, strict=True):
        done = script("read.py", table, out, "--question", asked_for)
        assert done.returncode == 0, done.stderr
    done = script("gather.py", folder / "sums.json", *found, "--question", asked_for)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads((folder / "sums.json").read_text())
    jsonschema.validate(document, SCHEMA)
    return document


@pytest.fixture(scope="module")
def people() -> list[phenotypes.Person]:
    return phenotypes.simulate(COHORT)


@pytest.mark.parametrize(
    ("numbers", "categories", "levels"),
    [
        (["age", "bmi"], ["sex"], [("sex", "male")]),
        (["bmi"], ["country"], [("country", "middle"), ("country", "south")]),
    ],
)
def test_the_answer_of_three_nodes_is_that_of_the_pooled_table(
    numbers: list[str],
    categories: list[str],
    levels: list[tuple[str, str]],
    people: list[phenotypes.Person],
    tmp_path: Path,
) -> None:
    node, centre = kind_of("matrix").node(), kind_of("matrix").coordinator()
    releases = {}
    for number in range(3):
        phenotypes.write(people[number::3], tmp_path / f"{number}.tsv")
        document = release([tmp_path / f"{number}.tsv"], tmp_path, question(numbers=numbers, categories=categories))
        units, out = node.read(io.BytesIO(json.dumps(document).encode()), RULES), io.BytesIO()
        node.write(out, node.check(units, RULES, Past()).released, {}, Scope(), RULES)
        releases[f"node-{number}"] = parse(f"node-{number}", out.getvalue())
    centre.write_table(centre.merge(releases, list(releases)), tmp_path / "answer.tsv")

    columns = [[1.0] * len(people), *([float(getattr(one, name)) for one in people] for name in numbers)]
    columns += [[float(getattr(one, name) == level) for one in people] for name, level in levels]
    x, y = np.array(columns).T, np.array([one.ldl for one in people])
    beta, (left,), *_ = np.linalg.lstsq(x, y, rcond=None)
    errors = np.sqrt(left / (len(y) - x.shape[1]) * np.diag(np.linalg.inv(x.T @ x)))
    rows = list(csv.DictReader((tmp_path / "answer.tsv").open(), delimiter="\t"))
    terms = [("(constant)", ""), *((name, "") for name in numbers), *levels]
    assert [(row["TERM"], row["LEVEL"]) for row in rows] == terms
    for row, b, se in zip(rows, beta, errors, strict=True):
        assert float(row["BETA"]) == pytest.approx(b, rel=1e-6, abs=1e-8)
        assert float(row["SE"]) == pytest.approx(se, rel=1e-6)
        assert float(row["R2"]) == pytest.approx(1 - left / ((y - y.mean()) ** 2).sum(), rel=1e-6)
        assert (row["NODES"], row["N"], row["REASON"]) == ("3", "629", "")


def test_two_datasets_of_a_node_are_one_sum_of_those_who_are_complete(tmp_path: Path) -> None:
    (tmp_path / "one.tsv").write_text("person\tsex\tage\tldl\na\tmale\t30\t3.5\nb\tNA\t40\t2\nc\tfemale\t50\tNaN\n")
    (tmp_path / "two.tsv").write_text("person\tldl\tage\tsex\nd\t2.5\t20\tfemale\n\ne\t1\t1e1\tmale\n")
    found = release([tmp_path / "one.tsv", tmp_path / "two.tsv"], tmp_path, question())
    assert found["people"] == [["female", 1], ["male", 2]]
    assert found["steps"] == {"ldl": 0.1, "age": 1.0}
    sums = {(one["number"], one["level"]): (one["people"], one["sum"]) for one in found["sums"]}
    assert sums["ldl", None] == (3, 7.0) and sums["age", "male"] == (2, 40.0)
    assert [one["sum"] for one in found["products"]] == [12.25 + 6.25 + 1, 105 + 50 + 10, 900 + 400 + 100]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("person\tsex\tage\tldl\na\tmale\t3\t4\na\tmale\t3\t4\n", 3),
        ("person\tsex\tage\tldl\na\tmale\t3\n", 2),
        ("person\tsex\tage\tldl\n\tmale\t3\t4\n", 2),
        ("person\tsex\tage\na\tmale\t3\n", 1),
        ("person\tsex\tage\tldl\na\tmale\t3\tinf\n", 2),
        ("person\tsex\tage\tldl\na\tmale\t3\thigh\n", 2),
        ("person\tsex\tage\tldl\na\tmale\t3\t1_0\n", 2),
        ("", 1),
    ],
)
def test_a_bad_sample_table_fails_with_its_line(text: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "s.tsv").write_text(text)
    done = script("read.py", tmp_path / "s.tsv", tmp_path / "out.json", "--question", question())
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == f"GDI-ERROR class=SampleTableError line={line}"
    assert "male" not in done.stderr and "high" not in done.stderr


def test_a_column_that_is_asked_for_twice_and_a_person_in_two_datasets_end_the_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.tsv").write_text("person\tsex\tage\tldl\nsomebody\tmale\t3\t4\n")
        script("read.py", tmp_path / f"{name}.tsv", tmp_path / f"{name}.json", "--question", question())
    both = [tmp_path / "one.json", tmp_path / "two.json"]
    done = script("gather.py", tmp_path / "out.json", *both, "--question", question())
    assert done.returncode == 1 and "class=DuplicatePeople" in done.stderr and "somebody" not in done.stderr
    twice = question(numbers=["ldl"])
    done = script("read.py", tmp_path / "one.tsv", tmp_path / "out.json", "--question", twice)
    assert done.returncode == 1 and "asked for twice" in done.stderr
