"""What a linked catalogue may cost the broker: memory beside the process that parses, links, datasets, words."""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from gdi.contracts.access import DataUseTerm
from gdi.pods.config import amount
from gdi.visas.visas import Passport
from tests.support.data_point import DataPoint, data_point
from token_broker.catalogues import bounds, documents, harvest
from token_broker.catalogues.catalogues import DataCatalogues
from token_broker.catalogues.harvest import Harvest, Harvester, HarvestError
from token_broker.catalogues.links import origin
from token_broker.enrolment import DataCatalogue, Enrolment, Node
from token_broker.runs import access

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
    assert documents.MOST_LINKS == bounds.MAX_DOCUMENTS + 1

    looked_at: list[str] = []

    def noted(url: str) -> tuple[str, str | None, int | None]:
        looked_at.append(url)
        return origin(url)

    monkeypatch.setattr(harvest, "origin", noted)
    monkeypatch.setattr(harvest, "MAX_DOCUMENTS", 10)
    found = reading(point.put("/many", body))
    assert "more than 10 documents" in found.problems[0] and point.calls.total() == 10
    assert len(looked_at) <= 12, "the first address, and as many as can be followed"


class StandIn:
    """A harvester: by URL what is read there, or raised."""

    def __init__(self, **answers: Harvest | BaseException) -> None:
        self.answers, self.calls = answers, list[str]()

    async def read(self, url: str, claims: Sequence[str]) -> Harvest:
        name = url.rpartition("/")[2]
        self.calls.append(name)
        answer = self.answers[name]
        if isinstance(answer, BaseException):
            raise answer
        return copy.deepcopy(answer)

    async def aclose(self) -> None:
        return None


def linked(stand_in: StandIn, **options: Any) -> DataCatalogues:
    """A federation of one node, whose operator linked every catalogue that `stand_in` has."""
    node = cast(Any, Node).model_construct(id="a", datasets=["DS-a*"], titles={})
    enrolment = Enrolment.model_construct(
        nodes=[node], catalogues=[DataCatalogue(url=f"https://c.example/{name}") for name in stand_in.answers]
    )
    return DataCatalogues(cast(Any, SimpleNamespace(current=enrolment)), harvester=cast(Any, stand_in), **options)


def flood() -> Harvest:
    """As many datasets as are kept, with as many words as a description has."""
    words = {"title": 200, "description": 2000, "publisher": 200, "access_rights": 200}
    record = {name: EMOJI * most for name, most in words.items()} | {"themes": [EMOJI * 200] * 20}
    return Harvest([{**record, "id": f"DS-a{n}"} for n in range(bounds.MOST_KEPT)])


@pytest.mark.parametrize("error", [MemoryError(), ValueError("x"), RecursionError()], ids=lambda e: type(e).__name__)
def test_what_one_catalogue_causes_no_other_feels(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    stand_in = StandIn(first=error, second=Harvest([{"id": "DS-a1", "title": "Good"}]))
    catalogues = linked(stand_in)
    for _ in range(3):
        asyncio.run(catalogues.refresh())
    assert stand_in.calls == ["first", "second"], "and it is asked again only when it is due"
    assert [words.title for words in catalogues.all().values()] == ["Good"]
    assert [r.message for r in caplog.records if type(error).__name__ in r.message and "/first" in r.message]


def test_a_catalogues_words_are_bounded_in_bytes_also_beside_older_ones(caplog: pytest.LogCaptureFixture) -> None:
    stand_in = StandIn(one=flood())
    catalogues = linked(stand_in, every=0)
    asyncio.run(catalogues.refresh())
    first = set(catalogues.all())
    assert "datasets are beyond the bounds" in caplog.text
    stand_in.answers["one"] = Harvest(flood().records[-50:], ["a part is away"])
    asyncio.run(catalogues.refresh())
    kept = catalogues.all()
    newest = {f"DS-a{n}" for n in range(bounds.MOST_KEPT - 50, bounds.MOST_KEPT)}
    assert newest < set(kept) and set(kept) & first, "new words go before those of the last reading"
    assert sum(len(words.model_dump_json().encode()) for words in kept.values()) <= 2 * 1024 * 1024


def test_the_list_of_datasets_is_bounded_whatever_catalogues_and_nodes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of a catalogue, and a node's terms: of its listed datasets only, each code once, made once."""
    catalogues = linked(StandIn(one=flood()))
    asyncio.run(catalogues.refresh())
    codes = [f"DUO:{n:07}" for n in range(5)]
    terms = {dataset: codes * 10 for dataset in [*list(catalogues.all())[:10], *(f"OTHER-{n}" for n in range(990))]}
    made: list[str] = []

    def noted(**values: str) -> DataUseTerm:
        made.append(values["code"])
        return DataUseTerm(**values)

    monkeypatch.setattr(access, "DataUseTerm", noted)

    async def answer(value: Any) -> Any:
        return value

    users = access.UserAccess(
        cast(Any, SimpleNamespace(userinfo=lambda _: answer({"sub": "ada"}))),
        cast(Any, SimpleNamespace(passport=lambda *_: answer(Passport()))),
        catalogues._enrolment,
        cast(Any, SimpleNamespace(of_person=lambda *_: answer({}))),
        catalogues,
        lambda: answer({node: {"terms": terms} for node in ("a", "b")}),
    )
    listed = asyncio.run(users.datasets("ada", "token"))
    assert len(listed.model_dump_json().encode()) < 2.2 * 1024 * 1024
    assert [[t.code for t in one.terms] for one in listed.datasets if one.terms] == [codes] * 10
    assert sorted(made) == codes
