"""variant-lookup counts what bcftools counts, at the sites asked for and at no other."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pysam
import pytest

from gdi.contracts.sections import SectionPlan
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


def by_index(vcf: Path, folder: Path, variants: list[str], *, csi: bool) -> tuple[str, float]:
    """The counts by the index, and the share of the file that they were read of."""
    index = f"{vcf}.{'csi' if csi else 'tbi'}"
    pysam.tabix_index(str(vcf), preset="vcf", force=True, csi=csi)
    plan, places, part = folder / "plan.json", folder / "places.json", folder / "part.vcf.gz"
    done = script("chunks.py", index, plan, places, "--variants", json.dumps(variants))
    assert done.returncode == 0, done.stderr
    whole = vcf.read_bytes()
    ranges = SectionPlan.model_validate_json(plan.read_text()).ranges(0, len(whole))
    part.write_bytes(b"".join(whole[start:end] for start, end in ranges))
    (folder / "count" / "DS").mkdir(parents=True)
    counts = folder / "count" / "DS" / "0.jsonl"
    more = ("--variants", json.dumps(variants), "--places", places)
    done = script("lookup.py", part, folder / "DS.0.json", counts, *more)
    assert done.returncode == 0, done.stderr
    assert script("gather.py", folder / "out.json", counts).returncode == 0
    return (folder / "out.json").read_text(), part.stat().st_size / len(whole)


@pytest.mark.parametrize("csi", [False, True], ids=["tbi", "csi"])
def test_by_an_index_it_finds_the_same_in_a_part_of_the_file(csi: bool, tmp_path: Path) -> None:
    names = "\t".join(f"S{n}" for n in range(200))
    lines = ["##fileformat=VCFv4.2\n", "##contig=<ID=chr1>\n", "##contig=<ID=chr2>\n"]
    lines.append(f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n")
    draws = random.Random(7)
    for contig in ("chr1", "chr2"):
        for n in range(1500):
            cells = "\t".join(draws.choice(["0/0", "0/1", "1|1", "./."]) for _ in range(200))
            ref, alt = ("AC" + "G" * 300, "A") if n % 50 == 0 else ("A", "C")
            lines.append(f"{contig}\t{100 + 2000 * n}\t.\t{ref}\t{alt}\t.\t.\t.\tGT\t{cells}\n")
    vcf = tmp_path / "c.vcf.gz"
    with pysam.BGZFile(str(vcf), "wb") as out:
        out.write("".join(lines).encode())
    sites = [line.split("\t") for line in lines[4::97]][:8]
    asked = [f"{c.removeprefix('chr')}:{p}:{r}:{a}" for c, p, _, r, a, *_ in sites]
    asked += ["2:5000000:A:C", "1:150:A:C", "7:100:A:C", "chr1:100:A:C"]
    lookup(vcf, tmp_path, asked)
    expected = (tmp_path / "out.json").read_text()
    (tmp_path / "by-index").mkdir()
    found, share = by_index(vcf, tmp_path / "by-index", asked, csi=csi)
    assert found == expected and len(json.loads(found)["sites"]) == 8
    assert share < 0.8


def test_without_any_variant_of_the_file_its_header_is_read(tmp_path: Path) -> None:
    vcf = Path(shutil.copy(COHORT, tmp_path / "c.vcf.gz"))
    found, _ = by_index(vcf, tmp_path, ["22:1:A:C"], csi=False)
    assert json.loads(found)["sites"] == []


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
