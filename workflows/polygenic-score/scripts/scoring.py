"""A scoring file in the format of the PGS Catalog (version 2.0), also harmonized: a line for each variant, with the
allele that is counted and its weight.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

from genotypes import chromosome
from vcf import VcfError

OTHER_STRAND = str.maketrans("ACGT", "TGCA")
MAX_VARIANTS = 5_000_000
REFUSED = ("is_haplotype", "is_diplotype", "is_interaction", "is_dominant", "is_recessive")


class Weight(NamedTuple):
    """`frequency` of the effect allele in the reference of the file, None where it has none."""

    chrom: str
    pos: int
    effect: str
    other: str
    weight: float
    frequency: float | None

    @property
    def ambiguous(self) -> bool:
        """Whether its alleles are each other's on the other strand."""
        return self.effect.translate(OTHER_STRAND) == self.other


def read(path: Path) -> list[Weight]:
    """The weights. VcfError `ScoreFileError` naming the line."""
    weights, columns = list[Weight](), dict[str, int]()
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith("#"):
                continue
            cells = line.rstrip("\n").split("\t")
            if not columns:
                columns = {name: i for i, name in enumerate(cells)}
                for name in ("effect_allele", "effect_weight"):
                    if name not in columns:
                        raise VcfError("ScoreFileError", number, f"there is no column {name}")
                continue
            weights.append(_weight(cells, columns, number))
            if len(weights) > MAX_VARIANTS:
                raise VcfError("ScoreFileError", number, f"there are more than {MAX_VARIANTS} variants")
    if len({one[:4] for one in weights}) != len(weights):
        raise VcfError("ScoreFileError", 1, "a variant is there twice")
    return weights


def _weight(cells: list[str], columns: dict[str, int], number: int) -> Weight:
    def cell(*names: str) -> str:
        found = (cells[columns[name]] for name in names if name in columns and columns[name] < len(cells))
        return next((text for text in found if text), "")

    if any(cell(name).lower() == "true" for name in REFUSED):
        raise VcfError(
            "ScoreFileError", number, "haplotypes, interactions, dominant and recessive effects are not known"
        )
    other = cell("hm_inferOtherAllele", "other_allele") if not cell("other_allele") else cell("other_allele")
    frequency = cell("allelefrequency_effect")
    try:
        found = Weight(
            chromosome(cell("hm_chr", "chr_name")),
            int(cell("hm_pos", "chr_position")),
            cell("effect_allele").upper(),
            other.upper(),
            float(cell("effect_weight")),
            float(frequency) if frequency else None,
        )
    except ValueError:
        raise VcfError("ScoreFileError", number, "place, weight or frequency is no number") from None
    if not found.other or not set(found.effect + found.other) <= set("ACGT"):
        raise VcfError("ScoreFileError", number, "effect_allele and other_allele must be bases")
    if found.frequency is not None and not 0 < found.frequency < 1:
        raise VcfError("ScoreFileError", number, "allelefrequency_effect must lie between 0 and 1")
    return found


def match(weight: Weight, ref: str, alts: list[str], *, ambiguous: bool) -> int | None:
    """The number of the allele that the weight is of, at this site, turned where the file counts on the other strand.
    None where the alleles are not those of the site, or where the strand cannot be told.
    """
    alleles = [ref, *alts]
    if weight.ambiguous and not ambiguous:
        return None
    for effect, other in (
        (weight.effect, weight.other),
        (weight.effect.translate(OTHER_STRAND), weight.other.translate(OTHER_STRAND)),
    ):
        if effect in alleles and other in alleles:
            return alleles.index(effect)
    return None
