"""`make bench-analyses`: what analyses cost beside their peers, in one call over the same files. CPU seconds (user and
system) of all processes. Prints every row and ends with 1 where one is short of its target.

Genotypes are drawn by numpy (seed 17): frequencies of a Beta(0.2, 2), sites independent, so that files compress as
real ones of rare variants do. `--sites`, `--people`: the target's size is 1.1 million and 2,504.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pysam

from gdi.contracts.sections import SectionPlan
from gdi.releases.allele_counts import parquet
from gdi.releases.allele_counts.column_answer import AlleleCountsAnswer
from gdi.releases.allele_counts.column_check import AlleleCountsColumns
from gdi.releases.allele_counts.coordinator import AlleleCountsCoordinator
from gdi.releases.allele_counts.node import AlleleCountsNode
from gdi.releases.allele_counts.table import CLASSES
from gdi.releases.columns import AnswerSpan, PastColumns, sha256_of, write_batches
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules
from gdi.releases.variant_statistics.statistics import minus_log10_p
from node_gateway.listed_files import sealed
from node_gateway.sections import LEAD, Selection

ROOT = Path(__file__).parents[2]
SEED = 17
REGIONS = 4


@dataclass(frozen=True)
class Figure:
    """A row: what was measured, beside what, and whether that is within the target (None: printed only)."""

    what: str
    measured: str
    good: bool | None = None

    def __str__(self) -> str:
        verdict = "" if self.good is None else "ok" if self.good else "SHORT"
        return f"{self.what:<62} {self.measured:<44} {verdict}"


def cpu(*command: object) -> float:
    """CPU seconds of a process and its children. CalledProcessError where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(list(map(str, command)), check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def script(workflow: str, name: str, *arguments: object) -> float:
    return cpu(sys.executable, "-B", ROOT / "workflows" / workflow / "scripts" / name, *arguments)


def cohort(file: Path, sites: int, people: int) -> None:
    chance = np.random.default_rng(SEED)
    head = '##fileformat=VCFv4.2\n##contig=<ID=22>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    names = "\t".join(f"S{n}" for n in range(people))
    with pysam.BGZFile(str(file), "wb") as out:
        out.write(f"{head}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n".encode())
        letters = np.empty((people, 4), np.uint8)
        letters[:, 1], letters[:, 3] = ord("|"), ord("\t")
        for site in range(sites):
            letters[:, (0, 2)] = (chance.random((people, 2)) < chance.beta(0.2, 2)) + ord("0")
            out.write(
                f"22\t{1000 + 10 * site}\tv{site}\tA\tC\t.\tPASS\t.\tGT\t".encode() + letters.tobytes()[:-1] + b"\n"
            )


@dataclass(frozen=True)
class SectionedFile:
    """A file's sections as its tasks get them, the CPU of what makes them, and bytes fetched of the archive."""

    files: list[Path]
    places: Path
    ranges: Path
    cpu: float
    fetched: int


def sectioned(vcf: Path, folder: Path, workflow: str, count: int, *more: str) -> SectionedFile:
    """What the gateway fetches is by its own code: whole segments, and a header and a request's own for each."""
    folder.mkdir()
    pysam.tabix_index(str(vcf), preset="vcf", force=True)
    index, plan, places = Path(f"{vcf}.tbi"), folder / "plan.json", folder / "places.json"
    validated, ranges = folder / "D.0.json", folder / "ranges.json"
    spent = script(workflow, "sections.py", index, plan, places, "--sections", count, *more)
    made, size = SectionPlan.model_validate_json(plan.read_text()), vcf.stat().st_size
    files, fetched = [], sealed(index.stat().st_size) + LEAD
    with vcf.open("rb") as source:
        for number in range(count + 1):
            wanted = made.ranges(number, size)
            fetched += LEAD + sum(end - start for start, end in Selection.of(wanted).spans(sealed(size)))
            files.append(folder / f"section-{number}.vcf.gz")
            with files[-1].open("wb") as out:
                for start, end in wanted:
                    source.seek(start)
                    out.write(source.read(end - start))
    spent += script(workflow, "validate.py", files[0], validated, "--places", places)
    spent += script(workflow, "regions.py", validated, ranges, "--regions", count)
    return SectionedFile(files, places, ranges, spent, fetched)


def frequencies(vcf: Path, folder: Path) -> list[Figure]:
    """allele-frequency's tasks beside one `bcftools +fill-tags` and plink2 `--freq`."""
    cut = sectioned(vcf, folder / "sections", "allele-frequency", REGIONS)
    ours, parts = cut.cpu, [folder / "d" / f"0.{n}.jsonl" for n in range(REGIONS)]
    parts[0].parent.mkdir()
    for n, part in enumerate(parts):
        ours += script("allele-frequency", "count.py", cut.files[n + 1], cut.ranges, n, part, "--places", cut.places)
    ours += script("allele-frequency", "gather.py", folder / "release.json", *parts)
    peer = cpu("bcftools", "+fill-tags", vcf, "-Oz", "-o", folder / "filled.vcf.gz", "--", "-t", "AC,AN,AF")
    plink = cpu("plink2", "--vcf", vcf, "--freq", "--threads", "1", "--out", folder / "plink")
    beside = f"{ours:.1f} s; {ours / peer:.2f} of bcftools {peer:.1f} s"
    return [
        Figure("allele frequencies, CPU of all tasks (at most 1.5 times bcftools)", beside, ours <= 1.5 * peer),
        Figure("the same by plink2", f"{plink:.1f} s"),
        scattered(vcf, folder),
    ]


def scattered(vcf: Path, folder: Path) -> Figure:
    """Bytes that 22 sections, the header and the index cost of the archive."""
    fetched, size = sectioned(vcf, folder / "scattered", "allele-frequency", 22).fetched, vcf.stat().st_size
    what = "bytes fetched over 22 sections (at most 1.2 times the file)"
    return Figure(what, f"{fetched:,}; {fetched / size:.3f} of {size:,}", fetched <= 1.2 * size)


def check_and_merge(release: Path, folder: Path) -> list[Figure]:
    """Rows of allele counts for each second of CPU, of the node's check and of the centre's merge."""
    half, rules = AlleleCountsNode(), Rules(5, 10_000_000, "reference")
    started = time.process_time()
    units = half.read(io.BytesIO(release.read_bytes()), rules)
    checked = half.check(units, rules, Past())
    with (folder / "released.json").open("wb") as out:
        half.write(out, checked.released, checked.withheld, half.scope(units), rules)
    checking = len(units) / (time.process_time() - started)
    centre, started = AlleleCountsCoordinator(), time.process_time()
    nodes = {name: centre.read(name, folder / "released.json") for name in ("a", "b")}
    answer = centre.merge(nodes, list(nodes))
    centre.write_table(answer, folder / "answer.tsv")
    merging = 2 * len(answer) / max(time.process_time() - started, 1e-9)
    return [
        Figure("check, rows for each second of CPU (at least 500,000)", f"{checking:,.0f}", checking >= 500_000),
        Figure("merge, rows for each second of CPU (at least 500,000)", f"{merging:,.0f}", merging >= 500_000),
    ]


def rows_of(sites: int, people: int) -> Iterator[pl.DataFrame]:
    """Sorted rows of 22 chromosomes, frequencies of a Beta(0.2, 2), genotypes in Hardy-Weinberg proportions."""
    chance = np.random.default_rng(SEED)
    for chrom in sorted(str(n) for n in range(1, 23)):
        last = 0
        for start in range(0, sites // 22, 200_000):
            count = min(200_000, sites // 22 - start)
            pos = last + np.cumsum(chance.integers(1, 130, count))
            last = int(pos[-1])
            f = chance.beta(0.2, 2, count)
            het = chance.binomial(people, 2 * f * (1 - f))
            hom = chance.binomial(people - het, f * f / (1 - 2 * f * (1 - f)))
            ref = chance.integers(0, 4, count)
            letters = np.array(["A", "C", "G", "T"])
            columns = {"chrom": [chrom] * count, "pos": pos, "ref": letters[ref], "alt": letters[(ref + 1) % 4]}
            columns |= {"ac": het + 2 * hom, "an": np.full(count, 2 * people), "hom_ref": people - het - hom}
            columns |= {"het": het, "hom_alt": hom} | dict.fromkeys(CLASSES[3:], np.zeros(count, dtype=int))
            yield pl.DataFrame(columns).cast(parquet.SCHEMA)  # type: ignore[arg-type]


def columns_figures(folder: Path, sites: int, people: int) -> list[Figure]:
    """Parquet: the node's check with the ledger's cells, the merge of two nodes, a page; beside DuckDB's sort."""
    (folder / "kept").mkdir()
    source, released, answer = folder / "in.parquet", folder / "out.parquet", folder / "answer.parquet"
    write_batches(lambda: rows_of(sites, people), parquet.SCHEMA, source, json.dumps({"format": parquet.FORMAT}))
    check, rules = AlleleCountsColumns(), Rules(5, 10, "reference")
    begun, started = time.time(), time.process_time()
    verdict = check.judge(source, folder / "kept", rules, PastColumns(), None)
    check.write(folder / "kept", released, verdict, {}, rules)
    check.write_cells(folder / "kept", folder / "cells.parquet")
    sha256_of(released)
    checking = verdict.units / (time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.process_time()
    AlleleCountsAnswer().merge({"a": released, "b": released}, ["a", "b"], answer)
    merging = 2 * verdict.released / (time.process_time() - started)
    whole = time.time() - begun
    started = time.time()
    AlleleCountsAnswer().rows(answer, verdict.released // 2, 200, None)
    AlleleCountsAnswer().rows(answer, 0, 200, AnswerSpan("7", 1_000_000, 2_000_000))
    page = time.time() - started
    figures = [
        Figure("Parquet: check, rows for each second of CPU (at least 500,000)", f"{checking:,.0f}", checking >= 5e5),
        Figure("Parquet: merge, rows for each second of CPU (at least 500,000)", f"{merging:,.0f}", merging >= 5e5),
        Figure("two pages of that answer (1 s)", f"{page:.2f} s", page <= 1),
        Figure("memory of this process (500 MB), with numpy and polars", f"{peak:.0f} MB", peak <= 500),
    ]
    try:
        import duckdb  # type: ignore[import-not-found]  # not of this project: uv pip install duckdb
    except ImportError:
        return [*figures, Figure(f"{sites:,} rows checked and merged", f"{whole:.1f} s; no duckdb here")]
    started = time.time()
    duckdb.execute(
        f"COPY (FROM '{source}' ORDER BY chrom, pos, ref, alt) TO '{folder}/sorted.parquet' (COMPRESSION zstd)"
    )
    sorting = time.time() - started
    beside = f"{whole:.1f} s; {whole / sorting:.1f} of DuckDB's sort {sorting:.1f} s"
    return [*figures, Figure(f"{sites:,} rows checked and merged (at most 3 times)", beside, whole <= 3 * sorting)]


def association(folder: Path, variants: int, people: int) -> list[Figure]:
    """gwas's tasks at one node beside plink2 `--glm` from the same VCF.gz."""
    vcf, chance = folder / "g.vcf.gz", np.random.default_rng(SEED + 1)
    cohort(vcf, variants, people)
    ages, values = chance.integers(20, 80, people), chance.normal(size=people)
    lines = [f"S{n}\t{ages[n]}\t{values[n]:.6f}" for n in range(people)]
    (folder / "s.tsv").write_text("\n".join(["person\tage\tldl", *lines, ""]))
    (folder / "s.txt").write_text("\n".join(["#IID\tage\tldl", *lines, ""]))
    question = json.dumps({"person": "person", "phenotype": "ldl", "covariates": ["age"], "model": "linear"})
    cut = sectioned(vcf, folder / "gwas", "gwas", REGIONS, "--header")
    ours, parts = cut.cpu, [folder / "gwas" / f"0.{n}.tsv" for n in range(REGIONS)]
    for n, part in enumerate(parts):
        more = ("--question", question, "--places", cut.places)
        ours += script("gwas", "regress.py", cut.files[n + 1], folder / "s.tsv", cut.ranges, n, part, *more)
    ours += script("gwas", "gather.py", folder / "g.tsv", *parts)
    shared = ("--pheno", folder / "s.txt", "--pheno-name", "ldl", "--covar", folder / "s.txt", "--covar-name", "age")
    glm = ("--glm", "hide-covar", "cols=chrom,pos,ref,alt,beta,se,p", "--covar-variance-standardize")
    peer = cpu("plink2", "--vcf", vcf, *shared, *glm, "--threads", 1, "--out", folder / "glm")
    theirs = {}
    for line in (folder / "glm.ldl.glm.linear").read_text().splitlines()[1:]:
        _, pos, _, _, alt, counted, beta, se, _ = line.split("\t")
        if beta != "NA":
            theirs[pos] = (float(beta) * (1 if counted == alt else -1), float(se))
    worst = 0.0
    for line in (folder / "g.tsv").read_text().splitlines()[2:]:
        cells = line.split("\t")
        if cells[1] in theirs and int(cells[6]) >= 20:
            difference = minus_log10_p(float(cells[11]), float(cells[12])) - minus_log10_p(*theirs[cells[1]])
            worst = max(worst, abs(difference))
    beside = f"{ours:.1f} s; {ours / peer:.2f} of plink2 {peer:.1f} s"
    return [
        Figure(f"gwas, {variants:,} variants of {people:,} people (at most 5 times plink2)", beside, ours <= 5 * peer),
        Figure("the same, largest difference of -log10 P (at most 1e-4)", f"{worst:.1e}", worst <= 1e-4),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=20_000)
    parser.add_argument("--people", type=int, default=2504)
    parser.add_argument("--variants", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=2_000_000, help="of a release in Parquet; the target's: 20 million")
    parser.add_argument("--only-genotypes", action="store_true", help="the rows about reading and regression only")
    parser.add_argument("--only-columns", action="store_true", help="the rows about Parquet only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = [] if options.only_genotypes else columns_figures(folder, options.rows, options.people)
        if options.only_columns:
            return verdict_of(figures)
        cohort(folder / "c.vcf.gz", options.sites, options.people)
        print(f"{options.sites:,} sites of {options.people:,} people, {(folder / 'c.vcf.gz').stat().st_size:,} bytes")
        figures += frequencies(folder / "c.vcf.gz", folder)
        figures += [] if options.only_genotypes else check_and_merge(folder / "release.json", folder)
        figures += association(folder, options.variants, options.people // 2)
    print("not measured here: variant-lookup through Airflow, rounds")
    return verdict_of(figures)


def verdict_of(figures: list[Figure]) -> int:
    for figure in figures:
        print(figure)
    return int(any(figure.good is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
