"""Attacks over several kinds of release: each kind's numbers are harmless, those of two or three are not; and effects
that are solved for the counts they were made of. Honest workflows' numbers, asked by a hostile user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdi.contracts.cohorts import CohortChoice
from gdi.releases.cross_table.table import FORMAT as TABLE
from gdi.releases.variant_statistics.table import FORMAT as STATISTICS
from gdi.releases.variant_statistics.table import HEADING
from node_gateway.epochs.contents import FileContents
from node_gateway.listed_files import Listed
from tests.support.attacks import REFUSED, attack, truth
from tests.support.attacks_user import OTHERS, two_epochs
from tests.support.disclosure_node import PEOPLE, DisclosureNode, Place, cohort, row, rows_of

KINDS = ["allele-counts", "table", "variant-statistics"]
COLUMNS = [
    {"column": "ldl", "type": "number", "minimum": 0, "maximum": 20},
    *({"column": name, "type": "boolean"} for name in ("ill", "smoker", "rare")),
]
SAMPLES = {"file": "s.tsv.c4gh", "format": "tsv", "person": "person", "phenotypes": COLUMNS}
SEX = {"column": "sex"}
LDL = np.random.default_rng(830).normal(3, 1, 629)
ILL = [one % 3 == 0 for one in PEOPLE]
SITES = [(n, place, people) for n, (place, people) in enumerate(cohort()) if min(people) >= 0]


def described(node: DisclosureNode, *datasets: str) -> None:
    node.policy(releases={"kinds": KINDS})
    for dataset in datasets or ("DS1", "DS2", "DS3"):
        node.describe(dataset, identifiers=None, samples={**SAMPLES, "sex": SEX})


def analysis(
    people: Sequence[int], y: Sequence[float], phenotype: str, model: str = "linear", only: int | None = None
) -> bytes:
    """What the gwas workflow writes of these people, without covariates: least squares, or the log odds."""
    cases = [one for one in people if y[one]] if model == "logistic" else []
    head = {"format": STATISTICS, "model": model, "phenotype": phenotype, "covariates": []}
    lines = ["#" + json.dumps({**head, "people": len(people), "cases": len(cases)}), "\t".join(HEADING)]
    values = np.array([float(y[one]) for one in people])
    for number, place, genotypes in SITES:
        if only is not None and number != only:
            continue
        g = np.array([genotypes[one] for one in people], dtype=float)
        counts = [len(people), len(cases), int((g > 0).sum()), int((g < 2).sum())]
        counts += [sum(genotypes[one] > 0 for one in cases), sum(genotypes[one] < 2 for one in cases)]
        size = ((g - g.mean()) ** 2).sum()
        if size == 0:
            continue
        beta = ((g - g.mean()) * values).sum() / size
        left = max(((values - values.mean()) ** 2).sum() - beta**2 * size, 1e-9)
        fields = [*place, *counts, float(g.mean() / 2), float(beta), float((left / (len(people) - 2) / size) ** 0.5)]
        lines.append("\t".join(map(str, fields)))
    return ("\n".join(lines) + "\n").encode()


async def statistics(node: DisclosureNode, dataset: str, data: bytes, **how: Any) -> dict[Place, list[float]]:
    """N, AF, BETA and SE by variant; none where it is refused."""
    try:
        _, _answer, caller = await node.ask(dataset, data, kind="variant-statistics", **how)
    except REFUSED:
        return {}
    content = await node.content(caller.run)
    rows = [line.split("\t") for line in content.decode().splitlines()[2:]]
    return {(one[0], int(one[1]), one[2], one[3]): [float(number) for number in one[4:]] for one in rows}


async def table(
    node: DisclosureNode,
    dataset: str,
    columns: Mapping[str, Sequence[bool]],
    people: Sequence[int] = PEOPLE,
    **how: Any,
) -> dict[tuple[str | None, ...], int]:
    """The exact cells of people by columns; none where it is refused."""
    counts: dict[tuple[str, ...], int] = {}
    for one in people:
        key = tuple("true" if column[one] else "false" for column in columns.values())
        counts[key] = counts.get(key, 0) + 1
    tables = [{"name": "people", "columns": list(columns), "rows": [[*key, n] for key, n in counts.items()]}]
    try:
        found = await node.release(
            dataset, json.dumps({"format": TABLE, "tables": tables}).encode(), kind="table", **how
        )
    except REFUSED:
        return {}
    return {tuple(one["cell"]): one["min"] for one in found.document["cells"] if one["min"] == one["max"]}


async def honest(node: DisclosureNode) -> int:
    """Allele counts, an analysis and a table of the same people: all three kinds beside each other."""
    described(node)
    alleles = len((await node.release("DS3", rows_of(PEOPLE))).exact())
    effects = len(await statistics(node, "DS3", analysis(PEOPLE, LDL, "ldl")))
    effects += len(await statistics(node, "DS3", analysis(PEOPLE, ILL, "ill", "logistic")))
    cells = len(await table(node, "DS3", {"ill": ILL}))
    print(f"{alleles} allele counts, {effects} effects, {cells} cells")
    return alleles if effects > 20 and cells > 2 else 0


async def neighbours(node: DisclosureNode) -> None:
    await two_epochs(node, list(PEOPLE), list(OTHERS))
    described(node)


def differences(more: Mapping[Place, float], less: Mapping[Place, float]) -> list[str]:
    """The target's copies, of allele counts of all and of all but the target."""
    found = []
    for number, place, _ in SITES:
        if place in more and place in less and round(more[place] - less[place]) == truth(number):
            found.append(f"{place[1]}: {truth(number)}")
    return found


@attack("pair", "kinds-together", honest)
async def allele_counts_beside_the_statistics_of_a_neighbour(node: DisclosureNode) -> list[str]:
    await neighbours(node)
    more = (await node.release("DS1", rows_of(PEOPLE), user="mallory")).exact()
    less = await statistics(node, "DS2", analysis(OTHERS, LDL, "ldl"), user="eve")
    return differences(dict(more), {place: 2 * n * af for place, (n, af, *_) in less.items()})


@attack("pair", "parts", honest)
async def statistics_beside_the_allele_counts_of_a_neighbour(node: DisclosureNode) -> list[str]:
    await neighbours(node)
    less = await statistics(node, "DS2", analysis(OTHERS, LDL, "ldl"), user="eve")
    more = (await node.release("DS1", rows_of(PEOPLE), user="mallory")).exact()
    return differences(dict(more), {place: 2 * n * af for place, (n, af, *_) in less.items()})


@attack("pair", "kinds-together", honest)
async def two_analyses_of_neighbours(node: DisclosureNode) -> list[str]:
    await neighbours(node)
    more = await statistics(node, "DS1", analysis(PEOPLE, LDL, "ldl"), user="mallory")
    less = await statistics(node, "DS2", analysis(OTHERS, LDL, "ldl"), user="eve")
    of = [{place: 2 * n * af for place, (n, af, *_) in one.items()} for one in (more, less)]
    return differences(of[0], of[1])


@attack("user", "numbers", honest)
async def an_effect_on_a_category_is_a_sum_over_its_people(node: DisclosureNode) -> list[str]:
    """Four people are marked; the linear effect on the mark is how many copies they have."""
    described(node)
    marked = [one < 4 for one in PEOPLE]
    told = await statistics(node, "DS1", analysis(PEOPLE, marked, "rare"))
    found = []
    for number, place, people in SITES:
        if place not in told:
            continue
        g = np.array(
            people, dtype=float
        )  # the reader knows frequencies; the variance follows from SE, here it is known
        copies = told[place][2] * ((g - g.mean()) ** 2).sum() + 4 * g.mean()
        true = sum(truth(number, one) for one in range(4))
        if round(copies) == true:
            found.append(f"{place[1]}: {true} copies among four people")
    return found


@attack("user", "genotypes", honest)
async def an_effect_and_its_error_are_solved_for_homozygotes(node: DisclosureNode) -> list[str]:
    """Of a number without covariates: SE² (N - 2) + BETA² = S / Sgg, and S is the same at all sites."""
    described(node)
    told = await statistics(node, "DS1", analysis(PEOPLE, LDL, "ldl"))
    s = float(((LDL - LDL.mean()) ** 2).sum())  # the reader finds it as the one that makes all counts whole
    found = []
    for _, place, people in SITES:
        if place in told:
            n, frequency, beta, error = told[place]
            copies = round(2 * n * frequency)
            homozygous = round((s / (error**2 * (n - 2) + beta**2) + copies**2 / n - copies) / 2)
            if 0 < homozygous < 5 and homozygous == people.count(2):
                found.append(f"{place[1]}: {homozygous} people have two copies")
    return found


@attack("user", "linked+level-kinds", honest)
async def cases_of_everybody_and_of_one_sex(node: DisclosureNode) -> list[str]:
    """Headers say how many cases there are: of all, and of the women. Three are left."""
    described(node)
    node.describe("DS1", identifiers=None, samples={**SAMPLES, "sex": SEX}, splits=["sex"])
    sexes = ["female" if one < 400 else "male" for one in PEOPLE]
    rows = [
        {"person": f"HG{o:05d}", "sex": sexes[o], "ldl": "3", "ill": "true", "smoker": "", "rare": ""} for o in PEOPLE
    ]
    await node.open_table("DS1", rows)
    ill = [one < 200 or one > 625 for one in PEOPLE]
    everybody = await table(node, "DS1", {"ill": ill})
    men = [row(place, genotypes[400:]) for place, genotypes in cohort()]
    await node.release("DS1", rows_of(PEOPLE))
    choice = CohortChoice(split="sex", level="female")
    women = await table(node, "DS1", {"ill": ill}, PEOPLE[:400], cohort=choice, levels={"male": men})
    if ("true",) in everybody and ("true",) in women:
        return [f"{everybody['true',] - women['true',]} men are ill"]
    return []


@attack("pair", "sites")
async def the_alleles_of_one_site_in_two_releases(node: DisclosureNode) -> list[str]:
    """A>C by one, A>G by the other: what is left is the reference."""
    first = await node.release("DS1", [row(("2", 7, "A", "C"), [1] * 326 + [2] * 1 + [0] * 302)], user="mallory")
    second = await node.release("DS1", [row(("2", 7, "AT", "GT"), [2] * 300 + [1] * 327 + [0] * 2)], user="eve")
    ac, other = list(first.exact().values()), list(second.exact().values())
    return [f"{2 * 629 - ac[0] - other[0]} copies of the reference"] if ac and other else []


@attack("pair", "ledger", honest)
async def the_same_analysis_after_one_person_was_swapped(node: DisclosureNode) -> list[str]:
    described(node)
    swapped = [1, *PEOPLE[1:]]  # the target's genotypes are another's now
    before = await statistics(node, "DS1", analysis(PEOPLE, LDL, "ldl"), user="mallory")
    after = await statistics(node, "DS1", analysis(swapped, LDL, "ldl"), user="eve")
    return [f"{place[1]}: the two differ" for place in before if before[place] != after.get(place)]


@attack("pair", "changed-files", honest)
async def new_sites_after_the_files_changed_under_the_id(node: DisclosureNode) -> list[str]:
    """As many people, one of them another: where the two differ, the second kind does not agree with the first."""
    described(node)
    contents = FileContents(node.database)
    await contents.note("DS1", Listed("cohort.vcf.gz.c4gh", 9, None, checksum="a" * 64))
    await node.release("DS1", rows_of(PEOPLE), user="mallory")
    await contents.note("DS1", Listed("cohort.vcf.gz.c4gh", 9, None, checksum="b" * 64))
    other = max(PEOPLE, key=lambda one: sum(truth(n) != truth(n, one) for n, *_ in SITES))
    after = await statistics(node, "DS1", analysis([*PEOPLE[1:], other], LDL, "ldl"), user="eve")
    usual = await statistics(node, "DS2", analysis(PEOPLE, LDL, "ldl"))
    stayed = set(usual) - set(after) if after else set()
    return [f"{p[1]}: the two differ" for n, p, _ in SITES if p in stayed and truth(n) != truth(n, other)]
