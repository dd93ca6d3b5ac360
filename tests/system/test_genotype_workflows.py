"""sample-qc and polygenic-score measure each person as plink2 and bcftools do, over the demo's real cohort and over
simulated people.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest

from gdi.local_federation import phenotypes
from gdi.local_federation.federation import COHORT
from tests.support.debian import program
from tests.support.genotypes_kit import ROOT, must, simulate

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-plink2")]
SCORES = ROOT / "workflows" / "polygenic-score" / "scores" / "simulated-ldl.txt"


def run(folder: Path, tool: str, *arguments: object) -> str:
    command = [program(tool), *map(str, arguments)]
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    return done.stdout


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.open(), delimiter="\t"))


@pytest.fixture(scope="module", params=["real", "simulated"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp(request.param)
    if request.param == "simulated":
        return simulate(people=200, sites=200).write(here)
    (here / "cohort.vcf.gz").symlink_to(COHORT)
    phenotypes.write(phenotypes.simulate(COHORT), here / "samples.tsv")
    return here


def test_sample_qc_is_what_plink2_and_bcftools_say_of_each_person(folder: Path) -> None:
    must("sample-qc", "measure.py", folder / "cohort.vcf.gz", folder / "samples.tsv", folder / "m.json")
    mine = json.loads((folder / "m.json").read_text())
    options = ["--vcf", "cohort.vcf.gz", "--threads", 1, "--out", "p", "--bad-freqs"]
    run(folder, "plink2", *options, "--missing", "sample-only", "--het")
    missing, het = table(folder / "p.smiss"), table(folder / "p.het")
    lines = run(folder, "bcftools", "stats", "-s", "-", "cohort.vcf.gz").splitlines()
    psc = [line.split("\t") for line in lines if line.startswith("PSC\t")]
    assert len(missing) == len(het) == len(psc) == len(mine["people"])
    for n, (one, other, third) in enumerate(zip(missing, het, psc, strict=True)):
        assert mine["missing"][n] / mine["sites"][n] == pytest.approx(float(one["F_MISS"]), rel=1e-5, abs=1e-9)
        assert mine["called"][n] == int(other["OBS_CT"]) and mine["homozygous"][n] == int(other["O(HOM)"])
        assert mine["expected"][n] == pytest.approx(float(other["E(HOM)"]), rel=1e-5, abs=1e-4)
        assert mine["called"][n] - mine["homozygous"][n] == int(third[5]), "heterozygous"
        assert (mine["transitions"][n], mine["transversions"][n]) == (int(third[6]), int(third[7]))


def test_polygenic_scores_are_plink2s(folder: Path) -> None:
    weights = SCORES
    if "simulated" in folder.name:
        weights = folder / "weights.txt"
        rows = [
            f"{c}\t{p}\t{(r, a)[p % 2000 // 1000]}\t{(a, r)[p % 2000 // 1000]}\t{p % 17 / 100}\t0.4"
            for c, p, r, a in simulate(200, 200).sites
        ]
        columns = "chr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\tallelefrequency_effect\n"
        weights.write_text(columns + "\n".join(rows) + "\n")
    question = {"person": "person", "groups": [], "scale": "sum", "ambiguous": "keep", "least": 0.5}
    must(
        "polygenic-score",
        "score.py",
        folder / "cohort.vcf.gz",
        folder / "samples.tsv",
        weights,
        folder / "s.json",
        "--question",
        json.dumps(question),
    )
    mine = json.loads((folder / "s.json").read_text())
    lines = [line.split("\t") for line in weights.read_text().splitlines() if not line.startswith("#")][1:]
    text = "".join(f"{c}:{p}\t{effect}\t{weight}\n" for c, p, effect, _, weight, _ in lines)
    (folder / "score.txt").write_text("ID\tA1\tW\n" + text)
    options = ["--vcf", "cohort.vcf.gz", "--threads", 1, "--out", "s", "--set-all-var-ids", "@:#", "--bad-freqs"]
    run(
        folder,
        "plink2",
        *options,
        "--rm-dup",
        "force-first",
        "--score",
        "score.txt",
        1,
        2,
        3,
        "header",
        "cols=+scoresums",
    )
    theirs = table(folder / "s.sscore")
    assert mine["variants"] >= 195 and len(theirs) == len(mine["scores"])
    for value, one in zip(mine["scores"], theirs, strict=True):
        assert value == pytest.approx(float(one["SCORE1_SUM"]), rel=2e-5, abs=2e-5)
