"""Measures each person of a dataset over the file's sites: how many were called, heterozygous, expected to be
homozygous; transitions and transversions; the same on X. One pass; what it writes stays at the node.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from genotypes import HAPLOID, MISSING, PARS, alleles, chromosome, sample_table
from vcf import Record, VcfError, fail, read

TRANSITIONS = {("A", "G"), ("G", "A"), ("C", "T"), ("T", "C")}
NUMBERS = ("sites", "missing", "called", "homozygous", "expected", "transitions", "transversions")
ON_X = ("x_called", "x_homozygous", "x_expected")


def measure(vcf: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names and, for each person, NUMBERS over the autosomes and ON_X outside of the regions that pair with Y."""
    names: list[str] = []
    total: dict[str, np.ndarray] = {}
    for found in read(vcf):
        if not isinstance(found, Record):
            names = found
            total = {name: np.zeros(len(names)) for name in (*NUMBERS, *ON_X)}
            continue
        where = chromosome(found.chrom)
        if found.why or not found.alts or not (where.isdigit() or where == "X"):
            continue
        both = alleles(found)
        if both is None:
            continue
        if where == "X":
            if not any(low <= found.pos <= high for low, high in PARS):
                add_x(found, *both, total)
        else:
            add(found, *both, total)
    return names, total


def add(record: Record, first: np.ndarray, second: np.ndarray, total: dict[str, np.ndarray]) -> None:
    called = (first != MISSING) & (second != MISSING)
    total["sites"] += 1
    total["missing"] += ~called
    if len(record.ref) == 1:
        for number, alt in enumerate(record.alts, 1):
            if len(alt) == 1 and alt in "ACGT":
                name = "transitions" if (record.ref, alt) in TRANSITIONS else "transversions"
                total[name] += called & ((first == number) | (second == number))
    if len(record.alts) == 1:
        homozygous(called, first, second, total, "")


def add_x(record: Record, first: np.ndarray, second: np.ndarray, total: dict[str, np.ndarray]) -> None:
    """A haploid call counts as a homozygous one, as PLINK's does."""
    if len(record.alts) == 1:
        second = np.where(second == HAPLOID, first, second)
        homozygous((first != MISSING) & (second != MISSING), first, second, total, "x_")


def homozygous(
    called: np.ndarray, first: np.ndarray, second: np.ndarray, total: dict[str, np.ndarray], what: str
) -> None:
    """Adds a site of one alternate allele that varies; 1 - 2pq of its people are expected to be homozygous."""
    n = 2 * int(called.sum())
    part = float(((first == 1) & called).sum() + ((second == 1) & called).sum()) / n if n else 0.0
    if not 0 < part < 1:
        return
    total[f"{what}called"] += called
    total[f"{what}homozygous"] += called & (first == second)
    total[f"{what}expected"] += called * (1 - 2 * part * (1 - part))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--person", default="person")
    parser.add_argument("--sex", default="sex")
    options = parser.parse_args()
    try:
        names, total = measure(options.vcf)
        sexes = sample_table(options.samples, options.person, [options.sex])
    except VcfError as error:
        fail(error)
    found: dict[str, Any] = {name: numbers.tolist() for name, numbers in total.items()}
    found["people"] = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    found["sex"] = [sexes.get(name, [""])[0] for name in names]
    options.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
