"""Which genotypes count, as the node's operator opened the epoch (`filter` of the dataset's descriptor): every other is
as if it had not been called. Each workflow that counts alleles carries this file, equal byte for byte.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from vcf import Record

NOT_CALLED = "./."


@dataclass(frozen=True)
class GenotypeFilter:
    """`passed`: only lines whose FILTER is PASS; `least_quality`, `least_depth`: GQ and DP; `ploidy`: copies."""

    passed: bool = False
    least_quality: float | None = None
    least_depth: int | None = None
    ploidy: int | None = None

    @classmethod
    def of(cls, text: str) -> GenotypeFilter:
        """JSON as the node tells it; `null` lets everything count."""
        return cls(**(json.loads(text) or {}))

    def apply(self, record: Record) -> Record:
        """The record, with the genotypes that do not count as not called."""
        if self.passed and not record.passed:
            people = record.genotypes.count("\t") + 1
            return replace(record, genotypes="\t".join([NOT_CALLED] * people), gt=0)
        least = [
            (_place(record, name), least) for name, least in (("GQ", self.least_quality), ("DP", self.least_depth))
        ]
        asked = [(place, number) for place, number in least if number is not None]
        if not asked and self.ploidy is None:
            return record
        cells = [self._cell(cell.split(":"), record.gt, asked) for cell in record.genotypes.split("\t")]
        return replace(record, genotypes="\t".join(cells), gt=0)

    def _cell(self, values: list[str], gt: int, least: list[tuple[int, float]]) -> str:
        genotype = values[gt] if 0 <= gt < len(values) else NOT_CALLED
        if any(not _is_enough(values, place, number) for place, number in least):
            return NOT_CALLED
        copies = genotype.lstrip("|/").replace("|", "/").count("/") + 1
        return NOT_CALLED if self.ploidy not in (None, copies) else genotype


def _place(record: Record, name: str) -> int:
    return record.fields.index(name) if name in record.fields else -1


def _is_enough(values: list[str], place: int, least: float) -> bool:
    """Whether the number is there, and so large."""
    try:
        return 0 <= place < len(values) and float(values[place]) >= least
    except ValueError:
        return False
