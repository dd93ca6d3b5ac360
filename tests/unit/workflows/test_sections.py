"""A file that is read in sections gives the release of the whole file, and the same fault at the same line; a wrong
index never loses a record.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pysam
import pytest

from gdi.contracts.sections import SectionPlan
from gdi.local_federation.federation import COHORT
from tests.support.allele_counts import ROOT, SCRIPTS, gathered, modules

FIXTURE = ROOT / "tests" / "fixtures" / "vcf" / "genotypes.vcf"
NAMES = ("sections", "slices", "bgzf", "vcf", "variants", "count", "pieces", "gather")


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    with modules(*NAMES) as found:
        yield found


def bgzipped(text: str, file: Path, *, flush_every: int = 10**9) -> Path:
    with pysam.BGZFile(str(file), "wb") as out:
        lines = text.splitlines(keepends=True)
        for start in range(0, len(lines), flush_every):
            out.write("".join(lines[start : start + flush_every]).encode())
            if flush_every < 10**9:
                out.flush()
    return file


def indexed(file: Path, *, csi: bool = False) -> bytes:
    pysam.tabix_index(str(file), preset="vcf", force=True, csi=csi)

    return gzip.decompress(file.with_name(f"{file.name}.{'csi' if csi else 'tbi'}").read_bytes())


def counted(scripts: Any, file: Path, index: bytes, count: int, folder: Path, samples: int) -> list[Path]:
    """Every section by itself, as the tasks get it."""
    made, places = scripts.sections.plan(scripts.sections.cuts(index), count)
    plan, whole = SectionPlan.model_validate(made), file.read_bytes()
    (folder / "places.json").write_text(json.dumps(places))
    shutil.rmtree(folder / "D", ignore_errors=True)
    (folder / "D").mkdir()
    parts = []
    for n in range(count):
        section, out = folder / "section.vcf.gz", folder / "D" / f"0.{n}.jsonl"
        section.write_bytes(b"".join(whole[start:end] for start, end in plan.ranges(n + 1, len(whole))))
        options = SimpleNamespace(vcf=section, places=folder / "places.json", region=n, out=out)
        options.filter = scripts.count.GenotypeFilter()
        scripts.count.section(options, samples)
        parts.append(out)
    return parts


def gather(scripts: Any, parts: list[Path]) -> dict[str, Any]:
    """The release of these counts."""
    sites, skipped = gathered(scripts, parts)
    return {"sites": sites, "skipped": skipped}


def whole(scripts: Any, file: Path, folder: Path) -> dict[str, Any]:
    (folder / "W").mkdir(exist_ok=True)
    with (folder / "W" / "0.jsonl").open("w") as out:
        for record in scripts.vcf.records(file):
            scripts.count.write(out, record, scripts.count.GenotypeFilter())
    return gather(scripts, [folder / "W" / "0.jsonl"])


@pytest.mark.parametrize("csi", [False, True], ids=["tbi", "csi"])
@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_the_sections_of_a_real_file_give_its_release(scripts: Any, count: int, csi: bool, tmp_path: Path) -> None:
    file = Path(shutil.copy(COHORT, tmp_path / "c.vcf.gz"))
    parts = counted(scripts, file, indexed(file, csi=csi), count, tmp_path, 629)
    assert gather(scripts, parts) == whole(scripts, file, tmp_path)


def lines_of(sites: int, people: int = 3) -> list[str]:
    names = "\t".join(f"S{n}" for n in range(people))
    head = ["##fileformat=VCFv4.2\n", "##contig=<ID=1>\n", "##contig=<ID=2>\n"]
    head.append(f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n")
    cells = "\t".join(["0/1"] * people)
    return head + [
        f"{1 + n * 2 // sites}\t{1000 + 40_000 * n}\tv{n}\tA\tC\t.\t.\t.\tGT\t{cells}\n" for n in range(sites)
    ]


@pytest.mark.parametrize("every", [1, 3, 10**9], ids=["a block a line", "three", "one block"])
@pytest.mark.parametrize("count", [2, 7, 60])
def test_blocks_of_any_size_and_more_sections_than_records(
    scripts: Any, every: int, count: int, tmp_path: Path
) -> None:
    file = bgzipped("".join(lines_of(40)), tmp_path / "c.vcf.gz", flush_every=every)
    parts = counted(scripts, file, indexed(file), count, tmp_path, 3)
    assert gather(scripts, parts) == whole(scripts, file, tmp_path)


@pytest.mark.parametrize("place", [4, 5, 23, 43])
def test_a_fault_is_told_with_the_files_own_line(
    scripts: Any, place: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(40)
    good = bgzipped("".join(lines), tmp_path / "good.vcf.gz", flush_every=3)
    index = indexed(good)
    lines[place] = lines[place].replace("0/1\n", "9/1\n")  # as long as before: the index still holds
    file = bgzipped("".join(lines), tmp_path / "c.vcf.gz", flush_every=3)
    parts = counted(
        scripts, file, index if len(file.read_bytes()) == len(good.read_bytes()) else indexed(file), 7, tmp_path, 3
    )
    with pytest.raises(SystemExit):
        gather(scripts, parts)
    assert capsys.readouterr().err.splitlines()[-1] == f"GDI-ERROR class=VcfFormatError line={place + 1}"


def test_an_index_of_another_file_ends_the_run(
    scripts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = bgzipped("".join(lines_of(50)), tmp_path / "other.vcf.gz", flush_every=1)
    file = bgzipped("".join(lines_of(40)), tmp_path / "c.vcf.gz", flush_every=3)
    for count in (2, 5, 20):
        with pytest.raises(SystemExit):
            gather(scripts, counted(scripts, file, indexed(other), count, tmp_path, 3))
        assert "GDI-ERROR class=" in capsys.readouterr().err


def test_any_places_of_blocks_give_all_records_or_a_fault(scripts: Any, tmp_path: Path) -> None:
    """Whatever an index says: the release is the whole file's, or there is none."""
    file = bgzipped("".join(lines_of(12)), tmp_path / "c.vcf.gz", flush_every=4)
    expected = whole(scripts, file, tmp_path)
    real = scripts.sections.cuts(indexed(file))
    blocks, outcomes = sorted({block for block, _ in real}), []
    for block in [*blocks, blocks[0] + 1, 10**7]:
        for skip in (0, 1, real[1][1], 60_000):
            made = sorted({real[0], (block, skip)})
            places = scripts.sections.plan(made, 2)
            scripts.sections.plan, kept = lambda *_, found=places: found, scripts.sections.plan
            try:
                found = gather(scripts, counted(scripts, file, indexed(file), 2, tmp_path, 3))
            except SystemExit:
                outcomes.append(False)
                continue
            finally:
                scripts.sections.plan = kept
            outcomes.append(True)
            assert found == expected, (block, skip)
    assert True in outcomes and False in outcomes


@pytest.mark.parametrize("missing", [28, 40])
def test_a_cut_file_is_told_by_its_last_section(
    scripts: Any, missing: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = bgzipped("".join(lines_of(40)), tmp_path / "c.vcf.gz", flush_every=3)
    index = indexed(file)
    file.write_bytes(file.read_bytes()[:-missing])
    with pytest.raises(SystemExit):
        gather(scripts, counted(scripts, file, index, 3, tmp_path, 3))
    assert "GDI-ERROR class=TruncatedFile" in capsys.readouterr().err


def test_a_file_without_records_has_one_section(scripts: Any, tmp_path: Path) -> None:
    file = bgzipped("".join(lines_of(0)), tmp_path / "c.vcf.gz")
    assert gather(scripts, counted(scripts, file, indexed(file), 3, tmp_path, 3))["sites"] == []


@pytest.mark.parametrize("data", [b"", b"TBI\1", b"CSI\1\0\0", b"x" * 100, b"TBI\1" + b"\xff" * 40])
def test_what_is_no_index_is_told(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "i").write_bytes(data)
    done = subprocess.run(
        [
            sys.executable,
            "-B",
            SCRIPTS / "sections.py",
            tmp_path / "i",
            tmp_path / "p",
            tmp_path / "q",
            "--sections",
            "2",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.endswith("GDI-ERROR class=WrongIndex\n")
