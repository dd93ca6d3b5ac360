"""A cohort of simulated genotypes as VCF and sample table, and a workflow's scripts and releases without Snakemake."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gdi.contracts.descriptor import Descriptor
from gdi.local_federation.parts.node import descriptor
from gdi.releases import declared
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules, Scope
from gdi.releases.registry import kind_of

ROOT = Path(__file__).parents[2]
DESCRIBED = [Descriptor.model_validate(descriptor("EGAD1"))]
RULES = Rules(
    5,
    400_000,
    levels=declared.levels(DESCRIBED),
    columns=declared.columns(DESCRIBED),
    numbers=declared.numbers(DESCRIBED),
    bounds=declared.bounds(DESCRIBED),
    scores=declared.scores(DESCRIBED),
    membership=declared.membership(DESCRIBED),
)
Site = tuple[str, int, str, str]
BASES = "ACGT"


@dataclass(frozen=True)
class Cohort:
    """`copies` of ALT by site and person, -1 where not called; on X men are haploid. `sex`: what the table says."""

    names: list[str]
    sites: list[Site]
    copies: np.ndarray[Any, Any]
    sex: list[str]
    groups: list[str]

    def part(self, people: Sequence[int]) -> Cohort:
        of = list(people)
        return Cohort(
            [self.names[i] for i in of],
            self.sites,
            self.copies[:, of],
            [self.sex[i] for i in of],
            [self.groups[i] for i in of],
        )

    def write(self, folder: Path) -> Path:
        """`cohort.vcf.gz` and `samples.tsv` in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        contigs = dict.fromkeys(site[0] for site in self.sites)
        head = ["##fileformat=VCFv4.2", *(f"##contig=<ID={name}>" for name in contigs)]
        head.append('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">')
        fixed = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
        out = ["\n".join(head), "\t".join([*fixed, *self.names])]
        texts = {-1: "./.", 0: "0/0", 1: "0/1", 2: "1/1"}
        haploid = {-1: ".", 0: "0", 2: "1"}
        for (chrom, pos, ref, alt), row in zip(self.sites, self.copies, strict=True):
            of = [
                haploid[int(c)] if chrom == "X" and sex == "male" else texts[int(c)]
                for c, sex in zip(row, self.true_sex, strict=True)
            ]
            out.append("\t".join([chrom, str(pos), f"{chrom}:{pos}", ref, alt, ".", "PASS", ".", "GT", *of]))
        (folder / "cohort.vcf.gz").write_bytes(gzip.compress(("\n".join(out) + "\n").encode(), 1))
        rows = zip(self.names, self.sex, self.groups, strict=True)
        table = ["person\tsex\tcountry", *("\t".join(row) for row in rows)]
        (folder / "samples.tsv").write_text("\n".join(table) + "\n")
        return folder

    @property
    def true_sex(self) -> list[str]:
        return ["male" if int(name[1:]) % 2 else "female" for name in self.names]


def simulate(people: int = 300, sites: int = 240, on_x: int = 0, seed: int = 867) -> Cohort:
    """Sites of chromosomes 1 and 2 (and X) with frequencies of 2 to 60 %, 2 % of the calls missing; two groups of which
    one has more of the alternate alleles.
    """
    chance = np.random.default_rng(seed)
    names = [f"P{n:04d}" for n in range(people)]
    male = np.array([n % 2 == 1 for n in range(people)])
    groups = [("north", "middle", "south")[n % 3] for n in range(people)]
    shift = np.array([0.1 if one == "south" else 0.0 for one in groups])
    copies, where = [], []
    for n in range(sites + on_x):
        chrom = "X" if n >= sites else "1" if n < sites // 2 else "2"
        part = np.clip(chance.uniform(0.02, 0.6) + shift, 0, 1)
        first, second = chance.random(people) < part, chance.random(people) < part
        second = np.where(male, first, second) if chrom == "X" else second
        copies.append(np.where(chance.random(people) < 0.02, -1, first.astype(int) + second))
        ref, alt = chance.choice(list(BASES), 2, replace=False)
        where.append((chrom, 3_000_000 + 1000 * n, str(ref), str(alt)))
    sex = ["male" if one else "female" for one in male]
    return Cohort(names, where, np.array(copies), sex, groups)


def script(workflow: str, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    file = ROOT / "workflows" / workflow / "scripts" / name
    return subprocess.run([sys.executable, "-B", str(file), *map(str, arguments)], capture_output=True, text=True)


def must(workflow: str, name: str, *arguments: object) -> None:
    done = script(workflow, name, *arguments)
    assert done.returncode == 0, done.stderr


FAILING = """
import sys
from pathlib import Path
from vcf import VcfError
def failing(function, *arguments):
    try:
        function(*arguments)
        print("none")
    except VcfError as error:
        print(error.kind, error.line)
"""


def errors(workflow: str, code: str, *arguments: object) -> list[str]:
    """Class and line of each call of `failing` in code that runs among a workflow's scripts, in one process."""
    folder = ROOT / "workflows" / workflow / "scripts"
    command = [sys.executable, "-B", "-c", f"{FAILING}{code}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def released(kind: str, file: Path, rules: Rules = RULES) -> bytes:
    """What leaves the node of a workflow's file, by the demo's descriptor."""
    half, out = kind_of(kind).node(), io.BytesIO()
    units = half.read(io.BytesIO(file.read_bytes()), rules)
    checked = half.check(units, rules, Past())
    half.write(out, checked.released, checked.withheld, Scope(), rules)
    return out.getvalue()


def answer(kind: str, files: Sequence[Path], folder: Path, rules: Rules = RULES) -> Any:
    """The merged answer of the nodes' files, with its table and picture in the folder."""
    half, releases = kind_of(kind).coordinator(), {}
    for n, file in enumerate(files):
        told = folder / f"node-{n}.released"
        told.write_bytes(released(kind, file, rules))
        releases[f"node-{n}"] = half.read(f"node-{n}", told)
    merged = half.merge(releases, list(releases))
    half.write_table(merged, folder / "answer.tsv")
    half.draw(merged, folder / "answer.png", title="Answer", nodes=list(releases))
    assert (folder / "answer.png").stat().st_size > 10_000
    return merged
