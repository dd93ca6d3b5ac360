"""The answer for a cohort beside what left of other cohorts of its people (gdi.releases.disclosure.pieces)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gdi.releases.allele_counts.answers import COPIES, MISSING, SMALL, UNKNOWN, AlleleAnswer, ac_exact, of_cell
from gdi.releases.disclosure.floor import Range, few
from gdi.releases.disclosure.past import Cohort, Numbers, Past
from gdi.releases.disclosure.pieces import PiecePlan, may_be_cut, plan
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.vocabulary import ALLELES, topic
from gdi.releases.kind import Rules

People = tuple[int, ...]  # as AlleleAnswer has them


CLOSED = PiecePlan("closed")


@dataclass(frozen=True)
class Beside:
    """`site`: the keys of the alleles that are asked together."""

    past: Past
    rules: Rules
    site: Collection[str]

    @property
    def _of_split(self) -> bool:
        return self.rules.together is not None and Rule.SPLITS not in self.rules.off

    def answer(self, one: AlleleAnswer) -> AlleleAnswer:
        """What is told of the allele, of what its own cohort's numbers alone would tell."""
        past, off = self.past, self.rules.off
        if not one.key or not past.cohorts or Rule.PARTS in off:
            return self._wide(one) if self._of_split else one
        statements = past.statements(one.key)
        others = Rule.SITES not in off and self._others(one)
        if self._of_split and not self._together(one, statements):
            near = [of_cell(one, numbers) for cohort, numbers in statements if cohort & past.own]
            return self._closed(one, near, CLOSED) if near else self._wide(one)
        if not statements and not others:
            return one
        blocks = [of_cell(one, numbers) for _, numbers in statements]
        how = plan(past.own, tuple((cohort, b.ac.exact) for (cohort, _), b in zip(statements, blocks, strict=True)))
        if (others and how.how in ("alone", "joined", "cut")) or (len(self.site) > 1 and how.how in ("joined", "cut")):
            how = PiecePlan("closed", fresh=how.how != "cut")
        if how.how == "known":
            return self._sum(one, [blocks[i] for i in how.plus], [blocks[i] for i in how.minus])
        if how.how == "joined":
            return self._joined(one, [blocks[i] for i in how.plus]) or self._closed(one, blocks, how)
        if how.how == "cut":
            parts = [blocks[i] for i in how.plus], [blocks[i] for i in how.minus]
            return self._cut(one, blocks[how.of], *parts) or self._closed(one, blocks, how)
        if how.how == "within" and is_rare(blocks[how.of]):
            return self._rare(one)
        near = [b for (cohort, _), b in zip(statements, blocks, strict=True) if cohort & past.own]
        if others and all(is_rare(b) for b in near) and self._rare_everywhere(one):
            return self._rare(one)
        return one if how.how == "alone" else self._closed(one, near, how)

    def _others(self, one: AlleleAnswer) -> bool:
        """Whether another allele of the position was told of some of these people without this one, or is not asked
        for now: what is told of an allele alone speaks for those beside it.
        """
        past = self.past
        about = {topic(ALLELES, key) for key in self.site if key}
        if any(past.spoken(name, one.key) for name in about):
            return True
        left_out = {key for name in about for key in past.topics.get(name, ()) if "|" not in key} - set(self.site)
        return any(past.own & past.cohorts[n] for key in left_out for n in past.cells[key] if n in past.cohorts)

    def _together(self, one: AlleleAnswer, statements: Sequence[tuple[Cohort, Numbers]]) -> bool:
        """Whether a level of a split may be looked at: every level passes, and the whole left."""
        whole = any(self.past.own < cohort and ac_exact(numbers) for cohort, numbers in statements)
        return whole and one.key in (self.rules.together or ())

    def _rare_everywhere(self, one: AlleleAnswer) -> bool:
        """Whether hardly anybody of the cohort carries it by what left: of the allele itself, or of another one that
        hardly anybody lacks.
        """
        past, found = self.past, set[int]()
        for name in {name for key in self.site if key for name in past.topics.get(topic(ALLELES, key), ())}:
            for number, numbers in past.cells[name].items():
                left = None if "|" in name else of_cell(one, numbers)
                if left and number in past.cohorts and left.rare == ("alt" if name == one.key else "ref"):
                    found.add(number)
        return past.own <= frozenset[object]().union(*(past.cohorts[number] for number in found))

    def _rare(self, one: AlleleAnswer) -> AlleleAnswer:
        spread = COPIES * (self.rules.floor - 1)
        return one._replace(ac=Range(0, spread), an=_calls(one), reason=SMALL, rare="alt")

    def _sum(self, one: AlleleAnswer, plus: Sequence[AlleleAnswer], minus: Sequence[AlleleAnswer]) -> AlleleAnswer:
        """Of what was statements: nothing is looked at."""
        ac = _total([b.ac for b in plus], [b.ac for b in minus])
        an = _total([b.an for b in plus], [b.an for b in minus])
        reasons = {(b.reason, b.rare) for b in (*plus, *minus)}
        reason, rare = reasons.pop() if len(reasons) == 1 else (SMALL, "")
        if ac.exact:
            reason, rare = "", ""
        elif len(plus) > 1 and reason == MISSING:
            reason, rare = SMALL, ""
        return one._replace(ac=ac, an=an, reason=reason, rare=rare)

    def _joined(self, one: AlleleAnswer, blocks: Sequence[AlleleAnswer]) -> AlleleAnswer | None:
        """The blocks, and fresh people as if they were a cohort of their own. None where it is not known how many
        copies the blocks have.
        """
        if any(b.copies == UNKNOWN or b.people[4] == 0 for b in blocks):
            return None
        people = _less(one.people, blocks)
        calls = _less_range(one, blocks, people)
        mine, other, incomplete, haploid, everybody = people
        if any(few(number, self.rules.floor) for number in (incomplete, haploid)):
            calls = Range(0, COPIES * max(0, everybody))
        copies = one.copies - sum(b.copies for b in blocks)
        floor, spread = self.rules.floor, COPIES * (self.rules.floor - 1)
        fresh = one._replace(ac=Range(copies, copies), an=calls, reason="", rare="")
        if mine < floor and other < floor:
            fresh = fresh._replace(ac=Range(0, spread), an=Range(0, 2 * spread), reason=MISSING)
        elif mine < floor:
            fresh = fresh._replace(ac=Range(0, spread), reason=SMALL, rare="alt")
        elif other < floor:
            fresh = fresh._replace(ac=Range(max(0, calls.low - spread), calls.high), reason=SMALL, rare="ref")
        return self._sum(one, [*blocks, fresh], [])

    def _cut(
        self, one: AlleleAnswer, block: AlleleAnswer, plus: Sequence[AlleleAnswer], minus: Sequence[AlleleAnswer]
    ) -> AlleleAnswer | None:
        """The number, where all of both pieces of the block pass. None where they do not, or must not be looked at."""
        floor = self.rules.floor
        if not all(b.an.exact and b.people[4] for b in (block, *plus, *minus)):
            return None
        piece = _less(one.people, plus)
        rest = _less(block.people, [one, *minus])
        copies = block.ac.low - sum(b.ac.low for b in (*plus, *minus))
        calls = block.an.low - sum(b.an.low for b in (*plus, *minus))
        first = self.rules.together is None or not (plus or minus)  # with another level it left that all of them pass
        if first and not may_be_cut(copies, calls, (piece[4], rest[4]), COPIES, floor):
            return None
        if min(*piece[:2], *rest[:2]) < floor or any(few(n, floor) for n in (*piece[2:4], *rest[2:4])):
            return None
        if min(*piece, *rest) < 0:
            return None
        return one._replace(ac=Range(one.copies, one.copies), reason="", rare="") if one.an.exact else None

    def _closed(self, one: AlleleAnswer, near: Sequence[AlleleAnswer], how: PiecePlan) -> AlleleAnswer:
        """Of what left. Where all that left is that few people carry the allele, a reader does not know whether the
        file has it: it is listed only where at least the floor of people do, some of whom nobody was asked about.
        """
        if all(is_rare(b) for b in near) and (not how.fresh or one.people[0] < self.rules.floor):
            return self._rare(one)
        return self._wide(one)

    def _wide(self, one: AlleleAnswer) -> AlleleAnswer:
        """Of what left of the most similar cohort; nothing is looked at."""
        calls = _calls(one)
        bounds = self.past.around(one.key, ac_exact, 0, COPIES) or (0, calls.high)
        low, high = min(bounds[0], calls.high), min(bounds[1], calls.high)
        return one._replace(ac=Range(low, max(low, high)), an=calls, reason=SMALL, rare="")


def is_rare(one: AlleleAnswer) -> bool:
    """Whether readers were told no more than that few people carry the alternate allele, so that it was not listed."""
    return one.rare == "alt"


def _calls(one: AlleleAnswer) -> Range:
    """What AN lies between, whatever the file says."""
    return Range(0, COPIES * one.people[4])


def _total(plus: Sequence[Range], minus: Sequence[Range]) -> Range:
    low = sum(r.low for r in plus) - sum(r.high for r in minus)
    high = sum(r.high for r in plus) - sum(r.low for r in minus)
    return Range(max(0, low), max(0, high))


def _less(people: People, blocks: Sequence[AlleleAnswer]) -> People:
    return tuple(number - sum(b.people[i] for b in blocks) for i, number in enumerate(people))


def _less_range(one: AlleleAnswer, blocks: Sequence[AlleleAnswer], people: People) -> Range:
    """AN of the fresh people; wide where it does not follow from what is exact."""
    if one.an.exact and all(b.an.exact for b in blocks):
        calls = one.an.low - sum(b.an.low for b in blocks)
        return Range(max(0, calls), max(0, calls))
    return Range(0, COPIES * max(0, people[4]))
