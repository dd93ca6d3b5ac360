"""What an epoch's filter leaves out is as if it had not been called, in allele-frequency and in variant-lookup."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts.descriptor import GenotypeFilter

WORKFLOWS = Path(__file__).parents[3] / "workflows"
LINES = """\
2\t5\t.\tA\tC\t.\tPASS\t.\tGT:GQ:DP\t0/1:20:10\t1|1:19.5:30\t0/0:99:9\t1:50:50
2\t6\t.\tA\tC\t.\tq10\t.\tGT:GQ:DP\t0/1:99:99\t1|1:99:99\t0/1:99:99\t0/1:99:99
2\t7\t.\tA\tC\t.\tPASS\t.\tDP:GT\t30:0/1\t.:1/1\t30\t30:0/0/1
2\t8\t.\tA\tC\t.\t.\t.\tGT\t0/1\t1/1\t0/0\t0/1
"""


@pytest.fixture
def vcf(tmp_path: Path) -> Path:
    file = tmp_path / "c.vcf"
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *"ABCD"]
    file.write_text("##fileformat=VCFv4.2\n" + "\t".join(columns) + "\n" + LINES)
    return file


def counted(entry: str, vcf: Path, counts: str, *more: object) -> dict[int, Any]:
    """(AC, AN, missing) or the reason by position."""
    out, scripts = vcf.parent / "out.jsonl", WORKFLOWS / entry / "scripts"
    if entry == "variant-lookup":
        asked = json.dumps([f"2:{pos}:A:C" for pos in (5, 6, 7, 8)])
        command = ["lookup.py", vcf, vcf.parent / "people.json", out, "--variants", asked]
    else:
        regions = vcf.parent / "regions.json"
        regions.write_text(json.dumps({"samples": 4, "regions": [[0, 4]], "places": [None]}))
        command = ["count.py", vcf, regions, 0, out]
    done = [sys.executable, "-B", scripts / str(command[0]), *command[1:], "--filter", counts, *more]
    subprocess.run([str(part) for part in done], check=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return {row["pos"]: row.get("why") or (row["ac"], row["an"], row["missing"]) for row in rows}


NOTHING = (0, 0, 4)
CASES: list[tuple[dict[str, Any] | None, dict[int, Any]]] = [
    (None, {5: (4, 7, 0), 6: (5, 8, 0), 7: "polyploid", 8: (4, 8, 0)}),
    ({"passed": True}, {5: (4, 7, 0), 6: NOTHING, 7: "polyploid", 8: NOTHING}),
    ({"least_quality": 20}, {5: (2, 5, 1), 6: (5, 8, 0), 7: NOTHING, 8: NOTHING}),
    ({"least_depth": 10}, {5: (4, 5, 1), 6: (5, 8, 0), 7: "polyploid", 8: NOTHING}),
    ({"ploidy": 2}, {5: (3, 6, 1), 6: (5, 8, 0), 7: (3, 4, 2), 8: (4, 8, 0)}),
    ({"passed": True, "least_quality": 20, "ploidy": 2}, {5: (1, 4, 2), 6: NOTHING, 7: NOTHING, 8: NOTHING}),
]


@pytest.mark.parametrize("entry", ["allele-frequency", "variant-lookup"])
@pytest.mark.parametrize(("counts", "expected"), CASES, ids=[str(counts) for counts, _ in CASES])
def test_what_does_not_count_is_missing(
    entry: str, counts: dict[str, Any] | None, expected: dict[int, Any], vcf: Path
) -> None:
    if counts:  # as the node tells it
        counts = GenotypeFilter.model_validate(counts).model_dump(mode="json", exclude_none=entry == "allele-frequency")
    assert counted(entry, vcf, json.dumps(counts)) == expected


def test_a_cohorts_columns_are_looked_up_by_themselves(vcf: Path) -> None:
    groups = vcf.parent / "cohort.json"
    groups.write_text(json.dumps([[0, 1], [2, 3], []]))
    told = [
        counted("variant-lookup", vcf, '{"ploidy": 2}', "--cohort", groups, "--group", group).get(5)
        for group in range(3)
    ]
    assert told == [(3, 4, 0), (0, 2, 1), None]
