"""Regresses a phenotype on each variant of a region, with covariates: linear (least squares) or logistic (maximum
likelihood). People and sites as plink2 takes them: complete for phenotype and covariates; for a variant, called.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from vcf import Place, Record, VcfError, fail, pairs, read, records

BLOCK = 256  # variants that are worked on at once
STEPS, CLOSE = 30, 1e-8  # Newton's steps at most; the largest change of the last one
LARGEST = 30.0  # an effect (log odds) beyond this is separation, not an estimate
TRUE, FALSE = ("true", "1", "yes", "case"), ("false", "0", "no", "control")
NO_VALUE = ("", "NA", "nan", "None", ".")
MAX_BYTES = 1024**3
HEADING = [
    *("CHROM", "POS", "REF", "ALT", "N", "CASES", "CARRIERS", "OTHERS", "CASES_CARRIERS", "CASES_OTHERS"),
    *("AF", "BETA", "SE"),
]


def wrong(line: int, why: str) -> NoReturn:
    """Ends with 1. Nothing of the sample table's content is said."""
    print(f"SampleTableError at line {line}: {why}", file=sys.stderr)
    print(f"GDI-ERROR class=SampleTableError line={line}", file=sys.stderr)
    sys.exit(1)


@dataclass(frozen=True)
class Design:
    """Who is analysed (places in the VCF's columns), the phenotype, and the covariates with a column of ones first."""

    places: np.ndarray
    y: np.ndarray
    covariates: np.ndarray


def design(table: Path, names: list[str], question: dict[str, Any]) -> Design:
    """Of people who are in both files and complete. A covariate of other values than numbers becomes a column for each
    of them but the first, in the order of the alphabet.
    """
    if table.stat().st_size > MAX_BYTES:
        wrong(1, f"it is larger than {MAX_BYTES} bytes")
    columns = [question["phenotype"], *question["covariates"]]
    found: dict[str, tuple[int, list[str]]] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as handle:
            rows = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
            heading = next(rows, [])
            if any(heading.count(name) != 1 for name in (question["person"], *columns)):
                wrong(1, "a column asked for is not in the heading, or twice")
            who, *at = [heading.index(name) for name in (question["person"], *columns)]
            for row in rows:
                if not row:
                    continue
                if len(row) != len(heading):
                    wrong(rows.line_num, f"{len(row)} columns instead of {len(heading)}")
                if row[who] in found:
                    wrong(rows.line_num, "a person is there twice")
                found[row[who]] = rows.line_num, [row[i].strip() for i in at]
    except (UnicodeDecodeError, csv.Error):
        wrong(1, "it is no UTF-8 text separated by tabs")
    whole = [
        (place, *found[name])
        for place, name in enumerate(names)
        if name in found and not any(value in NO_VALUE for value in found[name][1])
    ]
    y = np.array([phenotype(values[0], line, question["model"]) for _, line, values in whole])
    ones = [np.ones(len(whole))]
    for number in range(1, len(columns)):
        ones += numbers([values[number] for _, _, values in whole])
    return Design(np.array([place for place, _, _ in whole], dtype=int), y, np.column_stack(ones))


def phenotype(text: str, line: int, model: str) -> float:
    """A number, or 1 for a case and 0 for a control."""
    if model == "logistic":
        if text.lower() in TRUE or text.lower() in FALSE:
            return float(text.lower() in TRUE)
        wrong(line, "the phenotype of a logistic model is true or false")
    try:
        return float(text)
    except ValueError:
        wrong(line, "the phenotype of a linear model is a number")


def numbers(values: list[str]) -> list[np.ndarray]:
    """A covariate's columns, each with mean 0 and standard deviation 1."""
    try:
        columns = [np.array([float(value) for value in values])]
    except ValueError:
        columns = [np.array([float(value == level) for value in values]) for level in sorted(set(values))[1:]]
    return [(column - column.mean()) / column.std() for column in columns if len(column) and column.std() > 0]


def copies(record: Record, places: np.ndarray) -> np.ndarray | None:
    """Copies of the alternate allele, NaN where a person is not called; None where a call is not of two alleles."""
    letters = pairs(record)
    if letters is not None:
        first, second = (letter[places] for letter in letters)
        called = (first != ord(".")) & (second != ord("."))
        if not ((first[called] <= ord("1")) & (second[called] <= ord("1"))).all():
            raise VcfError("VcfFormatError", record.line, "a genotype names an allele that the site does not have")
        return np.where(called, first.astype(float) + second - 2 * ord("0"), np.nan)
    cells = record.genotypes.split("\t")
    found = np.full(len(places), np.nan)
    for n, place in enumerate(places):
        fields = cells[place].split(":")
        text = fields[record.gt] if 0 <= record.gt < len(fields) else "."
        alleles = text.lstrip("|/").replace("|", "/").split("/")
        if any(allele not in ("0", "1", ".") for allele in alleles):
            raise VcfError("VcfFormatError", record.line, "a genotype names an allele that the site does not have")
        if len(alleles) > 2 or (len(alleles) == 1 and alleles != ["."]):
            return None
        if "." not in alleles:
            found[n] = alleles.count("1")
    return found


def linear(g: np.ndarray, of: Design) -> tuple[np.ndarray, np.ndarray]:
    """Effect and standard error for each row of `g` (variants by people): least squares of what covariates leave
    (Frisch, Waugh, Lovell).
    """
    q, _ = np.linalg.qr(of.covariates)
    y = of.y - q @ (q.T @ of.y)
    rest = g - (g @ q) @ q.T
    size = np.einsum("ij,ij->i", rest, rest)
    size[size < 1e-8 * g.shape[1]] = np.nan  # nothing is left: the covariates tell it
    beta = rest @ y / size
    spare = len(of.y) - of.covariates.shape[1] - 1
    left = np.maximum(y @ y - beta**2 * size, 0)
    return beta, np.sqrt(left / spare / size)


def logistic(g: np.ndarray, of: Design) -> tuple[np.ndarray, np.ndarray]:
    """The same by Newton's method for all variants at once, from the fit of the covariates alone. NaN where it does not
    converge, as with separation.
    """
    c, y = of.covariates, of.y
    m, k = g.shape[0], c.shape[1]
    start = np.zeros(k)
    for _ in range(STEPS):
        mean = 1 / (1 + np.exp(-(c @ start)))
        step = np.linalg.solve((c * (mean * (1 - mean))[:, None]).T @ c + 1e-12 * np.eye(k), c.T @ (y - mean))
        start = start + step
        if np.abs(step).max() < CLOSE:
            break
    b = np.zeros((m, k + 1))
    b[:, :k] = start
    se = np.full(m, np.nan)
    open_ = np.arange(m)
    squares = (c[:, :, None] * c[:, None, :]).reshape(len(y), k * k)
    for _ in range(STEPS):
        if not len(open_):
            break
        mine = g[open_]
        with np.errstate(over="ignore"):
            mean = 1 / (1 + np.exp(-(b[open_, :k] @ c.T + b[open_, k, None] * mine)))
        weight, left = mean * (1 - mean), y - mean
        hessian = np.empty((len(open_), k + 1, k + 1))
        hessian[:, :k, :k] = (weight @ squares).reshape(-1, k, k)
        hessian[:, :k, k] = hessian[:, k, :k] = (weight * mine) @ c
        hessian[:, k, k] = np.einsum("ij,ij->i", weight, mine**2)
        gradient = np.concatenate([left @ c, np.einsum("ij,ij->i", left, mine)[:, None]], axis=1)
        good = np.linalg.cond(hessian) < 1e12
        open_, hessian, gradient = open_[good], hessian[good], gradient[good]
        if not len(open_):
            break
        inverse = np.linalg.inv(hessian)
        step = np.einsum("ijk,ik->ij", inverse, gradient)
        b[open_] += step
        done = np.abs(step).max(axis=1) < CLOSE
        se[open_[done]] = np.sqrt(inverse[done, k, k])
        open_ = open_[~done & (np.abs(b[open_, k]) < LARGEST)]
    return b[:, k], se


def lines(found: list[tuple[Record, np.ndarray]], of: Design, model: str) -> Iterator[str]:
    """A line for each variant that has an estimate."""
    fit = logistic if model == "logistic" else linear
    whole = np.array([not np.isnan(g).any() for _, g in found], dtype=bool)
    beta, se = np.full(len(found), np.nan), np.full(len(found), np.nan)
    if whole.any():
        beta[whole], se[whole] = fit(np.array([g for (_, g), all_ in zip(found, whole, strict=True) if all_]), of)
    for n in np.flatnonzero(~whole):
        called = ~np.isnan(found[n][1])
        if called.sum() > of.covariates.shape[1] + 2:
            part = Design(of.places[called], of.y[called], of.covariates[called])
            one_beta, one_se = fit(found[n][1][None, called], part)
            beta[n], se[n] = one_beta[0], one_se[0]
    for n, (record, g) in enumerate(found):
        if not (np.isfinite(beta[n]) and np.isfinite(se[n]) and se[n] > 0):
            continue
        called = ~np.isnan(g)
        carriers, others = called & (g > 0), called & (g < 2)
        case = (of.y == 1) & called if model == "logistic" else np.zeros(len(g), dtype=bool)
        counts = [
            called.sum(),
            case.sum(),
            carriers.sum(),
            others.sum(),
            (case & carriers).sum(),
            (case & others).sum(),
        ]
        texts = [record.chrom, record.pos, record.ref, record.alts[0], *counts]
        effects = [f"{g[called].mean() / 2:.8g}", f"{beta[n]:.8g}", f"{se[n]:.8g}"]
        yield "\t".join(map(str, [*texts, *effects])) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("regions", type=Path)
    parser.add_argument("region", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--question", required=True, help="JSON: {person, phenotype, covariates, model}")
    options = parser.parse_args()
    question = json.loads(options.question)
    ranges = json.loads(options.regions.read_text())
    first, end = ranges["regions"][options.region]
    before, *start = ranges["places"][options.region] or [0]
    try:
        names = next(found for found in read(options.vcf) if not isinstance(found, Record))
        of = design(options.samples, names, question)
        if len(of.places) < of.covariates.shape[1] + 3:
            wrong(1, "too few people are complete and in the genotypes' file")
        cases = int((of.y == 1).sum()) if question["model"] == "logistic" else 0
        about = {"format": "gdi-variant-statistics/1", "people": len(of.places), "cases": cases}
        about |= {name: question[name] for name in ("model", "phenotype", "covariates")}
        with options.out.open("w") as out:
            out.write("#" + json.dumps(about, separators=(",", ":"), sort_keys=True) + "\n" + "\t".join(HEADING) + "\n")
            block: list[tuple[Record, np.ndarray]] = []
            reading = records(options.vcf, Place(*start) if start else None, ranges["samples"])
            for record in islice(reading, first - before, end - before):
                plain = not record.why and len(record.alts) == 1 and not record.alts[0].startswith("<")
                g = copies(record, of.places) if plain else None
                if g is not None and len(g):
                    block.append((record, g))
                if len(block) == BLOCK:
                    out.writelines(lines(block, of, question["model"]))
                    block = []
            out.writelines(lines(block, of, question["model"]) if block else [])
    except VcfError as error:
        fail(error)


if __name__ == "__main__":
    main()
