"""What may be asked of the sums of a cohort's people beside what left of them before; and what the ledger calls all."""

from __future__ import annotations

from gdi.releases.disclosure import people, sums, vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import NotBesideError, Rules
from gdi.releases.matrix.forms import Group
from gdi.releases.matrix.round_node import is_round
from gdi.releases.matrix.table import SumMatrix

Term = str | Group
"""A column of the regression: a number, a category, or None, the constant 1."""


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
    one, or of who has which value of a number: a reader who knows all columns but one could solve them for that one,
    person by person.
    """
    spent = [(unit.equations, unit.bits)]
    for key in past.topics.get(vocabulary.QUESTION, ()):
        beside = is_round(key) or not numbers_of(key) <= set(unit.numbers)  # else its sums are among the new ones
        if beside and past.number is not None and past.number in past.cells[key]:
            spent.append((past.cells[key][past.number][0], past.cells[key][past.number][2]))
        spent += [(numbers[0], numbers[2]) for cohort, numbers in past.statements(key) if cohort & past.own]
    equations, bits = (2 * sum(of) > unit.differing for of in zip(*spent, strict=True))
    bits = bits or any(2 * unit.bits_of_category > choices for choices in unit.choices)
    bits = bits or of_numbers(unit, sum(of_categories for _, of_categories in spent[1:]))
    return (equations and Rule.EQUATIONS not in rules.off) or (bits and Rule.BITS not in rules.off)


def of_numbers(unit: SumMatrix, earlier: int) -> bool:
    """Whether the sums that a number is in, with the bits of `earlier` questions, have more than half as many bits as
    who has which of its values.
    """
    return any(2 * (own + earlier) > unit.arrangements[name] for name, own in unit.bits_of_numbers.items())
