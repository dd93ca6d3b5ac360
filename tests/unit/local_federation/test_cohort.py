"""The demo's comparison copes with the VCFs that people have, or says in one sentence why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdi.local_federation.cohort import CohortError, CohortSite, pooled

HEAD = '#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta b\t\u00e9;"x"\n'
GT = '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n'


def counts(folder: Path, *lines: str, header: str = GT) -> dict[CohortSite, tuple[int, int]]:
    vcf = folder / "a.vcf"
    vcf.write_text("##fileformat=VCFv4.2\n" + header + HEAD + "".join(line + "\n" for line in lines))
    return pooled(vcf, folder / "pooled")


CALLED = "1\t5\t.\ta\tg\t.\t.\tODD=1\tGT:DP\t0/1:3\t1/1"
NOT_CALLED = "2\t6\t.\tA\tG,T\t.\t.\t.\tDP\t1\t2"


@pytest.mark.parametrize("header", [GT, "", "##contig=<ID=9>\n"], ids=["no contigs", "nothing", "another contig"])
def test_undeclared_contigs_and_tags_and_records_without_genotypes_are_counted(header: str, tmp_path: Path) -> None:
    called = {CohortSite("1", 5, "A", "G"): (3, 4)}
    not_called = dict.fromkeys((CohortSite("2", 6, "A", "G"), CohortSite("2", 6, "A", "T")), (0, 0))
    assert counts(tmp_path, CALLED, header=header) == called
    assert counts(tmp_path, CALLED, NOT_CALLED, "", header=header) == called | not_called
    assert counts(tmp_path, header=header) == {}


def test_what_cannot_be_compared_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="line 4: 3 columns instead of 11"):
        counts(tmp_path, "1\t5\tx")
    with pytest.raises(CohortError, match="bcftools does not read it"):
        counts(tmp_path, CALLED.replace("\t5\t", "\tfive\t"))
    assert list((tmp_path / "pooled").glob("*.vcf*")) == []
