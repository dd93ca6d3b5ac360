"""The allele-frequency workflow's `people`: the same people that the node's operator opened the epoch with, by level,
variable set and table, whatever the sample table has in its cells.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars
import pytest

from gdi.contracts.cohorts import CohortChoice, PeopleTable
from gdi.contracts.descriptor import Descriptor
from node_gateway.epochs import persons
from tests.support.allele_counts import SCRIPTS, modules

NAMES = [f"P{n:03d}" for n in range(120)]
DESCRIPTOR = Descriptor.model_validate(
    {
        "dataset": "EGAD1",
        "assembly": "GRCh37",
        "membership": "contract",
        "samples": {
            "file": "samples.tsv.c4gh",
            "format": "tsv",
            "person": "person",
            "sex": {"column": "sex"},
            "phenotypes": [
                {"column": "age", "type": "number", "minimum": 0, "maximum": 100, "bins": [0, 40, 70]},
                {"column": "ill", "type": "boolean"},
                {"column": "bmi", "type": "number", "minimum": 5, "maximum": 90},
            ],
        },
        "splits": ["sex", "age"],
        "variable_sets": {"weight": ["bmi", "age"]},
        "tables": {"illness": ["ill", "sex"]},
    }
)


def cells(number: int) -> dict[str, str]:
    """A person's row: values that are missing, strange, on an edge, of few people."""
    return {
        "person": NAMES[number],
        "sex": ("female", "male", " male ", "")[number % 4] if number > 3 else "intersex",
        "age": ("39.9", "40", "70", "70.1", "nan", "", "old")[number % 7],
        "ill": ("TRUE", "false", "yes", "")[number % 4],
        "bmi": "" if number % 5 == 0 else "22.5",
    }


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with modules("people") as found:
        yield found.people


@pytest.fixture(params=["tsv", "parquet"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rows = [cells(number) for number in reversed(range(len(NAMES)))]
    file = tmp_path / f"samples.{request.param}"
    if request.param == "tsv":
        file.write_text("\n".join("\t".join(row) for row in [list(rows[0]), *(list(r.values()) for r in rows)]) + "\n")
    else:
        polars.DataFrame(rows).with_columns(pl_null("bmi")).write_parquet(file)
    return file


def pl_null(column: str) -> polars.Expr:
    return polars.when(polars.col(column) == "").then(None).otherwise(polars.col(column)).alias(column)


def question_of(choice: CohortChoice, table: Path, levels: list[str]) -> dict[str, Any]:
    described = PeopleTable.of(DESCRIPTOR)
    assert described is not None
    people = described.model_dump(mode="json", exclude_none=True) | {"format": table.suffix[1:]}
    return {"cohort": choice.written, "people": people, "levels": levels, "all": levels or ["complete"]}


def found_by(tmp_path: Path, table: Path, question: dict[str, Any]) -> list[set[str]]:
    """The names in each group, by the script as the workflow calls it. One of the file's people is in no table."""
    vcf, out = tmp_path / "c.vcf", tmp_path / "people.json"
    heading = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *NAMES, "STRANGER"])
    vcf.write_text(f"##fileformat=VCFv4.2\n{heading}\n")
    command = [sys.executable, "-B", SCRIPTS / "people.py", vcf, table, out, "--question", json.dumps(question)]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [{[*NAMES, "STRANGER"][place] for place in group} for group in json.loads(out.read_text())]


@pytest.mark.parametrize("split", ["sex", "age"])
def test_every_level_is_the_one_that_the_operator_opened(split: str, table: Path, tmp_path: Path) -> None:
    opened = persons.read_table(table, DESCRIPTOR, 20)
    levels = opened.named["splits"][split]
    assert len(levels) > 1 and "other" in levels
    choice = CohortChoice(split=split, level=levels[0])
    groups = found_by(tmp_path, table, question_of(choice, table, levels))
    assert {level: groups[place] for place, level in enumerate(levels)} == {
        level: set(opened.parts[f"{split}={level}"]) for level in levels
    }


@pytest.mark.parametrize("named", [{"variables": "weight"}, {"table": "illness"}], ids=["variables", "table"])
def test_complete_people_are_those_that_the_operator_opened(named: dict[str, str], table: Path, tmp_path: Path) -> None:
    opened = persons.read_table(table, DESCRIPTOR, 20)
    (kind, name), choice = next(iter(named.items())), CohortChoice.model_validate(named)
    [group] = found_by(tmp_path, table, question_of(choice, table, []))
    assert group == set(opened.parts[f"{kind}:{name}"]) and 0 < len(group) < len(NAMES)


def test_a_table_without_the_column_ends_by_name_and_tells_nothing_of_it(script: Any, tmp_path: Path) -> None:
    file = tmp_path / "s.tsv"
    file.write_text("person\tother\nP001\tsecret\n")
    with pytest.raises(SystemExit):
        list(script.rows(file, "tsv", ["person", "sex"]))


def test_only_the_groups_columns_are_counted(tmp_path: Path) -> None:
    vcf, out = tmp_path / "c.vcf", tmp_path / "0.jsonl"
    heading = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", "A", "B", "C"])
    vcf.write_text(f"##fileformat=VCFv4.2\n{heading}\n2\t5\t.\tA\tC\t.\t.\t.\tGT\t0/1\t1|1\t./.\n")
    (tmp_path / "r.json").write_text(json.dumps({"samples": 3, "regions": [[0, 1]], "places": [None]}))
    (tmp_path / "p.json").write_text(json.dumps([[0, 2], [1], []]))
    told = []
    for group in range(3):
        command = ["count.py", vcf, tmp_path / "r.json", 0, out, "--people", tmp_path / "p.json", "--group", group]
        subprocess.run([sys.executable, "-B", SCRIPTS / command[0], *map(str, command[1:])], check=True)
        told.append([json.loads(line) for line in out.read_text().splitlines()])
    assert [(row["ac"], row["an"], row["missing"]) for rows in told for row in rows] == [(1, 2, 1), (2, 2, 0)]
    assert told[2] == [], "nobody of this level is here"
