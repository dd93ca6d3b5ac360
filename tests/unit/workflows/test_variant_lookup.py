"""variant-lookup counts what bcftools counts, at the sites asked for and at no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts.workflow_files import load
from gdi.local_federation import cohort
from gdi.local_federation.federation import COHORT

ROOT = Path(__file__).parents[3]
ENTRY = ROOT / "workflows" / "variant-lookup"


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", str(ENTRY / "scripts" / name), *map(str, arguments)], capture_output=True, text=True
    )


def lookup(vcf: Path, folder: Path, variants: list[str]) -> list[dict[str, Any]]:
    counts = folder / "count" / "DS" / "all.jsonl"
    counts.parent.mkdir(parents=True)
    done = script("lookup.py", vcf, folder / "DS.json", counts, "--variants", json.dumps(variants))
    assert done.returncode == 0, done.stderr
    assert script("once.py", folder / "once.json", folder / "DS.json").returncode == 0
    assert script("gather.py", folder / "out.json", counts).returncode == 0
    found: list[dict[str, Any]] = json.loads((folder / "out.json").read_text())["sites"]
    return found


def test_counts_are_those_of_bcftools_however_a_variant_is_written(tmp_path: Path) -> None:
    pooled = cohort.pooled(COHORT, tmp_path / "pooled")
    sites = list(pooled)[::40]
    asked = [f"chr{s.chrom}:{s.pos}:{s.ref}:{s.alt}" for s in sites[:5]]
    asked += [f"{s.chrom}:{s.pos - 1}:T{s.ref}:T{s.alt}" for s in sites[5:]]
    rows = lookup(COHORT, tmp_path, [*asked, "2:1:A:C", "HLA-A*01:01:01:01:5:A:C"])
    assert len(rows) == len(sites) > 8
    assert {(r["pos"], r["alt"]): (r["ac"], r["an"]) for r in rows} == {(s.pos, s.alt): pooled[s] for s in sites}


@pytest.mark.parametrize("variant", ["2:10:A", "2:0:A:C", "2:10:A:Q", "", "2:10:A:C\n"])
def test_what_is_no_variant_is_refused_by_the_form_and_by_the_script(variant: str, tmp_path: Path) -> None:
    workflow = load(ENTRY).workflow
    assert workflow.check_parameters({"variants": ["2:10:A:C"]}) == []
    assert workflow.check_parameters({"variants": [variant]}) or variant.endswith("\n")
    arguments = (COHORT, tmp_path / "p", tmp_path / "o", "--variants", json.dumps(["2:10:A:C", variant]))
    done = script("lookup.py", *arguments)
    assert done.stderr.splitlines()[-1] == "GDI-ERROR class=UnknownVariant line=2" and done.returncode == 1


def test_the_same_people_in_two_datasets_end_the_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text('{"people": ["ab"]}')
    done = script("once.py", tmp_path / "out", tmp_path / "one.json", tmp_path / "two.json")
    assert done.returncode == 1 and "class=DuplicatePeople" in done.stderr


def test_scripts_that_workflows_share_are_the_same() -> None:
    for name in ("vcf.py", "variants.py", "gather.py", "bgzf.py", "sections.py"):
        other = ROOT / "workflows" / "allele-frequency" / "scripts" / name
        assert (ENTRY / "scripts" / name).read_bytes() == other.read_bytes(), name
