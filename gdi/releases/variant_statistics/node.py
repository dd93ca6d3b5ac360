"""The node's half of `variant-statistics`: enough people and carriers of each allele, also among cases and controls; an
effect, its standard error and the frequency leave, with five digits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO

from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.variants import Variant, key
from gdi.releases.kind import Cell, CheckedUnits, FormatError, NodeHalf, Rules, Scope
from gdi.releases.variant_statistics import table
from gdi.releases.variant_statistics.table import RELEASED, Analysis, StatisticsRow

LEAST_PEOPLE, LEAST_CARRIERS = 50, 20


@dataclass(frozen=True)
class Tested:
    """A variant with the analysis that it is of."""

    row: StatisticsRow
    analysis: Analysis
    twice: bool = False

    @property
    def key(self) -> str:
        """What the ledger calls it: the variant under this analysis."""
        what = hashlib.sha256(self.analysis.model_dump_json(exclude={"people", "cases"}).encode()).hexdigest()[:16]
        return f"{key(Variant(*self.row[:4]))}|{what}"


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
        names = Counter(key(Variant(*row[:4])) for row in found)
        return [Tested(row, analysis, names[key(Variant(*row[:4]))] > 1) for row in found]

    def keys(self, unit: Tested) -> list[str]:
        return [unit.key]

    def scope(self, units: Sequence[Tested]) -> Scope:
        people = units[0].analysis.people if units else 0
        return Scope(people, fewest=people)

    def check(self, units: Sequence[Tested], rules: Rules, past: Past) -> CheckedUnits[Tested]:
        checked = CheckedUnits[Tested]([], Counter[str]())
        for unit in units:
            why = why_not(unit, rules, past)
            if why:
                checked.withheld[why] += 1
            else:
                checked.released.append(unit)
        return checked

    def cells(self, left: Tested) -> list[Cell]:
        return [Cell(left.key, left.row.counts)]

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


def why_not(unit: Tested, rules: Rules, past: Past) -> str:
    """Why the variant stays; empty where it leaves."""
    row = unit.row
    if unit.twice:
        return "duplicate-site"
    if row.people < LEAST_PEOPLE:
        return "few-people"
    least = max(LEAST_CARRIERS, rules.floor)
    carriers = [row.carriers, row.others]
    if unit.analysis.model == "logistic":
        in_cases = [row.cases_carriers, row.cases_others]
        carriers = in_cases + [all_ - cases for all_, cases in zip(carriers, in_cases, strict=True)]
    if min(carriers) < least:
        return "small"
    same = past.same(unit.key, rules.off)
    if same is not None:
        return "" if same == row.counts else "changed"
    passes = past.passes(unit.key, row.counts, lambda _: True, lambda numbers: numbers[2:4], rules.floor, off=rules.off)
    return "" if passes else "overlap"


def text_of(row: StatisticsRow, people: int, floor: int) -> tuple[str, ...]:
    """What leaves. Where one to floor - 1 people were not called, N is the fewest that it may be and AF has two
    decimals, so that neither tells how many they are.
    """
    few = 0 < people - row.people < floor
    n = people - floor + 1 if few else row.people
    frequency = f"{row.frequency:.2f}" if few else f"{row.frequency:.5g}"
    return (row.chrom, str(row.pos), row.ref, row.alt, str(n), frequency, f"{row.beta:.5g}", f"{row.se:.5g}")
