"""The disclosure check of one site: no number about few people leaves, intervals hold, only numbers and coordinates.
Each rule's test shows what leaves with that rule off.
"""

from __future__ import annotations

import io
import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gdi.releases.allele_counts import check
from gdi.releases.allele_counts.node import SCHEMA, AlleleCountsNode
from gdi.releases.allele_counts.table import FORMAT, Site, read
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.kind import Cell, FormatError, Rules

FLOOR = 5
RULES = Rules(FLOOR, 1000, absent="reference")
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


def published(sites: list[Site], rules: Rules = RULES, past: Past | None = None) -> tuple[dict[str, Any], list[Cell]]:
    node = AlleleCountsNode()
    checked = node.check(sites, rules, past or Past())
    out = io.BytesIO()
    node.write(out, checked.released, {}, node.scope(sites), rules)
    answer = json.loads(out.getvalue())
    jsonschema.Draft202012Validator(SCHEMA).validate(answer)
    return answer, [*(cell for left in checked.released for cell in node.cells(left)), *checked.kept]


def told(people: list[Genotype], alts: int = 1, **changes: Any) -> dict[str, Any] | None:
    """What leaves of the first alternate allele of one site with these people; None where it is not listed."""
    answer, _ = published(read(file_of(rows_of(people, 7, alts)), max_rows=10), replace(RULES, **changes))
    return next((row for row in answer["sites"] if row["alt"] == ALTS[0]), None)


def exact(row: dict[str, Any] | None) -> bool:
    return row is not None and row["ac_min"] == row["ac_max"]


def carrying(people: list[Genotype], allele: int) -> int:
    return sum(allele in person for person in people)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TABLES)
def test_exact_counts_are_right_intervals_hold_and_no_count_is_about_few_people(
    table: list[tuple[int, list[Genotype]]],
) -> None:
    rows = [r for pos, (alts, people) in enumerate(table, 1) for r in rows_of(people, pos, alts)]
    answer, _ = published(read(file_of(rows), max_rows=1000))
    listed = {(row["pos"], row["alt"]): row for row in answer["sites"]}
    for pos, (alts, people) in enumerate(table, 1):
        called = [a for person in people for a in person if a is not None]
        known = [alt for alt in range(1, alts + 1) if exact(listed.get((pos, ALTS[alt - 1])))]
        for alt in range(1, alts + 1):
            row, count = listed.get((pos, ALTS[alt - 1])), called.count(alt)
            if row is None:
                assert carrying(people, alt) < FLOOR and count <= answer["unlisted"]["ac_max"]
                assert len(called) <= answer["unlisted"]["an_max"]
                continue
            assert row["ac_min"] <= count <= row["ac_max"] and row["an_min"] <= len(called) <= row["an_max"]
            if alt in known:
                assert carrying(people, alt) >= FLOOR
            else:
                assert row["ac_min"] == 0 or row["ac_max"] - row["ac_min"] >= 2 * (FLOOR - 1)
            incomplete = sum(None in person for person in people)
            haploid = sum(len(person) == 1 and person != (None,) for person in people)
            if row["an_min"] == row["an_max"]:
                assert all(n == 0 or n >= FLOOR for n in (incomplete, haploid))
        if known:
            others = [person for person in people if any(a is not None and a not in known for a in person)]
            assert len(others) >= FLOOR, "what the told alleles leave over is about enough people"


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TABLES, st.randoms(use_true_random=False))
def test_every_honest_table_is_read_and_the_order_of_its_rows_carries_no_message(
    table: list[tuple[int, list[Genotype]]], random: Any
) -> None:
    rows = [r for pos, (alts, people) in enumerate(table, 1) for r in rows_of(people, pos, alts)]
    answer = published(read(file_of(rows), max_rows=1000))
    random.shuffle(rows)
    assert published(read(file_of(rows), max_rows=1000)) == answer


COMMON: list[Genotype] = [(0, 0)] * 50 + [(0, 1)] * 20 + [(1, 1)] * 10


def test_a_common_allele_leaves_without_its_genotype_classes() -> None:
    assert told(COMMON) == {
        "chrom": "2",
        "pos": 7,
        "ref": "A",
        "alt": "C",
        **{"ac_min": 40, "ac_max": 40, "an_min": 160, "an_max": 160, "reason": "", "rare": ""},
    }


@pytest.mark.parametrize("carriers", range(FLOOR))
def test_a_rare_alternate_allele_reads_as_one_that_the_file_does_not_have(carriers: int) -> None:
    people: list[Genotype] = [(0, 0)] * 96 + [(1, 1)] * carriers
    with_line, _ = published(read(file_of(rows_of(people, 7, 1)), max_rows=10))
    without, _ = published(read(file_of(rows_of(people, 8, 1)), max_rows=10))
    assert with_line == without and with_line["sites"] == []
    assert with_line["unlisted"] == {"ac_max": 8, "an_max": 200, "reason": "small"}
    shown = told(people, off=frozenset({Rule.UNLISTED}))
    assert shown is not None and (shown["reason"], shown["rare"]) == ("small", "alt"), "with the rule off: a beacon"


def test_where_a_missing_site_means_nothing_what_is_not_listed_may_have_any_count() -> None:
    rules = replace(RULES, absent="unknown")
    answer, _ = published(read(file_of(rows_of([(0, 0)] * 96, 7, 1)), max_rows=10), rules)
    assert answer["unlisted"] == {"ac_max": 200, "an_max": 200, "reason": "missing"}


def test_a_rare_reference_allele_is_named_and_exchanging_the_alleles_changes_nothing() -> None:
    people: list[Genotype] = [(1, 1)] * 96 + [(0, 1)] * 4
    row = told(people)
    assert row is not None and (row["ac_min"], row["ac_max"], row["an_min"]) == (192, 200, 200)
    assert (row["reason"], row["rare"]) == ("small", "ref")
    exchanged: list[Genotype] = [(0, 0)] * 96 + [(0, 1)] * 4
    assert told(exchanged) is None
    assert exact(told(people, off=frozenset({Rule.OTHER_ALLELE}))), "with the rule off: AN - AC = 4"


def test_the_floor_counts_people_and_not_copies() -> None:
    homozygous: list[Genotype] = [(0, 0)] * 90 + [(1, 1)] * 3
    assert told(homozygous) is None
    shown = told(homozygous, off=frozenset({Rule.PEOPLE}))
    assert exact(shown), "with the rule off: six copies of three people"


def test_zero_does_not_pass() -> None:
    nobody: list[Genotype] = [(0, 0)] * 90
    assert told(nobody) is None
    shown = told(nobody, off=frozenset({Rule.ZERO}))
    assert shown is not None and shown["ac_max"] == 0, "with the rule off: a beacon for rare alleles"


@pytest.mark.parametrize("without_call", [1, FLOOR - 1])
def test_few_people_without_a_call_make_an_an_interval(without_call: int) -> None:
    people = [*COMMON, *[(None, None)] * without_call]
    row = told(people)
    assert row is not None and exact(row)
    assert (row["an_min"], row["an_max"]) == (2 * len(people) - 8, 2 * len(people))
    off = told(people, off=frozenset({Rule.CALLS}))
    assert off is not None and off["an_min"] == off["an_max"] == 160, "with the rule off: so many people have no call"


def test_where_hardly_anybody_was_called_the_site_is_missing() -> None:
    for people in ([(None, None)] * 80, [*[(None, None)] * 80, (0, 1), (0, 0)]):
        row = told(people)
        assert row is not None and (row["reason"], row["ac_max"], row["an_max"]) == ("missing", 8, 16)


def test_the_reference_count_of_a_site_with_several_alternates_is_protected() -> None:
    people: list[Genotype] = [(1, 1)] * 20 + [(2, 2)] * 20 + [(1, 2)] * 20 + [(0, 1)] * 2 + [(0, 2)] * 2
    sites = read(file_of(rows_of(people, 1, 2)), max_rows=10)
    rows = published(sites)[0]["sites"]
    assert [exact(row) for row in rows] == [False, True], "one of the two is an interval"
    assert rows[0]["ac_max"] - rows[0]["ac_min"] == 8
    off = published(sites, replace(RULES, off=frozenset({Rule.OTHER_ALLELE})))[0]["sites"]
    assert off[0]["an_max"] - sum(row["ac_max"] for row in off) == 4, "with the rule off: four copies of the reference"


def test_genotype_classes_leave_only_where_the_descriptor_says_so_and_each_is_enough() -> None:
    assert "het" not in (told(COMMON) or {})
    row = told(COMMON, classes=True)
    assert row is not None and (row["hom_ref"], row["het"], row["hom_alt"]) == (50, 20, 10)
    few: list[Genotype] = [(0, 0)] * 50 + [(0, 1)] * 20 + [(1, 1)] * 4
    row = told(few, classes=True)
    assert exact(row) and row is not None and "het" not in row


def test_every_sum_of_genotype_cells_that_the_rows_determine_is_checked() -> None:
    people: list[Genotype] = [(0, 0)] * 6 + [(0, 1)] * 10 + [(1, 1)] * 20 + [(1, 2)] * 10 + [(0, 2)] * 9 + [(2, 2)] * 15
    # hom_ref(C) - hom_alt(G) = 00 + 02 = 15; now so that it is 1 while each number of the rows is at least 5.
    people = [(0, 0)] * 1 + [(0, 1)] * 10 + [(1, 1)] * 20 + [(1, 2)] * 10 + [(2, 2)] * 15
    sites = read(file_of(rows_of(people, 7, 2)), max_rows=10)
    numbers = [n for row in sites[0].rows for n in (row.hom_ref, row.het, row.hom_alt)]
    assert min(numbers) >= FLOOR and sites[0].rows[0].hom_ref - sites[0].rows[1].hom_alt == 1
    rules = replace(RULES, classes=True)
    assert not any("het" in row for row in published(sites, rules)[0]["sites"])
    off = published(sites, replace(rules, off=frozenset({Rule.SUMS})))[0]["sites"]
    assert off[0]["hom_ref"] - off[1]["hom_alt"] == 1, "with the rule off: one person"


def test_a_variant_under_two_names_in_one_file_is_withheld() -> None:
    (one,) = rows_of(COMMON, 7, 1)
    for other, whys in (
        ({**one, "chrom": "chr2"}, ["two-names"] * 3),
        ({**one, "pos": 6, "ref": "TA", "alt": "TC"}, ["", "duplicate-site", "duplicate-site"]),
        ({**one, "chrom": "another"}, ["", "", "unknown-contig"]),
        ({**one, "chrom": "chrUn_gl000220"}, ["", "", ""]),
    ):
        sites = read(file_of([one, other, {**one, "pos": 9}]), max_rows=10)
        assert sorted(site.why for site in sites) == whys


def test_records_that_overlap_leave_few_people_for_the_reference() -> None:
    """A deletion over a variant, 100 and 96 copies of 200: 4 are of neither."""
    other = rows_of([(0, 0)] * 2 + [(0, 1)] * 96 + [(1, 1)] * 2, 8, 1)[0]
    deletion = {**rows_of([(0, 0)] * 2 + [(0, 1)] * 96 + [(1, 1)] * 2, 7, 1)[0], "ref": "AAA", "alt": "A"}
    other |= {"ac": 96, "het": 96, "hom_alt": 0, "hom_ref": 4}
    for place, told in ((other["pos"], 1), (20, 2)):
        sites = read(file_of([deletion, {**other, "pos": place}]), max_rows=10)
        answers = [one for site in sites for one in check.answer(site, Rules(5, 10, absent="reference"), Past())]
        assert sum(one.ac.exact for one in answers) == told
        assert all(one.ac.low <= one.copies <= one.ac.high for one in answers)
    off = Rules(5, 10, absent="reference", off=frozenset({Rule.OTHER_ALLELE}))
    sites = read(file_of([deletion, other]), max_rows=10)
    assert [one.ac.exact for site in sites for one in check.answer(site, off, Past())] == [True, True]


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
        sites = read(file_of([*other_site, *site]), max_rows=10)
        told = {row["pos"]: row for row in published(sites)[0]["sites"]}
        assert exact(told[8]) and exact(told[7]) is not bool(why)
        assert AlleleCountsNode().check(sites, RULES, Past()).withheld == (Counter({why: 1}) if why else Counter())
        if why:  # nothing is known of it
            most = 2 * (len(people) + (9 if of_others in site else 0))
            assert (told[7]["reason"], told[7]["ac_min"], told[7]["ac_max"]) == ("missing", 0, most)


def test_what_the_workflow_left_out_is_counted_by_reason() -> None:
    document = {"format": FORMAT, "sites": [good()], "skipped": {"position": 2, "breakend": 3}}
    sites = read(io.BytesIO(json.dumps(document).encode()), max_rows=10)
    answer, _ = published(sites)
    assert len(answer["sites"]) == 1 and answer["withheld"] == {} and answer["unlisted"]["ac_max"] == 8
    assert AlleleCountsNode().check(sites, RULES, Past()).withheld == {"breakend": 3, "position": 2}
    assert all(key for site in sites for key in AlleleCountsNode().keys(site))


def test_where_the_workflow_left_out_what_another_node_may_name_nothing_is_known_of_it() -> None:
    document = {"format": FORMAT, "sites": [good()], "skipped": {"not-in-every-dataset": 1}}
    answer, _ = published(read(io.BytesIO(json.dumps(document).encode()), max_rows=10))
    assert answer["unlisted"] == {"ac_max": 200, "an_max": 200, "reason": "missing"}


@settings(max_examples=60, deadline=None)
@given(TABLES, st.integers(1, 37))
def test_a_file_that_arrives_in_small_pieces_reads_the_same(table: list[tuple[int, list[Genotype]]], size: int) -> None:
    class Slow(io.BytesIO):
        def read(self, n: int | None = -1) -> bytes:
            return super().read(min(size, n or size))

    rows = [r for pos, (alts, people) in enumerate(table, 1) for r in rows_of(people, pos, alts)]
    text = json.dumps({"sites": rows, "format": FORMAT}, indent=1).encode()
    assert read(Slow(text), max_rows=1000) == read(file_of(rows), max_rows=1000)


@pytest.mark.parametrize("field", [*good(), "note"])
@pytest.mark.parametrize(
    "value", ["0", "7", "07", "-0", "7.0", "7e1", "1000000000", '"A"', '"A\\u0043"', '"chr2"', "null", ""]
)
def test_rows_that_are_read_fast_are_refused_as_all_others_are(field: str, value: str) -> None:
    """A row before another is read by one pattern, where it is written plainly: with the same end."""
    plain, changed = json.dumps(good()), json.dumps({**good(), field: "VALUE"}).replace('"VALUE"', value)
    ends = []
    for bad in (changed, changed.replace('{"chrom"', '{\n"chrom"')):
        text = f'{{"format": "{FORMAT}", "sites": [{plain.replace(": 7,", ": 6,")}, {bad}, {plain}]}}'
        try:
            ends.append(repr(read(io.BytesIO(text.encode()), max_rows=10)))
        except FormatError as error:
            ends.append(str(error))
    assert ends[0] == ends[1]


def test_what_leaves_is_written_as_json_writes_it() -> None:
    rows = [*rows_of(COMMON, 7, 1), *rows_of([(0, 0)] * 50 + [(0, 1)] * 20 + [(1, 2)] * 20, 9, 2)]
    for rules in (RULES, replace(RULES, classes=True)):
        out = io.BytesIO()
        half, sites = AlleleCountsNode(), read(file_of(rows), max_rows=10)
        half.write(out, half.check(sites, rules, Past()).released, {}, half.scope(sites), rules)
        lines = [line.rstrip(",") for line in out.getvalue().decode().splitlines()[1:-1]]
        assert lines and lines == [json.dumps(json.loads(line), separators=(",", ":")) for line in lines]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(GENOTYPES), max_size=60), st.integers(1, 8))
def test_most_sites_are_judged_by_a_shorter_way_with_the_same_answer(people: list[Genotype], floor: int) -> None:
    rules = replace(RULES, floor=floor)
    for site in read(file_of(rows_of([p for p in people if 2 not in p], 7, 1)), max_rows=10):
        assert [check._judge_one(site.rows[0], rules)] == check._judge(site, rules)


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
