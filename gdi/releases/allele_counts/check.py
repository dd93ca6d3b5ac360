"""The disclosure check of `allele-counts`: what a reader is told of each allele of a site. Pure functions over sites,
the node's rules and what left before.
"""

from __future__ import annotations

from functools import lru_cache

from gdi.releases.allele_counts.answers import COPIES, MISSING, SMALL, AlleleAnswer, of_cell, with_an
from gdi.releases.allele_counts.beside import Beside
from gdi.releases.allele_counts.table import Row, Site
from gdi.releases.disclosure import genotypes, variants
from gdi.releases.disclosure.floor import Range, enough, few
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.vocabulary import ALLELES, topic
from gdi.releases.kind import Rules


def key_of(row: Row, off: frozenset[Rule] = frozenset()) -> str:
    """What the ledger calls an allele."""
    if len(row.ref) == len(row.alt) == 1 and Rule.KEYS not in off:  # most variants: nothing to trim
        return f"{variants.contig(row.chrom)}:{row.pos}:{row.ref.upper()}:{row.alt.upper()}"
    variant = variants.Variant(row.chrom, row.pos, row.ref, row.alt)
    return ":".join(map(str, variant)) if Rule.KEYS in off else variants.key(variant)


def carriers(row: Row) -> tuple[int, int]:
    """People who carry the row's allele, and people who carry any other one."""
    mine = row.het + row.hom_alt + row.hemi_alt + row.half_alt
    return mine, row.hom_ref + row.het + row.hemi_ref + row.half_missing - row.half_alt


def people_of(row: Row) -> int:
    """Everybody whom the row counts."""
    return row.hom_ref + row.het + row.hom_alt + row.hemi_ref + row.hemi_alt + row.half_missing + row.missing


def an_range(row: Row, rules: Rules) -> Range:
    """AN, or an interval where few people have no whole call, or few have one allele only."""
    incomplete, haploid = row.half_missing + row.missing, row.hemi_ref + row.hemi_alt
    if Rule.CALLS in rules.off:
        return Range(row.an, row.an)
    top = low = row.an
    if few(incomplete, rules.floor):
        top += row.half_missing + 2 * row.missing
        low = top - COPIES * (rules.floor - 1)
    if few(haploid, rules.floor):
        top, low = top + haploid, low + haploid - (rules.floor - 1)
    return Range(max(0, low), top)


def answer(site: Site, rules: Rules, past: Past) -> list[AlleleAnswer]:
    """What a reader is told of each alternate allele of the site, in the order of its rows."""
    if site.why:
        return [_unusable(row, site, rules) for row in site.rows]
    alone = len(site.rows) == 1 and not rules.off and not site.crowd
    answers = [_judge_one(site.rows[0], rules)] if alone else _judge(site, rules)
    if alone and not rules.classes and rules.together is None and not _spoken(answers[0].key, past):
        return answers  # most sites
    rest = Beside(past, rules, {one.key for one in answers})
    answers = [_same(one, past, rules) or rest.answer(one) for one in answers]
    if rules.classes and _classes_pass(site, answers, rules, past):
        answers = [one._replace(classes=row[6:]) for one, row in zip(answers, site.rows, strict=True)]
    if any(not one.an.exact for one in answers if one.reason != MISSING):  # one AN for a site
        ranges = [one.an for one in answers if not one.an.exact and one.reason != MISSING]
        answers = [with_an(one, ranges[0]) if one.an.exact and one.reason != MISSING else one for one in answers]
    return answers


def _spoken(key: str, past: Past) -> bool:
    """Whether anything left of the allele, or of another of its position."""
    return bool(past.cells) and (key in past.cells or topic(ALLELES, key) in past.topics)


def _unusable(row: Row, site: Site, rules: Rules) -> AlleleAnswer:
    """A site that cannot be counted may have any counts; the ledger forgets it."""
    most = Range(0, COPIES * max(people_of(r) for r in site.rows))
    return AlleleAnswer("", *row[:4], most, most, MISSING)


def _judge(site: Site, rules: Rules) -> list[AlleleAnswer]:
    """The rules for this node's numbers alone."""
    floor, spread, off = rules.floor, COPIES * (rules.floor - 1), rules.off
    first, an = site.rows[0], an_range(site.rows[0], rules)

    def one(row: Row, ac: Range, reason: str = "", rare: str = "", calls: Range = an) -> AlleleAnswer:
        people = (*carriers(row), row.half_missing + row.missing, row.hemi_ref + row.hemi_alt, people_of(row))
        return AlleleAnswer(key_of(row, off), *row[:4], ac, calls, reason, rare, people, copies=row.ac)

    def mine(row: Row) -> int:
        return carriers(row)[0] if Rule.PEOPLE not in off else row.ac

    common = [row for row in site.rows if enough(mine(row), floor, off)]
    rest = first.an - sum(row.ac for row in common)  # copies of the reference and of rare alternate alleles
    others = carriers(common[0])[1] if len(common) == 1 else (rest + 1) // 2  # a person has two of them at most
    if Rule.PEOPLE in off:
        others = rest
    if not common and others < floor:
        few_calls = Range(0, spread * (len(site.rows) + 1))
        return [one(row, Range(0, spread), MISSING, calls=few_calls) for row in site.rows]
    hidden: Row | None = None
    if common and not enough(others, floor, off) and Rule.OTHER_ALLELE not in off:
        hidden = min(common, key=lambda row: row.alt)  # by its name: the least would tell that it is less than others
    answers, crowded = [], _in_the_crowd(site.crowd, floor, off) if site.crowd else frozenset[Row]()
    for row in site.rows:
        if row in crowded and row is not hidden:
            answers.append(one(row, Range(0, an.high), SMALL))
        elif row is hidden:
            known = sum(r.ac for r in common if r is not hidden)
            low, high = max(0, an.low - known - spread), max(0, an.high - known)
            answers.append(one(row, Range(low, high), SMALL, "ref"))
        elif enough(mine(row), floor, off):
            answers.append(one(row, Range(row.ac, row.ac)))
        else:
            answers.append(one(row, Range(0, spread), SMALL, "alt"))
    return answers


@lru_cache(maxsize=256)  # asked for each site of the crowd
def _in_the_crowd(crowd: tuple[Row, ...], floor: int, off: frozenset[Rule]) -> frozenset[Row]:
    """Which alleles stay of records that overlap: where those that are told leave few people for any other allele of
    a place, the one of them that is first by its name does.
    """
    hidden: set[Row] = set()
    if Rule.OTHER_ALLELE in off:
        return frozenset()
    for start in sorted({row.pos for row in crowd}):
        here = [row for row in crowd if row.pos <= start < row.pos + len(row.ref)]
        exact = [row for row in here if row not in hidden and enough(carriers(row)[0], floor, off)]
        rest = min(row.an for row in here) - sum(row.ac for row in exact)
        if len({row[1:3] for row in exact}) > 1 and (rest + 1) // 2 < floor:
            hidden.add(min(exact, key=lambda row: row[:4]))
    return frozenset(hidden)


def _judge_one(row: Row, rules: Rules) -> AlleleAnswer:
    """As `_judge`, for a site with one alternate allele and with all rules on: most sites."""
    floor, spread, an = rules.floor, COPIES * (rules.floor - 1), an_range(row, rules)
    mine, others = carriers(row)
    reason = rare = ""
    if mine >= floor:
        ac = Range(row.ac, row.ac)
        if others < floor:
            reason, rare, ac = SMALL, "ref", Range(max(0, an.low - spread), an.high)
    elif (row.an + 1) // 2 < floor:  # a person has two copies of it at most
        reason, ac, an = MISSING, Range(0, spread), Range(0, spread * 2)
    else:
        reason, rare, ac = SMALL, "alt", Range(0, spread)
    incomplete, haploid = row.half_missing + row.missing, row.hemi_ref + row.hemi_alt
    everybody = row.hom_ref + row.het + row.hom_alt + haploid + incomplete
    people = (mine, others, incomplete, haploid, everybody)
    return AlleleAnswer(key_of(row), row.chrom, row.pos, row.ref, row.alt, ac, an, reason, rare, people, copies=row.ac)


def _same(one: AlleleAnswer, past: Past, rules: Rules) -> AlleleAnswer | None:
    """The answer that left of this cohort before."""
    numbers = past.same(one.key, rules.off)
    return None if numbers is None else of_cell(one, numbers)


def _classes_pass(site: Site, answers: list[AlleleAnswer], rules: Rules, past: Past) -> bool:
    """Whether the site's genotype classes may leave: every number of the site leaves exactly, no other cohort's numbers
    left, and each class that there is, and each sum of genotype cells that follows, is at least the floor.
    """
    exact = all(one.ac.exact and one.an.exact and not one.reason for one in answers)
    if not exact or any(past.statements(one.key) for one in answers):
        return False
    if any(past.same(one.key, rules.off) for one in answers):
        return False
    rows, floor = site.rows, rules.floor
    first = rows[0]
    rare = (
        first.missing,
        first.half_missing - sum(row.half_alt for row in rows),
        first.hemi_ref + first.hemi_alt - sum(row.hemi_alt for row in rows),
        *(n for row in rows for n in (row.hemi_ref, row.hemi_alt, row.half_alt, row.half_missing - row.half_alt)),
    )
    if any(few(number, floor) for number in rare):
        return False
    if any(n == 0 for n in rare[2:3]) and first.hemi_ref + first.hemi_alt > 0:
        return False
    classes = [(row.hom_ref, row.het, row.hom_alt) for row in rows]
    if Rule.SUMS in rules.off:
        return all(number >= floor for row in classes for number in row)
    return genotypes.classes_pass(classes, floor)
