"""The workflow's counts equal those of Debian's bcftools, an htslib of its own build: on the whole cohort, on its parts
by sample, and their sum.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.debian import program

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-bcftools")]
ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflows" / "allele-frequency" / "scripts"
FIXTURE = ROOT / "tests" / "fixtures" / "vcf" / "genotypes.vcf"
REAL = sorted((ROOT / "gdi" / "local_federation" / "data").glob("*.vcf.gz"))
Site = tuple[str, int, str, str]


@pytest.fixture(scope="module")
def bcftools() -> Path:
    return program("bcftools")


def call(*command: object) -> str:
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [str(c) for c in command], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))[:200]}: {done.stderr[-1000:]}"
    return done.stdout


def ours(vcf: Path, folder: Path, regions: int = 4) -> dict[Site, dict[str, int]]:
    """The workflow's scripts in its order, without Snakemake."""
    folder.mkdir(exist_ok=True)
    call(sys.executable, "-B", SCRIPTS / "validate.py", vcf, folder / "v.json")
    call(sys.executable, "-B", SCRIPTS / "regions.py", folder / "v.json", folder / "r.json", "--regions", regions)
    parts = [folder / f"{i}.jsonl" for i in range(regions)]
    for i, part in enumerate(parts):
        call(sys.executable, "-B", SCRIPTS / "count.py", vcf, folder / "r.json", i, part)
    call(sys.executable, "-B", SCRIPTS / "gather.py", folder / "out.json", *parts)
    sites: list[dict[str, Any]] = json.loads((folder / "out.json").read_text())["sites"]
    found = {
        (s["chrom"], s["pos"], s["ref"], s["alt"]): {
            k: v for k, v in s.items() if k not in ("chrom", "pos", "ref", "alt")
        }
        for s in sites
    }
    assert len(found) == len(sites)
    return found


def names(bcftools: Path, vcf: Path) -> list[str]:
    return call(bcftools, "query", "-l", vcf).split()


def theirs(bcftools: Path, vcf: Path, samples: list[str], *tags: str) -> dict[Site, tuple[int, ...]]:
    """Tags by site and allele, recomputed from these people's genotypes (`view --samples` recounts AC and AN, whatever
    INFO says).
    """
    form = "%CHROM\t%POS\t%REF\t%ALT" + "".join(f"\t%INFO/{t}" for t in tags) + "\n"
    viewed = subprocess.Popen(
        [bcftools, "view", "-Ou", "--samples", ",".join(samples), vcf],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    command = [bcftools, "query", "-f", form, "-"]
    try:
        done = subprocess.run(command, stdin=viewed.stdout, capture_output=True, text=True, timeout=120)
    finally:
        viewed.stdout.close()  # type: ignore[union-attr]
        assert viewed.wait(60) == 0
    assert done.returncode == 0, done.stderr[-1000:]
    found: dict[Site, tuple[int, ...]] = {}
    for line in done.stdout.splitlines():
        chrom, pos, ref, alts, *values = line.split("\t")
        for i, alt in enumerate(a for a in alts.split(",") if a != "."):
            # A Number=A tag has a value for each allele, AN one for all; '.' stands where no genotype was called.
            picked = [v.split(",")[i] if "," in v else v for v in values]
            found[chrom, int(pos), ref, alt] = tuple(0 if v == "." else int(v) for v in picked)
    return found


@pytest.mark.parametrize("vcf", [FIXTURE, *REAL], ids=lambda p: p.name)
def test_allele_counts_of_the_whole_cohort_equal_debians_bcftools(bcftools: Path, vcf: Path, tmp_path: Path) -> None:
    mine = {site: (v["ac"], v["an"]) for site, v in ours(vcf, tmp_path / "w").items()}
    assert mine == theirs(bcftools, vcf, names(bcftools, vcf), "AC", "AN")
    assert len(mine) >= (300 if vcf in REAL else 10)


@pytest.mark.parametrize("vcf", REAL, ids=lambda p: p.name)
@pytest.mark.parametrize("nodes", [2, 3])
def test_what_nodes_count_of_their_own_people_adds_up_to_the_whole(
    bcftools: Path, vcf: Path, nodes: int, tmp_path: Path
) -> None:
    """Each node's file is cut out by bcftools, counted there by the workflow; the sum is bcftools' answer over
    everybody.
    """
    people = names(bcftools, vcf)
    total: dict[Site, Counter[str]] = {}
    for node in range(nodes):
        mine, part = people[node::nodes], tmp_path / f"node-{node}.vcf.gz"
        call(bcftools, "view", "-Oz", "-o", part, "--samples", ",".join(mine), vcf)
        counted = ours(part, tmp_path / f"node-{node}", regions=node + 1)
        assert {s: (v["ac"], v["an"]) for s, v in counted.items()} == theirs(bcftools, vcf, mine, "AC", "AN")
        for site, values in counted.items():
            total.setdefault(site, Counter()).update(values)
    assert {s: (v["ac"], v["an"]) for s, v in total.items()} == theirs(bcftools, vcf, people, "AC", "AN")


@pytest.mark.parametrize("vcf", REAL, ids=lambda p: p.name)
def test_genotype_classes_equal_those_that_bcftools_selects_person_by_person(
    bcftools: Path, vcf: Path, tmp_path: Path
) -> None:
    """bcftools classifies each genotype by itself (`-i 'GT=…'`); only biallelic sites, which the real cohort's are."""
    expected: dict[Site, Counter[str]] = {}
    for kind, gt in (("hom_ref", "RR"), ("het", "het"), ("hom_alt", "AA"), ("missing", "mis")):
        for line in call(bcftools, "query", "-f", "[%CHROM\t%POS\t%REF\t%ALT\n]", "-i", f'GT="{gt}"', vcf).splitlines():
            chrom, pos, ref, alt = line.split("\t")
            expected.setdefault((chrom, int(pos), ref, alt), Counter())[kind] += 1
    mine = ours(vcf, tmp_path / "w")
    assert all("," not in alt for *_, alt in expected)
    assert {s: Counter({k: n for k, n in v.items() if n and k not in ("ac", "an")}) for s, v in mine.items()} == {
        s: c for s, c in expected.items() if s in mine
    }
    assert {s for s in expected if s[3] != "."} == set(mine)
