"""cohort-counts over the demo's real people, at three nodes: equal to polars over the pooled table wherever a count is
exact, and between its bounds elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest

from gdi.contracts.descriptor import Descriptor
from gdi.local_federation import phenotypes
from gdi.local_federation.federation import COHORT
from gdi.local_federation.parts.node import descriptor
from gdi.releases.cross_table.merge import parse
from gdi.releases.declared import levels
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules, Scope
from gdi.releases.registry import kind_of

ENTRY = Path(__file__).parents[3] / "workflows" / "cohort-counts"
SCHEMA = json.loads((ENTRY / "release.schema.json").read_text())
RULES = Rules(5, 10_000, levels=levels([Descriptor.model_validate(descriptor("EGAD1"))]))
BINS = {"age": [18, 30, 45, 60, 75, 90]}


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", str(ENTRY / "scripts" / name), *map(str, arguments)], capture_output=True, text=True
    )


def question(columns: list[str]) -> str:
    return json.dumps({"person": "person", "columns": columns, "bins": BINS})


def count(table: Path, out: Path, columns: list[str]) -> subprocess.CompletedProcess[str]:
    return script("count.py", table, out, "--question", question(columns))


def release(tables: list[Path], folder: Path, columns: list[str]) -> dict[str, Any]:
    """The workflow at one node, without Snakemake."""
    counted = [folder / f"{table.stem}.json" for table in tables]
    for table, out in zip(tables, counted, strict=True):
        done = count(table, out, columns)
        assert done.returncode == 0, done.stderr
    done = script("gather.py", folder / "people.json", *counted, "--columns", json.dumps(columns))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "people.json").read_text())
    return found


@pytest.fixture(scope="module")
def people() -> list[phenotypes.Person]:
    return phenotypes.simulate(COHORT)


@pytest.mark.parametrize("columns", [["sex", "age", "diabetes"], ["country", "sex"]])
def test_the_answer_of_three_nodes_is_that_of_the_pooled_table(
    columns: list[str], people: list[phenotypes.Person], tmp_path: Path
) -> None:
    node, centre = kind_of("table").node(), kind_of("table").coordinator()
    releases = {}
    for number in range(3):
        phenotypes.write(people[number::3], tmp_path / f"{number}.tsv")
        document = release([tmp_path / f"{number}.tsv"], tmp_path, columns)
        jsonschema.validate(document, SCHEMA)
        units = node.read(io.BytesIO(json.dumps(document).encode()), RULES)
        checked, out = node.check(units, RULES, Past()), io.BytesIO()
        node.write(out, checked.released, {}, Scope(), RULES)
        releases[f"node-{number}"] = parse(f"node-{number}", out.getvalue())
    answer = centre.merge(releases, list(releases))
    centre.write_table(answer, tmp_path / "answer.tsv")

    pooled = pl.concat([pl.read_csv(tmp_path / f"{n}.tsv", separator="\t", infer_schema=False) for n in range(3)])
    age = pl.col("age").cast(pl.Float64)
    bins = [pl.when((age >= low) & (age < high)).then(pl.lit(f"{low}..{high}")) for low, high in pairwise(BINS["age"])]
    pooled = pooled.with_columns(pl.coalesce(bins).alias("age"))
    exact = 0
    for row in csv.DictReader((tmp_path / "answer.tsv").open(), delimiter="\t"):
        wanted = {row[f"COLUMN_{n}"]: row[f"LEVEL_{n}"] for n in range(1, 5) if row[f"COLUMN_{n}"]}
        true = pooled.filter(*(pl.col(column) == level for column, level in wanted.items())).height
        assert int(row["PEOPLE_MIN"]) <= true <= int(row["PEOPLE_MAX"]), wanted
        if row["PEOPLE"]:
            exact += true > 0
            assert int(row["PEOPLE"]) == true, wanted
    assert exact >= 12


@pytest.mark.parametrize("value", ["", " ", "NA", "N/A", "n/a", "NaN", "NULL", "null", "<NA>", "#N/A", "None", "."])
def test_however_a_file_says_that_there_is_no_value_the_person_is_unknown(value: str, tmp_path: Path) -> None:
    """A category that no node declares refuses the whole release, after all the work."""
    table = tmp_path / "samples.tsv"
    table.write_text(f"person\tsex\tage\na\t{value}\t{value}\nb\tnone\t20\n")
    assert count(table, tmp_path / "out.json", ["sex", "age"]).returncode == 0
    found = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert ["unknown", "unknown", 1] in found and found[0][0] == "none"


def test_values_that_are_not_there_or_no_numbers_are_unknown(tmp_path: Path) -> None:
    table = tmp_path / "s.tsv"
    table.write_text("person\tage\tsex\na\t30\tmale\nb\t29.9\tmale\nc\t90\t\nd\t17\tNA\ne\told\tfemale\nf\tnan\tmale\n")
    rows = release([table], tmp_path, ["age", "sex"])["tables"][0]["rows"]
    assert rows == [
        ["18..30", "male", 1],
        ["30..45", "male", 1],
        ["75..90", "unknown", 1],
        ["unknown", "female", 1],
        ["unknown", "male", 1],
        ["unknown", "unknown", 1],
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("person\tsex\na\tmale\na\tfemale\n", 3),
        ("person\tsex\na\tmale\textra\n", 2),
        ("person\tsex\n\tmale\n", 2),
        ("id\tsex\na\tmale\n", 1),
        ("", 1),
        ("person\tsex\tsex\na\tmale\tmale\n", 1),
    ],
)
def test_a_bad_sample_table_fails_with_its_line(text: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "s.tsv").write_text(text)
    done = count(tmp_path / "s.tsv", tmp_path / "out.json", ["sex"])
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == f"GDI-ERROR class=SampleTableError line={line}"
    assert "male" not in done.stderr


def test_a_person_in_two_datasets_ends_the_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.tsv").write_text("person\tsex\nsomebody\tmale\n")
        count(tmp_path / f"{name}.tsv", tmp_path / f"{name}.json", ["sex"])
    files = [tmp_path / f"{name}.json" for name in ("one", "two")]
    done = script("gather.py", tmp_path / "out.json", *files, "--columns", '["sex"]')
    assert done.returncode == 1 and "class=DuplicatePeople" in done.stderr and "somebody" not in done.stderr


def test_the_simulation_is_the_same_each_time_and_confounded_where_it_says(people: list[phenotypes.Person]) -> None:
    table = pl.DataFrame(people, schema=list(phenotypes.COLUMNS), orient="row")
    assert people[0] == phenotypes.Person("HG00098", "female", 67, "south", 163.6, 3.0, 25.4, "false", 0.3071)
    assert abs(table.select(pl.corr("bmi", "ancestry")).item()) > 0.3
    assert abs(table.select(pl.corr("height", "ancestry")).item()) < 0.1


@pytest.mark.parametrize("named", [{"variables": "weight"}, {"table": "illness"}], ids=["variables", "table"])
def test_of_a_cohort_the_complete_people_alone_are_counted(named: dict[str, str], tmp_path: Path) -> None:
    rows = [("female", "1"), ("male", ""), ("female", ""), ("", "2"), ("male", "3"), ("male", "4")]
    table = tmp_path / "s.tsv"
    lines = [f"p{n}\t{sex}\t{bmi}" for n, (sex, bmi) in enumerate(rows)]
    table.write_text("\n".join(["person\tsex\tbmi", *lines[:3], "", *lines[3:]]) + "\n")
    described = {"person": "person", "format": "tsv", "variable_sets": {"weight": ["bmi"]}}
    described |= {"tables": {"illness": ["sex", "bmi"]}}
    cohort = json.dumps({"cohort": named, "people": described, "all": ["complete"]})
    done = script("count.py", table, tmp_path / "out.json", "--question", question(["sex"]), "--cohort", cohort)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    people = [["female", 1], ["male", 2]]
    assert found["rows"] == ([*people, ["unknown", 1]] if "variables" in named else people)
    assert len(found["people"]) == sum(n for _, n in found["rows"])
