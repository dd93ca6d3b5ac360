"""What an htsget server gives slices of is noted by the archive's listing, as a read of the whole file is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from node_gateway.data.slices import Slices
from node_gateway.listed_files import Listed
from node_gateway.listings import Listings

PATHS = ("cohort.vcf.gz.c4gh", "cohort.2.vcf.gz.c4gh", "cohorts.vcf.gz.c4gh", "other/cohort.vcf.gz.c4gh")


async def test_a_slices_files_are_noted_as_they_are_listed() -> None:
    noted: list[tuple[str, str, str]] = []

    async def files(*_: Any) -> list[Listed]:
        return [Listed(path, 9, None, checksum=f"{n}" * 64) for n, path in enumerate(PATHS)]

    async def note(dataset: str, listed: Listed) -> None:
        noted.append((dataset, listed.path, listed.checksum[:1]))

    archive: Any = SimpleNamespace(files=files)
    data: Any = SimpleNamespace(listings=Listings(archive), contents=SimpleNamespace(note=note))
    run: Any = SimpleNamespace(run="r-1")
    await Slices(data, None)._note(run, "DS", "DS/cohort", "token")
    assert sorted(noted) == [("DS", PATHS[1], "1"), ("DS", PATHS[0], "0")]
