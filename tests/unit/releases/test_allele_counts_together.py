"""Sites of several alleles and overlapping records are told the same in numpy as one by one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdi.releases.allele_counts import judgement, parquet, together
from gdi.releases.allele_counts.column_check import CELL_SCHEMA
from gdi.releases.allele_counts.judgement import Answers
from gdi.releases.allele_counts.table import CLASSES
from gdi.releases.columns import ABOUT, PastColumns
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules

LETTERS = ("C", "G", "T", "CA", "CCG", "<DEL>", "*")


class Record(NamedTuple):
    """`gap`: bases after the one before; `length` of REF; `shares` of the alternate alleles, of people without a call,
    with half a call, with one allele; whether the last row tells of one person less.
    """

    gap: int
    length: int
    shares: list[float]
    missing: float
    half: float
    single: float
    other: bool


SHARES = st.sampled_from([0.0, 0.0, 0.003, 0.02, 0.2, 0.5])
RECORDS = st.builds(
    Record,
    st.sampled_from([1, 1, 2, 5, 50]),
    st.sampled_from([1, 1, 1, 2, 6]),
    st.lists(st.sampled_from([0.002, 0.02, 0.2, 0.5, 0.97]), min_size=1, max_size=4),
    SHARES,
    SHARES,
    SHARES,
    st.integers(0, 19).map(lambda n: n == 0),
)


def rows_of(records: list[Record], people: int, seed: int) -> pl.DataFrame:
    """Sorted rows with the counts of genotypes that are drawn."""
    chance, pos = np.random.default_rng(seed), 0
    rows: list[dict[str, int | str]] = []
    for record in records:
        pos += record.gap
        shares = np.array(record.shares) / max(1.0, sum(record.shares))
        found = chance.choice(len(shares) + 1, (people, 2), p=[max(0.0, 1 - shares.sum()), *shares])
        kind = chance.random(people)
        ends = np.cumsum([record.missing, record.half, record.single]) / max(
            1.0, record.missing + record.half + record.single
        )
        lost, half, one = kind < ends[0], (kind >= ends[0]) & (kind < ends[1]), (kind >= ends[1]) & (kind < ends[2])
        full = ~(lost | half | one)
        for number, alt in enumerate(LETTERS[: len(shares)], start=1):
            copies, first = (found == number).sum(axis=1), found[:, 0] == number
            row = {name: int((full & (copies == n)).sum()) for n, name in enumerate(CLASSES[:3])}
            row |= {"hemi_ref": int((one & ~first).sum()), "hemi_alt": int((one & first).sum())}
            row |= {"half_missing": int(half.sum()), "missing": int(lost.sum())}
            row["ac"] = row["het"] + 2 * row["hom_alt"] + row["hemi_alt"] + int((half & first).sum())
            row["an"] = 2 * int(full.sum()) + int(one.sum()) + int(half.sum())
            rows.append({"chrom": "2", "pos": pos, "ref": "A" * record.length, "alt": alt, **row})
        if record.other:
            rows[-1]["missing"] = int(rows[-1]["missing"]) + 1
    return pl.DataFrame(rows, schema=parquet.SCHEMA).unique(parquet.KEYS, keep="first").sort(parquet.KEYS)


def answers_of(rows: pl.DataFrame, rules: Rules) -> Answers:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "in"
        rows.write_parquet(file, metadata={ABOUT: json.dumps({"format": parquet.FORMAT})})
        names = parquet.Names(file, len(rows))
    none = pl.DataFrame(schema={"number": pl.Int64, **CELL_SCHEMA})
    return judgement.judged(names.keyed(rows), none, Past(), names, rules, PastColumns())


def nothing(_batch: object, _edges: object, _crowd: object, which: together.Array, _rules: object) -> together.Judged:
    return together.Judged(np.zeros(len(which), dtype=bool), np.zeros(0, dtype=int), {})


@given(
    st.lists(RECORDS, min_size=1, max_size=12),
    st.sampled_from([12, 60, 3000]),
    st.sampled_from([1, 5, 10]),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_together_they_are_told_as_one_by_one(
    records: list[Record], people: int, floor: int, classes: bool, seed: int
) -> None:
    rows, rules = rows_of(records, people, seed), Rules(floor, 10_000, "reference", classes=classes)
    found = answers_of(rows, rules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judgement, "judge", nothing)
        expected = answers_of(rows, rules)
    for name, column in expected.numbers.items():
        assert found.numbers[name].tolist() == column.tolist(), name
    assert found.classes.tolist() == expected.classes.tolist()
    assert found.keyed.all() == expected.keyed.all() and found.why == expected.why
    assert found.withheld() == expected.withheld()


def test_most_sites_of_a_genome_are_judged_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the records have several alleles or overlap others, as in real files."""
    chance = np.random.default_rng(17)
    records = [
        Record(int(gap), 4 if n % 10 == 0 else 1, [0.3, 0.1][: 1 + (n % 20 == 5)], 0.0, 0.0, 0.0, False)
        for n, gap in enumerate(chance.integers(1, 20, 400))
    ]
    seen: list[int] = []
    slow = judgement.one_by_one

    def count(*found: object) -> None:
        seen.append(len(found[2]))  # type: ignore[arg-type]
        slow(*found)  # type: ignore[arg-type]

    monkeypatch.setattr(judgement, "one_by_one", count)
    answers_of(rows_of(records, 2500, 17), Rules(5, 10_000, "reference"))
    assert sum(seen) < 8
