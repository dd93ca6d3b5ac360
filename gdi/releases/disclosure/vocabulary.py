"""What all kinds of release say of people, in one vocabulary of the ledger, so that it is compared in one place.

`allele-counts`: copies and carriers of an allele among a cohort; the key is the variant. `variant-statistics`: people
by copies, and by case and control, of one analysis; the key is the variant and the analysis. `table`: people by
categories; the key is `column=level&…`, `*` for everybody. `moments`: people, mean and variance of a variable in a
group; the key is `=variable|group`. `matrix`: sums of products of two columns; the key is `==column*column`, and
`==?…` of a question. A kind may speak in more than one: statistics of a variant say its allele count too, and how many
cases there are; moments say how many people a group has. What may tell about each other is of one topic: the alleles of
one position, `people`, or a variable.
"""

from __future__ import annotations

import hashlib

ALLELES, STATISTICS, TABLE, MOMENTS = "allele-counts", "variant-statistics", "table", "moments"
MATRIX = "matrix"
KINDS = (ALLELES, STATISTICS, TABLE, MOMENTS, MATRIX)  # whose numbers are compared with each other
PEOPLE, EVERYBODY = "people", "*"
PRODUCT, QUESTION = "==", "==?"  # how a matrix's keys begin
MAX_TOPIC = 24  # characters
LONGEST = 2000  # characters of a cell's key; longer ones are hashed


def words(kind: str, key: str) -> str:
    """Of which of these a cell of that kind is; a kind that is not among them speaks in its own."""
    if kind not in KINDS:
        return kind
    if key.startswith(PRODUCT):
        return MATRIX
    if key.startswith("="):  # no contig begins so, and no column
        return MOMENTS
    if "|" in key:
        return STATISTICS
    hashed = key.startswith("sha256:") and key.count(":") == 1  # an allele of a contig of that name has three
    return TABLE if key == EVERYBODY or "=" in key or hashed else ALLELES


def shortened(name: str, most: int = LONGEST) -> str:
    """The name, or its hash where it has more characters."""
    return name if len(name) <= most else "sha256:" + hashlib.sha256(name.encode()).hexdigest()


def topic(kind: str, key: str) -> str:
    """What the cell is about, in at most MAX_TOPIC characters (ASCII)."""
    spoken = words(kind, key)
    if spoken == TABLE:
        return PEOPLE
    if spoken == MATRIX and key.startswith(QUESTION):
        return QUESTION
    name = key.partition("|")[0] if spoken == MOMENTS else site(key) if spoken in (ALLELES, STATISTICS) else key
    return name if len(name) <= MAX_TOPIC else "#" + hashlib.sha256(name.encode()).hexdigest()[:20]


def site(key: str) -> str:
    """Contig and position of an allele's key, or of a statistic's. A symbol such as `<INS:ME:ALU>` has colons too."""
    place, symbol, _ = key.partition("|")[0].partition(":<")
    return place.rsplit(":", 1 if symbol else 2)[0]
