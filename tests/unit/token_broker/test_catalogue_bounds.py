"""What a linked catalogue may cost the broker: memory beside the process that parses, links, datasets, words."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gdi.pods.config import amount
from tests.support.data_point import DataPoint, data_point
from token_broker.catalogues import documents, harvest
from token_broker.catalogues.harvest import Harvest, Harvester, HarvestError
from token_broker.catalogues.links import origin

EMOJI = "\U0001f600"
NEXT = "<http://www.w3.org/ns/hydra/core#next>"
CHART = Path(__file__).parents[3] / "charts" / "gdi" / "values.yaml"


@pytest.fixture
def point() -> Iterator[DataPoint]:
    with data_point() as made:
        yield made


def reading(url: str, **options: Any) -> Harvest:
    async def read() -> Harvest:
        harvester = Harvester(**options)
        try:
            return await harvester.read(url, ["DS-a*"])
        finally:
            await harvester.aclose()

    return asyncio.run(read())


def program(folder: Path, script: str) -> str:
    """In place of Python: what the broker starts to have documents parsed."""
    made = folder / "python"
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o700)
    return str(made)


def pages(point: DataPoint, *bodies: str) -> str:
    """A first document that leads to one for each body."""
    links = ", ".join(point.put(f"/page{n}", body).join("<>") for n, body in enumerate(bodies))
    return point.put("/first", f"<> {NEXT} {links} .")


def a_dataset(name: str) -> str:
    return f'<urn:{name}> a dcat:Dataset ; dct:identifier "{name}" ; dct:title "{name}" .\n'


def test_the_brokers_pod_has_room_for_the_process_that_parses() -> None:
    limit = yaml.safe_load(CHART.read_text())["broker"]["resources"]["limits"]["memory"]
    assert amount(limit) >= harvest.MEMORY + 400 * 1024 * 1024


def test_documents_are_counted_in_bytes_and_parsed_in_parts(
    point: DataPoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An emoji is one letter, four bytes, and would be twelve as JSON writes it by itself."""
    monkeypatch.setattr(harvest, "MAX_BATCH", 100_000, raising=False)
    url = pages(point, *[f"# {EMOJI * 10_000}\n{a_dataset(f'DS-a{n}')}" for n in range(5)])
    copying = program(tmp_path, f'cat > {tmp_path}/$$.request; exec {sys.executable} "$@" < {tmp_path}/$$.request')
    found = reading(url, python=copying)
    requests = [path.read_bytes() for path in tmp_path.glob("*.request")]
    assert sorted(len(json.loads(request)["documents"]) for request in requests) == [1, 1, 2, 2]
    assert max(map(len, requests)) < 100_000
    assert sorted(record["id"] for record in found.records) == [f"DS-a{n}" for n in range(5)] and not found.problems

    monkeypatch.setattr(harvest, "MAX_BYTES", 100_000)
    assert "more than 100000 bytes together" in " ".join(reading(url).problems), "60,000 letters"


def test_a_process_that_says_too_much_is_ended(point: DataPoint, tmp_path: Path) -> None:
    flood = program(tmp_path, "cat > /dev/null; head -c 40000000 /dev/zero")
    with pytest.raises(HarvestError, match="more than 16777216 bytes"):
        reading(point.put("/all", a_dataset("DS-a1")), python=flood)


def test_the_walk_ends_with_the_last_dataset_that_is_kept(point: DataPoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "MOST_KEPT", 3, raising=False)
    later = point.put("/later", a_dataset("DS-a9"))
    same = a_dataset("DS-a0")
    found = reading(pages(point, same, same + a_dataset("DS-a1"), a_dataset("DS-a2") + f"<> {NEXT} <{later}> ."))
    assert [record["id"] for record in found.records] == ["DS-a0", "DS-a1", "DS-a2"], "each once"
    assert found.problems == ["more than 3 datasets: the rest was not read"] and not point.calls["/later"]
    found = reading(pages(point, "".join(a_dataset(f"DS-a{n}") for n in range(5))))
    assert (len(found.records), found.problems) == (3, ["more than 3 datasets: the rest was not read"])
    found = reading(pages(point, "".join(a_dataset(f"DS-a{n}") for n in range(3))))
    assert (len(found.records), found.problems) == (3, []), "exactly as many are all of them"


def test_no_more_links_than_can_be_followed_reach_the_broker(point: DataPoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty thousand at its server and as many elsewhere; of a page each once, whatever the fragment."""
    server = point.url
    own = [f"{server}/{n:05}#{part}" for n in range(5000) for part in "ab"]
    body = f"<> {NEXT} {', '.join(f'<{one}>' for one in (*own, *(f'https://a.example/{n}' for n in range(10_000))))} ."
    answer = documents.read(body, "turtle", f"{server}/many", documents.Claims([]))
    assert answer["catalogs"] == [f"{server}/{n:05}" for n in range(documents.MOST_LINKS)]
    assert documents.MOST_LINKS == harvest.MAX_DOCUMENTS + 1

    looked_at: list[str] = []

    def noted(url: str) -> tuple[str, str | None, int | None]:
        looked_at.append(url)
        return origin(url)

    monkeypatch.setattr(harvest, "origin", noted)
    monkeypatch.setattr(harvest, "MAX_DOCUMENTS", 10)
    found = reading(point.put("/many", body))
    assert "more than 10 documents" in found.problems[0] and point.calls.total() == 10
    assert len(looked_at) <= 12, "the first address, and as many as can be followed"
