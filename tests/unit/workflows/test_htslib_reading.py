"""Reading by htslib and numpy is the same as reading by the standard library, and from a place on the same as from the
beginning.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pysam
import pytest

from gdi.local_federation.federation import COHORT
from tests.support.allele_counts import ROOT, modules

FIXTURE = ROOT / "tests" / "fixtures" / "vcf" / "genotypes.vcf"


@pytest.fixture(scope="module")
def vcf() -> Iterator[ModuleType]:
    with modules("vcf") as found:
        yield found.vcf


def counts(vcf: ModuleType, file: Path, **changes: Any) -> list[Any]:
    return [row for record in vcf.records(file, **changes) if not record.why for row in vcf.count(record)]


@pytest.mark.parametrize("file", [COHORT, FIXTURE])
def test_htslib_and_numpy_count_as_the_standard_library(
    file: Path, vcf: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = counts(vcf, file)
    monkeypatch.setattr(vcf, "numpy", None)
    monkeypatch.setattr(vcf, "pysam", None)
    assert fast == counts(vcf, file) and len(fast) > 10


@pytest.mark.parametrize(
    "cells",
    [
        "0/0\t0|1\t1/1",
        "0/0:9\t./.:1:2\t./1",
        "0/0\t0\t1/1",
        "0/0\t10/1\t0/1",
        "0/0\t0/1/1\t0/1",
        "0/0\t0/2\t1/1",
        "a/0\t0/0\t",
    ],
)
def test_a_line_that_numpy_does_not_know_is_counted_letter_by_letter(
    cells: str, vcf: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = vcf.Record(vcf.Place(9, 0, 0), "1", 5, "A", ["C"], 0, cells)

    def outcome() -> Any:
        try:
            return vcf.count(record)
        except vcf.VcfError as error:
            return str(error)

    fast = outcome()
    monkeypatch.setattr(vcf, "numpy", None)
    assert fast == outcome()


@pytest.mark.parametrize("how", ["bgzip", "gzip", "plain"])
def test_reading_goes_on_from_any_record(
    how: str, vcf: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vcf, "PIECE", 7000)  # shorter than two lines: places in the middle of pieces
    text, file = gzip.decompress(COHORT.read_bytes())[:400_000].rpartition(b"\n")[0] + b"\n", tmp_path / "c.vcf"
    if how == "bgzip":
        with pysam.BGZFile(str(file), "wb") as out:
            out.write(text)
    else:
        file.write_bytes(gzip.compress(text) if how == "gzip" else text)
    everything = list(vcf.records(file))
    for n in range(0, len(everything), 7):
        assert list(vcf.records(file, everything[n].place, 629)) == everything[n:], n


def test_a_damaged_bgzip_file_is_told_with_the_line_where_reading_stopped(vcf: ModuleType, tmp_path: Path) -> None:
    data, file = COHORT.read_bytes(), tmp_path / "c.vcf.gz"
    at = len(data) // 2
    file.write_bytes(data[:at] + bytes(40) + data[at + 40 :])
    with pytest.raises(vcf.VcfError) as caught:
        counts(vcf, file)
    assert caught.value.kind == "DamagedFile" and caught.value.line > 100
