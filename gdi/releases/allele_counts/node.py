"""The node's half of `allele-counts`: reads the workflow's file, judges its sites, writes what leaves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import IO

from gdi.contracts.variants import ALTERNATE, CONTIG, MAX_POS, REFERENCE, whole
from gdi.releases.allele_counts import check, remarks, table
from gdi.releases.allele_counts.answers import MISSING, SMALL, AlleleAnswer
from gdi.releases.allele_counts.leaving import COLUMNS as COLUMNS
from gdi.releases.allele_counts.leaving import NAMED, UNBOUNDED, unlisted
from gdi.releases.allele_counts.table import CLASSES, RELEASED, Site
from gdi.releases.columns import ColumnCheck
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.variants import UNFIT
from gdi.releases.kind import Cell, CheckedUnits, NodeHalf, Rules, Scope

BATCH = 1000  # rows that are written at once
_COUNT = {"type": "integer", "minimum": 0}

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["format", "unlisted", "sites", "withheld"],
    "additionalProperties": False,
    "properties": {
        "format": {"const": RELEASED},
        "unlisted": {
            "type": "object",
            "required": ["ac_max", "an_max", "reason"],
            "additionalProperties": False,
            "properties": {"ac_max": _COUNT, "an_max": _COUNT, "reason": {"enum": [SMALL, MISSING]}},
        },
        "withheld": {
            "type": "object",
            "additionalProperties": {"type": "integer", "minimum": 1},
            "propertyNames": {"enum": [SMALL]},
        },
        "sites": {
            "type": "array",
            "items": {
                "type": "object",
                "required": list(COLUMNS),
                "additionalProperties": False,
                "properties": {
                    "chrom": {"type": "string", "pattern": whole(CONTIG)},
                    "pos": {"type": "integer", "minimum": 1, "maximum": MAX_POS},
                    "ref": {"type": "string", "pattern": whole(REFERENCE)},
                    "alt": {"type": "string", "pattern": whole(ALTERNATE)},
                    **{name: _COUNT for name in (*COLUMNS[4:8], *CLASSES)},
                    "reason": {"enum": ["", SMALL, MISSING]},
                    "rare": {"enum": ["", "ref", "alt"]},
                },
            },
        },
    },
}


class AlleleCountsNode(NodeHalf[Site, list[AlleleAnswer]]):
    """A unit is a site with all its alternate alleles; what leaves of it are the answers about those that are listed. A
    cell of the ledger is one allele.
    """

    columns = COLUMNS

    def read(self, file: IO[bytes], rules: Rules) -> list[Site]:
        return table.read(file, max_rows=rules.max_rows)

    def keys(self, unit: Site) -> list[str]:
        return [check.key_of(row) for row in unit.rows]

    def scope(self, units: Sequence[Site]) -> Scope:
        counted = (site for site in units if not site.why or site.why in UNFIT)
        people = {check.people_of(row) for site in counted for row in site.rows[:1]} or {0}
        left_out = {site.why for site in units if not site.rows}
        return Scope(max(people), NAMED.isdisjoint(left_out), min(people), bounded=UNBOUNDED.isdisjoint(left_out))

    def passing(self, units: Sequence[Site], rules: Rules) -> frozenset[str]:
        answers = (one for site in units if site.rows for one in check.answer(site, rules, Past()))
        return frozenset(one.key for one in answers if one.key and not one.reason and one.ac.exact and one.an.exact)

    def check(self, units: Sequence[Site], rules: Rules, past: Past) -> CheckedUnits[list[AlleleAnswer]]:
        checked = CheckedUnits[list[AlleleAnswer]]([], Counter[str]())
        for site in units:
            if site.why:
                checked.withheld[site.why] += site.count
            if not site.rows:
                continue
            answers = check.answer(site, rules, past)
            listed = [one for one in answers if is_listed(one, rules)]
            if len(listed) < len(answers):
                checked.kept.extend(one.cell for one in answers if one.key and not is_listed(one, rules))
            if listed:
                checked.released.append(listed)
            if not site.why and not any(one.ac.exact for one in answers):
                checked.withheld[answers[0].reason or SMALL] += 1
        return checked

    def shown(self, left: Sequence[list[AlleleAnswer]]) -> Mapping[str, int]:
        return Counter(site[0].reason or SMALL for site in left if not any(one.ac.exact for one in site))

    def remarks(self, left: Sequence[list[AlleleAnswer]], rules: Rules) -> list[str]:
        return remarks.remarks(left, rules)

    def cells(self, left: list[AlleleAnswer]) -> list[Cell]:
        return [one.cell for one in left if one.key]

    def write(
        self,
        out: IO[bytes],
        left: Iterable[list[AlleleAnswer]],
        withheld: Mapping[str, int],
        scope: Scope,
        rules: Rules,
    ) -> None:
        """JSON with a row a line between the first line and the last."""
        head = {"format": RELEASED, "unlisted": unlisted(scope, rules)}
        out.write((json.dumps(head, separators=(",", ":"))[:-1] + ',"sites":[').encode())
        rows, before = (row_json(answer) for site in left for answer in site), "\n"
        while batch := list(islice(rows, BATCH)):
            out.write((before + ",\n".join(batch)).encode())
            before = ",\n"
        counts = ",".join(f'"{why}":{n}' for why, n in sorted(withheld.items()) if why == SMALL)
        out.write(f'\n],"withheld":{{{counts}}}}}\n'.encode())

    def rows(self, file: IO[bytes], start: int, count: int) -> list[tuple[str | int | float, ...]]:
        lines = (line for line in islice(file, 1 + start, 1 + start + count) if line.startswith(b"{"))
        rows = (json.loads(line.rstrip().rstrip(b",")) for line in lines)
        return [tuple(row[field] for field in COLUMNS) for row in rows]

    def column_check(self) -> ColumnCheck:
        from gdi.releases.allele_counts.column_check import AlleleCountsColumns

        return AlleleCountsColumns()


def is_listed(answer: AlleleAnswer, rules: Rules) -> bool:
    """Whether the release lists the allele. One that few people carry reads as one that the files do not have."""
    return answer.rare != "alt" or Rule.UNLISTED in rules.off


def row_json(answer: AlleleAnswer) -> str:
    """The answer as it leaves. Texts need no escapes: they are of the patterns above."""
    classes = "".join(f',"{name}":{people}' for name, people in zip(CLASSES, answer.classes, strict=False))
    return (
        f'{{"chrom":"{answer.chrom}","pos":{answer.pos},"ref":"{answer.ref}","alt":"{answer.alt}",'
        f'"ac_min":{answer.ac.low},"ac_max":{answer.ac.high},"an_min":{answer.an.low},"an_max":{answer.an.high},'
        f'"reason":"{answer.reason}","rare":"{answer.rare}"{classes}}}'
    )
