"""The node's half of `matrix`: sums of products over enough people, in whom few have not most of any, and fewer sums
than could be solved for each person. All of it leaves, with twelve digits, or none.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, islice
from typing import IO

from gdi.releases.cross_table import node as cross_table
from gdi.releases.cross_table.node import SMALL, AnsweredTable
from gdi.releases.disclosure import sums
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Cell, CheckedUnits, FormatError, NodeHalf, Rules, Scope
from gdi.releases.matrix import table
from gdi.releases.matrix.beside import Term, entry_key, expect_alone, group_key, question_key, too_many
from gdi.releases.matrix.judgement import stays
from gdi.releases.matrix.plausibility import expect_plausible
from gdi.releases.matrix.round_node import (
    AnsweredRound,
    answered,
    cells_of_round,
    expect_near,
    round_key,
    round_stays,
    spent_by,
    sum_keys,
    too_many_rounds,
    write_round,
)
from gdi.releases.matrix.round_table import LogisticRound
from gdi.releases.matrix.table import RELEASED, SumMatrix

EQUATIONS, DIGITS = "equations", 12
Places = tuple[Term, Term]


@dataclass(frozen=True)
class AnsweredMatrix:
    """A file as it is answered. `entries`: by two columns, digits and an exponent of ten. `people`: the table of those
    by category; None where all of it left before.
    """

    unit: SumMatrix
    entries: Mapping[Places, tuple[int, int]]
    people: AnsweredTable | None


Answered = AnsweredMatrix | AnsweredRound


class MatrixNode(NodeHalf[SumMatrix, Answered]):
    """The unit is the file. Its cells in the ledger are those of its table of people, one for each number in each
    group (as `moments` has them), one for each entry, and one for the question, with how many equations it is.
    """

    columns = ("row", "column", "sum")

    def read(self, file: IO[bytes], rules: Rules) -> list[SumMatrix]:
        if rules.membership not in ("contract", "public"):
            raise FormatError("sums of products leave only where membership is contract or public")
        units = table.read(file, rules)
        for unit in units:
            expect_plausible(unit, rules)
        return units

    def keys(self, unit: SumMatrix) -> list[str]:
        counts = cross_table.names_of(unit.table, unit.table.all_counts()).values()
        groups = (group_key(number, group) for number, group in unit.sums)
        if unit.fit is not None:
            squares = (entry_key(number, number) for number in unit.numbers)
            return [*counts, *groups, *squares, *sum_keys(unit, unit.fit).values(), round_key(unit, unit.fit)]
        return [*counts, *groups, *(entry_key(*places) for places in entries_of(unit)), question_key(unit)]

    def scope(self, units: Sequence[SumMatrix]) -> Scope:
        of = max((unit.people for unit in units), default=0)
        return Scope(of, fewest=of)

    def check(self, units: Sequence[SumMatrix], rules: Rules, past: Past) -> CheckedUnits[Answered]:
        checked = CheckedUnits[Answered]([], Counter[str]())
        for unit in units:
            if unit.fit is not None:
                _check_round(checked, unit, unit.fit, rules, past)
                continue
            kept = {places: past.same(entry_key(*places), rules.off) for places in entries_of(unit)}
            if all(kept.values()):
                again = {places: (numbers[0], numbers[1]) for places, numbers in kept.items() if numbers}
                checked.released.append(AnsweredMatrix(unit, again, None))
                continue
            expect_alone(unit, rules, past)
            table_ = cross_table.answer(unit.table, rules, past, {})
            if isinstance(table_, str) or stays(unit, table_, rules):
                checked.withheld[SMALL] += 1
            elif too_many(unit, rules, past):
                checked.withheld[EQUATIONS] += 1
            else:
                entries = {
                    places: (numbers[0], numbers[1]) if numbers else sums.digits_of(entry(unit, *places), DIGITS)
                    for places, numbers in kept.items()
                }
                checked.released.append(AnsweredMatrix(unit, entries, table_))
        return checked

    def cells(self, left: Answered) -> list[Cell]:
        unit = left.unit
        if isinstance(left, AnsweredRound):
            squares = [
                Cell(entry_key(name, name), sums.digits_of(unit.products[name, name].sum, DIGITS))
                for name in unit.numbers  # as at β = 0
            ]
            return cells_of_round(left) + ([] if left.people is None else [*squares, *_group_cells(unit)])
        found = [Cell(entry_key(*places), numbers) for places, numbers in left.entries.items()]
        if left.people is None:
            return found
        found += [*cross_table.CrossTableNode().cells(left.people), *_group_cells(unit)]
        return [*found, Cell(question_key(unit), (unit.equations, unit.people, unit.bits))]

    def remarks(self, left: Sequence[Answered], rules: Rules) -> list[str]:
        found = []
        for one in left:
            unit = one.unit
            if isinstance(one, AnsweredRound):
                found.append(
                    f"Round {one.fit.number} of a regression of {unit.people} people: {one.spent[0]} equations and"
                    f" {one.spent[1]} bits over categories, of at most {unit.differing // 2} each over all rounds."
                    " Who knows all of these people but one can tell that one's."
                )
                continue
            found.append(
                f"Sums with {DIGITS} digits of {unit.people} people: {unit.parameters} columns, {unit.equations}"
                f" equations and {unit.bits} bits over categories, of at most {unit.differing // 2} each."
                " Who knows all of these people but one can tell that one's."
            )
            smallest = min(unit.sums.values(), key=lambda each: each.people)
            found.append(f"The smallest group is of {smallest.people} people ({smallest.level or 'all'}).")
        return found

    def write(
        self, out: IO[bytes], left: Iterable[Answered], withheld: Mapping[str, int], scope: Scope, rules: Rules
    ) -> None:
        """JSON: the columns, then a line for each of their pairs."""
        given = list(left)
        for one in given:
            if isinstance(one, AnsweredRound):
                out.write(write_round(one))
                return
        answers = [one for one in given if isinstance(one, AnsweredMatrix)]
        head: dict[str, object] = {"format": RELEASED, "model": "linear", "outcome": None, "columns": []}
        if answers:
            (unit,) = (answer.unit for answer in answers)
            head |= {"outcome": unit.outcome, "columns": [shown(term) for term in terms_of(unit)]}
        counts = {why: n for why, n in sorted(withheld.items()) if why in (SMALL, EQUATIONS)}
        out.write((_json(head | {"withheld": counts})[:-1] + ',"entries":[').encode())
        for number, (places, (digits, power)) in enumerate(pair for one in answers for pair in one.entries.items()):
            line = f"[{_json(shown(places[0]))},{_json(shown(places[1]))},{digits}e{power}]"
            out.write((("," if number else "") + "\n" + line).encode())
        out.write(b"\n]}\n")

    def rows(self, file: IO[bytes], start: int, count: int) -> list[tuple[str | int | float, ...]]:
        lines = (line for line in islice(file, 1 + start, 1 + start + count) if line.startswith(b"["))
        found = (json.loads(line.rstrip().rstrip(b",")) for line in lines)
        return [(" = ".join(a) or "1", " = ".join(b) or "1", number) for a, b, number in found]


def _group_cells(unit: SumMatrix) -> list[Cell]:
    """Of each number in each group, as `moments` has them."""
    found, n = [], unit.people
    for (number, group), one in unit.sums.items():
        mean = one.sum / one.people
        if group is not None:
            found.append(Cell(group_key(number, group), (one.people, *sums.digits_of(mean, 3))))
            continue
        variance = max(0.0, (unit.products[number, number].sum - n * mean**2) / (n - 1))
        found.append(Cell(group_key(number, None), (n, *sums.digits_of(mean, 3), *sums.digits_of(variance, 3))))
    return found


def _check_round(
    checked: CheckedUnits[Answered], unit: SumMatrix, fit: LogisticRound, rules: Rules, past: Past
) -> None:
    expect_near(fit, rules)
    if all(past.same(key, rules.off) for key in sum_keys(unit, fit).values()):
        checked.released.append(answered(unit, fit, None, (0, 0), past, rules))
        return
    expect_alone(unit, rules, past)
    people_ = cross_table.answer(unit.table, rules, past, {})
    if isinstance(people_, str) or stays(unit, people_, rules) or round_stays(fit, rules):
        checked.withheld[SMALL] += 1
    elif too_many_rounds(unit, fit, rules, past):
        checked.withheld[EQUATIONS] += 1
    else:
        checked.released.append(answered(unit, fit, people_, spent_by(unit, fit, past), past, rules))


def shown(term: Term) -> list[str]:
    """A column as files have it: nothing is the constant, one name a number, two a column and its category."""
    return [] if term is None else [term] if isinstance(term, str) else list(term)


def terms_of(unit: SumMatrix) -> list[Term]:
    return [None, *unit.numbers, *unit.levels]


def entries_of(unit: SumMatrix) -> list[Places]:
    """Every two columns, but for two categories of one column: nobody has both."""
    pairs = combinations_with_replacement(terms_of(unit), 2)
    return [(a, b) for a, b in pairs if not (isinstance(a, tuple) and isinstance(b, tuple) and _apart(a, b))]


def _apart(a: tuple[str, str], b: tuple[str, str]) -> bool:
    return a[0] == b[0] and a != b


def entry(unit: SumMatrix, a: Term, b: Term) -> float:
    """The sum over people of one column times the other; `a` comes first in `terms_of`."""
    if isinstance(a, str):
        return unit.products[min(a, b), max(a, b)].sum if isinstance(b, str) else unit.sums[a, b].sum
    if isinstance(b, str):
        return unit.sums[b, a].sum
    return float(unit.counts[unit.place(*(one for one in (a, b) if one is not None))])


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
