"""Who carries a rare allele of each gene, and whether they differ in a phenotype: by regression (collapsing), or by the
score test of the same. People as in `gwas`: complete for phenotype and covariates.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from genes import Gene, Places, genes
from genes import wrong as wrong_list
from genotypes import HAPLOID, MISSING, alleles
from regress import BLOCK, HEADING, Design, design, linear, logistic, names_of, without_genotypes, wrong
from vcf import Record, VcfError, fail, read

BURDEN_HEADING = [*HEADING, "LARGEST", "CASES_LARGEST", "CONTROLS_LARGEST"]


@dataclass
class Burden:
    """Of a gene, who of those analysed carries a rare allele; the most people who carry any one of them: of all, of
    cases, of controls.
    """

    carriers: np.ndarray
    largest: list[int] = field(default_factory=lambda: [0, 0, 0])

    def add(self, carried: np.ndarray, case: np.ndarray) -> None:
        self.carriers |= carried
        of = (carried, carried & case, carried & ~case)
        self.largest = [max(most, int(who.sum())) for most, who in zip(self.largest, of, strict=True)]


def rare(record: Record, largest: float) -> Iterator[np.ndarray]:
    """For each allele of a record that is rare among all people of the file, who has it. An allele that stands for
    something else (`<DEL>`, `*`) is none. Who has no call carries nothing.
    """
    both = alleles(record)
    if both is None:
        return
    first, second = both
    called = int((first != MISSING).sum() + ((second != MISSING) & (second != HAPLOID)).sum())
    for number, letters in enumerate([record.ref, *record.alts]):
        if letters.startswith("<") or letters == "*":
            continue
        copies = int((first == number).sum() + (second == number).sum())
        if 0 < copies <= largest * called:
            yield (first == number) | (second == number)


def collect(vcf: Path, places: Places, of: Design, largest: float, found: dict[int, Burden]) -> None:
    """Adds a file's records to the genes that they lie in."""
    case = of.y == 1
    for record in read(vcf):
        if not isinstance(record, Record) or record.why or not record.alts:
            continue
        number = places.gene(record.chrom, record.pos)
        if number is None:
            continue
        for who in rare(record, largest):
            if number not in found:
                found[number] = Burden(np.zeros(len(of.places), dtype=bool))
            found[number].add(who[of.places], case)


def score(g: np.ndarray, of: Design, model: str) -> tuple[np.ndarray, np.ndarray]:
    """U / V and 1 / sqrt(V) for each row of `g` (genes by people): U the slope of the log likelihood at no effect, V
    its variance given the covariates. Summed over nodes these are the U and V of all people, each node by itself.
    """
    c, y = of.covariates, of.y
    if model == "linear":
        q, _ = np.linalg.qr(c)
        left = y - q @ (q.T @ y)
        variance = left @ left / (len(y) - c.shape[1])
        rest = g - (g @ q) @ q.T
        u, v = rest @ left / variance, np.einsum("ij,ij->i", rest, rest) / variance
    else:
        mean = 1 / (1 + np.exp(-(c @ without_genotypes(of))))
        weight = mean * (1 - mean)
        across = (g * weight) @ c
        u = g @ (y - mean)
        told = np.linalg.solve((c * weight[:, None]).T @ c, across.T).T
        v = (g * weight).sum(axis=1) - np.einsum("ij,ij->i", across, told)
    v[v < 1e-8 * g.shape[1]] = np.nan  # the covariates tell who carries one
    return u / v, 1 / np.sqrt(v)


def texts(of_list: list[Gene], found: dict[int, Burden], of: Design, question: dict[str, Any]) -> Iterator[str]:
    """A line for each gene that has an estimate, in the order of the list."""
    case, model = of.y == 1, question["model"]
    numbers = sorted(found)
    for at in range(0, len(numbers), BLOCK):
        part = numbers[at : at + BLOCK]
        g = np.array([found[number].carriers for number in part], dtype=float)
        if question["test"] == "score":
            effects = score(g, of, model)
        else:
            effects = (logistic if model == "logistic" else linear)(g, of)
        for number, beta, se in zip(part, *effects, strict=True):
            if not np.isfinite(beta) or not np.isfinite(se) or se <= 0:
                continue
            gene, mine = of_list[number], found[number]
            people, carriers, largest = len(case), int(mine.carriers.sum()), list(mine.largest)
            cases, with_it = int(case.sum()), int((mine.carriers & case).sum())
            if model == "linear":
                cases, with_it, largest[1:] = 0, 0, [0, 0]
            counts = (people, cases, carriers, people - carriers, with_it, cases - with_it)
            place = (gene.contig, gene.start, "N", f"<{gene.name}>")
            shown = (f"{carriers / people:.8g}", f"{beta:.8g}", f"{se:.8g}")
            yield "\t".join(map(str, (*place, *counts, *shown, *largest))) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("genes", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("vcfs", type=Path, nargs="+")
    parser.add_argument(
        "--question", required=True, help="JSON: {person, phenotype, covariates, model, test, genes, max_frequency}"
    )
    options = parser.parse_args()
    question = json.loads(options.question)
    of_list = genes(options.genes)
    named = set(question["genes"])
    if named - {gene.name for gene in of_list}:
        wrong_list(1, "a gene that the run names is not in the list")
    try:
        names = names_of(read(options.vcfs[0]))
        of = design(options.samples, names, question)
        if len(of.places) < of.covariates.shape[1] + 3:
            wrong(1, "too few people are complete and in the genotypes' file")
        found: dict[int, Burden] = {}
        for vcf in options.vcfs:
            if names_of(read(vcf)) != names:
                raise VcfError("DifferentPeople", 1, "the files of a dataset do not have the same people in one order")
            collect(vcf, Places(of_list), of, question["max_frequency"], found)
    except VcfError as error:
        fail(error)
    if named:
        found = {number: one for number, one in found.items() if of_list[number].name in named}
    digest = hashlib.sha256(options.genes.read_bytes()).hexdigest()
    burden = {"test": question["test"], "genes": digest, "max_frequency": question["max_frequency"]}
    cases = int((of.y == 1).sum()) if question["model"] == "logistic" else 0
    about = {"format": "gdi-variant-statistics/1", "people": len(of.places), "cases": cases, "burden": burden}
    about |= {name: question[name] for name in ("model", "phenotype", "covariates")}
    about["names"] = [hashlib.sha256(name.encode()).hexdigest() for name in names]  # `gather` takes them away
    with options.out.open("w") as out:
        out.write(
            "#" + json.dumps(about, separators=(",", ":"), sort_keys=True) + "\n" + "\t".join(BURDEN_HEADING) + "\n"
        )
        out.writelines(texts(of_list, found, of, question))


if __name__ == "__main__":
    main()
