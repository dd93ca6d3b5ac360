"""The node's check of one round of a logistic regression: all that holds of sums at β = 0, since a reader may ask for
that; then at the β that was asked nobody beyond |x·β| = 15, no few people with most of weights, residuals or
likelihood; and over all rounds fewer equations, and bits, than could be solved for each person.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gdi.releases.cross_table import node as cross_table
from gdi.releases.cross_table.node import AnsweredTable
from gdi.releases.disclosure import sums, vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.sums import MOST_OF_TWO, largest_share
from gdi.releases.kind import Cell, FormatError, Rules
from gdi.releases.matrix.judgement import dominated
from gdi.releases.matrix.newton import MOST_PREDICTOR
from gdi.releases.matrix.round_table import LogisticRound
from gdi.releases.matrix.table import SumMatrix

DIGITS = 12
REFUSED = "round-refused"


@dataclass(frozen=True)
class AnsweredRound:
    """A round as it is answered. `numbers`: by place, digits and an exponent of ten. `people`: the table of those by
    category, None where all of it left before. `spent`: equations, and bits over categories.
    """

    unit: SumMatrix
    fit: LogisticRound
    numbers: Mapping[str, tuple[int, int]]
    people: AnsweredTable | None
    spent: tuple[int, int]


def expect_near(fit: LogisticRound, rules: Rules) -> None:
    """FormatError `round-refused` where somebody has next to no weight any more. It tells that somebody is there."""
    if fit.predictor > MOST_PREDICTOR and Rule.EXTREME not in rules.off:
        raise FormatError(f"{REFUSED}: the broadcast takes somebody's |x·beta| above {MOST_PREDICTOR:g}")


def round_stays(fit: LogisticRound, rules: Rules) -> bool:
    """Whether few people have most of its weights, in any combination of columns, of its residuals, or likelihood."""
    if largest_share(fit.leverage, rules.floor) >= MOST_OF_TWO and Rule.LEVERAGE not in rules.off:
        return True
    return dominated(fit.likelihood, rules) or any(dominated(one, rules) for one in fit.residuals)


def spent_by(unit: SumMatrix, fit: LogisticRound, past: Past) -> tuple[int, int]:
    """Equations and bits of this round. Those of the outcome are known after a round: whoever knows the columns knows
    Xᵀμ(β), and each gradient is Xᵀy less that.
    """
    known = f";{fit.name(unit.outcome)};"
    again = any(known in key for key in _own_questions(past))
    return fit.equations, fit.bits + (0 if again else unit.bits_of_category)


def too_many_rounds(unit: SumMatrix, fit: LogisticRound, rules: Rules, past: Past) -> bool:
    """Whether all sums that left of these people, with these, are more than half as many, or have more than half as
    many bits, as there are people who differ.
    """
    spent = [spent_by(unit, fit, past)]
    here = round_key(unit, fit)
    for key in past.topics.get(vocabulary.QUESTION, ()):
        if key != here and past.number is not None and past.number in past.cells[key]:
            spent.append((past.cells[key][past.number][0], past.cells[key][past.number][2]))
        spent += [(numbers[0], numbers[2]) for cohort, numbers in past.statements(key) if cohort & past.own]
    equations, bits = (sum(of) for of in zip(*spent, strict=True))
    many = 2 * equations > unit.differing and Rule.EQUATIONS not in rules.off
    least = min(unit.choices, default=0.0)  # of who is in a category, the outcome's cases among them
    over = bits if fit.bits else unit.bits_of_category
    return many or ((2 * bits > unit.differing or 2 * over > least) and Rule.BITS not in rules.off)


def _own_questions(past: Past) -> list[str]:
    questions = past.topics.get(vocabulary.QUESTION, ())
    return [key for key in questions if past.number is not None and past.number in past.cells[key]]


def is_round(key: str) -> bool:
    """Of a question's key: whether it is a round's, which is of one β."""
    return key.count(";") == 3


def round_key(unit: SumMatrix, fit: LogisticRound) -> str:
    """What the ledger calls the question of a round. At most 1,700 characters."""
    columns = f"{','.join(sorted(unit.numbers))};{','.join(sorted(unit.table.columns))}"
    return f"{vocabulary.QUESTION}{columns};{fit.name(unit.outcome)};{fit.name_of_beta(unit.outcome)}"


def sum_keys(unit: SumMatrix, fit: LogisticRound) -> dict[str, str]:
    """By place, what the ledger calls a sum."""
    beta = fit.name_of_beta(unit.outcome)
    return {place: f"{vocabulary.PRODUCT}{beta}*{place}" for place in fit.sums()}


def answered(
    unit: SumMatrix, fit: LogisticRound, people: AnsweredTable | None, spent: tuple[int, int], past: Past, rules: Rules
) -> AnsweredRound:
    numbers = {}
    for place, key in sum_keys(unit, fit).items():
        before = past.same(key, rules.off)
        numbers[place] = (before[0], before[1]) if before else sums.digits_of(fit.sums()[place], DIGITS)
    return AnsweredRound(unit, fit, numbers, people, spent)


def cells_of_round(left: AnsweredRound) -> list[Cell]:
    """Beside those of people and of numbers by category."""
    keys = sum_keys(left.unit, left.fit)
    found = [Cell(keys[place], numbers) for place, numbers in left.numbers.items()]
    if left.people is None:
        return found
    found += cross_table.CrossTableNode().cells(left.people)
    equations, bits = left.spent
    return [*found, Cell(round_key(left.unit, left.fit), (equations, left.unit.people, bits))]


def write_round(left: AnsweredRound) -> bytes:
    """JSON of a line: `entries` are the information's."""
    fit, texts = left.fit, {place: f"{digits}e{power}" for place, (digits, power) in left.numbers.items()}
    columns = [list(column) for column in fit.columns]
    head = {
        "format": "gdi-matrix-released/1",
        "model": "logistic",
        "outcome": left.unit.outcome,
        "people": left.unit.people,
        "round": fit.number,
        "columns": columns,
        "beta": list(fit.beta),
        "withheld": {},
    }
    gradient = ",".join(texts[f"g{i}"] for i in range(len(columns)))
    entries = [
        f"[{_json(columns[i])},{_json(columns[j])},{texts[f'{i},{j}']}]"
        for i in range(len(columns))
        for j in range(i, len(columns))
    ]
    middle = f',"log_likelihood":{texts["l"]},"gradient":[{gradient}],"entries":['
    return (_json(head)[:-1] + middle + "\n" + ",\n".join(entries) + "\n]}\n").encode()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
