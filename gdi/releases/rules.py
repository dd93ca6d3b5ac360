"""What a node sets for every kind of release, and what a file is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gdi.releases.disclosure.rules import Rule


@dataclass(frozen=True)
class Rules:
    """What the node sets for every kind: `floor`, the fewest people that a number may be about; `max_rows`, the most
    rows that the node looks at (of a Parquet file `max_parquet_rows`); `absent`, what the data says of a site that its
    files do not list; `classes`, whether genotype classes may leave; `levels`, by column of the sample table, the
    categories that the datasets' descriptors declare, `columns` all that they declare, `numbers` those that are
    numbers; `bounds`, by such a number, its least and its greatest value, and `scores`, which of them are scores;
    `membership`, the strictest word on it, none where there is no descriptor. `off`: rules that a test switches off; at
    a gateway, `ZERO` where every dataset's descriptor says `zero: show`. `together`: of a level of a split, the keys of
    which every level passes; None of other cohorts. `whole_tables`: a table leaves whole, or its columns do.
    `rounds`: sums at a broadcast may leave, round by round.
    """

    floor: int
    max_rows: int
    absent: Literal["reference", "unknown"] = "unknown"
    classes: bool = False
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    columns: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    scores: frozenset[str] = frozenset()
    membership: Literal["", "contract", "public", "sensitive"] = ""
    off: frozenset[Rule] = frozenset()
    max_parquet_rows: int = 80_000_000
    together: frozenset[str] | None = None
    whole_tables: bool = False
    rounds: bool = False


@dataclass(frozen=True)
class Scope:
    """How many people a file's units count: the most of them, and the fewest (0 where the kind does not know).
    `complete`: the units have everything that the data has, so that what is not among them is absent. `pieces`: into
    how many of which nothing was told the people may have been cut by the cohorts that were answered before.
    `bounded`: nobody has more copies of what is not among them than the kind takes for granted (two of an allele).
    """

    people: int = 0
    complete: bool = True
    fewest: int = 0
    pieces: int = 1
    bounded: bool = True
