"""The node's half of `allele-counts`: reads the workflow's file, judges its sites, writes what leaves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import IO

from gdi.releases.allele_counts import check, table
from gdi.releases.allele_counts.table import FIELDS, FORMAT, Row, Site
from gdi.releases.kind import Before, Cell, CheckedUnits, NodeHalf, Rules


class AlleleCountsNode(NodeHalf[Site]):
    """A unit is a site with all its alternate alleles; a cell of the ledger is one of them."""

    columns = FIELDS

    def read(self, file: IO[bytes], rules: Rules) -> list[Site]:
        return table.read(file, max_rows=rules.max_rows)

    def keys(self, unit: Site) -> list[str]:
        return [check.key_of(row) for row in unit.rows]

    def check(self, units: Sequence[Site], rules: Rules, before: Before) -> CheckedUnits[Site]:
        released, withheld = [], Counter[str]()
        for site in units:
            if why := check.verdict(site, rules.floor, before):
                withheld[why] += site.count
            else:
                released.append(site)
        return CheckedUnits(released, withheld)

    def cells(self, unit: Site) -> list[Cell]:
        return [Cell(check.key_of(row), check.numbers_of(row, unit)) for row in unit.rows]

    def write(self, out: IO[bytes], units: Iterable[Site], withheld: Mapping[str, int]) -> None:
        """JSON with a row a line between the first line and the last."""
        out.write(f'{{"format":"{FORMAT}","sites":['.encode())
        first = True
        for site in units:
            for row in site.rows:
                out.write((("" if first else ",") + "\n" + row_json(row)).encode())
                first = False
        counts = ",".join(f'"{why}":{n}' for why, n in sorted(withheld.items()))
        out.write(f'\n],"withheld":{{{counts}}}}}\n'.encode())

    def rows(self, file: IO[bytes], start: int, count: int) -> list[tuple[str | int | float, ...]]:
        lines = (line for line in islice(file, 1 + start, 1 + start + count) if line.startswith(b"{"))
        rows = (json.loads(line.rstrip().rstrip(b",")) for line in lines)
        return [tuple(row[field] for field in FIELDS) for row in rows]


def row_json(row: Row) -> str:
    """The row as it leaves."""
    return json.dumps(row._asdict(), separators=(",", ":"))
