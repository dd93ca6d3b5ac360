"""Lines of VCF as public files have them, and what is counted of them."""

from __future__ import annotations

import io
import json
import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema

from gdi.releases.allele_counts.node import AlleleCountsNode
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules
from tests.support.allele_counts import ENTRY, SCRIPTS, keyed

HEAD = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr1>\n##contig=<ID=chr2>\n"
    "##FORMAT=<ID=GT,Number=1,Type=String,Description=x>\n"
)


COMMON = ["0/0"] * 8 + ["0/1"] * 6 + ["1/1"] * 6


Line = tuple[Any, ...]  # CHROM, POS, REF, ALT, genotypes


def names(people: int, first: int = 0) -> list[str]:
    return [f"p{first + i}" for i in range(people)]


def write(file: Path, *rows: Line, samples: list[str] | None = None, head: str = HEAD) -> Path:
    fixed = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT"
    lines = ["\t".join([fixed, *(samples or names(len(rows[0][4]) if rows else 20))])]
    for chrom, pos, ref, alt, genotypes in rows:
        lines.append("\t".join([chrom, str(pos), ".", ref, alt, ".", ".", ".", "GT", *genotypes]))
    file.write_text(head + "\n".join(lines) + "\n")
    return file


def count(folder: Path, *vcfs: Path, regions: int = 2, reference: tuple[str, ...] = ()) -> dict[str, Any]:
    """The release of a node with these datasets, as the workflow's rules make it."""
    for part in ("validate", "regions"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    validated = [folder / "validate" / f"{vcf.stem}.json" for vcf in vcfs]
    for vcf, out in zip(vcfs, validated, strict=True):
        here("validate.py", vcf, out)
    parts = []
    for vcf, own in zip(vcfs, validated, strict=True):
        ranges = folder / "regions" / own.name
        here("regions.py", own, ranges, "--regions", regions, "--datasets", *validated)
        for i in range(regions):
            parts.append(folder / "count" / vcf.stem / f"{i}.jsonl")
            parts[-1].parent.mkdir(parents=True, exist_ok=True)
            here("count.py", vcf, ranges, i, parts[-1])
    here("gather.py", folder / "out.json", *parts, *(["--reference", *reference] if reference else []))
    release: dict[str, Any] = json.loads((folder / "out.json").read_text())
    jsonschema.validate(release, json.loads((ENTRY / "release.schema.json").read_text()))
    return release


def here(name: str, *arguments: object) -> None:
    """A script in this process, which is faster: it must not fail."""
    argv, path = sys.argv, list(sys.path)
    sys.argv, sys.path[:0] = [name, *map(str, arguments)], [str(SCRIPTS)]
    try:
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = argv, path


def numbers(release: dict[str, Any]) -> dict[tuple[Any, ...], tuple[int, int]]:
    return {site: (row["ac"], row["an"]) for site, row in keyed(release).items()}


def leaves(release: dict[str, Any]) -> tuple[set[tuple[Any, ...]], Counter[str]]:
    """What of the release the node publishes in numbers, and why it withholds the rest."""
    half, rules = AlleleCountsNode(), Rules(floor=5, max_rows=10_000)
    checked = half.check(half.read(io.BytesIO(json.dumps(release).encode()), rules), rules, Past())
    numbered = {(a.chrom, a.pos, a.ref, a.alt) for site in checked.released for a in site if not a.reason}
    return numbered, checked.withheld
