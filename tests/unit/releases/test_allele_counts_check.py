"""The disclosure check: nothing below the floor leaves, in any table, in any order, however often; only numbers and
coordinates.
"""

from __future__ import annotations

import io
import itertools
import json
import tracemalloc
from collections import Counter
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gdi.releases.allele_counts.check import LEDGER, SCHEMA, SMALL, key_of, numbers_of, verdict
from gdi.releases.allele_counts.node import AlleleCountsNode
from gdi.releases.allele_counts.table import FORMAT, Site, read
from gdi.releases.kind import FormatError, Rules

FLOOR = 5
ALTS = ("C", "G")
Genotype = tuple[int | None, ...]
GENOTYPES: list[Genotype] = [
    *[(a, b) for a in range(3) for b in range(a, 3)],
    (None, None),
    (None, 0),
    (None, 1),
    (None, 2),
    (0,),
    (1,),
    (2,),
    (None,),
]


def rows_of(people: list[Genotype], pos: int, alts: int) -> list[dict[str, Any]]:
    """An honest table of one site, counted person by person."""
    rows = []
    for alt in range(1, alts + 1):
        count: Counter[str] = Counter()
        for person in people:
            called = [a for a in person if a is not None]
            count["an"] += len(called)
            count["ac"] += called.count(alt)
            if not called:
                count["missing"] += 1
            elif len(person) == 1:
                count["hemi_alt" if called[0] == alt else "hemi_ref"] += 1
            elif len(called) == 1:
                count["half_missing"] += 1
            else:
                count[("hom_ref", "het", "hom_alt")[called.count(alt)]] += 1
        names = ("ac", "an", "hom_ref", "het", "hom_alt", "hemi_ref", "hemi_alt", "half_missing", "missing")
        rows.append({"chrom": "2", "pos": pos, "ref": "A", "alt": ALTS[alt - 1], **{n: count[n] for n in names}})
    return rows


def people_at(alts: int) -> st.SearchStrategy[list[Genotype]]:
    usable = [g for g in GENOTYPES if all(a is None or a <= alts for a in g)]
    groups = st.tuples(st.sampled_from(usable), st.integers(0, 25))
    return st.lists(groups, max_size=8).map(lambda gs: [g for g, n in gs for _ in range(n)])


TABLES = st.lists(st.integers(1, 2).flatmap(lambda alts: st.tuples(st.just(alts), people_at(alts))), max_size=6)


def file_of(rows: list[dict[str, Any]]) -> io.BytesIO:
    return io.BytesIO(json.dumps({"format": FORMAT, "sites": rows}).encode())


def published(sites: list[Site], before: dict[Any, list[tuple[int, ...]]] | None = None) -> tuple[bytes, list[Site]]:
    node = AlleleCountsNode()
    checked = node.check(sites, Rules(FLOOR, 1000), before or {})
    out = io.BytesIO()
    node.write(out, checked.released, checked.withheld)
    return out.getvalue(), checked.released


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TABLES)
def test_no_count_below_the_floor_can_be_read_or_worked_out_from_what_leaves(
    table: list[tuple[int, list[Genotype]]],
) -> None:
    rows = [r for pos, (alts, people) in enumerate(table, 1) for r in rows_of(people, pos, alts)]
    data, _ = published(read(file_of(rows), max_rows=1000))
    answer = json.loads(data)
    jsonschema.Draft202012Validator(SCHEMA).validate(answer)
    cohort = {pos: people for pos, (_, people) in enumerate(table, 1)}
    for _, group in itertools.groupby(answer["sites"], key=lambda r: r["pos"]):
        group = list(group)
        people = cohort[group[0]["pos"]]
        assert len(group) == table[group[0]["pos"] - 1][0], "a site leaves whole or not at all"
        secrets = [sum(a == 0 for p in people for a in p), len(people)]  # reference alleles, the cohort
        for alt, row in enumerate(group, 1):
            numbers = [row[n] for n in row if n not in ("chrom", "pos", "ref", "alt")]
            half = [p for p in people if len(p) == 2 and sum(a is None for a in p) == 1]
            carriers = [p for p in people if len(p) == 2 and None not in p and alt in p]
            secrets += [
                *numbers,
                row["an"] - row["ac"],
                sum(alt in p for p in half),
                sum(alt not in p for p in half),
                len(carriers),
            ]
            secrets += [sum(p == (0,) for p in people), sum(p in ((None, 0), (0, None)) for p in people)]
        assert all(n == 0 or n >= FLOOR for n in secrets), secrets


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TABLES, st.randoms(use_true_random=False))
def test_every_honest_table_is_read_and_the_order_of_its_rows_carries_no_message(
    table: list[tuple[int, list[Genotype]]], random: Any
) -> None:
    rows = [r for pos, (alts, people) in enumerate(table, 1) for r in rows_of(people, pos, alts)]
    data, _ = published(read(file_of(rows), max_rows=1000))
    random.shuffle(rows)
    assert published(read(file_of(rows), max_rows=1000))[0] == data


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 2), st.data())
def test_two_releases_of_one_dataset_cannot_be_subtracted(alts: int, data: st.DataObject) -> None:
    first = data.draw(people_at(alts))
    second = first + data.draw(people_at(alts)) if data.draw(st.booleans()) else data.draw(people_at(alts))
    before: dict[Any, list[tuple[int, ...]]] = {}
    answers = []
    for people in (first, second):
        sites = read(file_of(rows_of(people, 7, alts)), max_rows=10)
        raw, passed = published(sites, before)
        answers.append({(r["pos"], r["alt"]): r for r in json.loads(raw)["sites"]})
        for site in passed:
            for row in site.rows:
                before.setdefault(key_of(row), []).append(numbers_of(row, site))
    for key in answers[0].keys() & answers[1].keys():
        one, two = answers[0][key], answers[1][key]
        assert all(one[n] == two[n] or abs(one[n] - two[n]) >= FLOOR for n in one if isinstance(one[n], int))


def test_the_same_numbers_may_leave_again_and_near_ones_may_not() -> None:
    people: list[Genotype] = [(0, 0)] * 50 + [(0, 1)] * 20 + [(1, 1)] * 10
    (site,) = read(file_of(rows_of(people, 7, 1)), max_rows=10)
    before = {key_of(row): [numbers_of(row, site)] for row in site.rows}
    assert verdict(site, FLOOR, before) == ""
    (near,) = read(file_of(rows_of([*people, (0, 1)], 7, 1)), max_rows=10)
    assert verdict(near, FLOOR, {}) == "" and verdict(near, FLOOR, before) == LEDGER
    (far,) = read(file_of(rows_of([*people, *[(0, 1)] * 5], 7, 1)), max_rows=10)
    assert verdict(far, FLOOR, before) == ""


@pytest.mark.parametrize(
    "people",
    [
        [(0, 0)] * 96 + [(0, 1)] * 4,
        [(1, 1)] * 96 + [(0, 1)] * 4,
        [(0, 0)] * 50 + [(0, 1)] * 50 + [(1, 1)] * 4,
        [(0, 0)] * 90 + [(0, 1)] * 10 + [(None, 0)] * 4,
        [(0, 0)] * 90 + [(0, 1)] * 10 + [(None, 1)] * 4 + [(None, 0)] * 4,
        [(0, 0)] * 90 + [(0, 1)] * 10 + [(None, None)] * 4,
        [(0, 0)] * 90 + [(0, 1)] * 10 + [(0,)] * 6 + [(1,)] * 4,
        [(0, 0)] * 4,
    ],
    ids=[
        "het",
        "reference alleles",
        "hom_alt",
        "half missing",
        "half missing by allele",
        "missing",
        "hemi",
        "tiny cohort",
    ],
)
def test_a_small_count_of_any_kind_withholds_the_site(people: list[Genotype]) -> None:
    (site,) = read(file_of(rows_of(people, 1, 1)), max_rows=10)
    assert verdict(site, FLOOR, {}) == SMALL


def test_the_reference_count_of_a_site_with_several_alternates_is_protected() -> None:
    people: list[Genotype] = [(1, 1)] * 20 + [(2, 2)] * 20 + [(1, 2)] * 20 + [(0, 1)] * 2 + [(0, 2)] * 2
    (site,) = read(file_of(rows_of(people, 1, 2)), max_rows=10)
    assert all(row.an - row.ac >= FLOOR and row.ac >= FLOOR for row in site.rows), "each row alone would do"
    assert verdict(site, FLOOR, {}) == SMALL


def good() -> dict[str, Any]:
    return rows_of([(0, 0)] * 50 + [(0, 1)] * 20 + [(1, 1)] * 10, 7, 1)[0]


BAD: list[tuple[str, bytes]] = [
    ("not json", b"GENOTYPE-0/1"),
    ("empty", b""),
    ("not utf-8", b'{"format": "\xff"}'),
    ("other format", b'{"format": "GENOTYPE", "sites": []}'),
    ("no sites", json.dumps({"format": FORMAT}).encode()),
    ("extra field", json.dumps({"format": FORMAT, "sites": [], "note": "GENOTYPE"}).encode()),
    ("field twice", f'{{"format": "{FORMAT}", "sites": [], "sites": []}}'.encode()),
    ("something after", json.dumps({"format": FORMAT, "sites": []}).encode() + b" GENOTYPE"),
    ("cut off", json.dumps({"format": FORMAT, "sites": [good()]}).encode()[:-3]),
    ("rows no objects", json.dumps({"format": FORMAT, "sites": ["GENOTYPE"]}).encode()),
    ("deep", b'{"format": "' + FORMAT.encode() + b'", "sites": [' + b'{"a":' * 20_000 + b"1"),
    ("long row", json.dumps({"format": FORMAT, "sites": [{**good(), "alt": "A" * 500_000}]}).encode()),
    (
        "huge number",
        json.dumps({"format": FORMAT, "sites": [good()]}).encode().replace(b'"pos": 7', b'"pos": ' + b"7" * 5000),
    ),
    (
        "row field twice",
        json.dumps({"format": FORMAT, "sites": [good()]}).encode().replace(b'"pos": 7', b'"pos": 7, "pos": 8'),
    ),
    ("a reason of its own", json.dumps({"format": FORMAT, "sites": [], "skipped": {"GENOTYPE": 1}}).encode()),
    ("skipped is a list", json.dumps({"format": FORMAT, "sites": [], "skipped": ["GENOTYPE"]}).encode()),
    ("nothing skipped", json.dumps({"format": FORMAT, "sites": [], "skipped": {"breakend": 0}}).encode()),
    *[
        (f"{field} {value!r}", json.dumps({"format": FORMAT, "sites": [{**good(), field: value}]}).encode())
        for field, value in [
            ("sample", "GENOTYPE"),
            ("chrom", "chr 2"),
            ("chrom", "x" * 33),
            ("chrom", 2),
            ("ref", "GENOTYPE"),
            ("alt", "<GENOTYPE HG001>"),
            ("alt", ""),
            ("pos", 0),
            ("pos", 2**31),
            ("pos", -1),
            ("pos", 7.0),
            ("pos", True),
            ("pos", "7"),
            ("ac", -1),
            ("ac", 41),
            ("ac", 39),
            ("an", 161),
            ("an", None),
            ("het", float("nan")),
            ("missing", 2**31),
            ("ref", "A\n"),
            ("chrom", "2\n"),
        ]
    ],
]


@pytest.mark.parametrize("data", [d for _, d in BAD], ids=[n[:40] for n, _ in BAD])
def test_what_is_not_counts_and_coordinates_is_refused_without_repeating_it(data: bytes) -> None:
    with pytest.raises(FormatError) as error:
        read(io.BytesIO(data), max_rows=10)
    assert "GENOTYPE" not in str(error.value) and len(str(error.value)) < 400


def test_a_site_whose_rows_cannot_be_of_the_same_people_is_withheld_alone() -> None:
    people: list[Genotype] = [(0, 0)] * 50 + [(0, 1)] * 20 + [(0, 2)] * 20
    rows = rows_of(people, 7, 2)
    of_others = {**rows[1], "missing": 9}
    other_site = rows_of(people, 8, 1)
    for site, why in (
        (rows, ""),
        ([rows[0], of_others], "rows-disagree"),
        ([rows[0], rows[0]], "duplicate-site"),
        ([rows[0], rows[0], of_others], "duplicate-site"),
    ):
        data, passed = published(read(file_of([*other_site, *site]), max_rows=10))
        assert json.loads(data)["withheld"] == ({why: 1} if why else {})
        assert [s.rows[0].pos for s in passed] == ([8] if why else [7, 8])


def test_what_the_workflow_left_out_is_counted_by_reason() -> None:
    document = {"format": FORMAT, "sites": [good()], "skipped": {"position": 2, "breakend": 3}}
    sites = read(io.BytesIO(json.dumps(document).encode()), max_rows=10)
    data, passed = published(sites)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(data))
    assert json.loads(data)["withheld"] == {"breakend": 3, "position": 2} and len(passed) == 1
    assert all(key for site in sites for key in AlleleCountsNode().keys(site))


@settings(max_examples=60, deadline=None)
@given(TABLES, st.integers(1, 37))
def test_a_file_that_arrives_in_small_pieces_reads_the_same(table: list[tuple[int, list[Genotype]]], size: int) -> None:
    class Slow(io.BytesIO):
        def read(self, n: int | None = -1) -> bytes:
            return super().read(min(size, n or size))

    rows = [r for pos, (alts, people) in enumerate(table, 1) for r in rows_of(people, pos, alts)]
    text = json.dumps({"sites": rows, "format": FORMAT}, indent=1).encode()
    assert read(Slow(text), max_rows=1000) == read(file_of(rows), max_rows=1000)


def test_a_large_table_is_read_in_bounded_memory_and_time() -> None:
    row = json.dumps(good())
    data = (
        b'{"format":"'
        + FORMAT.encode()
        + b'","sites":['
        + ",".join(row.replace('"pos": 7', f'"pos": {i}') for i in range(1, 10_001)).encode()
        + b"]}"
    )
    tracemalloc.start()
    try:
        sites = read(io.BytesIO(data), max_rows=100_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(sites) == 10_000 and peak < 10_000 * 1200, f"{peak / 10_000:.0f} bytes a row"
    with pytest.raises(FormatError, match="more than 100 rows"):
        read(io.BytesIO(data), max_rows=100)
