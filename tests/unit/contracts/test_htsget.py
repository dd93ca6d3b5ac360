"""htsget's requests: what the standard allows, which of them another one covers, and how a file's name becomes one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdi.contracts.htsget import (
    ENDPOINTS,
    MAX_POSITION,
    HtsgetError,
    HtsgetRequest,
    PostBody,
    by_suffix,
    parse_target,
)
from gdi.contracts.urls import HtsgetUrl, UrlError, parse
from snakemake_tes_auth.files import queries


@pytest.mark.parametrize(
    "query",
    [
        "start=1",
        "referenceName=*&start=1",
        "referenceName=1&start=5&end=5",
        "referenceName=1&start=-1",
        "referenceName=1&start=1.0",
        f"referenceName=1&end={MAX_POSITION + 1}",
        "referenceName=1&start=٣",
        "referenceName=",
        "referenceName=1&referenceName=2",
        "class=body",
        "class=header&referenceName=1",
        "format=TXT",
        "other=1",
        "referenceName",
        "fields=" + "A" * 501,
        "tags=%00",
    ],
)
def test_what_is_no_request_is_refused_where_it_is_read(query: str) -> None:
    with pytest.raises(HtsgetError):
        HtsgetRequest.of_query("reads", "DS/x", query)
    with pytest.raises(UrlError):
        parse(f"htsget://reads/DS/x?{query}")


def test_the_largest_and_the_plainest_requests_are_taken() -> None:
    for query in ("", f"referenceName=HLA-A*01:01&start=0&end={MAX_POSITION}", "referenceName=*", "fields=QNAME,FLAG"):
        assert HtsgetRequest.of_query("reads", "DS/x", query).query == query


VALUES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)


@given(st.sampled_from(ENDPOINTS), VALUES, VALUES, st.integers(0, 99), st.integers(100, MAX_POSITION))
def test_a_target_is_read_back_as_it_was_written(endpoint: str, id_: str, name: str, start: int, end: int) -> None:
    known = next(e for e in ENDPOINTS if e == endpoint)
    region = [("start", str(start)), ("end", str(end))] if name != "*" else []
    request = HtsgetRequest.of(known, id_, [("referenceName", name), *region])
    assert parse_target(request.target) == request


@pytest.mark.parametrize(
    ("granted", "wanted", "covered"),
    [
        ("", "referenceName=1&start=1&end=2", True),
        ("", "class=header", True),
        ("referenceName=1", "referenceName=1&fields=QNAME", True),
        ("referenceName=1&start=1&end=9", "referenceName=1&start=1&end=9&format=BAM", True),
        ("referenceName=1&start=1&end=9", "referenceName=1&start=1&end=10", False),
        ("referenceName=1&start=1&end=9", "referenceName=1", False),
        ("referenceName=1", "", False),
        ("class=header", "", False),
        ("class=header", "referenceName=1", False),
    ],
)
def test_a_right_to_a_region_is_for_that_region(granted: str, wanted: str, covered: bool) -> None:
    one, other = (HtsgetRequest.of_query("reads", "DS/x", query) for query in (granted, wanted))
    assert one.covers(other) is covered
    assert not one.covers(HtsgetRequest.of_query("reads", "DS/y", wanted))
    assert not one.covers(HtsgetRequest.of_query("variants", "DS/x", wanted.replace("BAM", "VCF")))


def test_a_files_name_says_endpoint_and_format() -> None:
    assert by_suffix("a/NA1.cram.c4gh", "class=header").target == "reads/a/NA1?format=CRAM&class=header"
    assert by_suffix("c.vcf.gz", "").target == "variants/c?format=VCF"
    assert by_suffix("c", "format=BCF").target == "variants/c?format=BCF"
    for file, query in (("c", ""), ("c.bam", "format=CRAM"), (".bam", ""), ("c.txt", "")):
        with pytest.raises(HtsgetError):
            by_suffix(file, query)


def test_the_three_forms_of_a_url() -> None:
    region = "start=1&referenceName=20"
    host = "htsget://h.example:80/reads/N1?class=header"
    for url, dataset, tes_url, place in (
        (f"htsget://DS/a/c.bam?{region}", "DS", "reads/DS/a/c?format=BAM&referenceName=20&start=1", "DS/a/c.bam"),
        ("htsget://variants/DS/c?class=header", "DS", "variants/DS/c?class=header", "DS/c.vcf.gz"),
        ("htsget://reads/DS/c", "DS", "reads/DS/c", "DS/c.bam"),
        (host, "h.example:80", host.removeprefix("htsget://"), "h.example%3A80/reads/N1"),
    ):
        found = HtsgetUrl.parse(url)
        assert (found.dataset, found.tes_url, found.url_path) == (dataset, f"htsget://{tes_url}", place)


def test_the_local_name_of_a_slice_needs_no_quotes_and_keeps_its_suffix() -> None:
    name = queries.local_suffix(queries.parse("htsget://DS/a/c.vcf.gz?referenceName=HLA-A*01:01&start=1&fields=A,B"))
    assert name == "htsget/DS/a/referenceName=HLA-A~2A01:01,start=1,fields=A~2CB/c.vcf.gz"
    pattern = queries.parse("htsget://{ds}/c.bam?referenceName={chrom}&start={start,[0-9]{2}}&end={end}")
    assert queries.local_suffix(pattern) == "htsget/{ds}/referenceName={chrom},start={start,[0-9]{2}},end={end}/c.bam"


def test_a_post_of_regions_is_a_request_for_each() -> None:
    body = PostBody.model_validate(
        {"format": "BAM", "fields": ["QNAME"], "regions": [{"referenceName": "1", "end": 9}]}
    )
    assert [r.target for r in body.requests("reads", "x")] == ["reads/x?format=BAM&referenceName=1&end=9&fields=QNAME"]
    assert [r.target for r in PostBody.model_validate({}).requests("reads", "x")] == ["reads/x?"]
    with pytest.raises(HtsgetError):
        PostBody.model_validate({"regions": [{"referenceName": "1", "start": 9, "end": 1}]}).requests("reads", "x")
