"""A hostile user: honest workflows only, but runs, datasets and epochs of the user's choice."""

from __future__ import annotations

from gdi.contracts.cohorts import CohortChoice
from node_gateway.epochs import command as epochs
from tests.support.attacks import REFUSED, attack, genotypes, truth
from tests.support.disclosure_node import PEOPLE, DisclosureNode, cohort, rows_of

OTHERS = PEOPLE[1:]
SPLIT = {"file": "s.tsv.c4gh", "format": "tsv", "person": "person", "country": "country"}


async def two_epochs(node: DisclosureNode, first: list[int], second: list[int]) -> None:
    """Two datasets whose people differ by few, opened although they should not be (the check's own turn comes next)."""
    usual = epochs.small_parts
    epochs.small_parts = lambda *_: []
    try:
        await node.open_epoch("DS1", first)
        await node.open_epoch("DS2", second)
    finally:
        epochs.small_parts = usual


@attack("user", "parts")
async def the_dataset_and_the_same_without_one_person(node: DisclosureNode) -> list[str]:
    await two_epochs(node, list(PEOPLE), list(OTHERS))
    more = (await node.release("DS1", rows_of(PEOPLE))).exact()
    less = (await node.release("DS2", rows_of(OTHERS))).exact()
    return genotypes(more, less, truth)


@attack("user", "parts")
async def the_same_without_one_person_first(node: DisclosureNode) -> list[str]:
    await two_epochs(node, list(PEOPLE), list(OTHERS))
    less = (await node.release("DS2", rows_of(OTHERS))).exact()
    more = (await node.release("DS1", rows_of(PEOPLE))).exact()
    return genotypes(more, less, truth)


@attack("user", "parts")
async def a_person_between_two_sums_of_datasets(node: DisclosureNode) -> list[str]:
    """A+B, and B' + A where B' lacks the target: no single dataset is asked."""
    usual = epochs.small_parts
    epochs.small_parts = lambda *_: []
    try:
        for dataset, people in (("DS1", PEOPLE[300:]), ("DS2", PEOPLE[:300]), ("DS3", PEOPLE[1:300])):
            await node.open_epoch(dataset, people)
    finally:
        epochs.small_parts = usual
    more = (await node.release(["DS1", "DS2"], rows_of(PEOPLE))).exact()
    less = (await node.release(["DS1", "DS3"], rows_of(OTHERS))).exact()
    return genotypes(more, less, truth)


@attack("user", "parts")
async def three_sums_of_three_datasets(node: DisclosureNode) -> list[str]:
    """A = (AB + AC - BC) / 2: counts of 1 to 4 people of the smallest."""
    groups = {"DS1": PEOPLE[:40], "DS2": PEOPLE[40:200], "DS3": PEOPLE[200:]}
    for dataset, people in groups.items():
        await node.open_epoch(dataset, people)

    async def both(one: str, two: str) -> dict[object, int]:
        people = sorted([*groups[one], *groups[two]])
        return dict((await node.release([one, two], rows_of(people))).exact())

    ab, ac, bc = await both("DS1", "DS2"), await both("DS1", "DS3"), await both("DS2", "DS3")
    found = []
    for site, genotypes_ in cohort():
        if site in ab and site in ac and site in bc:
            carriers = (ab[site] + ac[site] - bc[site]) // 2
            true = sum(max(0, genotypes_[one]) for one in groups["DS1"])
            if 0 < carriers < 5 and carriers == true:
                found.append(f"{site[1]}: {carriers} copies among 40 people")
    return found


@attack("user", "opening+parts")
async def one_person_is_swapped_between_epochs(node: DisclosureNode) -> list[str]:
    """R + A and R + B: their difference is no union of parts."""
    first, second = [*PEOPLE[2:], 0], [*PEOPLE[2:], 1]
    await node.open_epoch("DS1", first)
    before = (await node.release("DS1", rows_of(first))).exact()
    try:
        await node.open_epoch("DS1", second)
    except REFUSED:
        return []
    after = (await node.release("DS1", rows_of(second))).exact()
    return genotypes(before, after, lambda site: truth(site, 0) - truth(site, 1))


@attack("user", "opening+parts")
async def a_few_people_are_swapped_between_datasets(node: DisclosureNode) -> list[str]:
    first, second = [*PEOPLE[6:], 0, 2, 4], [*PEOPLE[6:], 1, 3, 5]
    await node.open_epoch("DS1", first)
    before = (await node.release("DS1", rows_of(first))).exact()
    try:
        await node.open_epoch("DS2", second)
    except REFUSED:
        return []
    after = (await node.release("DS2", rows_of(second))).exact()
    return genotypes(
        before, after, lambda site: sum(truth(site, one) for one in (0, 2, 4)) - sum(truth(site, o) for o in (1, 3, 5))
    )


async def split_of(node: DisclosureNode, levels: dict[int, str], splits: list[str] | None = None) -> None:
    node.describe("DS1", samples=SPLIT, splits=splits or ["country"])
    rows = [{"person": f"HG{one:05d}", "country": levels.get(one, "FI")} for one in PEOPLE]
    await node.open_table("DS1", rows)


@attack("user", "levels")
async def a_level_of_three_people_is_named(node: DisclosureNode) -> list[str]:
    """Admission tells by its answer that few people come from a country."""
    await split_of(node, {0: "LU", 1: "LU", 2: "LU"} | {one: "SE" for one in range(100, 200)})
    try:
        await node.release("DS1", rows_of(PEOPLE[:3]), cohort=CohortChoice(split="country", level="LU"))
    except REFUSED as refused:
        return [] if getattr(refused, "slug", "") == "not-open" else ["somebody is from LU"]
    return ["1 to 19 people are from LU"]


@attack("user", "opening")
async def two_splits_cut_out_few_people(node: DisclosureNode) -> list[str]:
    """Women of one country: the cell between two splits has two people."""
    phenotypes = [{"column": "status", "type": "category", "categories": ["case", "control"]}]
    node.describe("DS1", samples={**SPLIT, "phenotypes": phenotypes}, splits=["country", "status"])
    rows = []
    for one in PEOPLE:
        country, status = ("SE" if one < 300 else "FI"), ("case" if one < 298 else "control")
        rows.append({"person": f"HG{one:05d}", "country": country, "status": status})
    try:
        await node.open_table("DS1", rows)
    except REFUSED:
        return []
    await node.release("DS1", rows_of(PEOPLE))
    choices = CohortChoice(split="country", level="SE"), CohortChoice(split="status", level="case")
    se = await node.release("DS1", rows_of(PEOPLE[:300]), cohort=choices[0], levels={"FI": rows_of(PEOPLE[300:])})
    controls = {"control": rows_of(PEOPLE[298:])}
    case = await node.release("DS1", rows_of(PEOPLE[:298]), cohort=choices[1], levels=controls)
    return [f"two people's frequencies: {len(set(se.ranges()) & set(case.ranges()))} sites"]


@attack("user", "opening")
async def a_variable_set_that_two_people_lack(node: DisclosureNode) -> list[str]:
    number = {"column": "bmi", "type": "number", "minimum": 5, "maximum": 90}
    node.describe("DS1", samples={**SPLIT, "phenotypes": [number]}, variable_sets={"weight": ["bmi"]})
    rows = [{"person": f"HG{one:05d}", "country": "FI", "bmi": "" if one < 2 else "20"} for one in PEOPLE]
    try:
        await node.open_table("DS1", rows)
    except REFUSED:
        return []
    return ["the two people without a value are told apart"]


@attack("user", "splits+parts")
async def two_of_three_levels(node: DisclosureNode) -> list[str]:
    """What the whole and two levels leave is the third's: 1 to 4 people of 40 carry the allele."""
    of = {one: "SE" if one < 300 else "NO" if one < 589 else "FI" for one in PEOPLE}
    await split_of(node, of)
    rows = {level: rows_of([one for one in PEOPLE if of[one] == level]) for level in ("SE", "NO", "FI")}
    whole = (await node.release("DS1", rows_of(PEOPLE))).exact()
    told = {}
    for level in ("SE", "NO"):
        others = {name: of_it for name, of_it in rows.items() if name != level}
        choice = CohortChoice(split="country", level=level)
        told[level] = (await node.release("DS1", rows[level], cohort=choice, levels=others)).exact()
    found = []
    for site, people in cohort():
        carriers = sum(people[one] > 0 for one in PEOPLE if of[one] == "FI")
        if all(site in one for one in (whole, *told.values())) and 0 < carriers < 5:
            found.append(f"{site[1]}: {whole[site] - told['SE'][site] - told['NO'][site]} copies")
    return found


@attack("user", "budget")
async def all_sites_of_sensitive_people(node: DisclosureNode) -> list[str]:
    """More frequencies than keep the membership of 60 people unknown (0.65 for each), over many runs."""
    people = PEOPLE[:60]
    node.describe("DS1", membership="sensitive")
    await node.open_epoch("DS1", people)
    told: set[object] = set()
    for _ in range(12):
        told |= await _asked(node, "DS1", rows_of(people, 381))
    return [f"{len(told)} frequencies of 60 people"] if len(told) > 0.66 * 60 else []


async def _asked(node: DisclosureNode, dataset: str, rows: list[dict[str, object]]) -> set[object]:
    try:
        return set((await node.release(dataset, rows)).ranges())
    except REFUSED:
        return set()


@attack("user", "run-share")
async def one_run_takes_the_whole_budget(node: DisclosureNode) -> list[str]:
    node.describe("DS1", membership="sensitive")
    await node.open_epoch("DS1", PEOPLE)
    told = len((await node.release("DS1", rows_of(PEOPLE, 381))).ranges())
    return [f"{told} sites in one run"] if told > 0.1 * 0.66 * 629 else []


@attack("user", "budget-of-people")
async def the_same_people_under_two_ids_have_one_budget(node: DisclosureNode) -> list[str]:
    """40 people have a budget of 26 frequencies, also where 80 are asked of whom they are half."""
    node.describe("DS1", membership="sensitive", run_share=1.0)
    node.describe("DS2", membership="sensitive", run_share=1.0)
    await node.open_epoch("DS1", PEOPLE[:40])
    await node.open_epoch("DS2", PEOPLE[:80])
    told = len(await _asked(node, "DS1", rows_of(PEOPLE[:40], 381)))
    told += len(await _asked(node, "DS2", rows_of(PEOPLE[:80], 381)))
    return [f"{told} frequencies of 40 people"] if told > 0.66 * 40 else []


@attack("user", "admission")
async def people_who_are_not_listed_beside_another_dataset(node: DisclosureNode) -> list[str]:
    node.describe("DS1", identifiers=None)
    try:
        both = (await node.release(["DS1", "DS2"], rows_of(PEOPLE))).exact()
        one = (await node.release("DS2", rows_of(OTHERS))).exact()
    except REFUSED:
        return []
    return genotypes(both, one, truth) or ["an answer about people whom nobody listed"]


@attack("pair", "admission")
async def the_same_people_under_two_ids_without_an_epoch(node: DisclosureNode) -> list[str]:
    """Nobody listed who is in which: one is asked of everybody, the other of all but the target."""
    for dataset in ("DS1", "DS2"):
        node.describe(dataset, disjoint=False)
    try:
        more = (await node.release("DS1", rows_of(PEOPLE), user="mallory")).exact()
        less = (await node.release("DS2", rows_of(OTHERS), user="eve")).exact()
    except REFUSED:
        return []
    return genotypes(more, less, truth)
