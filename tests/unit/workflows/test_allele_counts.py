"""The allele-frequency workflow's counting: equal to bcftools on real and hand-made genotypes, and exact about what is
wrong where.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pysam
import pysam.bcftools
import pytest

from gdi.releases.allele_counts.column_check import AlleleCountsColumns
from gdi.releases.allele_counts.table import CLASSES
from gdi.releases.columns import PastColumns
from gdi.releases.kind import Rules
from tests.support.allele_counts import ENTRY, ROOT, SCRIPTS, bcftools, keyed, script  # noqa: F401

FIXTURE = ROOT / "tests" / "fixtures" / "vcf" / "genotypes.vcf"
REAL = ROOT / "gdi" / "local_federation" / "data" / "1000G_2010_chr2_629samples.vcf.gz"


def run(vcf: Path, folder: Path, regions: int = 3) -> dict[str, Any]:
    """The whole workflow without Snakemake."""
    assert script("validate.py", vcf, folder / "v.json").returncode == 0
    assert script("regions.py", folder / "v.json", folder / "r.json", "--regions", regions).returncode == 0
    for i in range(regions):
        result = script("count.py", vcf, folder / "r.json", i, folder / f"{i}.jsonl")
        assert result.returncode == 0, result.stderr
    assert script("gather.py", folder / "out.json", *(folder / f"{i}.jsonl" for i in range(regions))).returncode == 0
    return json.loads((folder / "out.json").read_text())


@pytest.mark.parametrize("vcf", [FIXTURE, REAL], ids=["fixture", "real"])
def test_counts_equal_bcftools(vcf: Path, tmp_path: Path) -> None:
    ours = {k: (s["ac"], s["an"]) for k, s in keyed(run(vcf, tmp_path)).items()}
    assert ours == bcftools(vcf, tmp_path)


@pytest.mark.parametrize("vcf", [FIXTURE, REAL], ids=["fixture", "real"])
def test_the_release_fits_its_schema_and_every_person_is_in_one_class(vcf: Path, tmp_path: Path) -> None:
    release = run(vcf, tmp_path)
    jsonschema.validate(release, json.loads((ENTRY / "release.schema.json").read_text()))
    people = 6 if vcf == FIXTURE else 629
    for site in release["sites"]:
        assert (
            sum(site[c] for c in ("hom_ref", "het", "hom_alt", "hemi_ref", "hemi_alt", "half_missing", "missing"))
            == people
        )
    assert len(keyed(release)) == len(release["sites"]), "one row per alternate allele"


def test_classes_go_by_copies_of_the_rows_own_allele(tmp_path: Path) -> None:
    sites = keyed(run(FIXTURE, tmp_path))

    def classes(*key: Any) -> dict[str, int]:
        return {k: v for k, v in sites[key].items() if isinstance(v, int) and v and k != "pos"}

    assert classes("1", 100, "A", "G") == {"ac": 5, "an": 10, "hom_ref": 1, "het": 3, "hom_alt": 1, "missing": 1}
    assert classes("1", 200, "A", "G") == {"ac": 3, "an": 10, "hom_ref": 3, "het": 1, "hom_alt": 1, "missing": 1}
    assert classes("1", 200, "A", "T") == {"ac": 4, "an": 10, "hom_ref": 2, "het": 2, "hom_alt": 1, "missing": 1}
    assert classes("1", 300, "C", "T") == {"ac": 3, "an": 4, "half_missing": 4, "missing": 2}
    assert classes("1", 500, "G", "C") == {"missing": 6}
    assert classes("X", 100, "T", "C") == {
        "ac": 4,
        "an": 7,
        "hemi_ref": 2,
        "hemi_alt": 1,
        "het": 1,
        "hom_alt": 1,
        "missing": 1,
    }
    assert sites[("1", 400, "AT", "*")]["ac"] == 4 and sites[("1", 400, "AT", "<DEL>")]["ac"] == 2


@pytest.mark.parametrize(
    "regions", [1, 2, pytest.param(7, marks=pytest.mark.long), pytest.param(50, marks=pytest.mark.long)]
)
def test_any_number_of_regions_gives_the_same_release(regions: int, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    assert run(FIXTURE, tmp_path, regions) == run(FIXTURE, folder, 1)


@pytest.mark.parametrize("change", ["crlf", "no-last-newline", "gzip", "bgzip"])
def test_how_the_file_is_written_does_not_matter(change: str, tmp_path: Path) -> None:
    text = FIXTURE.read_bytes()
    other = tmp_path / "other.vcf"
    if change == "crlf":
        other.write_bytes(text.replace(b"\n", b"\r\n"))
    elif change == "no-last-newline":
        other.write_bytes(text.rstrip(b"\n"))
    elif change == "gzip":
        other.write_bytes(gzip.compress(text[:500]) + gzip.compress(text[500:]))
    else:
        pysam.tabix_compress(str(FIXTURE), str(other))
    folder = tmp_path / "plain"
    folder.mkdir()
    assert run(other, tmp_path) == run(FIXTURE, folder)


def line(number: int, change: Callable[[str], str]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        lines = data.decode().split("\n")
        lines[number - 1] = change(lines[number - 1])
        return "\n".join(lines).encode()

    return apply


def cell(number: int, column: int, value: str) -> Callable[[bytes], bytes]:
    return line(number, lambda text: "\t".join(value if i == column else c for i, c in enumerate(text.split("\t"))))


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str, int]] = {
    "a column is missing": (line(10, lambda t: t.rpartition("\t")[0]), "VcfFormatError", 10),
    "a genotype names an allele that is not there": (cell(9, 11, "0/2"), "VcfFormatError", 9),
    "a genotype is a word": (cell(9, 11, "a/b"), "VcfFormatError", 9),
    "a genotype is empty": (cell(9, 11, ""), "VcfFormatError", 9),
    "a negative allele": (cell(9, 11, "-1/0"), "VcfFormatError", 9),
    "POS is a word": (cell(12, 1, "x"), "VcfFormatError", 12),
    "CHROM has a space": (cell(12, 0, "a b"), "VcfFormatError", 12),
    "REF is a word": (cell(12, 3, "hello"), "VcfFormatError", 12),
    "a byte order mark": (lambda d: b"\xef\xbb\xbf" + d, "VcfFormatError", 1),
    "blank lines before the last": (line(18, lambda t: "\n\n" + t), "VcfFormatError", 18),
    "POS is negative": (cell(12, 1, "-1"), "VcfFormatError", 12),
    "no #CHROM line": (lambda d: d.replace(b"#CHROM", b"##CHROM"), "VcfFormatError", 9),
    "no samples": (lambda d: b"\n".join(b"\t".join(x.split(b"\t")[:8]) for x in d.split(b"\n")), "NoGenotypes", 8),
    "not a VCF": (lambda d: b"hello\n", "VcfFormatError", 1),
    "empty": (lambda d: b"", "VcfFormatError", 1),
    "only a header's beginning": (lambda d: d[:21], "VcfFormatError", 1),
    "a header line in the data": (line(10, lambda t: "##x"), "VcfFormatError", 10),
    "an empty line": (line(10, lambda t: ""), "VcfFormatError", 10),
    "not text": (lambda d: d.replace(b"DB\tDP", b"\xff\xfe\tDP"), "VcfFormatError", 13),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_vcf_fails_with_class_and_line_and_quotes_nothing(name: str, tmp_path: Path) -> None:
    change, kind, number = BROKEN[name]
    vcf = tmp_path / "broken.vcf"
    vcf.write_bytes(gzip.compress(change(FIXTURE.read_bytes())))
    result = script("validate.py", vcf, tmp_path / "v.json")
    assert result.returncode == 1 and not (tmp_path / "v.json").exists()
    assert result.stderr.strip().splitlines()[-1] == f"GDI-ERROR class={kind} line={number}"
    assert "s1" not in result.stderr and "Traceback" not in result.stderr and "0/0/1" not in result.stderr


def test_a_truncated_or_damaged_file_says_where_reading_stopped(tmp_path: Path) -> None:
    data = REAL.read_bytes()
    vcf = tmp_path / "broken.vcf.gz"
    vcf.write_bytes(data[: len(data) // 2])
    last = script("validate.py", vcf, tmp_path / "v.json").stderr.strip().splitlines()[-1]
    assert last.startswith("GDI-ERROR class=TruncatedFile line=") and int(last.rpartition("=")[2]) > 10
    whole = gzip.compress(FIXTURE.read_bytes())
    vcf.write_bytes(whole[:-8] + bytes(8))  # the checksum and the length at the end are wrong
    assert (
        script("validate.py", vcf, tmp_path / "v.json").stderr.strip().splitlines()[-1]
        == "GDI-ERROR class=DamagedFile line=19"
    )


def test_two_datasets_of_a_node_are_added_up(tmp_path: Path) -> None:
    once = run(FIXTURE, tmp_path, 1)
    parts = []
    for name in ("one", "two"):
        parts.append(tmp_path / name / "0.jsonl")
        parts[-1].parent.mkdir()
        parts[-1].write_bytes((tmp_path / "0.jsonl").read_bytes())
    assert script("gather.py", tmp_path / "two.json", *parts).returncode == 0
    twice = keyed(json.loads((tmp_path / "two.json").read_text()))
    assert all(twice[k]["ac"] == 2 * s["ac"] and twice[k]["an"] == 2 * s["an"] for k, s in keyed(once).items())


def test_a_large_release_is_parquet_that_the_node_takes(tmp_path: Path) -> None:
    rows = [
        {"line": n, "chrom": c, "pos": n, "ref": "A", "alt": "C", "ac": 9, "an": 60}
        | dict.fromkeys(CLASSES, 0)
        | {"hom_ref": 22, "het": 7, "hom_alt": 1}
        for n, c in ((1, "2"), (2, "2"), (3, "10"))
    ]
    part = tmp_path / "0.jsonl"
    part.write_text(
        "".join(
            json.dumps(row) + "\n" for row in [*rows, {**rows[0], "line": 4, "alts": ["A[2:9["], "why": "breakend"}]
        )
    )
    assert script("gather.py", tmp_path / "text", part).returncode == 0
    for name, more in (("columns", ()), ("pieces", ("--piece-lines", "2"))):
        assert script("gather.py", tmp_path / name, part, "--text-rows", "2", *more).returncode == 0
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "columns").read_bytes()
    assert script("gather.py", tmp_path / "sorted", part, "--piece-lines", "2").returncode == 0
    text, by_key = (json.loads((tmp_path / name).read_text()) for name in ("text", "sorted"))
    assert by_key == text | {"sites": [text["sites"][n] for n in (2, 0, 1)]}
    (tmp_path / "kept").mkdir()
    check, rules = AlleleCountsColumns(), Rules(5, 10)
    verdict = check.judge(tmp_path / "columns", tmp_path / "kept", rules, PastColumns(), None)
    check.write(tmp_path / "kept", tmp_path / "out", verdict, {}, rules)
    assert (verdict.units, verdict.released, +verdict.withheld) == (4, 3, {"breakend": 1})
    mine = pl.read_parquet(tmp_path / "out").select("chrom", "pos", "ac_min", "an_max").rows()
    assert mine == [("10", 3, 9, 60), ("2", 1, 9, 60), ("2", 2, 9, 60)]
    sites = json.loads((tmp_path / "text").read_text())["sites"]
    assert {(row["chrom"], row["pos"], row["ac"], row["an"]) for row in sites} == set(mine)
