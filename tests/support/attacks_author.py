"""A hostile author: what the workflow writes is the author's choice, over what it saw inside the node."""

from __future__ import annotations

import contextlib
from typing import Any

from gdi.kit.problem import ProblemError
from tests.support.attacks import GOOD, REFUSED, TARGET, attack, truth
from tests.support.disclosure_node import PEOPLE, DisclosureNode, Place, cohort, row, rows_of

HEMI = {"hemi_ref": 0, "hemi_alt": 0, "half_missing": 0, "missing": 0}
PLACE: Place = ("2", 1000, "A", "C")
SITE = next(n for n, (_, people) in enumerate(cohort()) if 30 < sum(1 for p in people if p > 0) < 200)


def counts(place: Place, hom_ref: int, het: int, hom_alt: int, **rest: int) -> dict[str, Any]:
    head = dict(zip(("chrom", "pos", "ref", "alt"), place, strict=True))
    numbers = {"hom_ref": hom_ref, "het": het, "hom_alt": hom_alt, **HEMI, **rest}
    alleles = 2 * (hom_ref + het + hom_alt) + numbers["hemi_ref"] + numbers["hemi_alt"] + numbers["half_missing"]
    return {**head, "ac": het + 2 * hom_alt + numbers["hemi_alt"], "an": alleles, **numbers}


async def told(node: DisclosureNode, rows: list[dict[str, Any]] | bytes, dataset: str = "DS1", **how: Any) -> Any:
    """The exact numbers by site; none where it is refused."""
    try:
        return (await node.release(dataset, rows, **how)).exact()
    except REFUSED:
        return {}


def repeated(times: int) -> list[dict[str, Any]]:
    """One person, so many times."""
    return [row(place, [genotypes[TARGET]] * times) for place, genotypes in cohort()]


@attack("author", "other-people")
async def one_person_is_counted_five_times(node: DisclosureNode) -> list[str]:
    await node.open_epoch("DS1", PEOPLE)
    return [f"{site[1]}: {ac // 5}" for site, ac in (await told(node, repeated(5))).items()]


@attack("author", "other-people")
async def one_person_is_counted_a_hundred_times(node: DisclosureNode) -> list[str]:
    await node.open_epoch("DS1", PEOPLE)
    return [f"{site[1]}: {ac // 100}" for site, ac in (await told(node, repeated(100))).items()]


@attack("author", "other-people")
async def ten_chosen_people(node: DisclosureNode) -> list[str]:
    """Carriers of one allele are chosen by their genotypes: what they carry elsewhere is told."""
    await node.open_epoch("DS1", PEOPLE)
    chosen = [one for one in PEOPLE if truth(SITE, one) > 0][:10]
    return [f"{site[1]}: {ac} of ten carriers" for site, ac in (await told(node, rows_of(chosen))).items()]


@attack("author", "other-people")
async def everybody_but_one(node: DisclosureNode) -> list[str]:
    await node.open_epoch("DS1", PEOPLE)
    return [f"{site[1]}: {ac}" for site, ac in (await told(node, rows_of(PEOPLE[1:]))).items()]


@attack("author", "other-people")
async def the_same_people_twice_in_two_datasets(node: DisclosureNode) -> list[str]:
    """Three carriers become six, and six pass the floor."""
    await node.open_epoch("DS1", PEOPLE)
    await node.open_epoch("DS2", PEOPLE)
    rows = [counts(site, 623, 6, 0) for site, people in cohort() if sum(1 for p in people if p > 0) == 3][:1]
    rows = [counts((*PLACE[:2], "A", "C"), 1252, 6, 0), *rows]
    answer = await told(node, rows, dataset=("DS1", "DS2"))  # type: ignore[arg-type]
    return [f"{site[1]}: {ac // 2} carriers" for site, ac in answer.items()]


@attack("author", "approval")
async def one_person_in_place_of_everybody(node: DisclosureNode) -> list[str]:
    """The number of people is right; each of them is the target. Only a workflow that was read is stopped from this."""
    if not node.permissive:
        node.policy(workflows=[f"allele-frequency@{GOOD}"])
    await node.open_epoch("DS1", PEOPLE)
    answer = await told(node, repeated(len(PEOPLE)), digest="sha256:" + "e" * 64)
    return [f"{site[1]}: het" for site, ac in answer.items() if ac == len(PEOPLE)]


@attack("author", "kinds")
async def a_kind_that_the_dataset_is_not_released_in(node: DisclosureNode) -> list[str]:
    node.describe("DS1", kinds=[] if node.permissive else ["table"])
    return [str(site) for site in await told(node, rows_of(PEOPLE))]


@attack("author", "people")
async def three_homozygous_people_are_six_copies(node: DisclosureNode) -> list[str]:
    answer = await told(node, [counts(PLACE, 626, 0, 3)])
    return [f"{ac // 2} people are homozygous" for ac in answer.values()]


@attack("author", "people")
async def four_people_with_seven_copies(node: DisclosureNode) -> list[str]:
    return [f"{ac} copies" for ac in (await told(node, [counts(PLACE, 625, 1, 3)])).values()]


@attack("author", "other-allele")
async def a_rare_reference(node: DisclosureNode) -> list[str]:
    """AN less AC: two people carry the reference."""
    answer = await told(node, [counts(PLACE, 0, 2, 627)])
    return [f"{2 * 629 - ac} copies of the reference" for ac in answer.values()]


@attack("author", "other-allele")
async def a_deletion_over_a_variant(node: DisclosureNode) -> list[str]:
    """Each has enough people with and without it; AN less both is the reference of two people."""
    rows = [counts((*PLACE[:2], "AT", "A"), 330, 299, 0), counts(("2", 1001, "T", "G"), 299, 0, 330)]
    rows[1] = counts(("2", 1001, "T", "G"), 149, 3, 477)
    answer = list((await told(node, rows)).values())
    return [f"{2 * 629 - sum(answer)} copies of neither"] if len(answer) == 2 else []


@attack("author", "zero")
async def nobody_carries_it(node: DisclosureNode) -> list[str]:
    """A zero that is told leaves 1 to 4 for all others that stay."""
    return [f"{ac} carriers" for ac in (await told(node, [counts(PLACE, 629, 0, 0)])).values()]


@attack("author", "unlisted")
async def a_beacon_of_rare_alleles(node: DisclosureNode) -> list[str]:
    """That a line is there tells that somebody carries the allele."""
    try:
        answer = await node.release("DS1", [counts(PLACE, 628, 1, 0), counts(("2", 2000, "A", "C"), 500, 100, 29)])
    except REFUSED:
        return []
    return ["somebody carries it" for site in answer.ranges() if site[1] == PLACE[1]]


@attack("author", "calls")
async def two_people_without_a_call(node: DisclosureNode) -> list[str]:
    answer = await node.release("DS1", [counts(PLACE, 427, 100, 100, missing=2)])
    return [f"{(2 * 629 - s['an_min']) // 2} people" for s in answer.document["sites"] if s["an_min"] == s["an_max"]]


@attack("author", "calls")
async def three_men_at_a_site_of_x(node: DisclosureNode) -> list[str]:
    answer = await node.release("DS1", [counts(("X", 1000, "A", "C"), 426, 100, 100, hemi_ref=3)])
    return [f"an odd {s['an_min']}" for s in answer.document["sites"] if s["an_min"] == s["an_max"]]


@attack("author", "one-name")
async def one_site_on_two_lines(node: DisclosureNode) -> list[str]:
    """The same three people under `2` and `chr2`: what is told twice is about them."""
    rows = [counts(PLACE, 500, 100, 29), counts(("chr2", 1000, "A", "C"), 500, 103, 26)]
    answer = await told(node, rows)
    return [f"{place[0]}: {ac}" for place, ac in answer.items()] if len(answer) > 1 else []


@attack("author", "order")
async def the_order_of_rows_is_a_message(node: DisclosureNode) -> list[str]:
    rows = rows_of(PEOPLE)
    first = await node.release("DS1", rows)
    second = await node.release("DS1", sorted(rows, key=lambda one: truth(0) == 0))
    third = await node.release("DS1", rows[::-1])
    same = first.document["sites"] == third.document["sites"] == second.document["sites"]
    return [] if same else ["a permutation of the sites"]


@attack("author", "patterns")
async def a_name_spelled_into_an_allele(node: DisclosureNode) -> list[str]:
    rows = [counts(("2", 1000, "A", "HG00096 has BRCA1"), 500, 100, 29)]
    return [place[3] for place in await told(node, rows)]


@attack("author", "patterns+contigs")
async def a_name_spelled_into_a_contig(node: DisclosureNode) -> list[str]:
    return [place[0] for place in await told(node, [counts(("HG00096 has it, see below", 1, "A", "C"), 500, 100, 29)])]


@attack("author", "arithmetic")
async def counts_of_two_groups_at_one_site(node: DisclosureNode) -> list[str]:
    """The lines of two alternate alleles count different people: their difference is about few."""
    rows = [counts(PLACE, 500, 100, 29), counts((*PLACE[:3], "G"), 500, 100, 26)]
    answer = await told(node, rows)
    return [f"{ac}" for ac in answer.values()] if len(answer) > 1 else []


@attack("author", "rounding")
async def how_many_sites_stayed(node: DisclosureNode) -> list[str]:
    """Of a list of one site, the number says whether the target's allele is rare here."""
    answer = await node.release("DS1", [counts(PLACE, 628, 1, 0)])
    return [f"{answer.released['sites_withheld']} stayed"] if answer.released["sites_withheld"] is not None else []


@attack("author", "recheck")
async def a_release_that_waited_while_the_floor_rose(node: DisclosureNode) -> list[str]:
    _, _answer, caller = await node.ask("DS1", [counts(PLACE, 622, 7, 0)], review=True)
    node.policy(floor=10)
    return await approved(node, caller.run)


@attack("author", "recheck")
async def a_release_that_waited_while_the_dataset_was_closed(node: DisclosureNode) -> list[str]:
    _, _answer, caller = await node.ask("DS1", [counts(PLACE, 522, 107, 0)], review=True)
    (node.folder / "datasets" / "DS1.yaml").unlink()
    return await approved(node, caller.run)


async def approved(node: DisclosureNode, run: str) -> list[str]:
    reviews = node.releases.reviews
    case = await reviews.case(run, "counts")
    try:
        await reviews.decide(run, "counts", case.sha256, reviewer="bob", approve=True)
    except REFUSED:
        return []
    return [f"{place[1]}: {ac}" for place, ac in (await node.published(run, {})).exact().items()]


INVENTED = [counts(place, 600, 15, 14) for place, _ in cohort()]


async def everybodys_true_numbers(node: DisclosureNode) -> list[str]:
    """What an honest user of DS1 gets that is not true: the author's numbers in place of the people's."""
    answer = (await node.release("DS1", rows_of(PEOPLE), user="alice")).exact()
    people = dict(cohort())
    wrong = [place for place, ac in answer.items() if ac != sum(max(0, one) for one in people[place])]
    return [f"{place[1]}: invented" for place in wrong]


@attack("author", "waiting")
async def invented_counts_that_were_refused_answer_for_a_dataset(node: DisclosureNode) -> list[str]:
    await node.open_epoch("DS1", PEOPLE)
    _, _, caller = await node.ask("DS1", INVENTED, review=True)
    with contextlib.suppress(ProblemError):  # with the rule off nobody is asked
        case = await node.releases.reviews.case(caller.run, "counts")
        await node.releases.reviews.decide(caller.run, "counts", case.sha256, reviewer="bob", approve=False, reason="")
    return await everybodys_true_numbers(node)


@attack("author", "waiting")
async def invented_counts_that_wait_answer_for_a_dataset(node: DisclosureNode) -> list[str]:
    await node.open_epoch("DS1", PEOPLE)
    await node.ask("DS1", INVENTED, review=True)
    return await everybodys_true_numbers(node)
