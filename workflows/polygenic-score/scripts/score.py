"""The score of each person of a dataset: the sum of weight times copies of the effect allele. Where a person is not
called, twice the node's own frequency stands for the copies, as in plink2. Stays at the node.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from genotypes import chromosome, copies, sample_table
from scoring import Weight, match, read
from vcf import Record, VcfError, fail
from vcf import read as read_vcf


def score(vcf: Path, weights: list[Weight], *, ambiguous: bool) -> tuple[list[str], np.ndarray, list[Weight]]:
    """Names, sums and the weights that were used. A variant that is on two lines is used once, by its first."""
    by_place: dict[tuple[str, int], list[Weight]] = {}
    for one in weights:
        by_place.setdefault((one.chrom, one.pos), []).append(one)
    names, sums, used = list[str](), np.zeros(0), dict[Weight, None]()
    for found in read_vcf(vcf):
        if not isinstance(found, Record):
            names, sums = found, np.zeros(len(found))
            continue
        if found.why:
            continue
        for one in by_place.get((chromosome(found.chrom), found.pos), ()):
            allele = None if one in used else match(one, found.ref, found.alts, ambiguous=ambiguous)
            counted = None if allele is None else copies(found, allele)
            if counted is None or np.isnan(counted).all():
                continue
            sums += one.weight * np.where(np.isnan(counted), np.nanmean(counted), counted)
            used[one] = None
    return names, sums, list(used)


def facts(used: list[Weight], scale: str) -> tuple[float, float, float]:
    """Mean and standard deviation of the score by the file's frequencies, and the largest part of one variant in the
    sum of variances. Without frequencies each counts as one half.
    """
    parts = [one.frequency if one.frequency is not None else 0.5 for one in used]
    variances = [one.weight**2 * 2 * part * (1 - part) for one, part in zip(used, parts, strict=True)]
    whole = sum(variances)
    largest = max(variances, default=0.0) / whole if whole else 1.0
    if scale == "sum":
        return 0.0, 1.0, largest
    if any(one.frequency is None for one in used):
        raise VcfError("ScoreFileError", 1, "scale: reference needs allelefrequency_effect for each variant")
    return sum(2 * one.weight * part for one, part in zip(used, parts, strict=True)), whole**0.5, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--question", required=True, help="JSON: {person, groups, scale, ambiguous, least}")
    options = parser.parse_args()
    question = json.loads(options.question)
    try:
        weights = read(options.weights)
        names, sums, used = score(options.vcf, weights, ambiguous=question["ambiguous"] == "keep")
        if len(used) < question["least"] * len(weights) or not used:
            raise VcfError("TooFewVariants", 1, "the dataset has too few of the score's variants")
        mean, deviation, largest = facts(used, question["scale"])
        groups = sample_table(options.samples, question["person"], question["groups"])
    except VcfError as error:
        fail(error)
    nobody = ["unknown"] * len(question["groups"])
    found = {
        "people": [hashlib.sha256(name.encode()).hexdigest() for name in names],
        "groups": [[level or "unknown" for level in groups.get(name, nobody)] for name in names],
        "scores": ((sums - mean) / deviation).tolist(),
        "variants": len(used),
        "largest": largest,
        "used": hashlib.sha256(json.dumps(sorted(used)).encode()).hexdigest(),
    }
    options.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
