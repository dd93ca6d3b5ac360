"""`node-gateway epoch persons`: the ids of decrypted VCF files of a dataset, and who of them is one person twice."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from gdi.releases.disclosure import duplicates
from gdi.releases.disclosure.duplicates import Copies, TooFewSitesError
from gdi.releases.disclosure.variants import Variant
from node_gateway.epochs.persons import PersonsError

MAX_SITES = 2_000_000


def read(files: Sequence[Path]) -> tuple[list[str], list[tuple[str, str]]]:
    """(ids, pairs of ids that are one person) of files that have the same samples, or of each other's regions.
    PersonsError naming the file; it never names an id.
    """
    ids: list[str] = []
    sites: list[tuple[Variant, Copies]] = []
    for file in files:
        samples, found = _file(file)
        if ids and samples != ids:
            raise PersonsError(f"{file} has other samples than {files[0]}, or in another order")
        ids = samples
        sites += found
    try:
        chosen = duplicates.common(sites)
    except TooFewSitesError as error:
        raise PersonsError(f"{', '.join(map(str, files))}: {error}") from None
    return ids, duplicates.pairs(duplicates.genomes(ids, chosen))


def _file(file: Path) -> tuple[list[str], list[tuple[Variant, Copies]]]:
    samples: list[str] = []
    sites: list[tuple[Variant, Copies]] = []
    try:
        with _opened(file) as lines:
            for line in lines:
                if line.startswith("#CHROM"):
                    samples = line.rstrip("\n").split("\t")[9:]
                elif not line.startswith("#") and (site := _site(line.rstrip("\n").split("\t"))) is not None:
                    sites.append(site)
                    if len(sites) > MAX_SITES:
                        raise PersonsError(f"{file} has more than {MAX_SITES} sites: give a part of it")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise PersonsError(f"{file} cannot be read: {type(error).__name__}") from None
    if not samples or any(len(copies) != len(samples) for _, copies in sites):
        raise PersonsError(f"{file} is no VCF with genotypes")
    return samples, sites


def _opened(file: Path) -> IO[str]:
    with file.open("rb") as start:
        zipped = start.read(2) == b"\x1f\x8b"
    return gzip.open(file, "rt", encoding="utf-8") if zipped else file.open(encoding="utf-8")


def _site(cells: list[str]) -> tuple[Variant, Copies] | None:
    """A site with one alternate base and diploid genotypes; None for every other."""
    if len(cells) < 10 or len(cells[3]) != 1 or len(cells[4]) != 1 or not cells[1].isdigit():
        return None
    copies = [_copies(cell.partition(":")[0]) for cell in cells[9:]]
    called = [one for one in copies if one >= 0]
    frequency = sum(called) / max(2 * len(called), 1)
    if not duplicates.COMMON[0] <= frequency <= duplicates.COMMON[1]:
        return None
    return Variant(cells[0], int(cells[1]), cells[3], cells[4]), copies


def _copies(genotype: str) -> int:
    alleles = genotype.replace("|", "/").split("/")
    return alleles.count("1") if len(alleles) == 2 and set(alleles) <= {"0", "1"} else -1


def lines(files: Sequence[Path], out: Path | None) -> tuple[str, bool]:
    """What the operator reads, and whether nobody is there twice. `out` gets the ids, one a line (mode 0600)."""
    ids, twins = read(files)
    if twins:
        text = "\n".join(f"- {one} and {other}" for one, other in twins[:100])
        return f"duplicate-people: {len(twins)} pairs of ids have the genotypes of one person:\n{text}", False
    if out is not None:
        out.touch(mode=0o600)
        out.write_text("".join(f"{one}\n" for one in ids), encoding="utf-8")
    where = f" Their ids are in {out}, for `epoch open --persons`." if out else ""
    return f"{len(ids)} people, none of them twice.{where}", True
