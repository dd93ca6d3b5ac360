"""The workflow `gwas` at nodes without Snakemake: its scripts, the node's check, the meta-analysis."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gdi.contracts.descriptor import Descriptor
from gdi.local_federation import cohort, phenotypes
from gdi.local_federation.federation import COHORT
from gdi.local_federation.parts.node import descriptor
from gdi.releases import declared
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules, Scope
from gdi.releases.registry import kind_of

ENTRY = Path(__file__).parents[2] / "workflows" / "gwas"
DESCRIBED = [Descriptor.model_validate(descriptor("EGAD1"))]
RULES = Rules(
    5,
    400_000,
    levels=declared.levels(DESCRIBED),
    columns=declared.columns(DESCRIBED),
    numbers=declared.numbers(DESCRIBED),
    membership=declared.membership(DESCRIBED),
)
REGIONS = 2


@dataclass(frozen=True)
class Question:
    phenotype: str
    model: str = "linear"
    covariates: tuple[str, ...] = ("age", "sex", "ancestry")

    @property
    def json(self) -> str:
        named = {"phenotype": self.phenotype, "model": self.model, "covariates": list(self.covariates)}
        return json.dumps({"person": "person", **named})


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", str(ENTRY / "scripts" / name), *map(str, arguments)], capture_output=True, text=True
    )


def must(name: str, *arguments: object) -> None:
    done = script(name, *arguments)
    assert done.returncode == 0, done.stderr


def cohorts(folder: Path, nodes: int) -> list[Path]:
    """A folder for each node, with `cohort.vcf.gz` and `samples.tsv` of its part of the demo's people."""
    folders = [folder / f"node-{n}" for n in range(nodes)]
    cohort.split(COHORT, [one / "cohort.vcf.gz" for one in folders])
    people = phenotypes.simulate(COHORT)
    for n, one in enumerate(folders):
        phenotypes.write(people[n::nodes], one / "samples.tsv")
    return folders


def analyse(folder: Path, question: Question, *more: object) -> Path:
    """The workflow at one node; `more` of its regressions' options. The file that it asks to release."""
    vcf, samples, ranges = folder / "cohort.vcf.gz", folder / "samples.tsv", folder / "regions.json"
    if not ranges.exists():
        must("validate.py", vcf, folder / "validated.json")
        must("regions.py", folder / "validated.json", ranges, "--regions", REGIONS)
    parts = [folder / f"{n}.tsv" for n in range(REGIONS)]
    for n, part in enumerate(parts):
        must("regress.py", vcf, samples, ranges, n, part, "--question", question.json, *more)
    must("gather.py", folder / "gwas.tsv", *parts)
    return folder / "gwas.tsv"


def released(file: Path, rules: Rules = RULES, past: Past = Past()) -> Path:
    """What leaves the node of it."""
    half, out = kind_of("variant-statistics").node(), file.with_suffix(".released.tsv")
    with file.open("rb") as source, out.open("wb") as target:
        units = half.read(source, rules)
        checked = half.check(units, rules, past)
        half.write(target, checked.released, checked.withheld, Scope(), rules)
    return out


def answer(folders: Sequence[Path], question: Question, out: Path) -> Path:
    """The answer's table over all nodes."""
    half = kind_of("variant-statistics").coordinator()
    nodes = [one.name for one in folders]
    releases = {one.name: half.read(one.name, released(analyse(one, question))) for one in folders}
    merged = half.merge(releases, nodes)
    half.write_table(merged, out)
    half.draw(merged, out.with_suffix(".png"), title="Association", nodes=nodes)
    return out
