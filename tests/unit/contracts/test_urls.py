"""A file's URL means the same to Snakemake, to the gateway and to a TES: one parser for all."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdi.contracts.urls import DrsUrl, HtsgetUrl, SdaUrl, UrlError, WorkspaceUrl, parse
from gdi.kit.problem import ProblemError
from gdi.local_federation.tes.archive import sda_url
from gdi.local_federation.tes.transfer import TransferError
from node_gateway.locations import sda_file, workspace_file
from snakemake_tes_auth.files import queries

RUN = "r-" + "0" * 20
DIFFERENT = [  # each was accepted by one of the three parsers that there were, and refused by another
    "sda://DS/a%2e",
    "sda://DS/a*b",
    "sda://DS/a\u202eb",
    "sda://DS\n/x",
    "sda://D S/x",
    "sda://../x",
    "sda://DS/" + "ü" * 460,
    "sda://DS/x?y",
    "sda://DS/a\\b",
]


def judged(url: str) -> list[bool]:
    """Who takes the URL: Snakemake, the gateway, the stand-in TES."""

    def takes(call: object, refusal: type[Exception]) -> bool:
        assert callable(call)
        try:
            call()
        except refusal:
            return False
        return True

    return [
        takes(lambda: queries.parse(url), UrlError),
        takes(lambda: sda_file(url), ProblemError),
        takes(lambda: sda_url(url), TransferError),
    ]


@pytest.mark.parametrize("url", DIFFERENT)
def test_what_one_room_refuses_all_refuse(url: str) -> None:
    assert judged(url) == [False] * 3


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="{}"), max_size=30))
def test_any_path_is_judged_the_same_everywhere(path: str) -> None:
    assert len(set(judged(f"sda://DS/{path}"))) == 1


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("sda://10.5072%2Fabc/x.c4gh", True),
        ("sda://https:%2F%2Fx.org%2Fd%3Fid%3D1/deep/x.c4gh", True),
        ("sda://10.5072%2Fabc/count/10.5072%2Fabc.json.c4gh", True),
        ("sda://10.5072%2fabc/x.c4gh", False),
        ("sda://10.5072%252Fabc/x.c4gh", False),
        ("sda://a%2F..%2Fb/x.c4gh", False),
        ("sda://a%00/x.c4gh", False),
        ("sda://a/x%2F..%2Fy.c4gh", False),
        ("sda://a/..%2Fy.c4gh", False),
        ("sda://a/x%2Ey.c4gh", False),
        ("sda://a/x%0Ay.c4gh", False),
        ("sda://a/x%25y.c4gh", False),
    ],
)
def test_ids_that_are_urls_are_encoded_once(url: str, taken: bool) -> None:
    assert judged(url) == [taken] * 3
    if taken:
        assert str(parse(url)) == url


def test_a_dataset_of_any_id_at_all_doors() -> None:
    dataset = "https://doi.org/10.5072/a?v=2"
    file = SdaUrl.of(dataset, "c.vcf.gz.c4gh")
    assert str(file) == "sda://https:%2F%2Fdoi.org%2F10.5072%2Fa%3Fv%3D2/c.vcf.gz.c4gh" and file.dataset == dataset
    assert unquote(file.url_path) == f"{file.owner}/{file.path}", "HTTP encodes the name once more"
    reads = HtsgetUrl.parse("htsget://10.5072%2Fa/c.bam?referenceName=20")
    assert reads.dataset == "10.5072/a" and reads.tes_url.startswith("htsget://reads/10.5072%2Fa/c?format=BAM")
    assert HtsgetUrl.parse(reads.tes_url).dataset == "10.5072/a"
    assert reads.url_path == "10.5072%252Fa/c.bam"
    assert queries.local_suffix(reads) == "htsget/10.5072%2Fa/referenceName=20/c.bam"


@pytest.mark.parametrize(
    ("url", "owner", "id_", "local"),
    [
        ("drs://drs.example.org/314159", "drs.example.org", "314159", "drs/drs.example.org/314159"),
        ("drs://drs.example.org/a%2Fb%3Ac.bam", "drs.example.org", "a/b:c.bam", "drs/drs.example.org/a~2Fb:c.bam"),
        ("drs://dg.4503/01b048d0-e128~1", "dg.4503", "01b048d0-e128~1", "drs/dg.4503/01b048d0-e128~7E1"),
        ("drs://drs.42:314159", "drs.42", "314159", "drs/compact/drs.42/314159"),
        ("drs://mirror/drs.42:10.5072/x:1", "mirror/drs.42", "10.5072/x:1", "drs/compact/mirror/drs.42/10.5072~2Fx:1"),
    ],
)
def test_both_forms_of_a_drs_uri(url: str, owner: str, id_: str, local: str) -> None:
    """DRS 1.4, "DRS URIs": by a host's name and a percent-encoded id, or by a compact identifier."""
    found = parse(url)
    assert isinstance(found, DrsUrl) and str(found) == url and hash(parse(url)) == hash(found)
    assert (found.owner, found.id, found.read_only) == (owner, id_, True)
    assert unquote(found.url_path) == url[len("drs:") + 2 :], "HTTP encodes it once more"
    assert queries.local_suffix(found) == local


@pytest.mark.parametrize(
    "url",
    [
        "drs://drs.example.org",
        "drs://drs.example.org/",
        "drs:///x",
        "drs://drs.example.org/a/b",
        "drs://drs.example.org:443/x",
        "drs://me@drs.example.org/x",
        "drs://drs.example.org/x?y",
        "drs://drs.example.org/x#y",
        "drs://drs.example.org/%",
        "drs://drs.example.org/%0a",
        "drs://drs.example.org/%ff",
        "drs://drs.example.org/..",
        "drs://drs.example.org/a%2F%2E%2E%2Fb",
        "drs://drs.example.org/" + "a" * 901,
        "drs://DRS.42:x",
        "drs://a/b/c:x",
        "drs://drs.42:",
        "drs://drs.42:a/../b",
        "drs://drs.42:a b\n",
    ],
)
def test_what_is_no_drs_uri(url: str) -> None:
    with pytest.raises(UrlError):
        parse(url)


def test_wildcards_in_a_drs_uri() -> None:
    for pattern in ("drs://drs.example.org/{sample}", "drs://drs.42:{n,[0-9:/]+}", "drs://{host}/{id}"):
        assert str(parse(pattern, wildcards=True)) == pattern
    with pytest.raises(UrlError):
        parse("drs://drs.example.org/{sample}")


def test_parts_and_text_of_each_kind() -> None:
    sda = parse("sda://EGAD1/a b/x.c4gh")
    assert sda == SdaUrl("EGAD1", "a b/x.c4gh") and sda.url_path == "EGAD1/a%20b/x.c4gh" and sda.read_only
    workspace = parse(f"workspace://{RUN}/counts/1.json")
    assert workspace == WorkspaceUrl(RUN, "counts/1.json") and not workspace.read_only
    reads = parse("htsget://archive.example:8080/reads/NA12878?class=header")
    assert reads == HtsgetUrl("archive.example:8080", "reads/NA12878?class=header")
    assert reads.url_path == "archive.example%3A8080/reads/NA12878"
    for url in (sda, workspace, reads):
        assert parse(str(url)) == url and hash(parse(str(url))) == hash(url)
    assert SdaUrl("a", "b") != HtsgetUrl("a", "b")


@pytest.mark.parametrize(
    "url", ["workspace://R/x", f"workspace://{RUN}x/x", f"workspace://{RUN}\n/x", "workspace:///x"]
)
def test_a_workspace_is_a_runs(url: str) -> None:
    for call in (queries.parse, WorkspaceUrl.parse):
        with pytest.raises(UrlError, match=r"it is not workspace://RUN/path|holds"):
            call(url)
    with pytest.raises(ProblemError):
        workspace_file(url, RUN)


def test_wildcards_are_for_patterns_only() -> None:
    for pattern in ("sda://{dataset}/x.c4gh", "workspace://{run}/{rule}/{n,[0-9]{2}}.txt", "sda://DS/{any,.*}.c4gh"):
        assert str(parse(pattern, wildcards=True)) == pattern
    for pattern in ("sda://{dataset}/x.c4gh", "workspace://{run}/x", "sda://DS/{any,.*}.c4gh"):
        with pytest.raises(UrlError):
            parse(pattern)
    with pytest.raises(UrlError):
        parse("sda://DS/{x}/../y", wildcards=True)


def test_the_platforms_own_part_is_known_by_its_first_folder() -> None:
    assert WorkspaceUrl.parse(f"workspace://{RUN}/.gdi/sources/x").platforms_own
    assert not WorkspaceUrl.parse(f"workspace://{RUN}/x/.gdi").platforms_own


def test_an_error_says_what_to_write() -> None:
    with pytest.raises(
        UrlError, match="write sda://DATASET/path, workspace://RUN/path, htsget://DATASET/file or drs://HOST/ID"
    ):
        parse("s3://bucket/key")


def test_no_other_room_reads_a_url_of_the_federation() -> None:
    root = Path(__file__).parents[3]
    rooms = ("gdi", "token_broker", "node_gateway", "snakemake_tes_auth", "plugins")
    for file in (f for room in rooms for f in (root / room).rglob("*.py")):
        text = file.read_text()
        for scheme in ("sda", "workspace", "htsget", "drs"):
            for reading in (f'removeprefix("{scheme}://', f'f"{scheme}://'):
                assert file.name == "urls.py" or reading not in text, f"{file}: use gdi.contracts.urls"
