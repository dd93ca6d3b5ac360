"""Attacks by means and variances: honest workflows' numbers of a hostile user, each stopped by one rule of the kind
`moments`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.support.attacks import REFUSED, attack
from tests.support.disclosure_node import PEOPLE, DisclosureNode
from tests.support.moments_kit import moments_file

COLUMNS = [
    {"column": "ldl", "type": "number", "minimum": 0, "maximum": 20},
    {"column": "income", "type": "number", "minimum": 0, "maximum": 1e9},
    *({"column": name, "type": "boolean"} for name in ("ill", "rare")),
]
SAMPLES = {"file": "s.tsv.c4gh", "format": "tsv", "person": "person", "sex": {"column": "sex"}, "phenotypes": COLUMNS}
SCORE = {"column": "score", "type": "number", "minimum": 0, "maximum": 10, "bins": [0, 1, 2, 10], "score": True}
LDL = np.random.default_rng(866).normal(3, 1, 629).clip(0.1, 19).round(2)
TARGET = 0
Groups = dict[tuple[str, ...], list[float]]


def described(node: DisclosureNode) -> None:
    node.policy(releases={"kinds": ["moments", "table"]})
    node.describe("DS1", identifiers=None, samples=SAMPLES, derived=[SCORE])


def people(**columns: Sequence[Any]) -> list[dict[str, Any]]:
    return [{name: of[one] for name, of in columns.items()} for one in PEOPLE]


async def moments(node: DisclosureNode, data: bytes, **how: Any) -> Groups:
    """n, mean and variance by variable and group; none where it is refused."""
    try:
        _, _, caller = await node.ask("DS1", data, kind="moments", **how)
    except REFUSED:
        return {}
    found = json.loads(await node.content(caller.run))["moments"]
    return {(one["variable"], *one["group"]): [one["n"], one["mean"], one["variance"]] for one in found}


async def honest(node: DisclosureNode) -> int:
    """LDL by sex: six numbers, which stand for all that were measured."""
    described(node)
    node.describe("DS3", identifiers=None, samples=SAMPLES)
    sex = ["female" if one % 2 else "male" for one in PEOPLE]
    caller = await node.ask("DS3", moments_file(people(sex=sex, ldl=LDL), ["sex"], ["ldl"]), kind="moments")
    found = json.loads(await node.content(caller[2].run))["moments"]
    return sum(one["n"] for one in found)


@attack("author", "groups", honest)
async def a_mean_of_sixteen_people(node: DisclosureNode) -> list[str]:
    described(node)
    rare = ["true" if one < 16 else "false" for one in PEOPLE]
    told = await moments(node, moments_file(people(rare=rare, ldl=LDL), ["rare"], ["ldl"]))
    return [f"sixteen people have {told['ldl', 'true'][1]}"] if ("ldl", "true") in told else []


@attack("author", "dominance", honest)
async def a_mean_that_is_the_richest_person(node: DisclosureNode) -> list[str]:
    described(node)
    income = [30_000 + one for one in PEOPLE]
    income[TARGET] = 900_000_000
    told = await moments(node, moments_file(people(income=income), [], ["income"]))
    found = []
    for n, mean, _ in told.values():
        if abs(n * mean - income[TARGET]) < 0.05 * income[TARGET]:
            found.append(f"the richest has about {n * mean:.3g}")
    return found


@attack("author", "apart", honest)
async def a_number_that_is_a_mark_of_four_people(node: DisclosureNode) -> list[str]:
    """A whole number in disguise: the mean by the mark is how many have it. Of twenty in a group."""
    described(node)
    group = ["true" if one < 20 else "false" for one in PEOPLE]
    marked = [3.0 if one < 4 else 1.0 for one in PEOPLE]
    told = await moments(node, moments_file(people(ill=group, ldl=marked), ["ill"], ["ldl"]))
    n, mean, _ = told.get(("ldl", "true"), [0, 0, 0])
    return [f"{round(n * (mean - 1) / 2)} people have the mark"] if round(n * (mean - 1) / 2) == 4 else []


@attack("user", "digits", honest)
async def a_reader_who_knows_all_others(node: DisclosureNode) -> list[str]:
    described(node)
    told = await moments(node, moments_file(people(ldl=LDL), [], ["ldl"]))
    found = []
    for n, mean, _ in told.values():
        rest = n * mean - LDL[1:].sum()
        if abs(rest - LDL[TARGET]) < 0.005:
            found.append(f"the target's LDL is {rest:.2f}")
    return found


@attack("user", "linked", honest)
async def the_group_that_stayed_is_the_total_less_the_others(node: DisclosureNode) -> list[str]:
    described(node)
    rare = ["true" if one < 12 else "false" for one in PEOPLE]
    high = [15 + 0.1 * (one % 7) if one < 12 else LDL[one] for one in PEOPLE]
    some = await moments(node, moments_file(people(rare=rare, ldl=high), ["rare"], ["ldl"]))
    everybody = await moments(node, moments_file(people(ldl=high), [], ["ldl"]))
    if ("ldl", "true") in some or ("ldl",) not in everybody:
        return []
    n, mean, _ = everybody["ldl",]
    m, other, _ = some["ldl", "false"]
    rest = (n * mean - m * other) / (n - m)
    return [f"twelve people have {rest:.1f}"] if abs(rest - np.mean(high[:12])) < 1 else []


@attack("pair", "ledger", honest)
async def the_same_mean_after_one_person_was_swapped(node: DisclosureNode) -> list[str]:
    described(node)
    before = await moments(node, moments_file(people(ldl=LDL), [], ["ldl"]))
    swapped = [19.0, *LDL[1:] + 0.01]
    after = await moments(node, moments_file(people(ldl=swapped), [], ["ldl"]), user="eve")
    return [f"{key}: the two differ" for key in before if before[key] != after.get(key, before[key])]


@attack("author", "scores", honest)
async def a_table_of_a_score_that_is_one_genotype(node: DisclosureNode) -> list[str]:
    """Of one variant the bins of a score are its genotypes; `moments` knows how many variants it has."""
    described(node)
    rows = [["0..1", 400], ["1..2", 200], ["2..10", 29]]
    tables = [{"name": "score", "columns": ["score"], "rows": rows}]
    try:
        found = await node.release(
            "DS1", json.dumps({"format": "gdi-table/1", "tables": tables}).encode(), kind="table"
        )
    except REFUSED:
        return []
    return [str(one) for one in found.document["cells"] if one["min"] == one["max"] == 29]
