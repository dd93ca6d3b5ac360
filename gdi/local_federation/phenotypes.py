"""The sample table of the demo's people: their genotypes are real, everything else here is simulated.

With numpy's PCG64, seed 790, people in the order of the file, columns drawn in this order:

    sex       female or male, each with probability 1/2
    age       20 to 84, uniform, whole years
    ancestry  first principal component of the file's genotypes: alleles counted (a missing one as the site's mean),
              each site centred and divided by sqrt(2 p (1 - p)); as a z-score, so that the first person's is not
              negative
    country   north, middle or south: a third of the people each, by ancestry + N(0, 1)
    height    165 + 12 [male] - 0.05 (age - 50) + N(0, 6) cm: no genotype has a part in it
    ldl       3 + 0.4 g + N(0, 0.8) mmol/l, g the copies of the alternate allele at the common site below
    bmi       25 + 1.5 ancestry + N(0, 3) kg/m²: confounded by ancestry; no single site has a part in it
    diabetes  yes with probability 1 / (1 + exp(2 - 0.04 (age - 50) - 0.6 h)), h the copies at the second site

The sites: of those with an alternate allele's frequency of 20 to 50 %, the first and the last.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

SEED = 790
COLUMNS = ("person", "sex", "age", "country", "height", "ldl", "bmi", "diabetes", "ancestry")
LEVELS: dict[str, tuple[str, ...]] = {
    "sex": ("female", "male"),
    "country": ("north", "middle", "south"),
    "diabetes": ("false", "true"),
}
BINS: dict[str, tuple[float, ...]] = {
    "age": (18, 30, 45, 60, 75, 90),
    "bmi": (10, 20, 25, 30, 50),
    "height": (130, 160, 170, 180, 220),
    "ldl": (0, 2, 3, 4, 10),
}


class Person(NamedTuple):
    person: str
    sex: str
    age: int
    country: str
    height: float
    ldl: float
    bmi: float
    diabetes: str
    ancestry: float


def simulate(vcf: Path) -> list[Person]:
    """The people of a cohort's file. ValueError where no site is common enough, or the file cannot be read."""
    names, copies = genotypes(vcf)
    people = len(names)
    chance = np.random.Generator(np.random.PCG64(SEED))
    called = np.maximum((~np.isnan(copies)).sum(axis=1), 1)
    frequency = np.nansum(copies, axis=1) / called / 2
    common = np.flatnonzero((frequency >= 0.2) & (frequency <= 0.5))
    if not len(common):
        raise ValueError(f"{vcf.name} has no biallelic site with a frequency of 20 to 50 %")
    first, last = (np.nan_to_num(copies[i], nan=2 * frequency[i]) for i in (common[0], common[-1]))
    ancestry = component(copies, frequency)
    male = chance.random(people) < 0.5
    age = chance.integers(20, 85, people)
    order = np.argsort(np.argsort(ancestry + chance.normal(0, 1, people)))
    country = order * 3 // people
    height = 165 + 12 * male - 0.05 * (age - 50) + chance.normal(0, 6, people)
    ldl = 3 + 0.4 * first + chance.normal(0, 0.8, people)
    bmi = 25 + 1.5 * ancestry + chance.normal(0, 3, people)
    risk = 1 / (1 + np.exp(2 - 0.04 * (age - 50) - 0.6 * last))
    diabetes = chance.random(people) < risk
    return [
        Person(
            name,
            LEVELS["sex"][int(male[i])],
            int(age[i]),
            LEVELS["country"][int(country[i])],
            round(float(height[i]), 1),
            round(float(ldl[i]), 2),
            round(float(bmi[i]), 1),
            LEVELS["diabetes"][int(diabetes[i])],
            round(float(ancestry[i]), 4),
        )
        for i, name in enumerate(names)
    ]


def genotypes(vcf: Path) -> tuple[list[str], FloatArray]:
    """The samples' names, and copies of the alternate allele by biallelic site and person; NaN where not called."""
    rows = []
    with pysam.VariantFile(str(vcf)) as file:
        names = [str(name) for name in file.header.samples]
        for record in file:
            if record.alts is None or len(record.alts) != 1:
                continue
            calls = (sample.allele_indices or (None,) for sample in record.samples.values())
            rows.append([float("nan") if None in call else float(sum(call)) for call in calls])
    return names, np.array(rows, dtype=float).reshape(len(rows), len(names))


def component(copies: FloatArray, frequency: FloatArray) -> FloatArray:
    """The first principal component as a z-score for each person."""
    seen = (frequency > 0.01) & (frequency < 0.99)
    part = np.where(np.isnan(copies[seen]), 2 * frequency[seen, None], copies[seen])
    scaled = (part - 2 * frequency[seen, None]) / np.sqrt(2 * frequency[seen] * (1 - frequency[seen]))[:, None]
    _, _, right = np.linalg.svd(scaled, full_matrices=False)
    score: FloatArray = (right[0] - right[0].mean()) / right[0].std()
    return score if score[0] >= 0 else -score


def write(people: list[Person], file: Path) -> None:
    """The sample table, as text separated by tabs."""
    lines = ["\t".join(COLUMNS), *("\t".join(map(str, person)) for person in people)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """`python -m gdi.local_federation.phenotypes VCF FILE…`: every n-th person into each of n sample tables."""
    vcf, *files = map(Path, sys.argv[1:])
    try:
        people = simulate(vcf)
    except (ValueError, OSError) as error:
        print(f"phenotypes: {error}", file=sys.stderr)
        return 2
    for number, file in enumerate(files):
        write(people[number :: len(files)], file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
