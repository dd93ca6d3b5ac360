"""The check of one release: row by row, or in columns where the file is Parquet. Both write the file that leaves, and
say how much of it leaves and what the ledger is to remember.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.releases import columns
from gdi.releases.columns import ColumnCheck, PastColumns
from gdi.releases.disclosure import vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Cell, CheckedUnits, Kind, NodeHalf, Rules, Scope
from gdi.releases.registry import kind_of
from node_gateway.db import store as db
from node_gateway.release import budget, ledger, ledger_files
from node_gateway.release.public import other_people, public_withheld, shown
from node_gateway.release.question import Question
from node_gateway.workspace.bucket import Bucket

OF_SITES = (vocabulary.ALLELES, vocabulary.STATISTICS)


@dataclass(frozen=True)
class ReleaseVerdict:
    """`released`: how many units leave; `withheld` as the node knows it, `counts` what of it the release itself lists,
    `public` as the centre is answered; `statistics` are taken from the budget. `cells` or the file `columns` are for
    the ledger.
    """

    released: int
    withheld: Counter[str]
    counts: Mapping[str, int] | None
    public: Mapping[str, int] | None
    statistics: int
    remarks: list[str]
    suffix: str
    media_type: str
    cells: Iterable[Cell] = field(default_factory=list)
    columns: Path | None = None


@dataclass(frozen=True)
class ReleaseCheck:
    """`folder` has the workflow's file as `source`, and gets the file that leaves as `published`. FormatError;
    ProblemError `other-people`, `membership-budget`.
    """

    kind: Kind
    this: Question
    run: str
    folder: Path
    database: db.GatewayDatabase
    area: Bucket

    async def verdict(self) -> ReleaseVerdict:
        half = self.kind.node()
        if self.this.levels:
            return await self._by_rows(half)
        check = half.column_check() if columns.is_parquet_file(self.folder / "source") else None
        return await self._by_rows(half) if check is None else await self._by_columns(check)

    def _of_known_people(self, units: int, scope: Scope) -> Scope:
        """The scope, of the epoch's people also where the file has no unit."""
        if not self.this.listed:
            return scope
        if units and not scope.fewest == scope.people == len(self.this.past.own):
            raise other_people()
        return replace(scope, people=len(self.this.past.own))

    async def _budget(self) -> budget.CohortBudget | None:
        if self.this.share is None:
            return None
        async with self.database.read() as connection:
            return await budget.read(connection, self.this.past, self.run, self.this.share)

    async def _by_rows(self, half: NodeHalf[Any, Any]) -> ReleaseVerdict:  # units: the kind's own
        rules = self.this.rules
        with (self.folder / "source").open("rb") as file:
            units = await asyncio.to_thread(half.read, file, rules)
        if self.this.levels:
            rules = replace(rules, together=await self._together(half, units))
        scope = self._of_known_people(len(units), await asyncio.to_thread(half.scope, units))
        scope = replace(scope, pieces=self.this.past.pieces)
        checked, known = await self._judge(half, units, rules)
        statistics = 0
        if (left := await self._budget()) is not None:
            checked, statistics = budget.afford(left, checked, half, known)
            scope = replace(scope, complete=scope.complete and not checked.withheld[budget.BUDGET])
        passed = checked.released
        counts = shown(half, passed, checked.withheld)
        public = public_withheld(self.kind, counts, len(passed))

        def write() -> None:
            with (self.folder / "published").open("wb") as out:
                half.write(out, passed, public or {}, scope, rules)

        await asyncio.to_thread(write)
        return ReleaseVerdict(
            len(passed),
            checked.withheld,
            counts,
            public,
            statistics,
            await asyncio.to_thread(half.remarks, passed, rules),
            self.kind.suffix,
            self.kind.media_type,
            cells=chain((cell for unit in passed for cell in half.cells(unit)), checked.kept),
        )

    async def _together(self, half: NodeHalf[Any, Any], own: Sequence[Any]) -> frozenset[str]:  # units of the kind
        """The keys of which every level of the split passes by itself. The other levels' files are `level-0` and so
        on, sorted by level. FormatError, ProblemError `other-people`.
        """
        rules, passing = self.this.rules, await asyncio.to_thread(half.passing, own, self.this.rules)
        for number, level in enumerate(sorted(self.this.levels)):
            with (self.folder / f"level-{number}").open("rb") as file:
                units = await asyncio.to_thread(half.read, file, rules)
            scope = await asyncio.to_thread(half.scope, units)
            if units and not scope.fewest == scope.people == self.this.levels[level]:
                raise other_people()
            passing &= await asyncio.to_thread(half.passing, units, rules)
        return passing

    async def _judge(
        self, half: NodeHalf[Any, Any], units: Sequence[Any], rules: Rules
    ) -> tuple[CheckedUnits[Any], frozenset[str]]:  # units, and what leaves of them: the kind's own
        """The verdict, and the keys that left of this very cohort before."""
        all_checked, known = CheckedUnits[Any]([], Counter()), set[str]()
        async with self.database.read() as connection:
            files = await self._files(connection)
            for start in range(0, len(units), ledger.BATCH):
                batch = units[start : start + ledger.BATCH]
                keys = [key for unit in batch for key in half.keys(unit)]
                now = await ledger.with_cells(connection, self.this.past, self.kind.name, keys)
                if files:
                    now = await asyncio.to_thread(_with_files, now, files, self.kind.name, keys)
                checked = await asyncio.to_thread(half.check, batch, rules, now)
                all_checked.released.extend(checked.released)
                all_checked.kept.extend(checked.kept)
                all_checked.withheld.update(checked.withheld)
                if now.number is not None:
                    known.update(key for key in keys if now.same(key) is not None)
        return all_checked, frozenset(known)

    async def _files(self, connection: AsyncConnection) -> Mapping[int, Sequence[Path]]:
        return await ledger_files.fetch(connection, self.area, self.this.past, self.kind.name, self.folder)

    async def _by_columns(self, check: ColumnCheck) -> ReleaseVerdict:
        past, rules, loop = self.this.past, self.this.rules, asyncio.get_running_loop()
        left = await self._budget()
        afford = None if left is None else left.statistics
        async with self.database.read() as connection:
            files = await self._files(connection)
            there = await ledger.any_cells(connection, past, self.kind.name)

            def cells(keys: Sequence[str]) -> Past:
                found = ledger.with_cells(connection, past, self.kind.name, keys)
                return asyncio.run_coroutine_threadsafe(found, loop).result()

            before = PastColumns(past, files, cells if there else None)
            source, kept = self.folder / "source", self.folder
            found = await asyncio.to_thread(check.judge, source, kept, rules, before, afford)
        found.scope = self._of_known_people(found.units, found.scope)
        if found.over_budget:
            found.withheld[budget.BUDGET] += found.over_budget
            if not found.released:
                raise budget.used_up()
        found.scope = replace(found.scope, pieces=past.pieces)
        counts = found.shown
        public = public_withheld(self.kind, counts, found.released)
        await asyncio.to_thread(check.write, kept, kept / "published", found, public or {}, rules)
        await asyncio.to_thread(check.write_cells, kept, kept / "cells")
        return ReleaseVerdict(
            found.released,
            found.withheld,
            counts,
            public,
            found.statistics if left is not None else 0,
            found.remarks,
            columns.SUFFIX,
            columns.MEDIA_TYPE,
            columns=kept / "cells",
        )


def _with_files(past: Past, files: Mapping[int, Sequence[Path]], kind: str, keys: Sequence[str]) -> Past:
    """The same with the cells of releases in columns; of a cohort's numbers those that are there already count."""
    sites = sorted({vocabulary.site(key) for key in keys if vocabulary.words(kind, key) in OF_SITES})
    check = kind_of(vocabulary.ALLELES).node().column_check()
    if kind not in vocabulary.KINDS or not sites or check is None:
        return past
    cells = {key: dict(of) for key, of in past.cells.items()}
    topics = {topic: set(of) for topic, of in past.topics.items()}
    for number, of_cohort in files.items():
        for file in of_cohort:
            found, by_topic = check.cells_of(file, sites)
            for key, numbers in found.items():
                cells.setdefault(key, {}).setdefault(number, numbers)
            for topic, of in by_topic.items():
                topics.setdefault(topic, set()).update(of)
    return replace(past, cells=cells, topics=topics)
