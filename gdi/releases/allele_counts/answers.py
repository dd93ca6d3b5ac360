"""What a reader is told of an allele, and what the ledger keeps of it."""

from __future__ import annotations

from typing import NamedTuple

from gdi.releases.allele_counts.table import CLASSES
from gdi.releases.disclosure.floor import Range
from gdi.releases.disclosure.past import Numbers
from gdi.releases.kind import Cell

SMALL, MISSING = "small", "missing"
COPIES = 2  # of an allele, that one person has at most
UNKNOWN = -1  # copies of a cell that a version of before wrote


class AlleleAnswer(NamedTuple):
    """An allele of a site as it is answered. `reason`: empty, SMALL or MISSING; `rare`: the allele that few people of
    this node carry, `ref` or `alt`, where the reason is SMALL. `people`: carriers, carriers of any other allele, people
    without a whole call, people with one allele, all: they stay in the node's ledger. `classes`: people by CLASSES,
    empty where they stay; `copies`: what AC is, told or not.
    """

    key: str
    chrom: str
    pos: int
    ref: str
    alt: str
    ac: Range
    an: Range
    reason: str = ""
    rare: str = ""
    people: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    classes: tuple[int, ...] = ()
    copies: int = 0

    @property
    def cell(self) -> Cell:
        """What the ledger remembers: ac_min, ac_max, an_min, an_max, the code of the reason, `people`, then `classes`
        of an exact answer, or `copies` of another.
        """
        code = CODES.index((self.reason, self.rare))
        numbers: Numbers = (self.ac.low, self.ac.high, self.an.low, self.an.high, code, *self.people)
        numbers += self.classes if self.ac.exact else (self.copies,)
        return Cell(self.key, numbers)


CODES = [("", ""), (SMALL, "alt"), (SMALL, "ref"), (MISSING, ""), (SMALL, "")]
NOW = 10  # numbers of an exact cell without classes; of another, one more
OLD = 23  # numbers of a cell that left before version 0.3: ac, an, seven classes, and what followed from them


def modern(numbers: Numbers) -> Numbers:
    """A cell's numbers as they are written now, of those that a release before version 0.3 left."""
    if len(numbers) in (NOW, NOW + 1, NOW + len(CLASSES)):
        return numbers
    if len(numbers) != OLD:  # of a version that nobody runs: exact, of nobody knows how many people
        return (numbers[0], numbers[0], *numbers[1:2] * 2, 0, 0, 0, 0, 0, 0)
    ac, an, hom_ref, het, hom_alt, hemi_ref, hemi_alt, half, missing = numbers[:9]
    half_alt = ac - het - 2 * hom_alt - hemi_alt
    carriers, others = het + hom_alt + hemi_alt + half_alt, hom_ref + het + hemi_ref + half - half_alt
    haploid, whole = hemi_ref + hemi_alt, hom_ref + het + hom_alt
    return (ac, ac, an, an, 0, carriers, others, half + missing, haploid, whole + haploid + half + missing)


def ac_exact(numbers: Numbers) -> bool:
    """Whether a cell told AC."""
    return numbers[0] == numbers[1]


def of_cell(one: AlleleAnswer, numbers: Numbers) -> AlleleAnswer:
    """The answer that a cell is of; place and alleles are those of `one`."""
    numbers = modern(numbers)
    low, high, an_low, an_high, code, mine, other, incomplete, haploid, everybody, *more = numbers
    reason, rare = CODES[code]
    return one._replace(
        ac=Range(low, high),
        an=Range(an_low, an_high),
        reason=reason,
        rare=rare,
        people=(mine, other, incomplete, haploid, everybody),
        classes=tuple(more) if len(more) > 1 else (),
        copies=low if low == high else more[0] if len(more) == 1 else UNKNOWN,
    )


def with_an(one: AlleleAnswer, an: Range) -> AlleleAnswer:
    """The answer with an interval for AN. Where AC was told as what the rare reference leaves of AN, it would tell AN:
    it is widened by as much.
    """
    ac = one.ac
    if one.rare == "ref":
        ac = Range(max(0, ac.low - (one.an.low - an.low)), ac.high + an.high - one.an.high)
    return one._replace(ac=ac, an=an)
