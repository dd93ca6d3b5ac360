"""Regresses a phenotype on each variant of a region, with covariates: linear (least squares) or logistic (maximum
likelihood). People and sites as plink2 takes them: complete for phenotype and covariates; for a variant, called.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from bgzf import section_lines
from no_value import NO_VALUE
from vcf import FIXED, Place, Record, VcfError, fail, pairs, parsed, read, records, words

BLOCK = 256  # variants that are worked on at once
STEPS, CLOSE = 30, 1e-8  # Newton's steps at most; the largest change of the last one
LARGEST = 30.0  # an effect (log odds) beyond this is separation, not an estimate
OUTSIDE = "\t"  # the name of nobody
TRUE, FALSE = ("true", "1", "yes", "case"), ("false", "0", "no", "control")
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
    rows = table_rows(table, [question["person"], *columns])
    _, heading = next(rows, (1, []))
    if any(heading.count(name) != 1 for name in (question["person"], *columns)):
        wrong(1, "a column asked for is not in the heading, or twice")
    who, *at = [heading.index(name) for name in (question["person"], *columns)]
    for line, row in rows:
        if len(row) != len(heading):
            wrong(line, f"{len(row)} columns instead of {len(heading)}")
        if row[who] in found:
            wrong(line, "a person is there twice")
        found[row[who]] = line, [row[i].strip() for i in at]
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


def table_rows(table: Path, columns: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of the sample table, TSV or Parquet, its heading first. Of Parquet these columns only, whose cells
    are as TSV would have them.
    """
    with table.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    if not parquet:
        try:
            with table.open(encoding="utf-8-sig", newline="") as handle:
                reader = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
                yield from ((reader.line_num, row) for row in reader if row)
        except (UnicodeDecodeError, csv.Error):
            wrong(1, "it is no UTF-8 text separated by tabs")
        return
    import polars

    try:
        there = [name for name in polars.read_parquet_schema(table) if name in columns]
        frame = polars.read_parquet(table, columns=there).select(polars.all().cast(polars.String))
    except polars.exceptions.PolarsError:
        wrong(1, "it is no Parquet file whose columns are texts, numbers, dates or true and false")
    yield 1, there
    for number, row in enumerate(frame.fill_null("").iter_rows(), 2):
        yield number, list(row)


def phenotype(text: str, line: int, model: str) -> float:
    """A number, or 1 for a case and 0 for a control."""
    if model == "logistic":
        if text.lower() in TRUE or text.lower() in FALSE:
            return float(text.lower() in TRUE)
        wrong(line, "the phenotype of a logistic model is true or false")
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        wrong(line, "the phenotype of a linear model is a number")
    return number


def numbers(values: list[str]) -> list[np.ndarray]:
    """A covariate's columns, each with mean 0 and standard deviation 1."""
    try:
        columns = [np.array([float(value) for value in values])]
    except ValueError:
        columns = [np.array([float(value == level) for value in values]) for level in sorted(set(values))[1:]]
    if not np.isfinite(columns).all():
        wrong(1, "a covariate has a number that is not finite")
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


def letters(record: Record, places: np.ndarray) -> np.ndarray | None:
    """The two letters of each person's genotype, in the lowest and the third byte of a number; None where a column is
    not of three letters, or somebody is not called, or has another allele than 0 and 1.
    """
    cells = words(record)
    if cells is None:
        return None
    found = cells[places] & 0x00FF00FF
    return found if ((found & 0x00FE00FE) == 0x00300030).all() else None


def linear(g: np.ndarray, of: Design) -> tuple[np.ndarray, np.ndarray]:
    """Effect and standard error for each row of `g` (variants by people): least squares of what covariates leave
    (Frisch, Waugh, Lovell). One product of matrices for all variants: what the covariates tell of a variant is its
    projection on them, and the phenotype's rest is at right angles to them.
    """
    q, _ = np.linalg.qr(of.covariates)
    y = of.y - q @ (q.T @ of.y)
    told = g @ np.column_stack([q, y])
    whole = np.einsum("ij,ij->i", g, g)
    size = whole - np.einsum("ij,ij->i", told[:, :-1], told[:, :-1])
    size[size < 1e-8 * g.shape[1]] = np.nan  # nothing is left: the covariates tell it
    beta = told[:, -1] / size
    spare = len(of.y) - of.covariates.shape[1] - 1
    left = np.maximum(y @ y - beta**2 * size, 0)
    return beta, np.sqrt(left / spare / size)


def without_genotypes(of: Design) -> np.ndarray:
    """The logistic model's coefficients of the covariates alone, by Newton's method."""
    c, y = of.covariates, of.y
    found = np.zeros(c.shape[1])
    for _ in range(STEPS):
        mean = 1 / (1 + np.exp(-(c @ found)))
        weight = mean * (1 - mean)
        step = np.linalg.solve((c * weight[:, None]).T @ c + 1e-12 * np.eye(c.shape[1]), c.T @ (y - mean))
        found = found + step
        if np.abs(step).max() < CLOSE:
            break
    return found


def logistic(g: np.ndarray, of: Design) -> tuple[np.ndarray, np.ndarray]:
    """The same by Newton's method for all variants at once, from the fit of the covariates alone. NaN where it does not
    converge, as with separation.
    """
    c, y = of.covariates, of.y
    m, k = g.shape[0], c.shape[1]
    b = np.zeros((m, k + 1))
    b[:, :k] = without_genotypes(of)
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


def counts(g: np.ndarray) -> list[np.ndarray]:
    """Of each row without gaps: people, carriers of ALT, people who have another allele, copies of ALT."""
    people, ones = g.shape[1], np.ones(g.shape[1])
    copies_of, squares = g @ ones, np.einsum("ij,ij->i", g, g)
    two = (squares - copies_of) / 2
    return [np.full(len(g), people), copies_of - two, people - two, copies_of]


def texts(records: list[Record], g: np.ndarray, of: Design, model: str) -> list[str]:
    """A line for each of these variants, empty where it has no estimate; nobody in `g` is without a call."""
    if not len(g) or g.shape[1] <= of.covariates.shape[1] + 2:
        return [""] * len(g)
    beta, se = (logistic if model == "logistic" else linear)(g, of)
    case = of.y == 1
    nobody = [np.zeros(len(g))] * 3
    cases = counts(np.ascontiguousarray(g[:, case]))[:3] if model == "logistic" and case.any() else nobody
    (people, carriers, others, alleles), (of_cases, case_carriers, case_others) = counts(g), cases
    numbers_ = np.column_stack([people, of_cases, carriers, others, case_carriers, case_others]).astype(int).tolist()
    frequencies = (alleles / people / 2).tolist()
    good = (np.isfinite(beta) & np.isfinite(se) & (se > 0)).tolist()
    return [
        f"{record.chrom}\t{record.pos}\t{record.ref}\t{record.alts[0]}\t{n}\t{c}\t{ca}\t{o}\t{cc}\t{co}"
        f"\t{af:.8g}\t{effect:.8g}\t{error:.8g}\n"
        if fine
        else ""
        for record, (n, c, ca, o, cc, co), af, effect, error, fine in zip(
            records, numbers_, frequencies, beta.tolist(), se.tolist(), good, strict=True
        )
    ]


def lines(block: list[tuple[Record, np.ndarray]], of: Design, model: str) -> list[str]:
    """The lines of a block. Genotypes are `letters`, or copies with NaN for who is not called."""
    whole = [n for n, (_, found) in enumerate(block) if found.dtype != np.float64]
    made = [""] * len(block)
    if whole:
        both = np.array([block[n][1] for n in whole])
        g = ((both & 1) + (both >> 16 & 1)).astype(np.float64)
        for n, text in zip(whole, texts([block[n][0] for n in whole], g, of, model), strict=True):
            made[n] = text
    for n, (record, found) in enumerate(block):
        if found.dtype == np.float64:
            called = ~np.isnan(found)
            part = Design(of.places[called], of.y[called], of.covariates[called])
            (made[n],) = texts([record], found[None, called], part, model)
    return made


def regressed(records_: Iterable[Record], of: Design, model: str) -> Iterator[str]:
    """A line for each variant that has an estimate."""
    block: list[tuple[Record, np.ndarray]] = []
    for record in records_:
        plain = not record.why and len(record.alts) == 1 and not record.alts[0].startswith("<")
        g = letters(record, of.places) if plain else None
        if plain and g is None:
            g = copies(record, of.places)
        if g is not None and len(g):
            block.append((record, g))
        if len(block) == BLOCK:
            yield from lines(block, of, model)
            block = []
    yield from lines(block, of, model) if block else []


def names_of(found: Iterable[Record | list[str]]) -> list[str]:
    """The names of the samples, of a file's beginning."""
    return next((one for one in found if not isinstance(one, Record)), [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("regions", type=Path)
    parser.add_argument("region", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--question", required=True, help="JSON: {person, phenotype, covariates, model}")
    parser.add_argument("--places", type=Path, help="of the file's sections, of which this is one, with the header")
    parser.add_argument("--cohort", type=Path, help="which columns are analysed; all without it")
    options = parser.parse_args()
    question = json.loads(options.question)
    ranges = json.loads(options.regions.read_text())
    places = json.loads(options.places.read_text()) if options.places else []
    at = 0  # the section's line that was read last

    def section() -> Iterator[Record]:
        nonlocal at
        place = places[options.region + 1]

        def told() -> Iterator[tuple[Place, str]]:
            nonlocal at
            for here, text in section_lines(options.vcf, place):
                at = here.line
                yield here, text

        if place["skip"] != -1:
            columns = ranges["samples"] + FIXED if options.region else 0
            yield from (one for one in parsed(told(), columns) if isinstance(one, Record))

    def part() -> Iterator[Record]:
        first, end = ranges["regions"][options.region]
        before, *start = ranges["places"][options.region] or [0]
        reading = records(options.vcf, Place(*start) if start else None, ranges["samples"])
        return islice(reading, first - before, end - before)

    try:
        names = names_of(parsed(section_lines(options.vcf, places[0])) if places else read(options.vcf))
        if options.cohort:
            (inside,) = json.loads(options.cohort.read_text())
            names = [name if place in inside else OUTSIDE for place, name in enumerate(names)]
        of = design(options.samples, names, question)
        if len(of.places) < of.covariates.shape[1] + 3:
            wrong(1, "too few people are complete and in the genotypes' file")
        cases = int((of.y == 1).sum()) if question["model"] == "logistic" else 0
        about = {"format": "gdi-variant-statistics/1", "people": len(of.places), "cases": cases}
        about |= {name: question[name] for name in ("model", "phenotype", "covariates")}
        with options.out.open("w") as out:
            out.write("#" + json.dumps(about, separators=(",", ":"), sort_keys=True) + "\n" + "\t".join(HEADING) + "\n")
            if not places:
                out.writelines(regressed(part(), of, question["model"]))
                return
            fault: dict[str, object] = {}
            try:
                out.writelines(regressed(section(), of, question["model"]))
            except VcfError as error:
                fault = {"fault": error.kind, "line": error.line}
            # `gather`, which knows the sections before, tells the file's own line
            out.write("#" + json.dumps({"lines": at, **fault}) + "\n")
    except VcfError as error:
        fail(error)


if __name__ == "__main__":
    main()
