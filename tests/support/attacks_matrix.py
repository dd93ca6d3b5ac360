"""Attacks by exact sums of products, as a regression asks for them: honest workflows' numbers of a hostile user, each
stopped by one rule of the kind `matrix`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.support.attacks import REFUSED, attack
from tests.support.attacks_moments import moments, people
from tests.support.attacks_user import OTHERS, two_epochs
from tests.support.disclosure_node import PEOPLE, DisclosureNode
from tests.support.matrix_kit import matrix_file
from tests.support.moments_kit import moments_file

KNOWN = [f"w{n}" for n in range(57)]  # numbers that the attacker knows of everybody
COLUMNS = [
    *({"column": name, "type": "number", "minimum": -100, "maximum": 100} for name in ("ldl", "bmi", "visits", *KNOWN)),
    {"column": "income", "type": "number", "minimum": 0, "maximum": 1e9},
    *({"column": name, "type": "boolean"} for name in ("ill", "rare", "smoker")),
]
SAMPLES = {"file": "s.tsv.c4gh", "format": "tsv", "person": "person", "sex": {"column": "sex"}, "phenotypes": COLUMNS}
SCORE = {"column": "score", "type": "number", "minimum": 0, "maximum": 100, "score": True}
RANDOM = np.random.default_rng(862)
LDL = RANDOM.normal(3, 1, 629).clip(0.1, 19).round(2)
TARGET = 0
Sums = dict[tuple[str, str], float]


def described(node: DisclosureNode, *datasets: str) -> None:
    kinds = ["matrix", "moments", "table"]
    node.policy(releases={"kinds": kinds})
    for dataset in datasets or ("DS1",):
        node.describe(dataset, identifiers=None, samples=SAMPLES, derived=[SCORE], kinds=kinds)


async def sums(node: DisclosureNode, data: bytes, dataset: str = "DS1", **how: Any) -> Sums:
    """The sums by their two columns, both ways round; none where it is refused."""
    try:
        _, _, caller = await node.ask(dataset, data, kind="matrix", **how)
    except REFUSED:
        return {}
    found: Sums = {}
    for a, b, number in json.loads(await node.content(caller.run))["entries"]:
        one, other = ("=".join(name) or "1" for name in (a, b))
        found[one, other] = found[other, one] = number
    return found


def sex() -> list[str]:
    return ["female" if one % 2 else "male" for one in PEOPLE]


async def honest(node: DisclosureNode) -> int:
    """LDL by BMI and sex: the sums of everybody, which stand for all that were measured."""
    described(node, "DS1", "DS3")
    bmi = 20 + RANDOM.normal(5, 2, 629).clip(-5, 15)
    found = await sums(node, matrix_file(people(sex=sex(), ldl=LDL, bmi=bmi), "ldl", ["bmi"], ["sex"]), "DS3")
    return int(found["1", "1"])


@attack("author", "sums+bits+equations+odd+leverage", honest)
async def the_men_who_do_not_smoke(node: DisclosureNode) -> list[str]:
    """No woman smokes, and all but eight men do: their sum is the difference of two."""
    described(node)
    smoker = ["true" if one == "male" and n >= 16 else "false" for n, one in enumerate(sex())]
    told = await sums(node, matrix_file(people(sex=sex(), smoker=smoker, ldl=LDL), "ldl", [], ["sex", "smoker"]))
    if not told:
        return []
    rest = told["sex=male", "ldl"] - told["smoker=true", "ldl"]
    return [f"eight men have {rest:.2f} together"] if abs(rest - LDL[:16:2].sum()) < 1e-6 else []


@attack("author", "pairs", honest)
async def three_people_of_two_categories(node: DisclosureNode) -> list[str]:
    described(node)
    ill = [str(one < 100).lower() for one in PEOPLE]
    smoker = [str(97 <= one < 300).lower() for one in PEOPLE]
    told = await sums(node, matrix_file(people(ill=ill, smoker=smoker, ldl=LDL), "ldl", [], ["ill", "smoker"]))
    return ["three who are ill smoke"] if told.get(("ill=true", "smoker=true")) == 3 else []


@attack("author", "dominance+leverage+odd+bits+equations", honest)
async def a_sum_that_is_the_richest_person(node: DisclosureNode) -> list[str]:
    described(node)
    income = [30_000 + one for one in PEOPLE]
    income[TARGET] = 900_000_000
    told = await sums(node, matrix_file(people(income=income), "income"))
    richest = told.get(("income", "income"), 0) ** 0.5
    return [f"the richest has {richest:.4g}"] if abs(richest / income[TARGET] - 1) < 1e-3 else []


@attack("author", "apart", honest)
async def two_numbers_of_which_four_people_have_both(node: DisclosureNode) -> list[str]:
    """Each number is 1 for those without a disease: what is beyond that, multiplied, is of those who have both."""
    described(node)
    first = [1 + (one + 1) / 200 if one < 300 else 1.0 for one in PEOPLE]
    second = [1 + one / 300 if one >= 296 else 1.0 for one in PEOPLE]
    told = await sums(node, matrix_file(people(ldl=first, bmi=second), "ldl", ["bmi"]))
    if not told:
        return []
    beyond = told["ldl", "bmi"] - told["1", "ldl"] - told["1", "bmi"] + told["1", "1"]
    true = sum((first[one] - 1) * (second[one] - 1) for one in range(296, 300))
    return [f"four people have {beyond:.3f}"] if abs(beyond - true) < 1e-6 else []


@attack("user", "values", honest)
async def two_sums_of_small_whole_numbers(node: DisclosureNode) -> list[str]:
    """Nobody went more than twice: the sum and that of squares say how many went twice."""
    described(node)
    visits = [2 if one == TARGET else 1 if one < 29 else 0 for one in PEOPLE]
    told = await sums(node, matrix_file(people(visits=visits), "visits"))
    if not told:
        return []
    twice = (told["visits", "visits"] - told["1", "visits"]) / 2
    return ["one person went twice"] if twice == 1 else []


@attack("user", "equations+leverage+bits", honest)
async def as_many_sums_as_people(node: DisclosureNode) -> list[str]:
    """Products with numbers that the attacker knows are equations, of which each person's value is the solution."""
    described(node)
    known = RANDOM.normal(0, 10, (60, 57)).clip(-90, 90)
    secret = LDL[:60]
    persons = [{"ldl": secret[n], **dict(zip(KNOWN, known[n], strict=True))} for n in range(60)]
    rows, right = [np.ones(60)], [np.nan]
    for start in range(0, 57, 19):
        told = await sums(node, matrix_file(persons, "ldl", KNOWN[start : start + 19]))
        for name in KNOWN[start : start + 19]:
            if (name, "ldl") in told:
                rows.append(known[:, KNOWN.index(name)])
                right += [told[name, "ldl"]]
                right[0] = told["1", "ldl"]
    if len(rows) < 50:
        return []
    found = np.linalg.lstsq(np.array(rows)[:, 2:], np.array(right) - np.array(rows)[:, :2] @ secret[:2], rcond=None)[0]
    return [f"{n}: {value:.2f}" for n, value in enumerate(found, 2) if abs(value - secret[n]) < 0.005]


@attack("user", "bits", honest)
async def who_of_forty_is_ill(node: DisclosureNode) -> list[str]:
    """Of numbers with many decimals two sums over the ill have one solution, found by meeting in the middle."""
    return await ill_of_forty(node, 80)


@attack("user", "bits", honest)
async def who_of_forty_is_ill_beside_all_who_have_zero(node: DisclosureNode) -> list[str]:
    return await ill_of_forty(node, 629)


async def ill_of_forty(node: DisclosureNode, everybody: int) -> list[str]:
    """All but forty have 0 of both numbers."""
    described(node)
    known = np.zeros((everybody, 2))
    known[:40] = RANDOM.uniform(1, 9, (40, 2))
    ill = [bool(one) for one in RANDOM.permutation(40) % 2] + [one % 2 == 0 for one in range(everybody - 40)]
    persons = [{"w0": a, "w1": b, "ill": str(ill[n]).lower()} for n, (a, b) in enumerate(known)]
    told = await sums(node, matrix_file(persons, "w0", ["w1"], ["ill"]))
    if not told:
        return []
    left, right = subset_sums(known[:20]), subset_sums(known[20:40])
    order = np.argsort(right[:, 0])
    wanted = told["ill=true", "w0"] - left[:, 0]
    first, last = (np.searchsorted(right[order, 0], wanted + slack) for slack in (-1e-8, 1e-8))
    for place in np.flatnonzero(first < last):
        for other in order[first[place] : last[place]]:
            if abs(left[place, 1] + right[other, 1] - told["ill=true", "w1"]) < 1e-8:
                found = [bool(int(half) >> bit & 1) for half in (place, other) for bit in range(20)]
                return [f"{n} is ill" for n in range(40) if found[n]] if found == ill[:40] else []
    return []


def subset_sums(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of all subsets of the rows; bit n of a place says whether row n is in it."""
    found = np.zeros((1, numbers.shape[1]))
    for row in numbers:
        found = np.concatenate([found, found + row])
    return found


@attack("pair", "linked", honest)
async def sums_of_everybody_and_of_all_but_one(node: DisclosureNode) -> list[str]:
    await two_epochs(node, list(PEOPLE), list(OTHERS))
    described(node, "DS1", "DS2")
    more = await sums(node, matrix_file(people(ldl=LDL), "ldl"), user="mallory")
    less = await sums(node, matrix_file([{"ldl": LDL[one]} for one in OTHERS], "ldl"), "DS2", user="eve")
    if not more or not less:
        return []
    rest = more["1", "ldl"] - less["1", "ldl"]
    return [f"the target has {rest:.2f}"] if abs(rest - LDL[TARGET]) < 1e-6 else []


@attack("user", "linked", honest)
async def the_group_that_stayed_is_the_sum_less_the_others_mean(node: DisclosureNode) -> list[str]:
    described(node)
    rare = ["true" if one < 12 else "false" for one in PEOPLE]
    high = [15 + 0.1 * (one % 7) if one < 12 else LDL[one] for one in PEOPLE]
    some = await moments(node, moments_file(people(rare=rare, ldl=high), ["rare"], ["ldl"]))
    told = await sums(node, matrix_file(people(ldl=high), "ldl"))
    if not told or ("ldl", "true") in some:
        return []
    n, mean, _ = some["ldl", "false"]
    rest = (told["1", "ldl"] - n * mean) / (told["1", "1"] - n)
    return [f"twelve people have {rest:.1f}"] if abs(rest - np.mean(high[:12])) < 1 else []


@attack("user", "linked", honest)
async def one_category_after_another(node: DisclosureNode) -> list[str]:
    """As the men who do not smoke, in two questions."""
    described(node)
    smoker = ["true" if one == "male" and n >= 16 else "false" for n, one in enumerate(sex())]
    first = await sums(node, matrix_file(people(sex=sex(), ldl=LDL), "ldl", [], ["sex"]))
    second = await sums(node, matrix_file(people(smoker=smoker, ldl=LDL), "ldl", [], ["smoker"]))
    if not first or not second:
        return []
    rest = first["sex=male", "ldl"] - second["smoker=true", "ldl"]
    return [f"eight men have {rest:.2f} together"] if abs(rest - LDL[:16:2].sum()) < 1e-6 else []


@attack("pair", "ledger", honest)
async def the_same_sum_after_one_person_was_swapped(node: DisclosureNode) -> list[str]:
    described(node)
    before = await sums(node, matrix_file(people(ldl=LDL), "ldl"))
    after = await sums(node, matrix_file(people(ldl=[19.0, *LDL[1:]]), "ldl"), user="eve")
    gone = before["1", "ldl"] - after.get(("1", "ldl"), before["1", "ldl"])
    return [f"the one who left has {19 + gone:.2f}"] if abs(19 + gone - LDL[TARGET]) < 1e-6 else []


@attack("author", "scores+numbers", honest)
async def a_score_that_hides_a_rare_genotype(node: DisclosureNode) -> list[str]:
    """What everybody's share of the score is by itself is known; three people carry the allele."""
    described(node)
    noise: Sequence[float] = [(one * 37 % 629) / 100 for one in PEOPLE]
    score = [value + (5 if one < 3 else 0) for one, value in enumerate(noise)]
    told = await sums(node, matrix_file(people(score=score), "score"))
    carriers = (told.get(("1", "score"), 0) - sum(noise)) / 5
    return ["three people carry the allele"] if round(carriers, 6) == 3 else []


@attack("author", "sums+odd+bits+equations", honest)
async def the_rich_one_of_the_men_who_do_not_smoke(node: DisclosureNode) -> list[str]:
    """As above, of twenty men, of whom all but one have no income; others are as rich, so that no category's sum is."""
    described(node)
    rich, men = np.random.default_rng(2), [n for n, one in enumerate(sex()) if one == "male"]
    income = rich.normal(3e4, 5e3, 629).clip(1e4).round(0)
    for n in rich.choice(629, 60, replace=False):
        income[n] = 3e7 + rich.integers(0, 10**6)
    income[men[:20]] = 0
    income[men[0]] = 31_234_567
    smoker = [str(n in men[20:]).lower() for n in PEOPLE]
    persons = people(sex=sex(), smoker=smoker, income=income)
    told = await sums(node, matrix_file(persons, "income", [], ["sex", "smoker"]))
    rest = told.get(("sex=male", "income"), 0) - told.get(("smoker=true", "income"), 0)
    return ["the rich one has 31,234,567"] if round(rest) == 31_234_567 else []


def twins() -> tuple[list[float], list[float], list[str]]:
    """A weight at two visits, other for one person only; and who is ill."""
    first = np.random.default_rng(1).normal(70, 10, 629).clip(45, 99).round(1)
    second = first.copy()
    second[TARGET] += 1.5
    return list(first), list(second), [str(n * 7 % 10 < 3 or n == TARGET).lower() for n in PEOPLE]


@attack("user", "leverage+odd+bits+equations", honest)
async def two_numbers_that_differ_for_one_person(node: DisclosureNode) -> list[str]:
    """Their difference, times any column, is that person's value of it."""
    described(node)
    first, second, ill = twins()
    persons = people(ldl=LDL, bmi=first, visits=second, ill=ill)
    told = await sums(node, matrix_file(persons, "ldl", ["bmi", "visits"], ["ill"]))
    if not told:
        return []
    by = told["1", "visits"] - told["1", "bmi"]
    ldl = (told["visits", "ldl"] - told["bmi", "ldl"]) / by
    sick = (told["ill=true", "visits"] - told["ill=true", "bmi"]) / by
    return [f"the target has {ldl:.2f}", "the target is ill"] if abs(ldl - LDL[TARGET]) < 1e-3 and sick > 0.99 else []


@attack("pair", "leverage", honest)
async def two_numbers_that_differ_for_one_person_one_by_one(node: DisclosureNode) -> list[str]:
    described(node)
    first, second, ill = twins()
    one = await sums(node, matrix_file(people(ldl=LDL, bmi=first, ill=ill), "ldl", ["bmi"], ["ill"]), user="mallory")
    persons = people(ldl=LDL, visits=second, ill=ill)
    other = await sums(node, matrix_file(persons, "ldl", ["visits"], ["ill"]), user="eve")
    if not one or not other:
        return []
    ldl = (other["visits", "ldl"] - one["bmi", "ldl"]) / (other["1", "visits"] - one["1", "bmi"])
    return [f"the target has {ldl:.2f}"] if abs(ldl - LDL[TARGET]) < 1e-3 else []


@attack("pair", "linked", honest)
async def one_number_by_two_names_of_everybody_and_of_all_but_one(node: DisclosureNode) -> list[str]:
    await two_epochs(node, list(PEOPLE), list(OTHERS))
    described(node, "DS1", "DS2")
    more = await sums(node, matrix_file(people(ldl=LDL), "ldl"), user="mallory")
    less = await sums(node, matrix_file([{"bmi": LDL[one]} for one in OTHERS], "bmi"), "DS2", user="eve")
    if not more or not less:
        return []
    rest = more["1", "ldl"] - less["1", "bmi"]
    return [f"the target has {rest:.2f}"] if abs(rest - LDL[TARGET]) < 1e-6 else []


@attack("user", "equations+leverage+odd+bits", honest)
async def numbers_that_nineteen_people_have(node: DisclosureNode) -> list[str]:
    """Nineteen numbers that the attacker knows, 0 for all others: as many equations as people, of 629."""
    described(node)
    known = np.zeros((629, 19))
    some = np.random.default_rng(5)
    known[:19] = (some.uniform(5, 15, (19, 19)) * some.choice([-1, 1], (19, 19))).round(4)
    persons = [{"ldl": LDL[n], **dict(zip(KNOWN, known[n], strict=False))} for n in PEOPLE]
    told = await sums(node, matrix_file(persons, "ldl", KNOWN[:19]))
    if not told:
        return []
    found = np.linalg.solve(known[:19].T, [told[name, "ldl"] for name in KNOWN[:19]])
    return [f"{n}: {value:.2f}" for n, value in enumerate(found) if abs(value - LDL[n]) < 0.005]


def six_others(n: int) -> bool:
    """Six people, of whom no two are neighbours."""
    return n % 97 == 11 and n < 580


@attack("user", "leverage+bits+equations", honest)
async def two_numbers_that_differ_for_six(node: DisclosureNode) -> list[str]:
    """A weight measured twice; the user knows both. The sums' difference over the ill is that of the ill among the
    six, and of 64 sets one has it.
    """
    described(node)
    random = np.random.default_rng(3)
    first = random.normal(70, 10, 629).clip(45, 99).round(1)
    apart = np.zeros(629)
    for place, n in enumerate(n for n in PEOPLE if six_others(n)):
        apart[n] = (1.1, 1.7, 2.0, 2.2, 2.3, 2.4)[place]  # no two sets have one sum
    ill = [bool(one) for one in random.permutation(629) % 2]
    persons = people(bmi=first, visits=first + apart, ill=[str(one).lower() for one in ill])
    told = await sums(node, matrix_file(persons, "bmi", ["visits"], ["ill"]))
    if not told:
        return []
    return who_of_few(apart, told["ill=true", "visits"] - told["ill=true", "bmi"], ill)


def who_of_few(apart: np.ndarray[Any, Any], wanted: float, ill: Sequence[bool]) -> list[str]:
    """Which of those who differ are ill: the one subset with that sum, where it is the truth."""
    few = [int(n) for n in np.flatnonzero(apart)]
    sets = np.flatnonzero(np.abs(subset_sums(apart[few].reshape(-1, 1))[:, 0] - wanted) < 1e-5)
    if len(sets) != 1:
        return []
    found = [bool(int(sets[0]) >> bit & 1) for bit in range(len(few))]
    return [f"{n} is ill" for n, one in zip(few, found, strict=True) if one] if found == [ill[n] for n in few] else []


@attack("user", "odd+bits+equations", honest)
async def whole_kilograms_but_for_six(node: DisclosureNode) -> list[str]:
    """Only six were weighed with decimals: those of the sum over the ill are of the ill among them."""
    described(node)
    random = np.random.default_rng(4)
    weight = random.normal(70, 10, 629).clip(45, 99).round(0)
    apart = np.zeros(629)
    for place, n in enumerate(n for n in PEOPLE if six_others(n)):
        apart[n] = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)[place]
    ill = [bool(one) for one in random.permutation(629) % 2]
    persons = people(bmi=weight + apart, ill=[str(one).lower() for one in ill])
    told = await sums(node, matrix_file(persons, "bmi", [], ["ill"]))
    return who_of_few(apart, told["ill=true", "bmi"] % 1, ill) if told else []


@attack("user", "odd+bits+equations", honest)
async def the_age_of_the_one_with_decimals(node: DisclosureNode) -> list[str]:
    """The product of two numbers has the last digits of one person."""
    described(node)
    random = np.random.default_rng(6)
    weight, age = random.normal(70, 10, 629).clip(45, 99).round(0), random.integers(20, 90, 629)
    weight[TARGET] += 0.01
    told = await sums(node, matrix_file(people(bmi=weight, visits=age), "bmi", ["visits"]))
    if not told:
        return []
    found = round(told["bmi", "visits"] % 1 * 100)
    return [f"the target is {found}"] if found == age[TARGET] else []
