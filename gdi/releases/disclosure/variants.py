"""Variants by one name: contigs by the assembly's aliases, alleles trimmed. Keys are made so before they are compared
or remembered, because `2:8:AT:CT` and `chr2:8:A:C` are one variant.

An allele inside a repeat can also be written further left; that needs the reference sequence, which a gateway does not
have. Two placements of one indel in a repeat are two keys.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gdi.contracts.variants import normal

CHROMOSOMES = (*(str(n) for n in range(1, 23)), "X", "Y", "MT")
_REFSEQ = {f"NC_{number:06d}": name for number, name in enumerate(CHROMOSOMES[:24], 1)} | {"NC_012920": "MT"}
_GENBANK = {f"CM{662 + number:06d}": name for number, name in enumerate(CHROMOSOMES[:24], 1)} | {"J01415": "MT"}
_T2T = {f"NC_{60924 + number:06d}": name for number, name in enumerate(CHROMOSOMES[:24], 1)}
_T2T |= {f"CP{68278 - number:06d}": name for number, name in enumerate(CHROMOSOMES[:23], 1)}
_T2T |= {"CP086569": "Y", "CP068254": "MT"}
_ACCESSIONS = _REFSEQ | _GENBANK | _T2T
_NCBI = re.compile(r"(gi\|[0-9]+\|)?(ref|gb)\|")  # gi|568815597|ref|NC_000001.11|
_LETTERS = str.maketrans("|=", "()")  # no contig's name has brackets (VCF 4.3, 1.4.7)


class Variant(NamedTuple):
    chrom: str
    pos: int  # of the first base of `ref`, from 1
    ref: str
    alt: str


@lru_cache(maxsize=4096)
def contig(name: str) -> str:
    """The contig's one name: `chr2`, `CHR2`, `02`, `NC_000002.11` and `CM000664.2` are `2`, `M` is `MT`. Names that are
    no chromosome's stay as they are, but for the letters that mark a statistic's or a table's key, and a short `chr`.
    """
    accession = _NCBI.sub("", name).upper().partition(".")[0].rstrip("|")
    if accession in _ACCESSIONS:
        return _ACCESSIONS[accession]
    short = re.sub(r"^chr(om(osome)?)?_?", "", name, flags=re.IGNORECASE).upper()
    short = short.lstrip("0") if short.isdigit() else short
    short = {"M": "MT", "23": "X", "24": "Y", "25": "X", "XY": "X", "26": "MT"}.get(short, short)
    if short in CHROMOSOMES:
        return short
    return normal(name, 1, "", "")[0].translate(_LETTERS)


def normalise(variant: Variant) -> Variant:
    """The variant by its one name, alleles in capitals."""
    ref, alt = variant.ref.upper(), variant.alt.upper()
    if len(ref) == len(alt) == 1:  # most variants: nothing to trim
        return Variant(contig(variant.chrom), variant.pos, ref, alt)
    return Variant(*normal(contig(variant.chrom), variant.pos, ref, alt))


@lru_cache(maxsize=8192)  # a batch of sites is named when it is looked up, and again when it is judged
def key(variant: Variant) -> str:
    """What the ledger calls a variant: `chrom:pos:ref:alt`, normalised."""
    chrom, pos, ref, alt = normalise(variant)
    return f"{chrom}:{pos}:{ref}:{alt}"
