"""gwas over two nodes equals plink2 --glm run for each node, pooled by METAL's formulas; the pooled analysis with the
node as a covariate is printed beside it.
"""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pytest

from gdi.releases.variant_statistics.statistics import minus_log10_p, pool
from tests.support import gwas_kit
from tests.support.debian import program
from tests.support.gwas_kit import Question

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-plink2")]
CLOSE = 3e-4  # of -log10 P: five digits of effect and error leave a node
Site = tuple[str, str, str, str]


def plink2(folder: Path, phenotype: str) -> dict[Site, tuple[float, float]]:
    """Effect of ALT and standard error by variant, covariates as the workflow's defaults."""
    table = list(csv.DictReader((folder / "samples.tsv").open(), delimiter="\t"))
    values = [{"true": "2", "false": "1"}.get(row[phenotype], row[phenotype]) for row in table]
    names = [row["person"] for row in table]
    pairs = zip(names, values, strict=True)
    (folder / "phenotype.txt").write_text(f"#IID\t{phenotype}\n" + "".join(f"{n}\t{v}\n" for n, v in pairs))
    more = ["node"] if "node" in table[0] else []
    with (folder / "covariates.txt").open("w") as out:
        out.write("\t".join(["#IID", "age", "male", "ancestry", *more]) + "\n")
        for row in table:
            male = str(int(row["sex"] == "male"))
            out.write("\t".join([row["person"], row["age"], male, row["ancestry"], *(row[m] for m in more)]) + "\n")
    command = [program("plink2"), "--vcf", "cohort.vcf.gz", "--pheno", "phenotype.txt", "--covar", "covariates.txt"]
    command += ["--covar-variance-standardize", "--threads", "1", "--out", "plink"]
    command += ["--glm", "hide-covar", "no-firth", "cols=chrom,pos,ref,alt,beta,se,p"]
    subprocess.run(
        list(map(str, command)), cwd=folder, check=True, capture_output=True, env={"PATH": os.environ["PATH"]}
    )
    (result,) = folder.glob(f"plink.{phenotype}.glm.*")
    found = {}
    for row in csv.DictReader(result.open(), delimiter="\t"):
        if row["BETA"] != "NA":
            sign = 1 if row["A1"] == row["ALT"] else -1
            site = (row["#CHROM"], row["POS"], row["REF"], row["ALT"])
            found[site] = (sign * float(row["BETA"]), float(row["SE"]))
    return found


@pytest.mark.parametrize(("phenotype", "model", "least"), [("ldl", "linear", 70), ("diabetes", "logistic", 20)])
def test_the_answer_is_the_meta_analysis_of_plink2_by_node(
    phenotype: str, model: str, least: int, tmp_path: Path
) -> None:
    nodes = gwas_kit.cohorts(tmp_path, 2)
    gwas_kit.answer(nodes, Question(phenotype, model), tmp_path / "answer.tsv")
    effects = [plink2(node, phenotype) for node in nodes]
    worst, seen = 0.0, 0
    for row in csv.DictReader((tmp_path / "answer.tsv").open(), delimiter="\t"):
        site = (row["CHROM"], row["POS"], row["REF"], row["ALT"])
        of = [one[site] for one, sign in zip(effects, row["DIRECTION"], strict=True) if sign != "?"]
        pooled = pool(of)
        worst = max(worst, abs(minus_log10_p(pooled.beta, pooled.se) - float(row["MLOG10P"])))
        seen += 1
    print(f"{phenotype}: {seen} variants, largest difference of -log10 P {worst:.2e}")
    assert seen >= least and worst < CLOSE


def test_the_pooled_analysis_with_node_as_covariate_is_close(tmp_path: Path) -> None:
    nodes = gwas_kit.cohorts(tmp_path, 2)
    (whole,) = gwas_kit.cohorts(tmp_path / "pooled", 1)
    places = {line.split("\t")[0]: n for n, node in enumerate(nodes) for line in (node / "samples.tsv").open()}
    head, *lines = (whole / "samples.tsv").read_text().splitlines()
    lines = [f"{line}\t{places[line.split(chr(9))[0]]}" for line in lines]
    (whole / "samples.tsv").write_text("\n".join([head + "\tnode", *lines, ""]))
    pooled = plink2(whole, "ldl")
    gwas_kit.answer(nodes, Question("ldl"), tmp_path / "answer.tsv")
    rows = list(csv.DictReader((tmp_path / "answer.tsv").open(), delimiter="\t"))
    best = max(rows, key=lambda row: float(row["MLOG10P"]))
    beta, se = pooled[best["CHROM"], best["POS"], best["REF"], best["ALT"]]
    print(f"pooled {beta:.4f} ({se:.4f}), meta-analysis {best['BETA']} ({best['SE']})")
    assert abs(beta - float(best["BETA"])) < se / 2
