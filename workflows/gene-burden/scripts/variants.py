"""How a variant is written in a release, and which variants a release cannot name. Standard library only: the node that
releases and the coordinator that merges import it, and a workflow that counts carries it as a file of its own
(`workflows/allele-frequency/scripts/variants.py`, equal byte for byte).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

BASES = "ACGTNRYSWKMBDHV"
"""Letters of a base: REF of GRCh37 and GRCh38 has M, R and others of IUPAC's codes."""
_NAME = (
    r"0-9A-Za-z!#$%&*+./:;=?@^_|~-"  # the letters of a contig's name (VCF 4.3, 1.4.7); `*`, `=`, `#` are never first
)
CONTIG = rf"[0-9A-Za-z!$%&+./:;?@^_|~-][{_NAME}]{{0,31}}"
REFERENCE = rf"[{BASES}]{{1,1000}}"
"""Bases only: a symbolic allele such as `<DEL>` stands in ALT, never in REF (VCF 4.3, 1.6.1)."""
ALTERNATE = rf"[{BASES}*]{{1,1000}}|<[0-9A-Z*+.:_-]{{1,64}}>"
"""Symbols in capitals, as VCF reserves them (`<INS:ME:ALU>`): small letters would only be room for other messages."""
MAX_POS = 2**31 - 1
"""The last position of BCF and of htslib's 32-bit indexes. 0 stands for a telomere (VCF 4.3, 1.6.1), not for a base."""
REFERENCE_BLOCKS = frozenset({"<NON_REF>", "<*>", "<X>"})
"""Stand in ALT for "no other allele was seen" (gVCF, mpileup): they are no alternate allele."""

WITHHELD = {
    "contig-name": "a contig's name is not of the VCF specification's letters, or longer than 32",
    "position": f"a position is 0 or above {MAX_POS}: it is no base of a contig",
    "allele-too-long": "an allele is longer than 1000 bases, or a symbol longer than 64 letters",
    "breakend": "an allele is a breakend, which a release cannot name",
    "allele-name": "an allele is neither of bases nor a symbol of capitals and digits in <>",
    "beside-unnamed": "an allele that could be named is on a line with one that cannot",
    "repeated-allele": "an allele stands twice on one line",
    "polyploid": "somebody's genotype has more than two alleles: its classes count people by two copies at most",
    "duplicate-site": "an allele of the site is on two lines of one file: its people would count twice",
    "rows-disagree": "the lines of the site's alleles were called for different people",
    "not-in-every-dataset": "a dataset of the node lacks the site, and absent does not mean reference there",
}
"""Why a site cannot be counted or named, for the node's own pages: a few sites of a file do not stop the others."""
UNNAMED_BESIDE = frozenset({"breakend", "allele-name", "allele-too-long"})
"""Reasons of one allele, beside which another may stand."""

_CONTIG, _REFERENCE, _ALTERNATE = (re.compile(p) for p in (CONTIG, REFERENCE, ALTERNATE))
_BREAKEND = re.compile(r"[^<>]*[\[\]].*|\.[A-Za-z]+|[A-Za-z]+\.")
_PREFIX = re.compile(r"chr", re.IGNORECASE)


class Counted(NamedTuple):
    """What of a row does not depend on its alternate allele (`people`: with a full diploid call), with its `ac`."""

    alt: str
    ac: int
    an: int
    people: int
    half_missing: int
    missing: int


def whole(pattern: str) -> str:
    """The pattern anchored at both ends, as JSON Schema and pydantic need it."""
    return f"^({pattern})$"


def why_unnamed(chrom: str, pos: int, ref: str, alts: Collection[str]) -> str:
    """A key of WITHHELD where a release cannot name this line of a VCF, alleles in capitals; empty where it can."""
    if not _CONTIG.fullmatch(chrom):
        return "contig-name"
    if not 1 <= pos <= MAX_POS:
        return "position"
    for allele, form in ((ref, _REFERENCE), *((alt, _ALTERNATE) for alt in alts)):
        if not form.fullmatch(allele):
            if _BREAKEND.fullmatch(allele):
                return "breakend"
            return "allele-too-long" if len(allele) > 64 else "allele-name"
    return "repeated-allele" if len({ref, *alts}) <= len(alts) else ""


def why_uncounted(chrom: str, pos: int, ref: str, alts: Collection[str]) -> str:
    """As `why_unnamed`, and `beside-unnamed` where an allele of such a line could be named on a line of its own."""
    why = why_unnamed(chrom, pos, ref, alts)
    if why in UNNAMED_BESIDE:
        forms = (normal(chrom, pos, ref, alt) for alt in alts if alt not in REFERENCE_BLOCKS)
        if any(not why_unnamed(*form[:3], form[3:]) for form in forms):
            return "beside-unnamed"
    return why


def normal(chrom: str, pos: int, ref: str, alt: str) -> tuple[str, int, str, str]:
    """One form for each way to write an allele: contig without `chr`, mitochondria as MT, alleles without the bases at
    their ends that both have. Left-alignment would need the reference genome.
    """
    contig = _PREFIX.sub("", chrom, count=1) if len(chrom) <= 5 else chrom
    if not alt.startswith("<") and alt != "*":
        while len(ref) > 1 and len(alt) > 1 and ref[-1] == alt[-1]:
            ref, alt = ref[:-1], alt[:-1]
        while len(ref) > 1 and len(alt) > 1 and ref[0] == alt[0]:
            ref, alt, pos = ref[1:], alt[1:], pos + 1
    return ("MT" if contig in ("M", "MT", "m", "mt") else contig), pos, ref, alt


def why_not_one(rows: Sequence[Counted]) -> str:
    """A key of WITHHELD where these rows of one (chrom, pos, ref) cannot be those of one group of people: an allele has
    two rows, the people differ, or the alternate alleles are more than all. Empty where they can.
    """
    if len({row.alt for row in rows}) != len(rows):
        return "duplicate-site"
    if len({row[2:] for row in rows}) > 1 or sum(row.ac for row in rows) > max((row.an for row in rows), default=0):
        return "rows-disagree"
    return ""
