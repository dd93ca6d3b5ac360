"""`allele-counts` 2 is checked as version 1 is: the same rows leave, the same cells are remembered, the same is
refused. Random tables go through both checks.
"""

import contextlib
import io
import itertools
import json
import random
from pathlib import Path

import polars as pl
import pytest

from gdi.releases import parquet_pages
from gdi.releases.allele_counts import parquet
from gdi.releases.allele_counts.column_check import CELL_SCHEMA, AlleleCountsColumns
from gdi.releases.allele_counts.judgement import CELL
from gdi.releases.allele_counts.node import COLUMNS, AlleleCountsNode
from gdi.releases.allele_counts.parquet import KEYED
from gdi.releases.allele_counts.table import CLASSES, FIELDS
from gdi.releases.columns import ABOUT, PastColumns, sha256_of
from gdi.releases.disclosure import membership
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.vocabulary import ALLELES, site, topic
from gdi.releases.kind import FormatError, Rules

Value = str | int
PEOPLE = 60
FLOOR = 5
CONTIGS = (["1", "MT", "HLA-A*01:01", "GL000220.1", "25"], ["2", "chr2", "gi|5|x", "x=1", "chrUn", "X"])
"""Those of the second list are of no assembly, or two names of one, or two that name other positions."""


def numbers(chance: random.Random, alternates: int, people: int = PEOPLE) -> list[dict[str, int]]:
    """Rows of one site whose counts are those of real genotypes."""
    rows = [dict.fromkeys(("ac", "an", *CLASSES), 0) for _ in range(alternates)]
    rare, lost = chance.choice([0.02, 0.1, 0.5, 0.95]), chance.choice([0, 0, 0.03, 0.3, 0.98])
    single = chance.choice([0, 0, 0, 0.05, 0.5])
    for _ in range(people):
        ploidy = 1 if chance.random() < single else 2
        found = [
            None if chance.random() < lost else chance.randint(1, alternates) if chance.random() < rare else 0
            for _ in range(ploidy)
        ]
        called = [allele for allele in found if allele is not None]
        for number, row in enumerate(rows, 1):
            row["an"] += len(called)
            row["ac"] += (copies := called.count(number))
            if not called:
                row["missing"] += 1
            elif len(called) < ploidy:
                row["half_missing"] += 1
            elif ploidy == 1:
                row["hemi_alt" if copies else "hemi_ref"] += 1
            else:
                row[("hom_ref", "het", "hom_alt")[copies]] += 1
    return rows


def table(chance: random.Random, sites: int = 60) -> list[dict[str, Value]]:
    """Sorted rows: sites of one to five alleles, some of several names, on aliased contigs, of different people."""
    found: dict[tuple[str, int, str, str], dict[str, Value]] = {}
    for _ in range(sites):
        chrom, pos = (
            chance.choice(CONTIGS[chance.random() < 0.2]),
            chance.randint(1, 40),
        )
        ref = chance.choice(["A", "A", "A", "AT", "CAT", "G"])
        alts = chance.sample(["C", "T", "CT", "CAG", "<INS:ME:ALU>", "*", "GAT"], chance.choice([1, 1, 1, 1, 2, 3, 5]))
        for alt, row in zip(alts, numbers(chance, len(alts)), strict=True):
            if alt != ref:
                found[chrom, pos, ref, alt] = {"chrom": chrom, "pos": pos, "ref": ref, "alt": alt, **row}
    return [found[key] for key in sorted(found)]


def write(file: Path, rows: list[dict[str, Value]], skipped: dict[str, int] | None = None) -> Path:
    about = {"format": parquet.FORMAT} | ({"skipped": skipped} if skipped else {})
    pl.DataFrame(rows, schema=parquet.SCHEMA).write_parquet(file, metadata={ABOUT: json.dumps(about)})
    return file


Outcome = tuple[list[tuple[Value, ...]], dict[str, tuple[int, ...]], dict[str, int], dict[str, Value]]


def by_rows(
    rows: list[dict[str, Value]], rules: Rules, past: Past, afford: int | None, skipped: dict[str, int]
) -> Outcome:
    half = AlleleCountsNode()
    document = {"format": "gdi-allele-counts/1", "sites": rows} | ({"skipped": skipped} if skipped else {})
    units = half.read(io.BytesIO(json.dumps(document).encode()), rules)
    checked = half.check(units, rules, past)
    known = {key for unit in units for key in half.keys(unit) if past.same(key) is not None}
    left, withheld, scope = checked.released, checked.withheld, half.scope(units)
    if afford is not None:
        new = [[cell.key for cell in half.cells(unit) if cell.key not in known] for unit in left]
        chosen = membership.chosen(new, afford)
        left = [unit for place, unit in enumerate(left) if place in chosen]
    out = io.BytesIO()
    half.write(out, left, withheld, scope, rules)
    cells = [*(cell for unit in left for cell in half.cells(unit)), *checked.kept]
    told = [
        tuple(row[name] for name in COLUMNS) + tuple(row.get(name) for name in CLASSES)
        for row in json.loads(out.getvalue())["sites"]
    ]
    found = {"units": len(units), "released": len(left), "people": scope.people, "fewest": scope.fewest}
    found |= half.shown(left)
    return told, {cell.key: cell.numbers for cell in cells}, dict(withheld), found


def by_columns(
    folder: Path,
    rows: list[dict[str, Value]],
    rules: Rules,
    past: PastColumns,
    afford: int | None,
    skipped: dict[str, int],
) -> Outcome:
    check, file = AlleleCountsColumns(), write(folder / "in", rows, skipped)
    verdict = check.judge(file, folder, rules, past, afford)
    check.write(folder, folder / "out", verdict, {}, rules)
    check.write_cells(folder, folder / "cells")
    left = pl.read_parquet(folder / "out")
    left = left.with_columns(pl.lit(None).alias(name) for name in CLASSES if name not in left.columns)
    cells = pl.read_parquet(folder / "cells")
    names = cells.select(pl.concat_str(KEYED, separator=":")).to_series()
    kept = {
        name: tuple(n for n in numbers if n is not None)
        for name, numbers in zip(names, cells.select(CELL).iter_rows(), strict=True)
    }
    scope = verdict.scope
    found = {"units": verdict.units, "released": verdict.released, "people": scope.people, "fewest": scope.fewest}
    found |= verdict.shown
    return left.select(*COLUMNS, *CLASSES).rows(), kept, {k: n for k, n in verdict.withheld.items() if n}, found


def past_of(cells: dict[int, dict[str, tuple[int, ...]]]) -> Past:
    """Cohort 1 asks; 2 has most of its people, 3 has none of them."""
    everybody = [f"p{n}" for n in range(PEOPLE)]
    cohorts = {1: frozenset(everybody), 2: frozenset(everybody[:-20]), 3: frozenset({"q"})}
    by_key: dict[str, dict[int, tuple[int, ...]]] = {}
    for number, of in cells.items():
        for key, one in of.items():
            by_key.setdefault(key, {})[number] = one
    topics: dict[str, list[str]] = {}
    for key in by_key:
        topics.setdefault(topic(ALLELES, key), []).append(key)
    return Past(cohorts[1], 1, cohorts, by_key, listed=True, topics=topics)


@pytest.mark.parametrize("seed", range(12))
def test_columns_tell_what_rows_tell(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    off = frozenset({Rule.ZERO}) if seed % 4 == 3 else frozenset[Rule]()
    rules = Rules(FLOOR, 10_000, "reference", classes=seed % 2 == 0, off=off)
    rows, skipped = table(chance), {"breakend": 3} if seed % 3 == 0 else {}
    parts = [tmp_path / str(n) for n in range(3)]
    for part in parts:
        part.mkdir()
    first = by_rows(rows, rules, Past(), None, skipped)
    assert by_columns(parts[0], rows, rules, PastColumns(), None, skipped) == first

    before: dict[int, dict[str, tuple[int, ...]]] = {}
    for number in (1, 2, 3):  # some of each cohort's cells left before
        cells = by_rows(table(random.Random(seed + 100 * (number > 1)), 90), rules, Past(), None, {})[1]
        before[number] = {key: one for key, one in cells.items() if chance.random() < 0.5}
    past = past_of(before)
    expected = by_rows(rows, rules, past, 20, skipped)

    def looked_up(keys: list[str]) -> Past:
        topics = {t: past.topics[t] for t in (topic(ALLELES, key) for key in keys) if t in past.topics}
        cells = {key: past.cells[key] for of in topics.values() for key in of}
        return Past(past.own, 1, past.cohorts, cells, past.listed, topics)

    asked = PastColumns(past_of({}), {}, looked_up)
    assert by_columns(parts[1], rows, rules, asked, 20, skipped) == expected

    files = {number: [cells_file(parts[2] / f"past{number}", of)] for number, of in before.items()}
    assert by_columns(parts[2], rows, rules, PastColumns(past_of({}), files), 20, skipped) == expected


def as_columns(numbers: tuple[int, ...]) -> list[int | None]:
    """A cell's numbers by CELL."""
    base, more = list(numbers[:10]), list(numbers[10:])
    return base + ([more[0], *[None] * 7] if len(more) == 1 else [None, *(more or [None] * 7)])


def cells_file(file: Path, cells: dict[str, tuple[int, ...]]) -> Path:
    rows = []
    for key, one in cells.items():
        place, symbol, name = key.partition(":<")
        chrom, pos, ref, alt = [*place.rsplit(":", 2), "<" + name] if symbol else place.rsplit(":", 3)
        rows.append((chrom, int(pos), ref, alt, *as_columns(one)))
    pl.DataFrame(rows, schema=CELL_SCHEMA, orient="row").write_parquet(file)
    assert AlleleCountsColumns().cells_of(file, [site(key) for key in [*cells, "9:1:A:C"]])[0] == cells
    return file


def test_sites_are_whole_over_batches_and_bytes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, rules = table(random.Random(7), 200), Rules(FLOOR, 10_000)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = by_columns(tmp_path / "a", rows, rules, PastColumns(), None, {})
    again = tmp_path / "b"
    assert by_columns(again, rows, rules, PastColumns(), None, {}) == whole
    assert sha256_of(again / "out") == sha256_of(tmp_path / "a" / "out")
    monkeypatch.setattr(parquet, "BATCH", 7)
    monkeypatch.setattr("gdi.releases.allele_counts.column_check.BATCH", 7)
    assert by_columns(again, rows, rules, PastColumns(), None, {}) == whole


GOOD = dict(zip(FIELDS, ("1", 5, "A", "C", 20, 100, 35, 10, 5, 0, 0, 0, 0), strict=True))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"chrom": ""}, "chrom is not of the form"),
        ({"chrom": "1\n"}, "chrom is not of the form"),
        ({"ref": "a"}, "ref is not of the form"),
        ({"alt": "C\n"}, "alt is not of the form"),
        ({"alt": "<del>"}, "alt is not of the form"),
        ({"pos": 0}, "pos must be"),
        ({"missing": -1}, "whole numbers"),
        ({"an": 101}, "an must be"),
        ({"ac": 21}, "ac does not agree"),
        ({"ac": None}, "a cell is empty"),
        ({"pos": 4}, "not sorted"),
        ({"pos": 5, "alt": "A"}, "not sorted"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_one_wrong_row_refuses_all(change: dict[str, Value], why: str, tmp_path: Path) -> None:
    second = GOOD | {"pos": 6} | change
    file = write(tmp_path / "f", [GOOD, second])
    with pytest.raises(FormatError, match=f"row 2: .*{why}"):
        AlleleCountsColumns().judge(file, tmp_path, Rules(FLOOR, 10), PastColumns(), None)


def test_what_is_no_such_file(tmp_path: Path) -> None:
    def why(file: Path, most: int = 10) -> str:
        with pytest.raises(FormatError) as caught:
            AlleleCountsColumns().judge(file, tmp_path, Rules(FLOOR, 10, max_parquet_rows=most), PastColumns(), None)
        return str(caught.value)

    file = tmp_path / "f"
    file.write_bytes(b"PAR1 and no more")
    assert "no Parquet" in why(file)
    pl.DataFrame([GOOD], schema=parquet.SCHEMA).write_parquet(file)
    assert "metadata" in why(file)
    pl.DataFrame([GOOD]).write_parquet(file, metadata={ABOUT: json.dumps({"format": parquet.FORMAT})})
    assert "columns" in why(file)
    write(file, [GOOD], {"my-message": 4})
    assert "skipped" in why(file)
    write(file, [GOOD, GOOD | {"pos": 6}])
    assert "more than 1 rows" in why(file, 1)
    whole = file.read_bytes()
    file.write_bytes(whole[:10] + bytes(100) + whole[110:])
    assert "can be read" in why(file)


def test_a_site_of_far_too_many_alleles_is_refused_in_both_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alts = sorted("".join(one) for one in itertools.product("ACGT", repeat=4))
    rows = [GOOD | {"alt": "C" + alt, "ac": 0, "hom_ref": 50, "het": 0, "hom_alt": 0} for alt in alts]
    for most, batch in ((256, 1000), (255, 1000), (255, 10)):
        monkeypatch.setattr("gdi.releases.allele_counts.table.MAX_ALLELES", most)
        monkeypatch.setattr(parquet, "MAX_ALLELES", most)
        monkeypatch.setattr(parquet, "BATCH", batch)
        with contextlib.nullcontext() if most == 256 else pytest.raises(FormatError, match="alleles at one site"):
            by_columns(tmp_path, rows, Rules(FLOOR, 1000), PastColumns(), None, {})
        with contextlib.nullcontext() if most == 256 else pytest.raises(FormatError, match="alleles at one site"):
            by_rows(rows, Rules(FLOOR, 1000), Past(), None, {})


def test_a_small_file_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "f"
    rows = pl.DataFrame([GOOD] * 40_000, schema=parquet.SCHEMA)
    long = pl.Series([f"{n:06d}" + "A" * 10_000 for n in range(40_000)])
    about = {ABOUT: json.dumps({"format": parquet.FORMAT})}
    rows.with_columns(ref=long).write_parquet(file, metadata=about, row_group_size=40_000)
    assert file.stat().st_size < 4_000_000
    with pytest.raises(FormatError, match="unpacks to more than"):
        AlleleCountsColumns().judge(file, tmp_path, Rules(FLOOR, 10), PastColumns(), None)
    rows.with_columns(pos=pl.int_range(1, 40_001, dtype=pl.Int32, eager=True)).write_parquet(file, metadata=about)
    assert AlleleCountsColumns().judge(file, tmp_path, Rules(FLOOR, 10), PastColumns(), None).released == 40_000
    whole = file.read_bytes()
    for at in range(len(whole) - 400, len(whole), 3):  # a footer that is wrong in one byte never ends the process
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with contextlib.suppress(parquet_pages.UnfitParquetError):
            parquet_pages.look(file)
