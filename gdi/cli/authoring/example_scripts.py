"""The scripts of what `gdi workflow init` writes: plain Python, to be read and changed."""

from __future__ import annotations

COUNT_ALLELES = '''\
"""Counts alleles and genotype classes of the biallelic sites of a VCF whose genotypes are all diploid."""

import gzip
import json
import sys


def main(vcf: str, out: str) -> None:
    sites = []
    with gzip.open(vcf, "rt") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            chrom, pos, _, ref, alt, *_, form, genotypes = line.rstrip("\\n").split("\\t", 9)
            if "," in alt or alt == "." or not form.startswith("GT"):
                continue
            calls = [cell.split(":")[0].replace("|", "/") for cell in genotypes.split("\\t")]
            classes = [calls.count("0/0"), calls.count("0/1") + calls.count("1/0"), calls.count("1/1")]
            called = sum(classes)
            if called + calls.count("./.") != len(calls):
                continue
            site = {"chrom": chrom, "pos": int(pos), "ref": ref, "alt": alt}
            site |= {"ac": classes[1] + 2 * classes[2], "an": 2 * called}
            site |= dict(zip(("hom_ref", "het", "hom_alt"), classes))
            site |= {"hemi_ref": 0, "hemi_alt": 0, "half_missing": 0, "missing": len(calls) - called}
            sites.append(site)
    with open(out, "w") as file:
        json.dump(sites, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
GATHER_ALLELES = '''\
"""Adds the datasets up, at the sites that all of them have."""

import json
import sys
from collections import Counter


def main(out: str, *files: str) -> None:
    names = ("chrom", "pos", "ref", "alt")
    sums: dict[tuple, Counter] = {}
    seen: Counter = Counter()
    for file in files:
        with open(file) as handle:
            for site in json.load(handle):
                place = tuple(site.pop(name) for name in names)
                sums.setdefault(place, Counter()).update(site)
                seen[place] += 1
    numbers = ("ac", "an", "hom_ref", "het", "hom_alt", "hemi_ref", "hemi_alt", "half_missing", "missing")
    whole = [place for place, count in seen.items() if count == len(files)]
    sites = [dict(zip(names, place)) | {name: sums[place][name] for name in numbers} for place in whole]
    with open(out, "w") as file:
        json.dump({"format": "gdi-allele-counts/1", "sites": sites}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
COUNT_PEOPLE = '''\
"""Counts people by the values of a column of the sample table (text separated by tabs, a first line of names)."""

import csv
import json
import sys
from collections import Counter


def main(table: str, out: str, column: str) -> None:
    with open(table, newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\\t", quoting=csv.QUOTE_NONE)
        counts = Counter(row[column] or "unknown" for row in rows)
    with open(out, "w") as file:
        json.dump(counts, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
GATHER_PEOPLE = '''\
"""Adds the datasets up. Categories must be those that the nodes' descriptors declare for the column."""

import json
import sys
from collections import Counter


def main(out: str, *rest: str) -> None:
    *files, column = rest
    counts: Counter = Counter()
    for name in files:
        with open(name) as file:
            counts.update(json.load(file))
    rows = [[level, people] for level, people in sorted(counts.items())]
    table = {"name": "people", "columns": [column], "rows": rows}
    with open(out, "w") as file:
        json.dump({"format": "gdi-table/1", "tables": [table]}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
COUNT_VALUES = '''\
"""Reads two columns of the sample table: a category and a number. Both stay at the node."""

import csv
import json
import sys


def main(table: str, out: str, column: str, number: str) -> None:
    with open(table, newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\\t", quoting=csv.QUOTE_NONE)
        values = [[row[column], float(row[number])] for row in rows if row[column] and row[number]]
    with open(out, "w") as file:
        json.dump(values, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
GATHER_MOMENTS = '''\
"""People, mean and variance by group, and what the node judges them by: which part of the sums of |x| and of
(x - mean)² the 50 people have who have most, and how many people differ from the commonest value. These stay.
"""

import json
import sys
from collections import Counter
from statistics import fmean, variance


def largest(contributions: list[float]) -> list[float]:
    total, sums, found = sum(contributions) or 1.0, 0.0, []
    for one in sorted(contributions, reverse=True)[:50]:
        sums += one
        found.append(min(1.0, sums / total))
    return found


def main(out: str, *rest: str) -> None:
    *files, column, number = rest
    groups: dict[str, list[float]] = {}
    for name in files:
        with open(name) as file:
            for level, value in json.load(file):
                groups.setdefault(level, []).append(value)
    moments = []
    for level, values in groups.items():
        mean = fmean(values)
        row = {"variable": number, "group": [level], "n": len(values), "mean": mean}
        row["variance"] = variance(values) if len(values) > 1 else 0.0
        row["sums"] = largest([abs(value) for value in values])
        row["squares"] = largest([(value - mean) ** 2 for value in values])
        row["apart"] = len(values) - max(Counter(values).values())
        moments.append(row)
    people = [[level, len(values)] for level, values in groups.items()]
    document = {"format": "gdi-moments/1", "group": [column], "people": people, "moments": moments}
    with open(out, "w") as file:
        json.dump(document, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
COUNT_EFFECTS = '''\
"""Regresses a number on the copies of each biallelic variant by least squares, without covariates (workflows/gwas has
them). Input: the genotypes and the sample table, which has the genotypes' names in its column `person`.
"""

import csv
import gzip
import json
import math
import sys


def main(vcf: str, table: str, out: str, phenotype: str) -> None:
    with open(table, newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\\t", quoting=csv.QUOTE_NONE)
        known = {row["person"]: float(row[phenotype]) for row in rows if row[phenotype]}
    head = ["CHROM", "POS", "REF", "ALT", "N", "CASES", "CARRIERS", "OTHERS", "CASES_CARRIERS", "CASES_OTHERS"]
    with gzip.open(vcf, "rt") as lines, open(out, "w") as file:
        for line in lines:
            if line.startswith("##"):
                continue
            cells = line.rstrip("\\n").split("\\t")
            if line.startswith("#"):
                at = [i for i, name in enumerate(cells) if i > 8 and name in known]
                y = [known[cells[i]] for i in at]
                about = {"format": "gdi-variant-statistics/1", "model": "linear", "phenotype": phenotype}
                file.write("#" + json.dumps(about | {"covariates": [], "people": len(y), "cases": 0}) + "\\n")
                file.write("\\t".join([*head, "AF", "BETA", "SE"]) + "\\n")
                continue
            calls = [cells[i].split(":")[0].replace("|", "/") for i in at]
            if "," in cells[4] or any(call not in ("0/0", "0/1", "1/0", "1/1") for call in calls):
                continue
            g, n = [call.count("1") for call in calls], len(calls)
            mean, middle = sum(g) / n, sum(y) / n
            size = sum((x - mean) ** 2 for x in g)
            if not size or n < 3:
                continue
            beta = sum((x - mean) * (v - middle) for x, v in zip(g, y)) / size
            left = sum((v - middle) ** 2 for v in y) - beta**2 * size
            counts = [n, 0, sum(x > 0 for x in g), sum(x < 2 for x in g), 0, 0]
            numbers = [mean / 2, beta, math.sqrt(max(left, 1e-12) / (n - 2) / size)]
            row = [*cells[:2], *cells[3:5], *counts, *(f"{number:.8g}" for number in numbers)]
            file.write("\\t".join(map(str, row)) + "\\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
GATHER_EFFECTS = '''\
"""A run takes one dataset of each node: effects of two are put together by meta-analysis, at the centre."""

import shutil
import sys


def main(out: str, *rest: str) -> None:
    *files, _ = rest
    if len(files) != 1:
        sys.exit("start a run for each dataset of a node")
    shutil.copyfile(files[0], out)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
