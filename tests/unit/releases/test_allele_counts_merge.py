"""Adding up allele counts: right sums, intervals that hold where a node withheld, hostile releases
refused, every release proven.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import SigningKey
from gdi.releases.allele_counts.figure import draw
from gdi.releases.allele_counts.merge import merge, natural, parse, table
from gdi.releases.kind import BadReleaseError
from gdi.releases.signature import NotProvenError, check_sha256
from tests.support.results_kit import release_of, told


def row(pos: int, ac: int, an: int, alt: str = "G", chrom: str = "2", **changes: Any) -> dict[str, Any]:
    return told(pos, ac, an, alt, chrom, **changes)


document = release_of


def lines(**releases: bytes) -> list[str]:
    return table(merge({n: parse(n, d) for n, d in releases.items()}, releases)).splitlines()[1:]


def test_counts_are_added_and_what_one_node_does_not_list_widens_the_sum() -> None:
    assert lines(a=document(row(1, 5, 10), row(2, 6, 10)), b=document(row(1, 7, 30))) == [
        "2\t1\tA\tG\t12\t40\t0.3\t2\t12\t12\t40\t40\t",
        "2\t2\tA\tG\t\t\t\t1\t6\t14\t10\t110\tsmall",
    ]


def test_an_allele_that_one_node_does_not_list_at_a_site_that_it_lists_has_its_calls() -> None:
    got = lines(a=document(row(1, 5, 20, "G"), row(1, 6, 20, "T")), b=document(row(1, 8, 30, "G")))
    assert got == [
        "2\t1\tA\tG\t13\t50\t0.26\t2\t13\t13\t50\t50\t",
        "2\t1\tA\tT\t\t50\t\t1\t6\t14\t50\t50\tsmall",
    ]


def test_a_rare_reference_allele_and_few_missing_calls_are_intervals() -> None:
    rare = row(1, 0, 60, ac_min=52, ac_max=60, reason="small", rare="ref")
    assert lines(a=document(rare), b=document(row(1, 8, 30))) == ["2\t1\tA\tG\t\t90\t\t1\t60\t68\t90\t90\tsmall"]
    calls = row(1, 20, 60, an_min=56)
    (answer,) = merge({"a": parse("a", document(calls))}, "a")
    assert answer.count == 20 and answer.total is None and answer.withheld, "no frequency: not among the exact ones"
    assert lines(a=document(calls), b=document(row(1, 8, 30))) == ["2\t1\tA\tG\t28\t\t\t2\t28\t28\t86\t90\t"]


def test_a_site_where_nobody_was_called_is_missing_and_not_withheld() -> None:
    nobody = row(1, 0, 0, ac_max=8, an_max=16, reason="missing")
    (answer,) = merge({n: parse(n, document(nobody)) for n in "ab"}, "ab")
    assert answer.missing and not answer.withheld
    assert lines(a=document(nobody), b=document(nobody)) == ["2\t1\tA\tG\t\t\t\t0\t0\t16\t0\t32\tmissing"]
    assert lines(a=document(nobody), b=document(row(1, 9, 40))) == ["2\t1\tA\tG\t\t\t\t1\t9\t17\t40\t56\tmissing"]


def test_a_site_listed_twice_or_at_odds_with_itself_may_have_any_count() -> None:
    assert lines(a=document(row(1, 5, 20), row(1, 5, 20))) == ["2\t1\tA\tG\t\t\t\t0\t0\t20\t0\t20\tsmall"]
    got = lines(a=document(row(1, 5, 20, "G"), row(1, 5, 22, "T")))
    assert got[1] == "2\t1\tA\tT\t\t\t\t0\t0\t22\t0\t22\tsmall"


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"<html>", "document"),
        (document(row(1, -1, 10)), "sites.0.ac_min"),
        (document(row(1, 9, 10, ac_max=8)), "sites.0"),
        (document(row(1, 9, 10, reason="because")), "sites.0.reason"),
        (document(unlisted={"ac_max": -1, "an_max": 9, "reason": "small"}), "unlisted.ac_max"),
        (document(row(1, 1, 10, "<script>")), "sites.0.alt"),
        (document(row(1, 1, 10, chrom="2\tX")), "sites.0.chrom"),
        (document(row(1, True, 10)), "sites.0.ac_min"),  # type: ignore[arg-type]
        (document(format="gdi-allele-counts/1"), "format"),
        (b'{"format": "gdi-allele-counts-released/1", "sites": [{"chrom": "2", "pos": 1e400}]}', ""),
    ],
)
def test_a_release_that_is_not_of_its_format_is_refused_with_node_and_place(data: bytes, named: str) -> None:
    with pytest.raises(BadReleaseError, match="of node-x are not of their format") as refused:
        parse("node-x", data)
    assert named in str(refused.value)
    assert "script" not in str(refused.value)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 5), st.integers(0, 50)), max_size=5, unique_by=lambda t: t[0]),
        min_size=1,
        max_size=4,
    )
)
def test_exact_where_all_nodes_told_it_and_between_the_sums_of_the_ends_where_not(
    parts: list[list[tuple[int, int]]],
) -> None:
    releases = {
        f"n{i}": parse(f"n{i}", document(*(row(pos, ac, 100) for pos, ac in part))) for i, part in enumerate(parts)
    }
    for answer in merge(releases, releases):
        have = [dict(part)[answer.pos] for part in parts if answer.pos in dict(part)]
        assert answer.count == (sum(have) if len(have) == len(parts) else None)
        assert answer.ac == (sum(have), sum(have) + 8 * (len(parts) - len(have)))
        assert len(answer.nodes) == len(have)


def test_chromosomes_sort_as_people_do() -> None:
    names = ["1", "2", "10", "chr2", "chr10", "chrX"]
    assert all(natural(a) < natural(b) for a, b in pairwise(names[:3]))
    assert all(natural(a) < natural(b) for a, b in pairwise(names[3:]))


@pytest.mark.parametrize("chroms", [["2"], ["1", "2", "X"], []])
def test_a_picture_is_drawn_of_one_chromosome_of_many_and_of_nothing(tmp_path: Path, chroms: list[str]) -> None:
    a = document(*(row(i * 1000, i % 40, 40, chrom=c) for c in chroms for i in range(60)))
    b = document(*(row(i * 1000, i % 40, 40, chrom=c) for c in chroms for i in range(0, 60, 2)))
    draw(merge({"a": parse("a", a), "b": parse("b", b)}, "ab"), tmp_path / "x.png", title="T", nodes=["a", "b"])
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_release_is_proven_by_checksum_signature_run_name_workflow_and_attempt() -> None:
    key, stranger, data = SigningKey.generate(), SigningKey.generate(), b"{}"
    claims = {
        "iss": "node-a",
        "aud": "r-1",
        "release": "counts",
        "sha256": sha256_hex(data),
        "workflow": "w",
        "digest": "d",
        "attempt": 1,
    }

    def prove(signer: SigningKey = key, bytes_: bytes = data, typ: str = "release+jwt", **changed: Any) -> None:
        signature = signer.sign({**claims, **changed}, lifetime=60, typ=typ)
        said = {"name": "counts", "node": "node-a", "sha256": sha256_hex(data), "signature": signature}
        check_sha256(sha256_hex(bytes_), said, public_key=key.jwk(), run="r-1", digest="d", workflow="w", attempt=2)

    prove()
    bad: list[dict[str, Any]] = [
        {"signer": stranger},
        {"bytes_": b"{} "},
        {"typ": "JWT"},
        {"aud": "r-2"},
        {"iss": "node-b"},
        {"release": "other"},
        {"sha256": "0" * 64},
        {"digest": "e"},
        {"workflow": "v"},
        {"attempt": 3},
        {"attempt": "1"},
    ]
    for case in bad:
        with pytest.raises(NotProvenError, match="counts of node-a"):
            prove(**case)
