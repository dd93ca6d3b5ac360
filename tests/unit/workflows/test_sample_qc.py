"""sample-qc at two nodes: the histograms are those of numpy over the pooled people, and the sex check sees a swap."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

from gdi.local_federation.parts.node import DERIVED
from tests.support.genotypes_kit import ROOT, Cohort, answer, must, script, simulate

ENTRY = ROOT / "workflows" / "sample-qc"
MEASURES = ["missingness", "heterozygosity", "inbreeding", "titv", "sex_check"]
BINS = {name: list(bins) for name, bins in DERIVED.items() if name in MEASURES}


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    """Every 30th person's sex is written wrong."""
    found = simulate(on_x=120)
    swapped = {"male": "female", "female": "male"}
    return replace(found, sex=[swapped[sex] if n % 30 == 0 else sex for n, sex in enumerate(found.sex)])


def node(of: Cohort, folder: Path) -> Path:
    of.write(folder)
    must("sample-qc", "measure.py", folder / "cohort.vcf.gz", folder / "samples.tsv", folder / "m.json")
    options = ["--bins", json.dumps(BINS), "--measures", json.dumps(MEASURES)]
    must("sample-qc", "gather.py", folder / "quality.json", folder / "m.json", *options)
    return folder / "quality.json"


def by_numpy(of: Cohort) -> dict[str, np.ndarray]:
    """The measures of each person, of one node."""
    own = np.array([site[0] != "X" for site in of.sites])
    copies = of.copies[own]
    called = copies >= 0
    part = np.where(called, copies, 0).sum(axis=1) / (2 * called.sum(axis=1))
    varies = (part > 0) & (part < 1)
    n, het = called[varies].sum(axis=0), ((copies == 1) & called)[varies].sum(axis=0)
    expected = (called[varies] * (1 - 2 * part * (1 - part))[varies, None]).sum(axis=0)
    changes = [{site[2], site[3]} in ({"A", "G"}, {"C", "T"}) for site in of.sites if site[0] != "X"]
    transition = np.array(changes)
    carried = called & (copies > 0)
    return {
        "missingness": 1 - called.mean(axis=0),
        "heterozygosity": het / n,
        "inbreeding": ((n - het) - expected) / (n - expected),
        "titv": carried[transition].sum(axis=0) / carried[~transition].sum(axis=0),
    }


def test_the_histograms_are_those_of_the_pooled_people(cohort: Cohort, tmp_path: Path) -> None:
    parts = [cohort.part(range(n, 300, 2)) for n in range(2)]
    files = [node(part, tmp_path / str(n)) for n, part in enumerate(parts)]
    jsonschema.validate(json.loads(files[0].read_text()), json.loads((ENTRY / "release.schema.json").read_text()))
    answer("table", files, tmp_path)
    measured = [by_numpy(part) for part in parts]
    pooled = {name: np.concatenate([one[name] for one in measured]) for name in measured[0]}
    exact = 0
    for row in csv.DictReader((tmp_path / "answer.tsv").open(), delimiter="\t"):
        name, level = row["COLUMN_1"], row["LEVEL_1"]
        if name in pooled and ".." in level:
            low, high = map(float, level.split(".."))
            values = pooled[name]
            true = int(((values >= low) & ((values < high) | ((values == high) & (high == BINS[name][-1])))).sum())
            assert int(row["PEOPLE_MIN"]) <= true <= int(row["PEOPLE_MAX"] or 300), (name, level)
            if row["PEOPLE"]:
                exact += true > 0
                assert int(row["PEOPLE"]) == true, (name, level)
        elif not name:
            assert row["PEOPLE"] == "300"
    assert exact >= 6
    levels = {level for name in pooled for level in (f"{a:g}..{b:g}" for a, b in pairwise(BINS[name]))}
    assert len(levels) > 20


def test_the_sex_check_finds_those_who_were_swapped(cohort: Cohort, tmp_path: Path) -> None:
    document = json.loads(node(cohort, tmp_path).read_text())
    (table,) = (one for one in document["tables"] if one["columns"] == ["sex_check"])
    found = dict(map(tuple, table["rows"]))
    assert found["differs"] == 10 and found["agrees"] > 270, "the others are unclear"


def test_defaults_are_the_demos_bins_and_each_measure_is_declared(tmp_path: Path) -> None:
    parameters = yaml.safe_load((ENTRY / "workflow.yaml").read_text())["parameters"]
    assert parameters["bins"]["default"] == BINS and parameters["measures"]["default"] == MEASURES


def test_a_person_twice_and_a_bad_file_end_the_run_with_their_class(cohort: Cohort, tmp_path: Path) -> None:
    folder = cohort.part(range(20)).write(tmp_path)
    must("sample-qc", "measure.py", folder / "cohort.vcf.gz", folder / "samples.tsv", folder / "a.json")
    (folder / "b.json").write_bytes((folder / "a.json").read_bytes())
    more = ["--bins", "{}", "--measures", '["titv"]']
    done = script("sample-qc", "gather.py", folder / "out.json", folder / "a.json", folder / "b.json", *more)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == "GDI-ERROR class=DuplicatePeople"
    (folder / "samples.tsv").write_text("person\tsex\nP0001\n")
    done = script("sample-qc", "measure.py", folder / "cohort.vcf.gz", folder / "samples.tsv", folder / "c.json")
    assert done.stderr.splitlines()[-1] == "GDI-ERROR class=SampleTableError line=2" and "P0001" not in done.stderr
