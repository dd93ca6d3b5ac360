"""A pair of users, or one user at two times: what each of them is told is harmless, what both know is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from node_gateway.release import command as releases
from tests.support.attacks import attack, genotypes, truth
from tests.support.attacks_author import PLACE, counts
from tests.support.attacks_user import OTHERS, two_epochs
from tests.support.disclosure_node import PEOPLE, DisclosureNode, cohort, rows_of


def renamed(rows: list[dict[str, Any]], contig: str, tail: str = "") -> list[dict[str, Any]]:
    """The same sites as another file writes them."""
    return [{**one, "chrom": contig, "ref": one["ref"] + tail, "alt": one["alt"] + tail} for one in rows]


async def spelled(node: DisclosureNode, contig: str, tail: str = "") -> list[str]:
    """One asks of everybody, the other of all but the target, in files that name sites differently."""
    await two_epochs(node, list(PEOPLE), list(OTHERS))
    more = (await node.release("DS1", rows_of(PEOPLE), user="mallory")).exact()
    less = (await node.release("DS2", renamed(rows_of(OTHERS), contig, tail), user="eve")).exact()
    places = {(contig, p[1], p[2] + tail, p[3] + tail): p for p, _ in cohort()}
    return genotypes(more, {places[place]: ac for place, ac in less.items()}, truth)


@attack("pair", "keys")
async def contigs_with_chr(node: DisclosureNode) -> list[str]:
    return await spelled(node, "chr2")


@attack("pair", "keys")
async def contigs_in_capitals(node: DisclosureNode) -> list[str]:
    return await spelled(node, "CHR2")


@attack("pair", "keys")
async def contigs_by_accession(node: DisclosureNode) -> list[str]:
    return await spelled(node, "NC_000002.11")


@attack("pair", "keys")
async def contigs_by_genbank_accession(node: DisclosureNode) -> list[str]:
    return await spelled(node, "CM000664.2")


@attack("pair", "keys")
async def contigs_with_a_zero(node: DisclosureNode) -> list[str]:
    return await spelled(node, "02")


@attack("pair", "contigs")
async def a_contig_that_no_assembly_knows(node: DisclosureNode) -> list[str]:
    return await spelled(node, "my2")


@attack("pair", "keys+sites")
async def alleles_that_are_not_trimmed(node: DisclosureNode) -> list[str]:
    return await spelled(node, "2", "T")


@attack("pair", "keys")
async def both_spellings_at_once(node: DisclosureNode) -> list[str]:
    return await spelled(node, "chr2", "TT")


@attack("pair", "parts")
async def one_asks_of_all_the_other_of_all_but_one(node: DisclosureNode) -> list[str]:
    await two_epochs(node, list(PEOPLE), list(OTHERS))
    more = (await node.release("DS1", rows_of(PEOPLE), user="mallory")).exact()
    less = (await node.release("DS2", rows_of(OTHERS), user="eve")).exact()
    return genotypes(more, less, truth)


@attack("pair", "parts")
async def four_people_between_them(node: DisclosureNode) -> list[str]:
    """Counts of 1 to 4 among the four people whom only one of them asks about."""
    await two_epochs(node, list(PEOPLE), list(PEOPLE[4:]))
    more = (await node.release("DS1", rows_of(PEOPLE), user="mallory")).exact()
    less = (await node.release("DS2", rows_of(PEOPLE[4:]), user="eve")).exact()
    return genotypes(more, less, lambda site: sum(max(0, truth(site, one)) for one in range(4)))


async def grown(node: DisclosureNode, first: Sequence[int], second: Sequence[int], expected: Any) -> list[str]:
    """The operator opened no epoch, and the files under the dataset's id change."""
    before = (await node.release("DS1", rows_of(first), user="mallory")).exact()
    after = (await node.release("DS1", rows_of(second), user="eve")).exact()
    return genotypes(before, after, expected)


@attack("pair", "ledger")
async def a_dataset_lost_one_person_under_its_id(node: DisclosureNode) -> list[str]:
    return [one for one in await grown(node, PEOPLE, OTHERS, truth) if not one.endswith(": 0")]


@attack("pair", "ledger")
async def a_dataset_grew_by_one_person_under_its_id(node: DisclosureNode) -> list[str]:
    found = await grown(node, OTHERS, PEOPLE, lambda site: -truth(site))
    return [one for one in found if not one.endswith(": 0")]


@attack("pair", "ledger")
async def one_person_was_swapped_under_the_id(node: DisclosureNode) -> list[str]:
    first, second = [*PEOPLE[2:], 0], [*PEOPLE[2:], 1]
    found = await grown(node, first, second, lambda site: truth(site, 0) - truth(site, 1))
    return [one for one in found if not one.endswith(": 0")]


@attack("pair", "ledger")
async def a_retracted_release_is_computed_anew(node: DisclosureNode) -> list[str]:
    """An operator marks numbers as wrong; asked again of one person less, the difference would be that person."""
    _, _, caller = await node.ask("DS1", rows_of(PEOPLE), user="mallory")
    before = (await node.published(caller.run, {})).exact()
    await releases.retract(node.database, 1, "wrong phenotypes", dry_run=False)
    after = (await node.release("DS1", rows_of(OTHERS), user="eve")).exact()
    return [one for one in genotypes(before, after, truth) if not one.endswith(": 0")]


@attack("pair", "ledger")
async def the_same_question_of_another_file(node: DisclosureNode) -> list[str]:
    """One site, again and again, each time without another person."""
    first = (await node.release("DS1", [counts(PLACE, 500, 100, 29)], user="mallory")).exact()
    second = (await node.release("DS1", [counts(PLACE, 500, 99, 29)], user="eve")).exact()
    return [] if first == second else ["the missing person is heterozygous"]
