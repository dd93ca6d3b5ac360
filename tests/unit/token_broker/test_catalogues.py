"""Datasets are described by the catalogues that the operator links, and by nothing else; a catalogue that lies, floods
or dies changes no more than its own words.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gdi.contracts.access import DatasetDescription
from gdi.kit.jose import SigningKey
from gdi.kit.settings import SettingsError
from tests.support.data_point import JSON_LD, PORTAL, TURTLE, DataPoint, data_point, dataset
from token_broker.catalogues import harvest
from token_broker.catalogues.catalogues import DataCatalogues
from token_broker.catalogues.harvest import Harvester, HarvestError
from token_broker.enrolment import EnrolmentFile, parse

KEY = SigningKey.generate().jwk()
CLAIMS = {"a": ["DS-a*", "https://doi.org/10.1/x"], "b": ["DS-b1"]}


@pytest.fixture
def point() -> Iterator[DataPoint]:
    with data_point() as made:
        yield made


def enrolled(folder: Path, *catalogues: dict[str, Any]) -> EnrolmentFile:
    nodes = [
        {
            "id": node,
            "gateway_url": f"https://{node}.example",
            "public_key": KEY,
            "datasets": claims,
            "sda_audience": f"https://sda.{node}.example",
            "tes_audience": f"https://tes.{node}.example",
        }
        for node, claims in CLAIMS.items()
    ]
    (folder / "draft.yaml").write_text(yaml.safe_dump({"nodes": nodes, "catalogues": list(catalogues)}))
    (folder / "draft.yaml").replace(folder / "enrolment.yaml")
    return EnrolmentFile(folder / "enrolment.yaml")


Look = Callable[[], dict[str, DatasetDescription]]


def looks(
    enrolment: EnrolmentFile, *between: Callable[[], object], **options: Any
) -> list[dict[str, DatasetDescription]]:
    """What is known after each reading, with what happens between two of them."""

    async def looking() -> list[dict[str, DatasetDescription]]:
        catalogues, found = DataCatalogues(enrolment, harvester=Harvester(**options), every=0), []
        for happens in (lambda: None, *between):
            happens()
            await catalogues.refresh()
            found.append(dict(catalogues.all()))
        await catalogues.aclose()
        return found

    return asyncio.run(looking())


def refusal(url: str, **options: Any) -> str:
    async def reading() -> str:
        harvester = Harvester(**options)
        try:
            found = await harvester.read(url, ["DS-a*"])
        except HarvestError as error:
            return str(error)
        finally:
            await harvester.aclose()
        raise AssertionError(f"was read: {found}")

    return asyncio.run(reading())


def test_a_data_points_words_stand_beside_the_datasets_that_nodes_hold(point: DataPoint, tmp_path: Path) -> None:
    url = point.mini_node({"DS-a1": "Cohort of A", "DS-b1": "Cohort of B", "EGAD-NOBODYS": "Somebody else's"})
    (found,) = looks(enrolled(tmp_path, {"url": url}))
    assert {d: words.title for d, words in found.items()} == {"DS-a1": "Cohort of A", "DS-b1": "Cohort of B"}
    words = found["DS-a1"]
    assert (words.description, words.publisher, words.access_rights) == ("Made for a test.", "Institute", "RESTRICTED")
    assert (words.records, words.individuals, words.themes) == (381, 629, ["HEAL"])
    assert (words.link, words.access_url, words.source) == (f"{url}/dataset/DS-a1", PORTAL, url)
    assert max(point.calls.values()) == 1


def test_one_document_of_dcat_ap_serves_in_turtle_and_json_ld(point: DataPoint, tmp_path: Path) -> None:
    """Ids that are URLs, languages, an identifier whose last part is the id."""
    dct, dcat = "http://purl.org/dc/terms/", "http://www.w3.org/ns/dcat#"
    one = {
        "@context": {"dct": dct, "dcat": dcat},
        "@id": "https://doi.org/10.1/x",
        "@type": "dcat:Dataset",
        "dct:title": [{"@value": "Kohorte", "@language": "de"}, {"@value": "Cohort", "@language": "en"}],
        "dcat:landingPage": {"@id": "https://archive.example/x"},
    }
    first = point.put("/catalogue.jsonld", json.dumps(one), "application/octet-stream")
    second = point.put(
        "/all", dataset("https://ega.example/datasets/DS-a2", "https://ega.example/datasets/DS-a2", "Two")
    )
    (found,) = looks(enrolled(tmp_path, {"url": first}, {"url": second}))
    assert {d: (w.title, w.link) for d, w in found.items()} == {
        "https://doi.org/10.1/x": ("Cohort", "https://archive.example/x"),
        "DS-a2": ("Two", "https://ega.example/datasets/DS-a2"),
    }


def test_a_catalogue_describes_only_the_nodes_that_the_operator_named(point: DataPoint, tmp_path: Path) -> None:
    url = point.mini_node({"DS-a1": "By B", "DS-b1": "By B"})
    own = point.put("/own.ttl", dataset("urn:x", "DS-b1", "Later"), "text/plain")
    (found,) = looks(enrolled(tmp_path, {"url": url, "nodes": ["b"]}, {"url": own}))
    assert {d: w.title for d, w in found.items()} == {"DS-b1": "By B"}, "of two words the first catalogue's counts"
    for wrong in ({"url": "http://10.0.0.1/fairdp"}, {"url": "file:///etc/passwd"}, {"url": url, "nodes": ["c"]}):
        with pytest.raises(SettingsError):
            enrolled(tmp_path, wrong)


NESTED = "[ <urn:p> " * 20_000
CONTEXT = {"@id": "urn:x", "@type": "http://www.w3.org/ns/dcat#Dataset"}
LINKED = (
    [["file:///etc/passwd"], {}],
    [[["http://127.0.0.1:9/c"]]],
    [[{"x": {"@id": "urn:x", "@context": [{}, [["file:///etc/passwd"]]]}}]],
    {"@context": [[["file:///etc/passwd"]]]},
)
DATASET, THEME = "http://www.w3.org/ns/dcat#Dataset", "http://www.w3.org/ns/dcat#theme"
WORD = ' dct:identifier "DS-a1" '
BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>'


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        ("<html><title>Sign in</title></html>", "text/html", "not Turtle or JSON-LD"),
        ("<html><title>Sign in</title></html>", TURTLE, "it is no turtle"),
        (BOMB, "application/rdf+xml", "not Turtle or JSON-LD"),
        (BOMB, TURTLE, "it is no turtle"),
        (b"\xff\xfe<", TURTLE, "not UTF-8"),
        (NESTED, TURTLE, "nested too deeply"),
        ("[" * 100_000, JSON_LD, "nested too deeply"),
        (json.dumps({**CONTEXT, "@context": "http://127.0.0.1:9/c"}), JSON_LD, "@context is a link"),
        (json.dumps({**CONTEXT, "@context": ["file:///etc/passwd"]}), JSON_LD, "@context is a link"),
        (json.dumps({"@graph": [{"x": {**CONTEXT, "@context": {"@import": "http://x/"}}}]}), JSON_LD, "is a link"),
        *[(json.dumps({**CONTEXT, "@context": c}), JSON_LD, "@context is a link") for c in LINKED],
        (gzip.compress(b"#" * 50_000_000), TURTLE, "larger than"),
        ("<urn:s> <urn:p> " + ",".join(map(str, range(150_000))) + " .", TURTLE, "more memory"),
    ],
    ids=lambda v: v[:20].replace(" ", "-") if isinstance(v, str) and " " in v[:20] and len(v) < 40 else "",
)
def test_what_is_no_catalogue_is_refused_with_the_reason(
    point: DataPoint, body: str | bytes, kind: str, why: str
) -> None:
    headers = {"Content-Encoding": "gzip"} if isinstance(body, bytes) and body[:2] == b"\x1f\x8b" else {}
    url = point.put("/fairdp", body, kind, 200, **headers)
    assert why in refusal(url, memory=160 * 1024 * 1024)


def test_what_gets_past_the_reader_still_opens_no_file(tmp_path: Path) -> None:
    """With the check of contexts taken out, rdflib asks for the file: the process refuses, and the others serve."""
    secret = tmp_path / "secret.jsonld"
    secret.write_text('{"@context": {"access_key": "https://x.example/SECRET"}}')
    mapping = {"@vocab": "http://v.example/", "theme": {"@id": THEME, "@type": "@vocab"}}
    leak = {
        "@context": [[secret.as_uri()], mapping],
        "@id": "https://h.example/DS-a1",
        "@type": DATASET,
        "theme": ["access_key"],
    }
    types = ["date", "dateTime", "duration", "hexBinary", "gYear", "anyURI", "integer", "language"]
    values = "".join(f', "1"^^<http://www.w3.org/2001/XMLSchema#{kind}>' for kind in types)
    good = (
        f'<https://h.example/DS-a1> a <{DATASET}> ; <http://purl.org/dc/terms/title> "Good"@en ; <urn:p> "x"{values} .'
    )
    documents = [
        ("json-ld", json.dumps(leak)),
        ("json-ld", json.dumps({**leak, "@context": mapping})),
        ("turtle", good),
    ]
    request = {
        "claims": ["DS-*"],
        "documents": [{"url": "https://h.example/c", "format": f, "text": t} for f, t in documents],
    }
    script = """from token_broker.catalogues import documents
documents._without_remote_contexts = lambda value: None
documents.main()"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(harvest.MEMORY)], input=json.dumps(request).encode(), capture_output=True
    )
    assert b"SECRET" not in done.stdout
    first, *others = json.loads(done.stdout)
    assert "PermissionError" in first["error"]
    assert [record["id"] for answer in others for record in answer["datasets"]] == ["DS-a1", "DS-a1"]


def test_a_bad_day_leaves_the_last_good_word_with_its_date(point: DataPoint, tmp_path: Path) -> None:
    url = point.put("/all", dataset("urn:x", "DS-a1", "Good"))
    good = point.documents["/all"]
    before, during, after = looks(
        enrolled(tmp_path, {"url": url}),
        lambda: point.put("/all", "<html>", "text/html"),
        lambda: point.documents.update({"/all": good}),
    )
    assert before == during and before["DS-a1"].title == "Good"
    assert after["DS-a1"].read_at > before["DS-a1"].read_at


def test_a_catalogue_that_is_away_floods_or_leads_elsewhere_is_no_error_page(point: DataPoint, tmp_path: Path) -> None:
    with data_point() as other:
        other.mini_node({"DS-a1": "Stolen"})
        moved = point.put("/moved", b"", "text/plain", 302, Location=f"{other.url}/fairdp")
        point.endless, point.silent = "/endless", "/silent"
        assert "leads elsewhere" in refusal(moved) and not other.calls
    assert "larger than" in refusal(f"{point.url}/endless")
    assert point.taken < 40_000_000, "it is not read to its end"
    assert "was not read within 0.3 s" in refusal(f"{point.url}/silent", within=0.3)
    assert "answered 404" in refusal(f"{point.url}/nothing")
    assert "cannot be reached" in refusal("http://127.0.0.1:9/")
    assert looks(enrolled(tmp_path, {"url": "http://127.0.0.1:9/"})) == [{}], "no titles, and no error"


def test_a_reader_that_hangs_or_dies_is_ended(point: DataPoint, tmp_path: Path) -> None:
    url = point.mini_node({"DS-a1": "Good"})
    for script, why in (("exec sleep 60", "within 1 s"), ("kill -9 $$", "takes too long"), ("exit 1", "than it may")):
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        assert why in refusal(url, within=1, python=str(program))
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert not [c for c in children if "sleep" in Path(f"/proc/{c}/cmdline").read_text()]


def test_links_and_titles_of_a_stranger_are_text(point: DataPoint, tmp_path: Path) -> None:
    more = """
      dcat:landingPage <javascript:alert(1)>, <data:text/html,x>, <https://a@evil.example/>, <https://good.example/x> ;
      dcat:keyword "x" ; healthdcatap:healthTheme "<b>bold</b>" ;"""
    title = "<script>alert(1)</script>\\u0000\\u202egnp.exe\\n" + "x" * 500
    access = dataset("javascript:alert(2)", "DS-a1", title, more).replace(PORTAL, "javascript:alert(3)")
    (found,) = looks(enrolled(tmp_path, {"url": point.put("/all", access)}))
    words = found["DS-a1"]
    assert (words.link, words.access_url) == ("https://good.example/x", None)
    assert words.title.startswith("<script>alert(1)</script>gnp.exe xxx") and len(words.title) == 200
    assert words.themes == ["<b>bold</b>", "HEAL"], "a page escapes it"


def test_circles_end_and_other_servers_are_not_asked(point: DataPoint, tmp_path: Path) -> None:
    with data_point() as other:
        elsewhere = other.mini_node({"DS-a9": "Elsewhere"})
        url = point.mini_node({"DS-a1": "Good"}, "one")
        root = f"{point.url}/fairdp"
        circle = f"; dcat:catalog <{root}/catalog/two>, <{root}>, <{elsewhere}>, <file:///etc/passwd>"
        point.put("/fairdp/catalog/one", point.catalog("one", [f"{root}/dataset/DS-a1", f"{other.url}/x"], circle))
        point.put("/fairdp/catalog/two", point.catalog("two", [f"{root}/gone"], f"; dcat:catalog <{root}/catalog/one>"))
        before, after = looks(
            enrolled(tmp_path, {"url": url}), lambda: point.put("/fairdp/dataset/DS-a1", b"", "text/plain", 500)
        )
        assert {d: w.title for d, w in before.items()} == {"DS-a1": "Good"}
        assert after == before, "a part that is away leaves its last word"
        assert not other.calls and set(point.calls.values()) == {2}, "each document once a reading"


def test_ten_thousand_datasets_are_bounded(
    point: DataPoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In one document, and as links: those that are ours come first."""
    many = "".join(f'<urn:{n}> a dcat:Dataset ; dct:identifier "DS-a{n}" ; dct:title "{n}" .\n' for n in range(10_000))
    (found,) = looks(enrolled(tmp_path, {"url": point.put("/many", many)}))
    assert len(found) == 2000 and "more than 2000 datasets: the rest was not read" in caplog.text
    monkeypatch.setattr(harvest, "MAX_DOCUMENTS", 10)
    others = {f"AA{n:05}": "Not ours" for n in range(10_000)}
    url = point.mini_node({"DS-a1": "Ours", "DS-b1": "Ours"})
    members = [f"{point.url}/fairdp/dataset/{name}" for name in (*others, "DS-a1", "DS-b1")]
    point.put("/fairdp/catalog/genome-of-europe", point.catalog("genome-of-europe", members))
    point.calls.clear()
    (found,) = looks(enrolled(tmp_path, {"url": url}))
    assert sorted(found) == ["DS-a1", "DS-b1"] and point.calls.total() == 10


def test_a_changed_enrolment_counts_at_once(point: DataPoint, tmp_path: Path) -> None:
    url = point.mini_node({"DS-a1": "Good"})
    enrolment = enrolled(tmp_path, {"url": url})
    before, after = looks(enrolment, lambda: enrolled(tmp_path))
    assert before and not after
    assert parse(tmp_path / "enrolment.yaml").catalogues == []
