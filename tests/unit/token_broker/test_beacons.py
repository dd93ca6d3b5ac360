"""Which nodes have carriers: every Beacon asked at once, a missing one named, and the answer is a run's datasets."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gdi.contracts.beacon import BeaconAnswer, VariantQuestion
from gdi.kit.jose import SigningKey
from gdi.local_federation.beacon.app import create_app
from gdi.local_federation.beacon.frequencies import StoredVariant, write
from tests.support.wire import BoundHandler, bind
from tests.support.wires import BEACON
from token_broker.beacons import Beacons
from token_broker.enrolment import EnrolmentFile

QUESTION = VariantQuestion(assembly="GRCh37", chromosome="3", position=45_864_732, ref="T", alt="C")
HIT = StoredVariant("GRCh37", "3", 45_864_731, "T", "C")
KEY = SigningKey.generate().jwk()
WITHIN = 2.0


def frequency(population: str, count: int, number: int) -> dict[str, Any]:
    return {"POPULATION": population, "AF": count / number, "AC": count, "AN": number}


class Script:
    """A Beacon that answers what it is told, after a time."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes, float]] = {}  # by the node's path: status, body, seconds
        self.wrong: set[str] = set()  # nodes whose answers are no Beacon's
        self.asked: list[dict[str, str]] = []
        script = self

        class Handler(BoundHandler):
            wire = BEACON

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                script.asked.append(dict(self.headers))
                node = self.path.split("/")[1]
                status, body, seconds = script.answers[node]
                time.sleep(seconds)
                self.answer(status, body, fault=node in script.wrong)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    made = Script()
    yield made
    made.http.shutdown()
    made.http.server_close()


def enrolled(folder: Path, urls: dict[str, str | None]) -> EnrolmentFile:
    nodes = [
        {
            "id": node,
            "gateway_url": f"https://{node}.example",
            "public_key": KEY,
            "datasets": [f"DS-{node}*"],
            "sda_audience": f"https://sda.{node}.example",
            "tes_audience": f"https://tes.{node}.example",
            **({"beacon_url": url} if url else {}),
        }
        for node, url in urls.items()
    ]
    (folder / "enrolment.yaml").write_text(yaml.safe_dump({"nodes": nodes}))
    return EnrolmentFile(folder / "enrolment.yaml")


def ask(enrolment: EnrolmentFile) -> tuple[dict[str, BeaconAnswer], list[str], float]:
    async def asking() -> tuple[dict[str, BeaconAnswer], list[str], float]:
        beacons, began = Beacons(enrolment, within=WITHIN), time.monotonic()
        answer = await beacons.ask(QUESTION)
        await beacons.aclose()
        return {n.node: n for n in answer.nodes}, answer.datasets, time.monotonic() - began

    return asyncio.run(asking())


def sets(*found: dict[str, Any]) -> bytes:
    return json.dumps({"meta": {}, "response": {"resultSets": list(found)}}).encode()


def test_the_answer_is_the_datasets_that_a_run_may_name_and_every_node_is_told(script: Script, tmp_path: Path) -> None:
    populations = [
        {"population": p, "alleleFrequency": 0.1, "alleleCount": 3, "alleleNumber": 50} for p in ("LU", "SE")
    ]
    hit = {"setType": "dataset", "exists": True, "resultsCount": 1}
    script.answers = {
        "a": (
            200,
            sets(
                {**hit, "id": "DS-a1", "results": [{"frequencyInPopulations": [{"populations": populations}]}]},
                {**hit, "id": "DS-b9"},
                {**hit, "id": "DS-a2", "exists": False},
                {**hit, "id": "DS-a3", "resultsCount": 0},
                {**hit, "id": "https://doi.org/10.1/x"},
            ),
            0,
        ),
        "b": (200, sets(), 0),
        "c": (500, b"", 0),
        "d": (200, b"<html>sign in</html>", 0),
        "e": (200, sets(), 60),
        "g": (200, b'{"response": {"resultSets": [{"id": 7}]}}', 0),
        "h": (200, b" " * 5_000_000, 0),
    }
    script.wrong = {"d", "g", "h"}
    urls: dict[str, str | None] = {name: f"{script.url}/{name}" for name in script.answers}
    nodes, datasets, seconds = ask(enrolled(tmp_path, {**urls, "f": "http://127.0.0.1:9", "i": None}))
    assert datasets == ["DS-a1"], "what the node does not hold is no choice, whatever it says"
    first = nodes["a"].datasets
    assert [(d.id, d.usable) for d in first] == [("DS-a1", True), ("DS-b9", False), ("https://doi.org/10.1/x", False)]
    assert (first[0].allele_count, first[0].allele_number) == (6, 100)
    assert nodes["b"].state == "answered" and not nodes["b"].datasets
    for node, why in (
        ("c", "500"),
        ("d", "not a Beacon"),
        ("e", "within 2 s"),
        ("f", "reached"),
        ("g", "not a Beacon"),
    ):
        assert nodes[node].state == "missing" and why in nodes[node].reason, nodes[node]
    assert nodes["h"].state == "missing" and nodes["i"].state == "no-beacon"
    assert seconds < WITHIN + 5, "the slow one is not waited for"
    assert not any("Authorization" in headers for headers in script.asked), "no token goes to a Beacon"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets in the mini-node's layout."""
    folder = tmp_path_factory.mktemp("beacon")
    other = StoredVariant("GRCh37", "3", 45_864_731, "T", "G")
    far = StoredVariant("GRCh37", "3", 12, "A", "AT", "INDEL")
    write(
        folder,
        "DS-1",
        "One",
        [(HIT, frequency("LU", 1, 100)), (HIT, frequency("SE", 2, 200)), (far, frequency("LU", 9, 10))],
    )
    write(folder, "DS-2", "Two", [(other, frequency("LU", 5, 100))])
    write(folder, "DS-3", "Three", [(HIT, frequency("EE", 4, 80))])
    (folder / "no-dataset").mkdir()
    return folder


async def test_the_local_beacon_answers_as_the_mini_node_does(files: Path) -> None:
    app = bind(create_app(files, "local.beacon", "Local"), BEACON, own=True)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://beacon") as http:
        answer = (await http.post("/g_variants", json=QUESTION.query())).json()
        assert [s["id"] for s in answer["response"]["resultSets"]] == ["DS-1", "DS-3"]
        one = answer["response"]["resultSets"][0]["results"][0]["frequencyInPopulations"][0]
        assert [p["alleleCount"] for p in one["populations"]] == [1, 2] and one["numberOfPopulations"] == 2
        assert answer["responseSummary"] == {"exists": True, "numTotalResults": 2}
        insertion = VariantQuestion(assembly="GRCh37", chromosome="3", position=13, ref="A", alt="AT")
        found = (await http.post("/g_variants", json=insertion.query())).json()
        assert [s["id"] for s in found["response"]["resultSets"]] == ["DS-1"]
        # as the mini-node's own script asks: positions as text, no variant type
        text = {"assemblyId": "GRCh37", "referenceName": "3", "start": "45864731"}
        bases = {"referenceBases": "T", "alternateBases": "C"}
        asked = {"meta": {"apiVersion": "2.0"}, "query": {"requestParameters": {**text, **bases}}}
        assert len((await http.post("/g_variants", json=asked)).json()["response"]["resultSets"]) == 2
        for partly in ({}, text, {**text, **bases, "assemblyId": "GRCh38"}):
            nothing = await http.post("/g_variants", json={"query": {"requestParameters": partly}})
            assert nothing.status_code == 200 and not nothing.json()["responseSummary"]["exists"]
        wrong = await http.post("/g_variants", json={"query": {"requestParameters": {"start": "x"}}})
        assert wrong.status_code == 422
        assert len((await http.get("/datasets")).json()["response"]["collections"]) == 3
        boolean = await http.get("/g_variants", params={**text, **bases, "requestedGranularity": "boolean"})
        assert boolean.json()["responseSummary"] == {"exists": True} and "response" not in boolean.json()
        for page in ("/", "/info", "/service-info", "/configuration", "/entry_types", "/map", "/filtering_terms"):
            assert (await http.get(page)).status_code == 200
