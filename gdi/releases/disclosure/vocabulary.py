"""What all kinds of release say of people, in one vocabulary of the ledger, so that it is compared in one place.

`allele-counts`: copies and carriers of an allele among a cohort; the key is the variant. `variant-statistics`: people
by copies, and by case and control, of one analysis; the key is the variant and the analysis. `table`: people by
categories; the key is `column=level&…`, `*` for everybody. A kind may speak in more than one: statistics of a variant
say its allele count too, and how many cases there are. What may tell about each other is of one topic: the alleles of
one position, or `people`.
"""

from __future__ import annotations

import hashlib

ALLELES, STATISTICS, TABLE = "allele-counts", "variant-statistics", "table"
KINDS = (ALLELES, STATISTICS, TABLE)  # whose numbers are compared with each other
PEOPLE, EVERYBODY = "people", "*"
MAX_TOPIC = 24  # characters


def words(kind: str, key: str) -> str:
    """Of which of these a cell of that kind is; a kind that is not among them speaks in its own."""
    if kind not in KINDS:
        return kind
    if "|" in key:
        return STATISTICS
    return TABLE if key == EVERYBODY or "=" in key or key.startswith("sha256:") else ALLELES


def topic(kind: str, key: str) -> str:
    """What the cell is about, in at most MAX_TOPIC characters (ASCII)."""
    spoken = words(kind, key)
    if spoken == TABLE:
        return PEOPLE
    name = site(key) if spoken in KINDS else key
    return name if len(name) <= MAX_TOPIC else "#" + hashlib.sha256(name.encode()).hexdigest()[:20]


def site(key: str) -> str:
    """Contig and position of an allele's key, or of a statistic's."""
    return key.partition("|")[0].rsplit(":", 2)[0]
