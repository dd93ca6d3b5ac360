"""gene-burden over the demo's people at two nodes: the meta-analysis is that of numpy over pooled people, each node
with its own covariates; genes of which few carry more than one known allele stay.
"""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdi.local_federation import phenotypes
from gdi.releases.kind import FormatError
from gdi.releases.registry import kind_of
from gdi.releases.variant_statistics.table import BURDEN_HEADING
from tests.support import gwas_kit

ROOT = Path(__file__).parents[3]
ENTRY = ROOT / "workflows" / "gene-burden"
GENES = ENTRY / "genes" / "demo-chr2.tsv"
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return gwas_kit.cohorts(tmp_path_factory.mktemp("burden"), 2)


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", str(ENTRY / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def question(**changed: object) -> str:
    asked: dict[str, object] = {"person": "person", "phenotype": "ldl", "model": "linear", "test": "collapsing"}
    asked |= {"covariates": ["age", "sex", "ancestry"], "genes": [], "max_frequency": 0.05}
    return json.dumps(asked | changed)


def analyse(node: Path, out: Path, **changed: object) -> Path:
    part = out.with_name(f"{out.name}.part")
    files = (GENES, node / "samples.tsv", part, node / "cohort.vcf.gz")
    for done in (script("burden.py", *files, "--question", question(**changed)), script("gather.py", out, part)):
        assert done.returncode == 0, done.stderr
    return out


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((line for line in file.open() if line[0] != "#"), delimiter="\t"))


def pooled(nodes: list[Path], phenotype: str, largest: float) -> dict[str, Any]:
    """All people in one table: by node covariates of its own, and who carries a rare allele of each gene."""
    genes = [line.split("\t") for line in GENES.read_text().splitlines()[1:]]
    xs, ys, carried = [], [], []
    for node in nodes:
        _, copies = phenotypes.genotypes(node / "cohort.vcf.gz")
        places = [int(line.split("\t")[1]) for line in vcf_lines(node)]
        found = list(csv.DictReader((node / "samples.tsv").open(), delimiter="\t"))
        part = np.nansum(copies, axis=1) / np.maximum(2 * (~np.isnan(copies)).sum(axis=1), 1)
        mine = np.zeros((len(found), len(genes)), dtype=bool)
        for at, g, f in zip(places, copies, part, strict=True):
            for n, (_, _, start, end) in enumerate(genes):
                if int(start) <= at <= int(end):
                    mine[:, n] |= (0 < f <= largest) & (np.nan_to_num(g) > 0)
                    mine[:, n] |= (0 < 1 - f <= largest) & (np.nan_to_num(g, nan=2) < 2)
        x = [np.ones(len(found)), *(np.array([float(row[c]) for row in found]) for c in ("age", "ancestry"))]
        xs.append(np.column_stack([*x, np.array([float(row["sex"] == "male") for row in found])]))
        ys.append(np.array([float({"true": "1", "false": "0"}.get(row[phenotype], row[phenotype])) for row in found]))
        carried.append(mine)
    return {"x": xs, "y": ys, "g": carried, "genes": [f"<{name}>" for name, *_ in genes]}


def vcf_lines(node: Path) -> list[str]:
    return [line for line in gzip.open(node / "cohort.vcf.gz", "rt") if line[0] != "#"]


def weighted(of: dict[str, Any], gene: str, told: list[int]) -> tuple[float, float]:
    """Least squares over all people, each weighted by its node's variance."""
    n = of["genes"].index(gene)
    x, y, g = [of["x"][i] for i in told], [of["y"][i] for i in told], [of["g"][i][:, n] for i in told]
    scales = []
    for c, values, who in zip(x, y, g, strict=True):
        design = np.column_stack([c, who])
        left = np.linalg.lstsq(design, values, rcond=None)[1][0]
        scales.append((left / (len(values) - design.shape[1])) ** 0.5)
    whole = np.zeros((sum(map(len, y)), 4 * len(x) + 1))
    at = 0
    for k, (c, who, scale) in enumerate(zip(x, g, scales, strict=True)):
        whole[at : at + len(c), 4 * k : 4 * k + 4], whole[at : at + len(c), -1] = c / scale, who / scale
        at += len(c)
    values = np.concatenate([values / scale for values, scale in zip(y, scales, strict=True)])
    inverse = np.linalg.inv(whole.T @ whole)
    return float((inverse @ whole.T @ values)[-1]), float(inverse[-1, -1] ** 0.5)


def scored(of: dict[str, Any], gene: str, told: list[int]) -> tuple[float, float]:
    """U / V and 1 / sqrt(V) of the logistic score test over all people, each node with its own covariates."""
    n = of["genes"].index(gene)
    lengths = [len(of["y"][i]) for i in told]
    x, at = np.zeros((sum(lengths), 4 * len(told))), 0
    for k, i in enumerate(told):
        c = (of["x"][i] - of["x"][i].mean(0)) / np.where(of["x"][i].std(0) > 0, of["x"][i].std(0), 1)
        c[:, 0] = 1
        x[at : at + len(c), 4 * k : 4 * k + 4] = c
        at += len(c)
    y, g = np.concatenate([of["y"][i] for i in told]), np.concatenate([of["g"][i][:, n] for i in told]).astype(float)
    b = np.zeros(x.shape[1])
    for _ in range(25):
        mean = 1 / (1 + np.exp(-(x @ b)))
        w = mean * (1 - mean)
        b = b + np.linalg.solve((x * w[:, None]).T @ x, x.T @ (y - mean))
    mean = 1 / (1 + np.exp(-(x @ b)))
    w = mean * (1 - mean)
    v = g @ (w * g) - (g * w) @ x @ np.linalg.solve((x * w[:, None]).T @ x, x.T @ (w * g))
    return float(g @ (y - mean) / v), float(v**-0.5)


@pytest.mark.parametrize(
    ("phenotype", "model", "test", "expected", "least"),
    [("ldl", "linear", "collapsing", weighted, 4), ("diabetes", "logistic", "score", scored, 2)],
)
def test_the_answer_is_numpys_over_pooled_people(
    phenotype: str, model: str, test: str, expected: Any, least: int, nodes: list[Path], tmp_path: Path
) -> None:
    half, releases = kind_of("variant-statistics").coordinator(), {}
    told = []
    for n, node in enumerate(nodes):
        file = analyse(node, tmp_path / f"{n}.tsv", phenotype=phenotype, model=model, test=test)
        releases[node.name] = half.read(node.name, gwas_kit.released(file))
        told.append([site[3] for site in releases[node.name].effects])
    merged = half.merge(releases, list(releases))
    half.write_table(merged, tmp_path / "answer.tsv")
    half.draw(merged, tmp_path / "answer.png", title="Burden", nodes=list(releases))
    of = pooled(nodes, phenotype, 0.05)
    found = rows(tmp_path / "answer.tsv")
    assert len(found) >= least and (tmp_path / "answer.png").stat().st_size > 10_000
    for row in found:
        beta, se = expected(of, row["ALT"], [i for i, mine in enumerate(told) if row["ALT"] in mine])
        assert np.isclose(float(row["BETA"]), beta, rtol=2e-4, atol=2e-5), row
        assert np.isclose(float(row["SE"]), se, rtol=1e-4), row


def test_named_genes_are_told_of_as_among_all(nodes: list[Path], tmp_path: Path) -> None:
    every = {row["ALT"]: row for row in rows(analyse(nodes[0], tmp_path / "every.tsv"))}
    (one,) = rows(analyse(nodes[0], tmp_path / "one.tsv", genes=["DEMO-2"]))
    assert one == every["<DEMO-2>"] and int(one["CARRIERS"]) > int(one["LARGEST"]) > 0


ROW = ("2", 10, "N", "<G>", 300, 0, 100, 200, 0, 0, "0.3", "0.1", "0.05", 60, 0, 0)
CASES = ("2", 10, "N", "<G>", 300, 100, 100, 200, 40, 60, "0.3", "0.1", "0.05", 60, 30, 30)


@pytest.mark.parametrize(
    ("row", "changed", "left"),
    [
        (ROW, {}, True),
        (ROW, {13: 96}, False),  # four carry another allele than the commonest
        (ROW, {13: 100}, False),  # one allele only: its count is the gene's
        (ROW, {6: 19, 7: 281, 13: 5}, False),
        (ROW, {6: 281, 7: 19, 13: 5}, False),
        (CASES, {}, True),
        (CASES, {14: 36}, False),
        (CASES, {15: 57}, False),
        (CASES, {8: 19, 9: 81, 14: 10}, False),  # carriers among cases
        (CASES, {8: 81, 9: 19, 14: 70, 13: 70, 15: 5}, False),
    ],
)
def test_few_people_beside_a_known_allele_stay(
    row: tuple[Any, ...], changed: dict[int, Any], left: bool, tmp_path: Path
) -> None:
    assert (len(gwas_kit.released(written(tmp_path, row, changed)).read_text().splitlines()) == 3) == left


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({7: 201}, "must be all people"),
        ({2: "A"}, "REF must be N"),
        ({13: 101}, "than carry any"),
        ({13: "x"}, "LARGEST must be a whole number"),
    ],
)
def test_a_line_that_is_no_genes_is_refused(changed: dict[int, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        gwas_kit.released(written(tmp_path, ROW, changed))


def written(folder: Path, row: tuple[Any, ...], changed: dict[int, Any]) -> Path:
    binary = row is CASES
    about = {"format": "gdi-variant-statistics/1", "model": "logistic" if binary else "linear", "people": 300}
    about |= {"phenotype": "diabetes" if binary else "ldl", "covariates": [], "cases": 100 if binary else 0}
    about["burden"] = {"test": "collapsing", "genes": "0" * 64, "max_frequency": 0.01}
    cells = [changed.get(n, value) for n, value in enumerate(row)]
    lines = ["#" + json.dumps(about), *("\t".join(map(str, line)) for line in (BURDEN_HEADING, cells)), ""]
    (folder / "r.tsv").write_text("\n".join(lines))
    return folder / "r.tsv"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name\tstart\n", 1),
        ("name\tcontig\tstart\tend\nA\t2\t10\n", 2),
        ("name\tcontig\tstart\tend\nA\t2\t10\t9\n", 2),
        ("name\tcontig\tstart\tend\nA\t2\t10\t20\nA\t2\t30\t40\n", 3),
        ("name\tcontig\tstart\tend\nA\t2\t10\t20\nB\tchr2\t10\t40\n", 3),
    ],
)
def test_a_bad_list_fails_with_its_line(text: str, line: int, nodes: list[Path], tmp_path: Path) -> None:
    (tmp_path / "genes.tsv").write_text(text)
    files = (tmp_path / "genes.tsv", nodes[0] / "samples.tsv", tmp_path / "out", nodes[0] / "cohort.vcf.gz")
    done = script("burden.py", *files, "--question", question())
    assert done.stderr.splitlines()[-1] == f"GDI-ERROR class=GeneListError line={line}"


def test_the_same_people_in_two_datasets_end_the_run(nodes: list[Path], tmp_path: Path) -> None:
    analyse(nodes[0], tmp_path / "one.tsv")
    done = script("gather.py", tmp_path / "two.tsv", tmp_path / "one.tsv.part", tmp_path / "one.tsv.part")
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == "GDI-ERROR class=DuplicatePeople"
