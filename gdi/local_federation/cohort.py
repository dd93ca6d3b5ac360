"""A cohort for the federation: splits a VCF by sample over the nodes, and counts it whole with bcftools, outside the
federation, to compare.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pysam
import pysam.bcftools

pysam.set_verbosity(1)  # htslib speaks to standard error about every oddity of old headers
FIXED = 9  # CHROM … FORMAT


class CohortError(Exception):
    """The VCF cannot be used; says why and what to do."""


@dataclass(frozen=True)
class CohortSite:
    chrom: str
    pos: int
    ref: str
    alt: str


def open_text(vcf: Path) -> IO[str]:
    with vcf.open("rb") as raw:
        magic = raw.read(2)
    return gzip.open(vcf, "rt") if magic == b"\x1f\x8b" else vcf.open("rt")


def _lines(vcf: Path) -> Iterator[str]:
    try:
        with open_text(vcf) as file:
            yield from file
    except FileNotFoundError:
        raise CohortError(f"{vcf} does not exist; give --vcf a VCF or VCF.gz file with genotypes") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise CohortError(f"{vcf} cannot be read as a VCF: {error}") from None


def split(vcf: Path, outputs: list[Path]) -> list[int]:
    """Writes every n-th sample to one of `outputs` (bgzipped VCF), all sites to each. The numbers of samples;
    CohortError where it cannot be split.
    """
    for output in outputs:
        output.parent.mkdir(parents=True, exist_ok=True)
    files = [pysam.BGZFile(str(o), "wb") for o in outputs]
    counts: list[int] = []
    try:
        for number, line in enumerate(_lines(vcf), start=1):
            if line.startswith("##"):
                for file in files:
                    file.write(line.encode())
                continue
            fields = line.rstrip("\r\n").split("\t")
            if line.startswith("#CHROM"):
                samples = len(fields) - FIXED
                if samples < len(outputs):
                    raise CohortError(
                        f"{vcf} has {max(samples, 0)} samples; at least one for each of the {len(outputs)} nodes is"
                        " needed"
                    )
                counts = [len(fields[FIXED + i :: len(outputs)]) for i in range(len(outputs))]
            elif not counts:
                raise CohortError(f"{vcf} line {number}: no #CHROM header line before the first record")
            for i, file in enumerate(files):
                file.write(("\t".join(fields[:FIXED] + fields[FIXED + i :: len(outputs)]) + "\n").encode())
    finally:
        for file in files:
            file.close()
    if not counts:
        raise CohortError(f"{vcf} has no #CHROM header line; is it a VCF?")
    return counts


def pooled(vcf: Path, folder: Path) -> dict[CohortSite, tuple[int, int]]:
    """(AC, AN) of every alternate allele over the whole file, by bcftools: it recounts them when samples are selected,
    so all are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = folder / "samples.txt"
    with open_text(vcf) as file:
        header = next((line for line in file if line.startswith("#CHROM")), "")
    names.write_text("\n".join(header.rstrip("\r\n").split("\t")[FIXED:]) + "\n")
    counted = folder / "pooled.vcf"
    pysam.bcftools.view("-S", str(names), "-o", str(counted), str(vcf), catch_stdout=False)
    table = pysam.bcftools.query("-f", "%CHROM\t%POS\t%REF\t%ALT\t%INFO/AC\t%INFO/AN\n", str(counted))
    counted.unlink()
    answer: dict[CohortSite, tuple[int, int]] = {}
    for line in table.splitlines():
        chrom, pos, ref, alts, acs, an = line.split("\t")
        if alts == ".":
            continue
        for alt, ac in zip(alts.split(","), acs.split(","), strict=True):
            answer[CohortSite(chrom, int(pos), ref, alt)] = (int(ac), int(an))
    return answer
