"""VCFs of the kinds that people have: what can be counted is counted as bcftools does, people count once, and a line
that a release cannot name costs that line alone. Each case goes through the workflow's scripts and the node's check.
"""

from __future__ import annotations

import gzip
import re
import subprocess
from collections import Counter
from pathlib import Path

import pysam
import pytest

from gdi.contracts.variants import ALTERNATE, CONTIG, WITHHELD, normal, why_unnamed
from gdi.releases.allele_counts.check import key_of
from gdi.releases.allele_counts.table import Row
from tests.support.allele_counts import bcftools, script
from tests.support.public_vcfs import COMMON, HEAD, Line, count, here, leaves, names, numbers, write  # noqa: F401


def ok(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "second",
    [
        ("chr1", 100, "A", "G"),
        ("chr1", 100, "a", "g"),
        ("chr1", 100, "A", "C,G"),
        ("1", 100, "A", "G"),
        ("chr1", 100, "AT", "GT"),
        ("chr1", 98, "CCA", "CCG"),
    ],
    ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}-{row[3]}",
)
@pytest.mark.parametrize("between", [True, False], ids=["apart", "adjacent"])
def test_an_allele_on_two_lines_is_withheld_wherever_the_second_stands(
    second: tuple[str, int, str, str], between: bool, tmp_path: Path
) -> None:
    genotypes = ["0/0"] * 14 + ["0/1"] * 3 + ["1/1"] * 3
    others: list[Line] = [("chr2", 50, "C", "T", COMMON)]
    rows = [("chr1", 100, "A", "G", genotypes), *others, (*second, genotypes)]
    release = count(tmp_path, write(tmp_path / "a.vcf", *(rows if between else [rows[1], rows[0], rows[2]])))
    assert numbers(release) == {("chr2", 50, "C", "T"): (18, 40)}
    assert set(release["skipped"]) == {"duplicate-site"}
    assert leaves(release)[1]["duplicate-site"] >= 1


@pytest.mark.parametrize(("people", "an"), [(20, 80), (30, 100)])
def test_a_site_with_other_alleles_in_another_dataset_has_the_an_of_all_people(
    people: int, an: int, tmp_path: Path
) -> None:
    a = write(tmp_path / "a.vcf", ("chr1", 100, "A", "G", ["0/0"] * 10 + ["0/1"] * 10))
    more = ["0/0"] * (people - 20)
    b = write(
        tmp_path / "b.vcf",
        ("chr1", 100, "A", "T", ["0/0"] * 12 + ["0/1"] * 8 + more),
        samples=names(people, 100),
    )
    release = count(tmp_path, a, b)
    assert numbers(release) == {("chr1", 100, "A", "G"): (10, an), ("chr1", 100, "A", "T"): (8, an)}
    assert all(row["hom_ref"] + row["het"] == people + 20 for row in release["sites"])
    assert leaves(release) == ({("chr1", 100, "A", "G"), ("chr1", 100, "A", "T")}, Counter())


def test_a_site_that_a_dataset_lacks_counts_only_where_absent_means_reference(tmp_path: Path) -> None:
    a = write(tmp_path / "a.vcf", ("chr1", 100, "A", "G", COMMON), ("chr1", 200, "C", "T", COMMON))
    b = write(
        tmp_path / "b.vcf",
        ("chr1", 100, "A", "G", COMMON),
        ("chr1", 200, "C", ".", ["0/0"] * 20),
        samples=names(20, 50),
    )
    third = ("chrX", 300, "G", "T", COMMON)
    c = write(tmp_path / "c.vcf", ("chr1", 100, "A", "G", COMMON), third, samples=names(20, 90))
    unknown = count(tmp_path / "unknown", a, b, c)
    assert numbers(unknown) == {("chr1", 100, "A", "G"): (54, 120)}
    assert unknown["skipped"] == {"not-in-every-dataset": 2}
    reference = count(tmp_path / "reference", a, b, c, reference=("a", "b", "c"))
    # on X a person may have one copy or two: nothing says how many alleles the others were called for
    assert numbers(reference) == {("chr1", 100, "A", "G"): (54, 120), ("chr1", 200, "C", "T"): (18, 120)}
    assert reference["skipped"] == {"not-in-every-dataset": 1}


def test_a_site_called_without_alternate_allele_in_a_dataset_counts_its_people(tmp_path: Path) -> None:
    a = write(tmp_path / "a.vcf", ("chr1", 100, "A", "G", COMMON))
    for absent in (".", "<NON_REF>", "<*>"):
        b = write(tmp_path / "b.vcf", ("chr1", 100, "A", absent, ["0/0"] * 19 + ["./."]), samples=names(20, 50))
        assert numbers(count(tmp_path / str(len(absent)), a, b)) == {("chr1", 100, "A", "G"): (18, 78)}


def test_the_same_people_in_two_datasets_are_refused_before_anything_is_counted(tmp_path: Path) -> None:
    a = write(tmp_path / "a.vcf", ("chr1", 100, "A", "G", COMMON))
    b = write(tmp_path / "b.vcf", ("chr1", 200, "A", "G", COMMON), samples=["p7", *names(19, 100)])
    for vcf in (a, b):
        ok(script("validate.py", vcf, tmp_path / f"{vcf.stem}.json"))
    both = [tmp_path / "a.json", tmp_path / "b.json"]
    done = script("regions.py", both[0], tmp_path / "r.json", "--regions", 2, "--datasets", *both)
    assert done.returncode == 1 and not (tmp_path / "r.json").exists()
    assert "duplicate-people" in done.stderr and done.stderr.splitlines()[-1] == "GDI-ERROR class=DuplicatePeople"
    assert "p7" not in done.stderr


def test_a_bgzip_file_that_was_cut_between_blocks_is_truncated(tmp_path: Path) -> None:
    rows: list[Line] = [("chr1", i, "A", "G", COMMON) for i in range(1, 4001)]
    plain = write(tmp_path / "a.vcf", *rows)
    text, whole = plain.read_bytes(), tmp_path / "whole.vcf.gz"
    half = text.index(b"\n", len(text) // 2) + 1
    with pysam.BGZFile(str(whole), "wb") as out:
        out.write(text[:half])
        out.flush()  # the block ends where a line ends, as bcftools writes it
        cut = out.tell() >> 16
        out.write(text[half:])
    ok(script("validate.py", whole, tmp_path / "v.json"))
    for name, data in (("block", whole.read_bytes()[:cut]), ("end", whole.read_bytes()[:-28])):
        part = tmp_path / f"{name}.vcf.gz"
        part.write_bytes(data)
        done = script("validate.py", part, tmp_path / f"{name}.json")
        line = (text[:half] if name == "block" else text).count(b"\n") + 1
        assert done.stderr.splitlines()[-1] == f"GDI-ERROR class=TruncatedFile line={line}"
        assert "28-byte end-of-file block" in done.stderr


def test_the_rows_of_a_decomposed_site_count_as_bcftools_counts_or_the_site_alone_is_withheld(tmp_path: Path) -> None:
    even = [
        ("chr1", 100, "A", "G", ["0/0"] * 8 + ["0/1"] * 6 + ["0/."] * 6),
        ("chr1", 100, "A", "T", ["0/0"] * 8 + ["0/."] * 6 + ["0/1"] * 6),
    ]
    odd = [
        ("chr1", 200, "A", "G", ["0/0"] * 8 + ["0/1"] * 5 + ["0/."] * 7),
        ("chr1", 200, "A", "T", ["0/0"] * 8 + ["0/."] * 5 + ["0/1"] * 7),
    ]
    apart = [
        ("chr1", 300, "A", "G", ["0/0"] * 8 + ["0/1"] * 12),
        ("chr1", 300, "A", "AT", ["0/0"] * 8 + ["0/1"] * 6 + ["./."] * 6),
    ]
    crowded = [("chr1", 400, "A", alt, ["1/1"] * 15 + ["0/0"] * 5) for alt in "GT"]
    vcf = write(tmp_path / "a.vcf", *even, *odd, *apart, *crowded, ("chr1", 500, "C", "T", COMMON))
    release = count(tmp_path, vcf)
    expected = bcftools(vcf, tmp_path)
    assert numbers(release) == {site: n for site, n in expected.items() if site[1] in (100, 500)}
    assert release["skipped"] == {"rows-disagree": 3}
    assert leaves(release) == (set(numbers(release)), Counter({"rows-disagree": 3}))


UNNAMED: list[tuple[Line, str]] = [
    (("chr1", 0, "A", "G"), "position"),
    (("chr1", 2**31, "A", "G"), "position"),
    (("chr1", 2**40, "A", "G"), "position"),
    (("chr1", 10, "A", "A]chr2:321]"), "breakend"),
    (("chr1", 10, "A", "[<ctg1>:7[A"), "breakend"),
    (("chr1", 10, "A", "G.,.C"), "breakend"),
    (("chr1", 10, "A", "G,A[2:9["), "breakend"),
    (("chr1", 10, "A", "<a b>"), "allele-name"),
    (("chr1", 10, "A", "<x"), "allele-name"),
    (("chr1", 10, "A", "G,"), "allele-name"),
    (("chr1", 10, "A", "<del>"), "allele-name"),
    (("chr1", 10, "A", "<" + "x" * 70 + ">"), "allele-too-long"),
    (("chr1", 10, "A" * 1001, "A"), "allele-too-long"),
    (("chr1", 10, "A", "G,g"), "repeated-allele"),
    (("chr1", 10, "A", "a"), "repeated-allele"),
    (("x" * 33, 10, "A", "G"), "contig-name"),
    (("<chr1>", 10, "A", "G"), "contig-name"),
    (('chr"1"', 10, "A", "G"), "contig-name"),
]
BESIDE = dict.fromkeys(("G,A[2:9[", "G,"), "beside-unnamed")  # their G could be named


def test_a_line_that_a_release_cannot_name_is_skipped_and_counted_by_its_reason(tmp_path: Path) -> None:
    """The reason is the same whether the workflow or the node asks; both read it from one file."""
    for (chrom, pos, ref, alt), why in UNNAMED:
        alts = [a if a.startswith("<") else a.upper() for a in alt.split(",")]
        assert why_unnamed(chrom, pos, ref, alts) == why, (chrom, pos, ref[:9], alt)
    whys = Counter(BESIDE.get(row[3], why) for row, why in UNNAMED)
    good: Line = ("chr2", 50, "C", "T", COMMON)
    vcf = write(tmp_path / "a.vcf", *((*row, COMMON) for row, _ in UNNAMED), good)
    release = count(tmp_path, vcf)
    assert numbers(release) == {good[:4]: (18, 40)}
    assert release["skipped"] == whys and leaves(release) == ({good[:4]}, whys)
    assert set(whys) <= set(WITHHELD)


NAMED: list[tuple[str, int, str, str]] = [
    ("HLA-A*01:01:01:01", 10, "A", "G"),
    ("gi|251831106|gb|AC_000021.2|", 10, "A", "G"),
    ("chrUn_KI270302v1", 2**31 - 1, "A", "G"),
    ("chr1", 10, "M", "A"),
    ("chr1", 13, "A", "<INS:ME:ALU>"),
    ("chr1", 14, "A", "<CN0>"),
    ("chr1", 16, "A", "<INV:X_Y>"),
    ("chr1", 17, "A", "<*:DEL>"),
    ("chr1", 18, "A", "<" + "X" * 64 + ">"),
    ("chr1", 19, "A", "*"),
    ("chr1", 20, "A", "R"),
    ("chr1", 200, "NRB", "N"),  # no record over another: those are judged together
    ("chr1", 300, "A" * 1000, "A"),
]


def test_names_and_alleles_of_the_specification_count(tmp_path: Path) -> None:
    vcf = write(tmp_path / "a.vcf", *((*row, COMMON) for row in NAMED))
    release = count(tmp_path, vcf)
    assert numbers(release) == dict.fromkeys(NAMED, (18, 40)) and "skipped" not in release
    unknown = {row for row in NAMED if row[0].startswith("gi|")}  # a name that no assembly lists stays (decision 834)
    assert leaves(release) == (set(NAMED) - unknown, Counter({"unknown-contig": len(unknown)}))


def test_a_reference_block_is_no_alternate_allele(tmp_path: Path) -> None:
    genotypes = ["0/0"] * 8 + ["0/1"] * 6 + ["0/2"] * 6
    for block in ("<NON_REF>", "<*>", "<X>"):
        vcf = write(
            tmp_path / "a.vcf",
            ("chr1", 100, "A", f"G,{block}", genotypes),
            ("chr1", 200, "A", block, ["0/0"] * 20),
        )
        release = count(tmp_path / block.strip("<>*"), vcf)
        assert numbers(release) == {("chr1", 100, "A", "G"): (6, 40)} and "skipped" not in release


@pytest.mark.parametrize("end", ["\n", "\n\n\n", "\r\n"])
def test_blank_last_lines_do_no_harm(end: str, tmp_path: Path) -> None:
    vcf = write(tmp_path / "a.vcf", ("chr1", 100, "A", "G", COMMON))
    vcf.write_bytes(gzip.compress(vcf.read_bytes() + end.encode()))
    assert numbers(count(tmp_path, vcf)) == {("chr1", 100, "A", "G"): (18, 40)}


def test_files_without_contig_lines_and_with_odd_samples_and_genotypes_count(tmp_path: Path) -> None:
    odd = ['a "b"', "é;x", "c, d", *names(17)]
    genotypes = ["1/.", ".", "01/1", "0", "1", *["0|1"] * 15]
    vcf = write(
        tmp_path / "a.vcf",
        ("X", 1, "c", "t,*", genotypes),
        ("MT", 9, "A", "g", ["1"] * 20),
        samples=odd,
        head=HEAD[:21],
    )
    release = count(tmp_path, vcf)
    assert numbers(release) == {
        ("X", 1, "C", "T"): (19, 35),
        ("X", 1, "C", "*"): (0, 35),
        ("MT", 9, "A", "G"): (20, 20),
    }
    nothing = count(tmp_path / "none", write(tmp_path / "none.vcf"))
    assert nothing == {"format": "gdi-allele-counts/1", "sites": []}


def test_no_two_alleles_share_a_key_of_the_ledger() -> None:
    rest = (0,) * 9
    one = Row("1:5:A:G", 7, "A", "<X:5:A:G>", *rest)
    others = [Row("1", 5, "A", "G:7:A:<X:5:A:G>", *rest), Row("1:5:A:G:7:A:<X", 5, "A", "G>", *rest)]
    assert all(key_of(one) == key_of(other) for other in others), "keys alone do not tell them apart"
    for other in others:
        assert not (re.fullmatch(CONTIG, other.chrom) and re.fullmatch(ALTERNATE, other.alt)), "but neither is a row"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("chr1", 100, "AT", "GT"), ("1", 100, "A", "G")),
        (("chr1", 100, "AT", "AC"), ("1", 101, "T", "C")),
        (("chrM", 5, "A", "G"), ("MT", 5, "A", "G")),
        (("chr1", 100, "CAT", "CT"), ("chr1", 100, "CA", "C")),
    ],
)
def test_one_variant_has_one_normal_form(one: tuple[str, int, str, str], other: tuple[str, int, str, str]) -> None:
    assert normal(*one) == normal(*other)
    assert normal("1", 7, "A", "AT") != normal("1", 7, "A", "G")
