"""How a variant is written in a release: contig, reference and alternate allele. The node that releases and the
coordinator that merges use the same patterns.
"""

from __future__ import annotations

CONTIG = r"[A-Za-z0-9._]{1,32}"
REFERENCE = r"[ACGTN*]{1,1000}"
"""Bases only: a symbolic allele such as `<DEL>` stands in ALT, never in REF (VCF 4.3, 1.6.1)."""
ALTERNATE = r"[ACGTN*]{1,1000}|<[A-Z0-9:]{1,20}>"


def whole(pattern: str) -> str:
    """The pattern anchored at both ends, as JSON Schema and pydantic need it."""
    return f"^({pattern})$"
