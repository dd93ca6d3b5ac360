"""A cohort for the federation: splits a VCF by sample over the nodes, and counts it whole with bcftools, outside the
federation, to compare.
"""

from __future__ import annotations

import gzip
import shutil
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


def index(vcf: Path) -> Path | None:
    """The tabix index that is made beside a bgzipped VCF; None where its lines are not in order."""
    try:
        pysam.tabix_index(str(vcf), preset="vcf", force=True)
    except OSError:
        return None
    return vcf.with_name(f"{vcf.name}.tbi")


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
    so all are. CohortError where bcftools does not read it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names, plain, counted = folder / "samples.txt", folder / "genotypes.vcf", folder / "pooled.vcf"
    names.write_text("\n".join(_genotypes_only(vcf, plain)) + "\n")
    try:
        pysam.bcftools.view("-S", str(names), "-o", str(counted), str(plain), catch_stdout=False)
        table = pysam.bcftools.query("-f", "%CHROM\t%POS\t%REF\t%ALT\t%INFO/AC\t%INFO/AN\n", str(counted))
    except pysam.SamtoolsError as error:
        raise CohortError(
            f"{vcf}: bcftools does not read it, so nothing can be compared: {str(error)[-300:]}"
        ) from None
    finally:
        plain.unlink(missing_ok=True)
        counted.unlink(missing_ok=True)
    answer: dict[CohortSite, tuple[int, int]] = {}
    for line in table.splitlines():
        chrom, pos, ref, alts, acs, an = line.split("\t")
        if alts == ".":
            continue
        for alt, ac in zip(alts.split(","), acs.split(","), strict=True):
            named = alt if alt.startswith("<") else alt.upper()  # as the nodes name it
            answer[CohortSite(chrom, int(pos), ref.upper(), named)] = (int(ac), int(an))
    return answer


def _genotypes_only(vcf: Path, out: Path) -> list[str]:
    """Writes the file's genotypes with a header of their own: bcftools counts nothing where a contig or a tag is not
    declared. The samples' names; CohortError naming the line that is no record.
    """
    samples: list[str] = []
    contigs: dict[str, None] = {}
    body = out.with_suffix(".body")
    try:
        with body.open("w", encoding="utf-8") as rows:
            for number, line in enumerate(_lines(vcf), start=1):
                cells = line.rstrip("\r\n").split("\t")
                if line.startswith("#CHROM"):
                    samples = cells[FIXED:]
                if line.startswith("#") or not line.strip():
                    continue
                if not samples or len(cells) != FIXED + len(samples):
                    raise CohortError(f"{vcf} line {number}: {len(cells)} columns instead of {FIXED + len(samples)}")
                contigs[cells[0]] = None
                keys = cells[8].split(":")
                at = keys.index("GT") if "GT" in keys else len(line)
                calls = [(cell.split(":")[at : at + 1] or ["."])[0] for cell in cells[FIXED:]]
                rows.write("\t".join([*cells[:2], ".", *cells[3:5], ".", ".", ".", "GT", *calls]) + "\n")
        with out.open("w", encoding="utf-8") as whole, body.open(encoding="utf-8") as rows:
            whole.write('##fileformat=VCFv4.2\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n')
            whole.writelines(f"##contig=<ID={contig}>\n" for contig in contigs)
            fixed = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
            whole.write("\t".join([*fixed, *samples]) + "\n")
            shutil.copyfileobj(rows, whole)
    finally:
        body.unlink(missing_ok=True)
    return samples
