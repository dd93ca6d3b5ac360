"""A file that an htsget server gives in slices gives the release of the whole file; what a slice could make of the
halves of two lines is refused by name.
"""

from __future__ import annotations

import gzip
import importlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pysam
import pysam.bcftools
import pytest

from gdi.local_federation.federation import COHORT
from tests.support.htsget_server import slices

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "workflows" / "allele-frequency" / "scripts"
NAMES = ("slices", "bgzf", "vcf", "variants", "count", "pieces", "gather")


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(SCRIPTS))
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's cohort as bcftools writes it: no line runs over a block."""
    file = tmp_path_factory.mktemp("vcf") / "cohort.vcf.gz"
    pysam.bcftools.view("-Oz", "-o", str(file), str(COHORT), catch_stdout=False)
    return file


def positions(file: Path) -> list[int]:
    return [
        int(line.split("\t")[1]) for line in gzip.decompress(file.read_bytes()).decode().splitlines() if line[0] != "#"
    ]


def sliced(file: Path, region: str, to: Path) -> Path:
    """As the server gives it, whole blocks."""
    contig, _, bounds = region.partition(":")
    start, _, end = bounds.partition("-")
    asked = {"referenceName": contig, **({"start": int(start) - 1, "end": int(end)} if bounds else {})}
    plain = file.read_bytes()
    to.write_bytes(b"".join(plain[a:b] for a, b in slices(plain, asked)))
    return to


def release(scripts: Any, parts: list[Path]) -> Any:
    skipped = Counter[str]()
    pieces = scripts.gather.read(parts, 10**6)
    sites = list(scripts.gather.gathered(pieces.all(), pieces.people, (), skipped))
    return sorted(sites, key=lambda row: [row[name] for name in scripts.gather.NAMES]), skipped


def written(scripts: Any, records: Any, file: Path) -> Path:
    file.parent.mkdir(exist_ok=True)
    with file.open("w") as out:
        for record in records:
            scripts.count.write(out, record)
    return file


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_slices_of_a_real_file_give_its_release(scripts: Any, cohort: Path, count: int, tmp_path: Path) -> None:
    found = positions(cohort)
    edges = [found[0] + (found[-1] - found[0] + 1) * n // count for n in range(count + 1)]
    parts, size = [], 0
    for n in range(count):
        region = f"2:{edges[n]}-{edges[n + 1] - 1}"
        given = sliced(cohort, region, tmp_path / "slice.vcf.gz")
        size += given.stat().st_size
        records = scripts.slices.slice_records([given], [region], 629)
        parts.append(written(scripts, records, tmp_path / "D" / f"0.{n}.jsonl"))
    whole = written(scripts, scripts.vcf.records(cohort), tmp_path / "W" / "0.jsonl")
    assert release(scripts, parts) == release(scripts, [whole])
    assert size < cohort.stat().st_size * 2 + 20_000 * count, "no more than the blocks at the edges twice"


def test_two_regions_of_one_job_and_a_contig_without_bounds(scripts: Any, cohort: Path, tmp_path: Path) -> None:
    middle = sorted(positions(cohort))[100]
    regions = [f"2:1-{middle}", f"2:{middle + 1}-999999999"]
    given = [sliced(cohort, region, tmp_path / f"{n}.vcf.gz") for n, region in enumerate(regions)]
    two = [(r.pos, r.ref, r.alts) for r in scripts.slices.slice_records(given, regions, 629)]
    one = list(scripts.slices.slice_records([sliced(cohort, "2", tmp_path / "w.vcf.gz")], ["2"], 629))
    assert two == [(r.pos, r.ref, r.alts) for r in one] == [(r.pos, r.ref, r.alts) for r in scripts.vcf.records(cohort)]
    lines = [r.line for r in scripts.slices.slice_records(given, regions, 629)]
    assert len(set(lines)) == len(lines), "each line has a number of its own"


@pytest.mark.parametrize(
    ("case", "kind"),
    [("uneven", "UnevenBlocks"), ("no-end", "TruncatedFile"), ("plain", "DamagedFile"), ("people", "DifferentPeople")],
)
def test_what_could_lose_or_invent_a_record_ends_the_job(
    scripts: Any, cohort: Path, case: str, kind: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.vcf.gz"
    if case == "uneven":  # as `bgzip` packs a text: blocks of equal length
        (tmp_path / "c.vcf").write_bytes(gzip.decompress(cohort.read_bytes()))
        pysam.tabix_compress(str(tmp_path / "c.vcf"), str(file))
    else:
        whole = cohort.read_bytes()
        file.write_bytes({"no-end": whole[:-28], "plain": gzip.decompress(whole)}.get(case, whole))
    with pytest.raises(scripts.vcf.VcfError) as error:
        list(scripts.slices.slice_records([file], ["2"], 628 if case == "people" else 629))
    assert error.value.kind == kind


def test_the_jobs_commands(cohort: Path, tmp_path: Path) -> None:
    """As the Snakefile calls them: the header alone, a part of two slices, a part without any."""

    def run(*words: str | Path) -> None:
        subprocess.run([sys.executable, SCRIPTS / words[0], *words[1:]], check=True, cwd=tmp_path)

    head, slice_ = sliced(cohort, "none", tmp_path / "h.vcf.gz"), sliced(cohort, "2", tmp_path / "s.vcf.gz")
    run("validate.py", head, "v.json", "--slice")
    assert len(json.loads((tmp_path / "v.json").read_text())["people"]) == 629
    run("regions.py", "v.json", "r.json", "--regions", "2")
    run("count.py", slice_, slice_, "r.json", "0", "c.jsonl", "--slices", "2:1-99999999", "2:100000000-999999999")
    rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert {row["pos"] for row in rows} == set(positions(cohort))
    run("count.py", "r.json", "1", "e.jsonl", "--slices")
    assert (tmp_path / "e.jsonl").read_text() == ""
