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
from gdi.releases.disclosure import people, sums, vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import Cell, CheckedUnits, FormatError, NodeHalf, NotBesideError, Rules, Scope
from gdi.releases.matrix import table
from gdi.releases.matrix.judgement import stays
from gdi.releases.matrix.table import RELEASED, Group, SumMatrix

EQUATIONS, DIGITS = "equations", 12
Term = str | Group
"""A column of the regression: a number, a category, or None, the constant 1."""
Places = tuple[Term, Term]


@dataclass(frozen=True)
class AnsweredMatrix:
    """A file as it is answered. `entries`: by two columns, digits and an exponent of ten. `people`: the table of those
    by category; None where all of it left before.
    """

    unit: SumMatrix
    entries: Mapping[Places, tuple[int, int]]
    people: AnsweredTable | None


class MatrixNode(NodeHalf[SumMatrix, AnsweredMatrix]):
    """The unit is the file. Its cells in the ledger are those of its table of people, one for each number in each
    group (as `moments` has them), one for each entry, and one for the question, with how many equations it is.
    """

    columns = ("row", "column", "sum")

    def read(self, file: IO[bytes], rules: Rules) -> list[SumMatrix]:
        if rules.membership not in ("contract", "public"):
            raise FormatError("sums of products leave only where membership is contract or public")
        return table.read(file, rules)

    def keys(self, unit: SumMatrix) -> list[str]:
        counts = cross_table.names_of(unit.table, unit.table.all_counts()).values()
        groups = (group_key(number, group) for number, group in unit.sums)
        return [*counts, *groups, *(entry_key(*places) for places in entries_of(unit)), question_key(unit)]

    def scope(self, units: Sequence[SumMatrix]) -> Scope:
        of = max((unit.people for unit in units), default=0)
        return Scope(of, fewest=of)

    def check(self, units: Sequence[SumMatrix], rules: Rules, past: Past) -> CheckedUnits[AnsweredMatrix]:
        checked = CheckedUnits[AnsweredMatrix]([], Counter[str]())
        for unit in units:
            kept = {places: past.same(entry_key(*places), rules.off) for places in entries_of(unit)}
            if all(kept.values()):
                again = {places: (numbers[0], numbers[1]) for places, numbers in kept.items() if numbers}
                checked.released.append(AnsweredMatrix(unit, again, None))
                continue
            expect_alone(unit, rules, past)
            answered = cross_table.answer(unit.table, rules, past, {})
            if isinstance(answered, str) or stays(unit, answered, rules):
                checked.withheld[SMALL] += 1
            elif too_many(unit, rules, past):
                checked.withheld[EQUATIONS] += 1
            else:
                entries = {
                    places: (numbers[0], numbers[1]) if numbers else sums.digits_of(entry(unit, *places), DIGITS)
                    for places, numbers in kept.items()
                }
                checked.released.append(AnsweredMatrix(unit, entries, answered))
        return checked

    def cells(self, left: AnsweredMatrix) -> list[Cell]:
        found = [Cell(entry_key(*places), numbers) for places, numbers in left.entries.items()]
        if left.people is None:
            return found
        unit, n = left.unit, left.unit.people
        found += cross_table.CrossTableNode().cells(left.people)
        for (number, group), one in unit.sums.items():
            mean = one.sum / one.people
            if group is not None:
                found.append(Cell(group_key(number, group), (one.people, *sums.digits_of(mean, 3))))
                continue
            variance = max(0.0, (unit.products[number, number].sum - n * mean**2) / (n - 1))
            found.append(Cell(group_key(number, None), (n, *sums.digits_of(mean, 3), *sums.digits_of(variance, 3))))
        return [*found, Cell(question_key(unit), (unit.equations, n, unit.bits))]

    def remarks(self, left: Sequence[AnsweredMatrix], rules: Rules) -> list[str]:
        found = []
        for one in left:
            unit = one.unit
            found.append(
                f"Sums with {DIGITS} digits of {unit.people} people: {unit.parameters} columns, {unit.equations}"
                f" equations and {unit.bits} bits over categories, of at most {unit.differing // 2} each."
                " Who knows all of these people but one can tell that one's."
            )
            smallest = min(unit.sums.values(), key=lambda each: each.people)
            found.append(f"The smallest group is of {smallest.people} people ({smallest.level or 'all'}).")
        return found

    def write(
        self, out: IO[bytes], left: Iterable[AnsweredMatrix], withheld: Mapping[str, int], scope: Scope, rules: Rules
    ) -> None:
        """JSON: the columns, then a line for each of their pairs."""
        answers = list(left)
        head: dict[str, object] = {"format": RELEASED, "model": "linear", "outcome": None, "columns": []}
        if answers:
            (one,) = answers
            head |= {"outcome": one.unit.outcome, "columns": [shown(term) for term in terms_of(one.unit)]}
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


def group_key(number: str, group: Group) -> str:
    """What the ledger calls a number in a group: as `moments` does."""
    return sums.group_key(number, [] if group is None else [group])


def entry_key(a: Term, b: Term) -> str:
    names = sorted(
        "=".join([one[0], people.quoted(one[1])]) if isinstance(one, tuple) else one or "1" for one in (a, b)
    )
    return vocabulary.PRODUCT + vocabulary.shortened("*".join(names), vocabulary.LONGEST - 100)


def question_key(unit: SumMatrix) -> str:
    """What the ledger calls the question: the same whichever number is the outcome. At most 1,600 characters."""
    return f"{vocabulary.QUESTION}{','.join(sorted(unit.numbers))};{','.join(sorted(unit.table.columns))}"


def numbers_of(key: str) -> frozenset[str]:
    """A question's."""
    return frozenset(key.removeprefix(vocabulary.QUESTION).partition(";")[0].split(","))


def expect_alone(unit: SumMatrix, rules: Rules, past: Past) -> None:
    """NotBesideError where one of the numbers was told of by other groups of these people, as moments, or any sums left
    of other people of whom some are the same: their differences would tell of few, also of two numbers that are nearly
    equal. So that `leverage` is of all columns at once, each question has all numbers that left of these people before.
    """
    questions = past.topics.get(vocabulary.QUESTION, ())
    own = [key for key in questions if past.number is not None and past.number in past.cells[key]]
    missing = sorted({name for key in own for name in numbers_of(key)} - set(unit.numbers))
    if missing and Rule.LEVERAGE not in rules.off:
        raise NotBesideError(
            "Sums of other numbers of these people left before, and nearly equal numbers would tell of few people.",
            f"Ask with these numbers as well: {', '.join(missing)}.",
        )
    if Rule.LINKED in rules.off:
        return
    if any(past.own & cohort for key in questions for cohort, _ in past.statements(key)):
        raise NotBesideError(
            "Sums left before of other people, some of whom are the same.",
            "Ask of the same datasets and cohort as then.",
        )
    for number in unit.numbers:
        mine = {group_key(number, group) for group in unit.groups}
        keys = past.topics.get(vocabulary.topic(vocabulary.MOMENTS, f"={number}|"), ())
        before = [key for key in keys if key.startswith(f"={number}|")]
        if any(past.own & cohort for key in before for cohort, _ in past.statements(key)):
            raise NotBesideError(
                "Sums of a number left before of other people, some of whom are the same.",
                "Ask of the same datasets and cohort as then, or of other numbers.",
            )
        same = {key for key in before if past.number in past.cells.get(key, {})}
        if same and (same != mine or past.same(entry_key(number, number)) is None):
            raise NotBesideError(
                "A number of these people was told of before, by other categories or as a mean.",
                "Ask with the same categories as then, or of other numbers.",
            )


def too_many(unit: SumMatrix, rules: Rules, past: Past) -> bool:
    """Whether all sums that left of these people would be more than half as many as the people whose values of a number
    differ from its commonest, or have more than half as many bits over categories, or more than half those of who is in
    one: a reader who knows all columns but one could solve them for that one, person by person.
    """
    spent = [(unit.equations, unit.bits)]
    for key in past.topics.get(vocabulary.QUESTION, ()):
        beside = not numbers_of(key) <= set(unit.numbers)  # else its sums are among the new ones
        if beside and past.number is not None and past.number in past.cells[key]:
            spent.append((past.cells[key][past.number][0], past.cells[key][past.number][2]))
        spent += [(numbers[0], numbers[2]) for cohort, numbers in past.statements(key) if cohort & past.own]
    equations, bits = (2 * sum(of) > unit.differing for of in zip(*spent, strict=True))
    bits = bits or any(2 * unit.bits_of_category > choices for choices in unit.choices)
    return (equations and Rule.EQUATIONS not in rules.off) or (bits and Rule.BITS not in rules.off)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
