"""The allele-frequency workflow's scripts: as programs, as modules, and beside bcftools."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pysam
import pysam.bcftools

ROOT = Path(__file__).parents[2]


ENTRY = ROOT / "workflows" / "allele-frequency"


SCRIPTS = ENTRY / "scripts"


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", str(SCRIPTS / name), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


@contextmanager
def modules(*names: str) -> Iterator[Any]:
    """The scripts of these names, which import each other by name; afterwards nobody finds them."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(SCRIPTS))
        for file in SCRIPTS.glob("*.py"):
            sys.modules.pop(file.stem, None)


def gathered(scripts: Any, parts: list[Path], reference: Collection[str] = ()) -> tuple[list[Any], Counter[str]]:
    """The rows of the release of these counts, and what is left out. `scripts`: `gather` is among them."""
    pieces, skipped = scripts.gather.read(parts, 10**6), Counter[str]()
    return list(scripts.gather.gathered(pieces.all(), pieces.people, reference, skipped)), skipped


def bcftools(vcf: Path, folder: Path) -> dict[tuple[str, int, str, str], tuple[int, int]]:
    """AC and AN by site and allele, recomputed from the genotypes by bcftools."""
    packed = folder / "for-bcftools.vcf.gz"
    # `view --samples` of all samples recomputes AC and AN from the genotypes, whatever INFO says.
    with pysam.VariantFile(str(vcf)) as file:
        names = ",".join(file.header.samples)
    pysam.bcftools.view("--samples", names, "-Oz", "-o", str(packed), str(vcf), catch_stdout=False)
    found = {}
    with pysam.VariantFile(str(packed)) as file:
        for record in file:
            for alt, ac in zip(record.alts or (), record.info.get("AC", (0,) * 99), strict=False):
                found[(record.chrom, record.pos, record.ref, alt)] = (
                    ac,
                    record.info.get("AN", 0),
                )  # a record without GT gets neither
    return found


def keyed(release: dict[str, Any]) -> dict[tuple[str, int, str, str], dict[str, Any]]:
    return {(s["chrom"], s["pos"], s["ref"], s["alt"]): s for s in release["sites"]}
