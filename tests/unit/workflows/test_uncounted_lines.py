"""Lines of a VCF that a release cannot name or count cost themselves alone, and what they may hold of an allele is not
taken for nothing: in the same file, in another dataset, at another node.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts.variants import UNNAMED_BESIDE, WITHHELD, why_uncounted
from gdi.releases.allele_counts.leaving import unlisted
from gdi.releases.allele_counts.node import AlleleCountsNode
from gdi.releases.allele_counts.table import MAX_COUNT
from gdi.releases.kind import Rules, Scope
from tests.support.allele_counts import bcftools, script
from tests.support.public_vcfs import COMMON, Line, count, leaves, names, numbers, write

TRIPLOID = ["0/0/1", *COMMON[1:]]
REFERENCE = Rules(floor=5, max_rows=100, absent="reference")
GOOD: Line = ("chr2", 50, "C", "T", COMMON)


def outside(release: dict[str, Any], rules: Rules = REFERENCE) -> dict[str, Any]:
    """What the node says of each allele that its release does not list."""
    half = AlleleCountsNode()
    return unlisted(half.scope(half.read(io.BytesIO(json.dumps(release).encode()), rules)), rules)


@pytest.mark.parametrize("genotype", ["0/0/1", "1|1|1|1", "0/./1", "././.", "0|1|1|0"])
def test_a_genotype_of_more_than_two_alleles_costs_its_site_alone(genotype: str, tmp_path: Path) -> None:
    vcf = write(tmp_path / "a.vcf", ("chr1", 10, "A", "G", [genotype, *COMMON[1:]]), GOOD)
    release = count(tmp_path, vcf)
    assert numbers(release) == {GOOD[:4]: (18, 40)} and release["skipped"] == {"polyploid": 1}
    assert numbers(release).items() <= bcftools(vcf, tmp_path).items()
    assert leaves(release) == ({GOOD[:4]}, Counter(polyploid=1))
    assert outside(release) == {"ac_max": MAX_COUNT, "an_max": MAX_COUNT, "reason": "missing"}, "of no known number"


def test_such_a_genotype_is_still_one_of_the_sites_alleles_or_the_line_is_named(tmp_path: Path) -> None:
    for genotype in ("0/0/2", "0/1/a", "0//1/1"):
        vcf = write(tmp_path / "a.vcf", GOOD, ("chr2", 60, "A", "G", [genotype, *COMMON[1:]]))
        done = script("validate.py", vcf, tmp_path / "v.json")
        assert done.returncode == 1 and "GDI-ERROR class=VcfFormatError line=7" in done.stderr, genotype


def test_a_file_of_polyploid_sites_only_says_nothing_of_any_allele(tmp_path: Path) -> None:
    release = count(tmp_path, write(tmp_path / "a.vcf", ("chr1", 10, "A", "G", ["0/1/1"] * 20)))
    assert numbers(release) == {} and release["skipped"] == {"polyploid": 1}
    assert outside(release)["ac_max"] == outside(release)["an_max"] == MAX_COUNT


def test_other_lines_of_a_polyploid_site_are_left_out_with_it(tmp_path: Path) -> None:
    split = [("chr1", 10, "A", "G", TRIPLOID), ("chr1", 10, "A", "C", COMMON)]
    for rows in (split, split[::-1]):
        release = count(tmp_path, write(tmp_path / "a.vcf", *rows, GOOD))
        assert set(numbers(release)) == {GOOD[:4]} and set(release["skipped"]) == {"polyploid"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (("chr1", 10, "A", "G", TRIPLOID), "polyploid"),
        (("chr1", 10, "AT", "GT", TRIPLOID), "polyploid"),
        (("chr1", 10, "A", "G,<del>", COMMON), "beside-unnamed"),
        (("chr1", 10, "A", "G,A[chr2:9[", COMMON), "beside-unnamed"),
        (("chr1", 9, "CA", "CG,CA<", COMMON), "beside-unnamed"),
        (("chr1", 10, "A", "G,g", COMMON), "repeated-allele"),
        (("chr1", 10, "A", "<del>", COMMON), "allele-name"),
    ],
)
def test_a_dataset_with_an_uncounted_line_is_not_one_that_lacks_the_allele(
    line: Line, why: str, tmp_path: Path
) -> None:
    """Where absent means reference, its people were counted as carrying nothing."""
    one = write(tmp_path / "a.vcf", line, ("1", 50, "C", "T", COMMON))
    rows: list[Line] = [("chr1", 10, "A", "G", COMMON), ("1", 50, "C", "T", COMMON)]
    two = write(tmp_path / "b.vcf", *rows, samples=names(20, 100))
    release = count(tmp_path, one, two, reference=("a", "b"))
    assert numbers(release) == {("1", 50, "C", "T"): (36, 80)}
    assert why in release["skipped"] and sum(release["skipped"].values()) == 2


@pytest.mark.parametrize("first", [True, False])
def test_an_allele_on_a_counted_line_and_on_an_uncounted_one_is_on_two_lines(first: bool, tmp_path: Path) -> None:
    two: list[Line] = [("chr1", 10, "A", "G", COMMON), ("chr1", 10, "A", "G,<del>", COMMON)]
    release = count(tmp_path, write(tmp_path / "a.vcf", *(two if first else two[::-1]), GOOD))
    assert numbers(release) == {GOOD[:4]: (18, 40)}
    assert release["skipped"] == {"beside-unnamed": 1, "duplicate-site": 1}


def test_a_line_of_which_no_allele_can_be_named_leaves_the_other_sites_what_they_are(tmp_path: Path) -> None:
    rows: list[Line] = [("chr1", 10, "A", "A[chr2:9[", COMMON), ("chr1", 10, "A", "G", COMMON)]
    release = count(tmp_path, write(tmp_path / "a.vcf", *rows))
    assert numbers(release) == {rows[1][:4]: (18, 40)} and release["skipped"] == {"breakend": 1}
    assert outside(release)["ac_max"] == 8, "nobody can name a breakend: what is not listed is not there"


def test_reasons_are_of_the_list_and_a_line_with_a_block_only_is_not_beside_anything() -> None:
    assert why_uncounted("chr1", 10, "A", ["<del>", "<NON_REF>"]) == "allele-name"
    assert why_uncounted("chr1", 10, "A", ["G", "C"]) == "" and why_uncounted("chr1", 0, "A", ["G"]) == "position"
    assert {"beside-unnamed", "polyploid", *UNNAMED_BESIDE} <= set(WITHHELD)


def test_a_file_without_people_or_sites_bounds_nothing() -> None:
    """An empty file's release said that no allele has any copies here."""
    unknown = Rules(floor=5, max_rows=100, absent="unknown")
    assert unlisted(Scope(), unknown)["ac_max"] == unlisted(Scope(), unknown)["an_max"] == MAX_COUNT
    assert unlisted(Scope(), REFERENCE) == {"ac_max": 8, "an_max": MAX_COUNT, "reason": "small"}
    assert unlisted(Scope(20), unknown)["ac_max"] == 100
