"""Variants by one name: contigs by the assembly's aliases, alleles trimmed. Keys are made so before they are compared
or remembered, because `2:8:AT:CT` and `chr2:8:A:C` are one variant.

An allele inside a repeat can also be written further left; that needs the reference sequence, which a gateway does not
have. Two placements of one indel in a repeat are two keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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
_SCAFFOLD = re.compile(
    r"(?:chr(?:[0-9]{1,2}|X|Y|Un)_)?((?:GL|JH|KB|KE|KI|KN|KQ|KV|KZ|ML|MU)[0-9]{6}|JTFH[0-9]{8})(?:[.v][0-9]+)?"
    r"(?:_(?:random|alt|fix|decoy))?",
    re.IGNORECASE,
)
"""GenBank's scaffolds as GRCh37, GRCh38, their patches and decoys name them, and UCSC: `chr1_KI270706v1_random`."""
_HAPLOTYPES = {  # hg19's names
    **{"CHR4_CTG9_HAP1": "GL000257", "CHR6_APD_HAP1": "GL000250", "CHR6_COX_HAP2": "GL000251"},
    **{"CHR6_DBB_HAP3": "GL000252", "CHR6_MANN_HAP4": "GL000253", "CHR6_MCF_HAP5": "GL000254"},
    **{"CHR6_QBL_HAP6": "GL000255", "CHR6_SSTO_HAP7": "GL000256", "CHR17_CTG5_HAP1": "GL000258"},
}
_OTHERS = {"CHREBV": "EBV", "EBV": "EBV", "NC_007605": "EBV", "HS37D5": "hs37d5", "HS38D1": "hs38d1"}
_HLA = re.compile(r"HLA-[A-Z0-9]{1,5}\*[0-9]{2,3}(:[0-9]{2,3}){1,3}[A-Z]?")  # of GRCh38 with HLA
UNFIT = ("unknown-contig", "two-names")  # why sites stay whose people are counted all the same
REGIONS_OF_X = ("25", "XY")  # plink's names of what X and Y share: beside X they name other positions


class Variant(NamedTuple):
    chrom: str
    pos: int  # of the first base of `ref`, from 1
    ref: str
    alt: str


@lru_cache(maxsize=4096)
def contig(name: str) -> str:
    """The contig's one name: `chr2`, `CHR2`, `02`, `NC_000002.11` and `CM000664.2` are `2`, `M` is `MT`. Names that are
    no known sequence's stay as they are, but for the letters that mark a statistic's or a table's key, and a short
    `chr`.
    """
    accession = _NCBI.sub("", name).upper().partition(".")[0].rstrip("|")
    if accession in _ACCESSIONS:
        return _ACCESSIONS[accession]
    short = re.sub(r"^chr(om(osome)?)?_?", "", name, flags=re.IGNORECASE).upper()
    short = short.lstrip("0") if short.isdigit() else short
    short = {"M": "MT", "23": "X", "24": "Y", "25": "X", "XY": "X", "26": "MT"}.get(short, short)
    if short in CHROMOSOMES:
        return short
    if other := _HAPLOTYPES.get(name.upper()) or _OTHERS.get(name.upper()) or _OTHERS.get(accession):
        return other
    if scaffold := _SCAFFOLD.fullmatch(name):
        return scaffold[1].upper()
    return normal(name, 1, "", "")[0].translate(_LETTERS)


def known(contig_: str) -> bool:
    """Whether a contig's one name is of a sequence that an assembly has. Of others nobody can say which names are of
    the same one.
    """
    named = contig_ in CHROMOSOMES or contig_ in _OTHERS.values()
    return named or _SCAFFOLD.fullmatch(contig_) is not None or _HLA.fullmatch(contig_) is not None


def unfit(names: Iterable[str]) -> dict[str, str]:
    """By the name of a contig in one file, why its sites stay: no assembly knows it, or the file has two names of it,
    so that one person's alleles stand in two places.
    """
    by_name: dict[str, set[str]] = {}
    for name in names:
        if re.sub("^chr", "", name.upper(), flags=re.IGNORECASE) not in REGIONS_OF_X:
            by_name.setdefault(contig(name), set()).add(name)
    found = {name: "two-names" for of in by_name.values() if len(of) > 1 for name in of}
    return found | {name: "unknown-contig" for one, of in by_name.items() if not known(one) for name in of}


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
