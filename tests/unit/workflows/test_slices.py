"""A file that an htsget server gives in slices gives the release of the whole file; what a slice could make of the
halves of two lines is refused by name.
"""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pysam
import pysam.bcftools
import pytest

from gdi.local_federation.federation import COHORT
from tests.support.allele_counts import SCRIPTS, gathered, modules
from tests.support.htsget_server import slices

NAMES = ("slices", "bgzf", "vcf", "variants", "count", "pieces", "gather")


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    with modules(*NAMES) as found:
        yield found


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
    sites, skipped = gathered(scripts, parts)
    return sorted(sites, key=lambda row: [row[name] for name in scripts.gather.NAMES]), skipped


def written(scripts: Any, records: Any, file: Path) -> Path:
    file.parent.mkdir(exist_ok=True)
    with file.open("w") as out:
        for record in records:
            scripts.count.write(out, record, scripts.count.GenotypeFilter())
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


def many_contigs(file: Path, names: Iterable[str], people: int = 2) -> Path:
    """A file with two records as htslib writes it: a header of more than 65,280 bytes is cut within a line."""
    head = pysam.VariantHeader()
    for name in names:
        head.add_line(f"##contig=<ID={name},length=100000>")
    head.add_line('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">')
    for n in range(people):
        head.add_sample(f"person{n}")
    with pysam.VariantFile(str(file), "wz", header=head) as out:
        for position in (10, 20):
            record = out.new_record(contig="20", start=position - 1, alleles=("A", "G"))
            for sample in record.samples.values():
                sample["GT"] = (0, 1)
            out.write(record)
    return file


@pytest.mark.parametrize(("contigs", "people"), [(3400, 2), (0, 9000)], ids=["contigs", "people"])
def test_a_header_that_htslib_cuts_within_a_line_counts(
    scripts: Any, contigs: int, people: int, tmp_path: Path
) -> None:
    file = many_contigs(tmp_path / "h.vcf.gz", ["20", *(f"HLA*{n:05}:01" for n in range(contigs))], people)
    blocks = scripts.bgzf.SectionFile(file, scripts.slices.WHOLE)
    first = blocks.read(0)
    blocks.close()
    assert first.startswith(b"##fileformat") and not first.endswith(b"\n")
    given = sliced(file, "20:1-15", tmp_path / "s.vcf.gz")
    assert [r.pos for r in scripts.slices.slice_records([given], ["20:1-15"], people)] == [10]


def test_a_data_line_behind_a_cut_header_is_refused_where_it_is_cut(scripts: Any, tmp_path: Path) -> None:
    plain = gzip.decompress(many_contigs(tmp_path / "h.vcf.gz", ["20", *(f"c{n}" for n in range(3400))]).read_bytes())
    for cut in (plain.index(b"\n20\t10\t") + 4, len(plain) - 5):  # the header's last line and a part of the next
        edges = [0, 0xFF00, cut, len(plain)]
        with pysam.BGZFile(str(tmp_path / "c.vcf.gz"), "wb") as out:
            for a, b in itertools.pairwise(edges):
                out.write(plain[a:b])
                out.flush()
        with pytest.raises(scripts.vcf.VcfError) as error:
            list(scripts.slices.slice_records([tmp_path / "c.vcf.gz"], ["20"], 2))
        assert error.value.kind == "UnevenBlocks"


@pytest.mark.parametrize("region", ["chr20", "chr20:1-100", "20,length=100000"])
def test_a_region_of_a_contig_that_the_header_does_not_name_ends_the_job(
    scripts: Any, region: str, tmp_path: Path
) -> None:
    file = many_contigs(tmp_path / "h.vcf.gz", ["19", "20"])
    with pytest.raises(scripts.vcf.VcfError) as error:
        list(scripts.slices.slice_records([file], [region], 2))
    assert error.value.kind == "UnknownContig" and "chr20" not in str(error.value)
    assert len(list(scripts.slices.slice_records([file], ["20"], 2))) == 2


def prologue(config: dict[str, Any]) -> dict[str, Any]:
    """What the Snakefile finds of a run before its first rule."""
    text = (SCRIPTS.parent / "Snakefile").read_text().partition("\ncontainer:")[0]
    found: dict[str, Any] = {"config": config, "workflow": SimpleNamespace(basedir="/workflow")}
    exec(compile(text, "Snakefile", "exec"), found)
    return found


def test_a_site_that_a_slice_lacks_is_never_taken_for_reference(scripts: Any, tmp_path: Path) -> None:
    """Its server lost it, or it lies outside `regions`: nobody sees which."""
    file = many_contigs(tmp_path / "h.vcf.gz", ["20"])
    cut = sliced(file, "20:1-15", tmp_path / "s.vcf.gz")
    whole = [{"path": "c.vcf.gz", "format": "vcf", "regions": ["20:1-15"], "index": None}]
    by_htsget = [{**whole[0], "served_by": "htsget"}]
    parts = [
        written(scripts, scripts.vcf.records(file), tmp_path / "W" / "0.0.jsonl"),
        written(scripts, scripts.slices.slice_records([cut], ["20:1-15"], 2), tmp_path / "S" / "0.0.jsonl"),
    ]
    seen = {}
    for name, files in (("whole", whole), ("slices", by_htsget), ("one of two", whole + by_htsget)):
        described = {"W": {"files": whole, "absent": "reference"}, "S": {"files": files, "absent": "reference"}}
        reference = prologue({"datasets": ["W", "S"], "described": described})["REFERENCE"]
        sites, skipped = gathered(scripts, parts, reference)
        seen[name] = [(row["pos"], row["ac"], row["an"]) for row in sites], dict(skipped)
    unknown = [(10, 4, 8)], {"not-in-every-dataset": 1}
    assert seen == {"whole": ([(10, 4, 8), (20, 2, 8)], {}), "slices": unknown, "one of two": unknown}


def test_a_descriptor_that_a_run_overrides_makes_no_slice_reference() -> None:
    files = [{"path": "c.vcf.gz", "format": "vcf", "regions": ["20"], "index": None, "served_by": "htsget"}]
    found = prologue({"datasets": ["S"], "described": {"S": {"files": files}}, "absent": {"S": "reference"}})
    assert found["REFERENCE"] == []


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
