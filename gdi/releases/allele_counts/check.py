"""The disclosure check of `allele-counts`: which sites may leave. Pure functions over sites, the node's floor and what
left before.
"""

from __future__ import annotations

from gdi.contracts.variants import ALTERNATE, CONTIG, MAX_POS, REFERENCE, WITHHELD, whole
from gdi.releases.allele_counts.table import CLASSES, FORMAT, Row, Site
from gdi.releases.kind import Before

SMALL, LEDGER = "small-count", "ledger"

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["format", "sites", "withheld"],
    "additionalProperties": False,
    "properties": {
        "format": {"const": FORMAT},
        "withheld": {
            "type": "object",
            "additionalProperties": {"type": "integer", "minimum": 1},
            "propertyNames": {"enum": [SMALL, LEDGER, *WITHHELD]},
        },
        "sites": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["chrom", "pos", "ref", "alt", "ac", "an", *CLASSES],
                "additionalProperties": False,
                "properties": {
                    "chrom": {"type": "string", "pattern": whole(CONTIG)},
                    "pos": {"type": "integer", "minimum": 1, "maximum": MAX_POS},
                    "ref": {"type": "string", "pattern": whole(REFERENCE)},
                    "alt": {"type": "string", "pattern": whole(ALTERNATE)},
                    **{name: {"type": "integer", "minimum": 0} for name in ("ac", "an", *CLASSES)},
                },
            },
        },
    },
}


def key_of(row: Row) -> str:
    """What the ledger calls an allele: `chrom:pos:ref:alt`. No two alleles share a key, though a contig's name and a
    symbol may hold colons: only a symbol has `<` and ends in `>`, and bases hold no colon.
    """
    return f"{row.chrom}:{row.pos}:{row.ref}:{row.alt}"


def numbers_of(row: Row, site: Site) -> tuple[int, ...]:
    """Every count that a reader of the site's rows has or can work out directly for this allele. Each is of people or
    of their alleles.
    """
    reference = row.an - sum(r.ac for r in site.rows)
    people = row.hom_ref + row.het + row.hom_alt
    haploid = row.hemi_ref + row.hemi_alt
    direct = (row.ac, row.an, *row[6:])
    derived = (
        row.an - row.ac,  # the complement
        reference,
        row.half_alt,  # who, half-missing, carries this alt, and who carries another allele
        row.half_missing - row.half_alt,
        haploid - sum(r.hemi_alt for r in site.rows),  # haploid and half-missing people with the reference
        row.half_missing - sum(r.half_alt for r in site.rows),
        people,
        haploid,
        row.het + row.hom_alt,  # carriers, and who is no homozygote
        row.hom_ref + row.het,
        people + haploid + row.half_missing + row.missing,  # the cohort
    )
    return direct + derived


def small(site: Site, floor: int) -> bool:
    """Whether anything that a reader could learn of the site is non-zero and below `floor` (a negative number shows a
    false table: withheld as well).
    """
    return any(n != 0 and n < floor for row in site.rows for n in numbers_of(row, site))


def too_close(site: Site, floor: int, before: Before) -> bool:
    """Whether what left before differs from this by less than `floor`, so that the difference would tell of few
    people.
    """
    for row in site.rows:
        now = numbers_of(row, site)
        for then in before.get(key_of(row), ()):
            if any(0 < abs(a - b) < floor for a, b in zip(now, then, strict=False)):
                return True
    return False


def verdict(site: Site, floor: int, before: Before) -> str:
    """Empty where the site may leave, or why it may not. A site leaves whole or not at all: nothing can be subtracted
    to find a part.
    """
    if site.why:
        return site.why
    if small(site, floor):
        return SMALL
    return LEDGER if too_close(site, floor, before) else ""
