"""A dataset's listing where no gateway answers: each path is one file."""

from __future__ import annotations

import pytest

from snakemake_tes_auth.files.listing import by_path
from snakemake_tes_auth.retry import Refusal


def test_files_are_found_with_and_without_dataset_and_suffix() -> None:
    listed = [
        {"fileId": "1", "filePath": "DS1/a.vcf.gz.c4gh", "decryptedFileSize": 5},
        {"fileId": "2", "filePath": "/a.vcf.gz.c4gh.2019.c4gh", "decryptedFileSize": 6},
        {"filePath": 7},
        3,
    ]
    found = by_path(listed, "DS1")
    assert {path: info.size for path, info in found.items()} == {"a.vcf.gz": 5, "a.vcf.gz.c4gh.2019": 6}


def test_two_files_of_one_path_are_refused_naming_both() -> None:
    listed = [{"fileId": f"urn:{n}", "filePath": "cohort.vcf.gz.c4gh"} for n in (1, 2)]
    with pytest.raises(Refusal, match=r"urn:1 and urn:2"):
        by_path(listed, "DS1")
