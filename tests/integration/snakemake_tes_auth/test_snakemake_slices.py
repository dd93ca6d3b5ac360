"""The allele-frequency workflow on a dataset whose descriptor says that the archive's htsget server gives its regions:
only slices are asked for, and the release is that of the whole file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pysam.bcftools
import pytest
from starlette.requests import Request
from starlette.responses import Response

from gdi.contracts.urls import HtsgetUrl
from gdi.kit.canonical import sha256_hex
from gdi.local_federation.federation import COHORT
from tests.support.htsget_server import slices
from tests.support.snakemake_node import Node
from tests.support.snakemake_pod import Pod

pytestmark = pytest.mark.long
ALLELE = Path(__file__).parents[3] / "workflows" / "allele-frequency"
FILE = "cohort.vcf.gz.c4gh"


class SliceNode(Node):
    """Whose gateway and TES give slices of the archive's file."""

    sent: list[str]

    async def _create(self, request: Request) -> Response:
        for item in (await request.json())["inputs"]:  # kept by the request, which the answer below reads again
            if (url := item.get("url", "")).startswith("htsget://"):
                self.sent.append(url)
                asked = HtsgetUrl.parse(url).request
                assert asked is not None and asked.file == "DS1/cohort.vcf.gz"
                plain = (self.archive / "DS1" / FILE).read_bytes()
                name = f"{sha256_hex(url.encode())}.c4gh"
                found = b"".join(plain[a:b] for a, b in slices(plain, dict(asked.parameters)))
                (self.archive / "DS1" / name).write_bytes(found)
                item["url"] = f"sda://DS1/{name}"
        return await super()._create(request)


def release(folder: Path, described: dict[str, Any]) -> tuple[Any, list[str]]:
    """The release of a run, and what it asked of htsget."""
    node = SliceNode(folder / "node")
    node.sent, node.described = [], {"DS1": {"assembly": "GRCh37", "absent": "reference", "files": [described]}}
    with node:
        (node.archive / "DS1").mkdir()
        pysam.bcftools.view("-Oz", "-o", str(node.archive / "DS1" / FILE), str(COHORT), catch_stdout=False)
        pod = Pod(folder / "pod", node)
        shutil.copytree(ALLELE, pod.root / "workflow")
        try:
            assert pod.start(regions=3).end() == 0, pod.said()
        finally:
            pod.kill()
        return json.loads((node.workspace / "release/allele_counts.json").read_text()), node.sent


def test_the_answer_by_slices_is_that_of_the_whole_file(tmp_path: Path) -> None:
    whole, none = release(tmp_path / "whole", {"path": FILE, "format": "vcf", "regions": [], "index": None})
    by_htsget = {"path": FILE, "format": "vcf", "regions": ["2:1-243199373"], "index": None, "served_by": "htsget"}
    found, sent = release(tmp_path / "slices", by_htsget)
    assert none == [] and found == whole and len(found["sites"]) == 381
    third = 243199373 // 3
    base = "htsget://variants/DS1/cohort?format=VCF"
    assert sorted(set(sent)) == sorted(
        [
            f"{base}&class=header",
            f"{base}&referenceName=2&start=0&end={third}",
            f"{base}&referenceName=2&start={third}&end={2 * 243199373 // 3}",
            f"{base}&referenceName=2&start={2 * 243199373 // 3}&end=243199373",
        ]
    )
