"""The node's half of `variant-statistics`: enough people of each genotype, also among cases and controls; an effect,
its standard error and the frequency leave, with five digits. Whoever knows these can solve them for the genotype
counts, so they are judged, and kept in the ledger, as if the counts themselves left.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import IO

from gdi.releases.allele_counts.answers import AlleleAnswer, of_cell
from gdi.releases.allele_counts.beside import Beside
from gdi.releases.disclosure import people, vocabulary
from gdi.releases.disclosure.floor import Range, few
from gdi.releases.disclosure.past import Numbers, Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.variants import Variant, key, unfit
from gdi.releases.kind import Cell, CheckedUnits, FormatError, NodeHalf, Rules, Scope
from gdi.releases.variant_statistics import table
from gdi.releases.variant_statistics.table import RELEASED, Analysis, StatisticsRow

LEAST_PEOPLE, LEAST_CARRIERS = 50, 20
CASES = ("true", "1", "yes", "case")  # levels that mean yes


@lru_cache(maxsize=16)  # asked for several times of each variant
def digest_of(analysis: Analysis) -> str:
    """What the ledger calls an analysis, of whichever people: 16 hex digits."""
    return hashlib.sha256(analysis.question.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Tested:
    """A variant with the analysis that it is of."""

    row: StatisticsRow
    analysis: Analysis
    why: str = ""  # why it stays, whatever its numbers

    @property
    def variant(self) -> str:
        """What the ledger calls the allele."""
        return key(Variant(*self.row[:4]))

    @property
    def key(self) -> str:
        """What the ledger calls it: the variant under this analysis."""
        return f"{self.variant}|{digest_of(self.analysis)}"

    @property
    def allele(self) -> AlleleAnswer:
        """What it says of the allele: its count among these people."""
        row = self.row
        copies = row.carriers + row.people - row.others
        counts = row.carriers, row.others, self.analysis.people - row.people, 0, self.analysis.people
        ac, an = Range(copies, copies), Range(2 * row.people, 2 * row.people)
        return AlleleAnswer(self.variant, *row[:4], ac, an, people=counts, copies=copies)


class VariantStatisticsNode(NodeHalf[Tested, Tested]):
    columns = RELEASED

    def read(self, file: IO[bytes], rules: Rules) -> list[Tested]:
        if rules.membership not in ("contract", "public"):
            raise FormatError("statistics by variant leave only where membership is contract or public")
        analysis = table.analysis(file.readline(table.MAX_HEAD))
        for number, column in enumerate((analysis.phenotype, *analysis.covariates)):
            if column not in rules.columns:
                what = f"covariate {number}" if number else "the phenotype"
                raise FormatError(f"line 1: {what} is not a column that this node declares")
        found = sorted(table.rows(file, analysis, max_rows=rules.max_rows))
        header(analysis, rules)
        sites = [vocabulary.site(key(Variant(*row[:4]))) for row in found]
        times, odd, crowd = Counter(sites), unfit({row.chrom for row in found}), crowded(found, rules)
        whys = [
            odd.get(row.chrom) or ("duplicate-site" if times[site] > 1 else "small" if row in crowd else "")
            for row, site in zip(found, sites, strict=True)
        ]
        return [Tested(row, analysis, why) for row, why in zip(found, whys, strict=True)]

    def keys(self, unit: Tested) -> list[str]:
        return [unit.variant, unit.key, vocabulary.EVERYBODY]

    def scope(self, units: Sequence[Tested]) -> Scope:
        people = units[0].analysis.people if units else 0
        return Scope(people, fewest=people)

    def check(self, units: Sequence[Tested], rules: Rules, past: Past) -> CheckedUnits[Tested]:
        checked = CheckedUnits[Tested]([], Counter[str]())
        counts = header(units[0].analysis, rules) if units else {}
        people.admit(counts, rules, past)
        for unit in units:
            same = past.same(unit.key, rules.off)
            if same is not None and (unit_again := again(unit, same)) is not None:
                checked.released.append(unit_again)
            elif why := why_not(unit, rules, past):
                checked.withheld[why] += 1
            else:
                checked.released.append(unit)
        if checked.released:
            checked.kept.extend(people.cells(counts))
        return checked

    def cells(self, left: Tested) -> list[Cell]:
        effect = left.row.frequency, left.row.beta, left.row.se
        numbers = (*left.row.counts, *(part for number in effect for part in whole(number)))
        return [Cell(left.key, numbers), left.allele.cell]

    def write(
        self, out: IO[bytes], left: Iterable[Tested], withheld: Mapping[str, int], scope: Scope, rules: Rules
    ) -> None:
        """The analysis, a heading, a line for each variant."""
        analysis: Analysis | None = None
        for unit in left:
            if analysis is None:
                analysis = unit.analysis
                out.write((analysis.line + "\n" + "\t".join(RELEASED) + "\n").encode())
            out.write(("\t".join(text_of(unit.row, analysis.people, rules.floor)) + "\n").encode())
        if analysis is None:
            out.write(("#" + "{}" + "\n" + "\t".join(RELEASED) + "\n").encode())

    def rows(self, file: IO[bytes], start: int, count: int) -> list[tuple[str | int | float, ...]]:
        return [tuple(line.decode().rstrip("\n").split("\t")) for line in islice(file, 2 + start, 2 + start + count)]


def header(of: Analysis, rules: Rules) -> dict[str, int]:
    """What the first line says of people, as cells of a table. FormatError where the model is none for the phenotype:
    the effect of a category in a linear model is a sum over its people.
    """
    counts = {vocabulary.EVERYBODY: of.people}
    if of.model == "linear":
        if of.phenotype not in rules.numbers and Rule.NUMBERS not in rules.off:
            raise FormatError("line 1: a linear model is for a number; for a category with two levels choose logistic")
        return counts
    levels = rules.levels.get(of.phenotype, ())
    cases = [level for level in levels if level.lower() in CASES]
    if len(levels) != 2 or len(cases) != 1:
        raise FormatError("line 1: a logistic model is for a category with two levels, one of which means yes")
    (other,) = set(levels) - set(cases)
    return counts | people.of_category(of.phenotype, cases[0], of.cases, of.people, other)


def again(unit: Tested, same: Numbers) -> Tested | None:
    """The same question gets what left, whatever the file says now. None of a ledger that does not have it."""
    if len(same) != 12:
        return None
    counts, parts = same[:6], same[6:]
    frequency, beta, se = (float(f"{parts[i]}e{parts[i + 1]}") for i in (0, 2, 4))
    return replace(unit, row=StatisticsRow._make((*unit.row[:4], *counts, frequency, beta, se, unit.row.largest)))


def crowded(rows: Sequence[StatisticsRow], rules: Rules) -> frozenset[StatisticsRow]:
    """Of sorted rows, those of records that overlap others, all of which leave few people for another allele."""
    near: list[StatisticsRow] = []
    found: set[StatisticsRow] = set()
    for row in rows:
        near = [one for one in near if one.chrom == row.chrom and row.pos < one.pos + len(one.ref)] + [row]
        rest = 2 * min(one.people for one in near) - sum(one.carriers + one.people - one.others for one in near)
        if len(near) > 1 and (rest + 1) // 2 < rules.floor and Rule.OTHER_ALLELE not in rules.off:
            found.update(near)
    return frozenset(found)


def whole(number: float) -> tuple[int, int]:
    """A number with five digits, as two whole ones: digits and exponent of ten."""
    digits, _, exponent = f"{number:.4e}".partition("e")
    return int(digits.replace(".", "")), int(exponent) - 4


def classes(people_: int, carriers: int, others: int) -> tuple[int, int, int]:
    """People with no, one and two copies."""
    return people_ - carriers, carriers + others - people_, people_ - others


def beyond_one(row: StatisticsRow, binary: bool) -> list[int]:
    """Carriers of a gene who do not carry its commonest rare allele, of all, and among cases and controls: what the
    gene tells beside that allele's own count.
    """
    carriers = row.carriers, row.cases_carriers, row.carriers - row.cases_carriers
    beyond = [many - one for many, one in zip(carriers, row.largest, strict=True)]
    return beyond if binary else beyond[:1]


def why_not(unit: Tested, rules: Rules, past: Past) -> str:
    """Why the variant stays; empty where it leaves."""
    row, floor = unit.row, rules.floor
    if unit.why:
        return unit.why
    if row.people < LEAST_PEOPLE:
        return "few-people"
    least = max(LEAST_CARRIERS, floor)
    groups = [(row.people, row.carriers, row.others)]
    if unit.analysis.model == "logistic":
        cases = row.cases, row.cases_carriers, row.cases_others
        controls = row.people - cases[0], row.carriers - cases[1], row.others - cases[2]
        groups = [cases, controls]
    if min(min(group[1:]) for group in groups) < least:
        return "small"
    if Rule.GENOTYPES not in rules.off:
        if unit.analysis.burden is None and min(min(classes(*group)) for group in groups) < floor:
            return "small"
        if unit.analysis.burden is not None and min(beyond_one(row, len(groups) > 1)) < floor:
            return "small"
        without = unit.analysis.people - row.people, unit.analysis.cases - row.cases
        if any(few(number, floor) for number in (*without, without[0] - without[1])):
            return "small"
    return "" if Rule.KINDS in rules.off or passes(unit, rules, past) else "overlap"


def passes(unit: Tested, rules: Rules, past: Past) -> bool:
    """Whether the variant may be told of beside what left of the same people in any kind of release: the very same
    people, whose count was exact; else as a count of the allele may, and not beside genotypes of others.
    """
    allele, same = unit.allele, past.same(unit.variant, rules.off)
    if same is not None:
        before = of_cell(allele, same)
        return before.ac.exact and before.an.exact and before.people[:2] == allele.people[:2]
    spoken = past.topics.get(vocabulary.topic(vocabulary.STATISTICS, unit.key), ())
    for name in spoken:
        exposed = "|" in name or any(of_cell(allele, numbers).classes for _, numbers in past.statements(name))
        if exposed and any(past.own & cohort for cohort, _ in past.statements(name)):
            return False
    told_as = Beside(past, rules, {unit.variant}).answer(allele)
    return told_as.ac.exact and told_as.an.exact and not told_as.reason


def text_of(row: StatisticsRow, people: int, floor: int) -> tuple[str, ...]:
    """What leaves. Where one to floor - 1 people were not called, N is the fewest that it may be and AF has two
    decimals, so that neither tells how many they are.
    """
    few = 0 < people - row.people < floor
    n = people - floor + 1 if few else row.people
    frequency = f"{row.frequency:.2f}" if few else f"{row.frequency:.5g}"
    return (row.chrom, str(row.pos), row.ref, row.alt, str(n), frequency, f"{row.beta:.5g}", f"{row.se:.5g}")
