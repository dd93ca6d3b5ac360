"""`make nightly-beacon FOLDER=… PYTHON=…`: a GDI mini-node (a checkout of GenomicDataInfrastructure/gdi-mini-node)
loads the files of `gdi beacon-files` unchanged, its `/g_variants` answers our numbers for each variant of the demo's
cohort, and its FAIR Data Point's words of our dataset reach `GET /v1/datasets` (token_broker/catalogues).

PYTHON is the interpreter of an environment with the mini-node's dependencies. Ends with 1 where an answer differs.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import yaml

from gdi.contracts.access import DatasetDescription
from gdi.contracts.descriptor import Descriptor
from gdi.releases.allele_counts import beacon_files
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Rules, Scope
from gdi.releases.registry import kind_of
from tests.support.disclosure_node import PEOPLE, document, rows_of
from token_broker.catalogues.harvest import Harvest, Harvester

DATASET, SITES, PATIENCE = "EGAD-PUBLIC-1", 381, 120
DECISION = {"by": "Data access committee", "date": "2026-11-01"}


def answer(people: Sequence[int], folder: Path, name: str) -> Path:
    """The answer of one node's people, as allele-frequency's gather writes it."""
    kind, out = kind_of("allele-counts"), io.BytesIO()
    node, centre, rules = kind.node(), kind.coordinator(), Rules(5, 400_000, "reference", membership="public")
    units = node.read(io.BytesIO(document(rows_of(people, SITES))), rules)
    checked = node.check(units, rules, Past())
    node.write(out, checked.released, {}, Scope(len(people)), rules)
    (folder / "release.json").write_bytes(out.getvalue())
    centre.write_table(centre.merge({"a": centre.read("a", folder / "release.json")}, ["a"]), folder / name)
    return folder / name


@contextmanager
def mini_node(checkout: Path, python: str, home: Path) -> Iterator[str]:
    """The mini-node as its checkout has it, beside `home/data`. Its address."""
    for name in ("mini_node", "config"):
        shutil.copytree(checkout / name, home / name)
    shutil.copy(checkout / "pyproject.toml", home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "uvicorn", "mini_node:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=home)
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
        while True:
            try:
                body = {"meta": {"apiVersion": "2.0"}, "query": {}}
                shown = httpx.post(f"{address}/beacon/aggregated/v2/datasets", json=body, timeout=5).text
                if DATASET in shown:
                    break
            except httpx.TransportError:
                shown = "nothing"
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the mini-node does not list our dataset:\n{shown[:2000]}")
            time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def populations(http: httpx.Client, beacon: str, pos: int, ref: str, alt: str) -> dict[str, Any]:
    """By population what the Beacon says of a variant of chromosome 2."""
    place = {
        "assemblyId": "GRCh37",
        "referenceName": "2",
        "start": str(pos),
        "referenceBases": ref,
        "alternateBases": alt,
    }
    if not len(ref) == len(alt) == 1:
        place["variantType"] = "INDEL"
    body = {"meta": {"apiVersion": "2.0"}, "query": {"filters": [], "requestParameters": place}}
    found = http.post(f"{beacon}/g_variants", json=body).raise_for_status().json()
    sets = found["response"]["resultSets"] if found.get("response") else []
    return {
        one["population"]: one
        for of in sets
        for result in of["results"]
        for frequency in result["frequencyInPopulations"]
        for one in frequency["populations"]
        if of["id"] == DATASET
    }


def catalogue(url: str, described: Path) -> list[str]:
    """What the broker's reader of catalogues makes of the mini-node's FAIR Data Point, beside its metadata.yaml."""

    async def reading() -> Harvest:
        harvester = Harvester()
        found = await harvester.read(url, [DATASET])
        await harvester.aclose()
        return found

    found, written = asyncio.run(reading()), yaml.safe_load(described.read_text())
    records = {record.pop("id"): DatasetDescription(**record, source=url, read_at=0) for record in found.records}
    words = records.get(DATASET)
    if words is None or found.problems or len(records) != 1:
        return [f"the FAIR Data Point has {sorted(records)}; {found.problems}"]
    print(f"the FAIR Data Point says: {words.model_dump_json(exclude_defaults=True)}")
    pairs = {
        "title": (words.title, written["title"]),
        "description": (words.description, " ".join(written["description"].split())),
        "publisher": (words.publisher, written["data_provider_name"]),
        "records": (words.records, written["record_count"]),
        "individuals": (words.individuals, written.get("individual_count")),
        "access rights": (words.access_rights, "RESTRICTED"),
        "link": (words.link, f"{url}/dataset/{DATASET}"),
    }
    return [f"{name}: {mine} instead of {theirs}" for name, (mine, theirs) in pairs.items() if mine != theirs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    wrong, compared, numbers = [], 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        parts = {"GB": PEOPLE, "GB_F": PEOPLE[::2], "GB_M": PEOPLE[1::2]}
        answers = {name: answer(people, home, f"{name}.tsv") for name, people in parts.items()}
        described = {"dataset": DATASET, "assembly": "GRCh37", "membership": "public", "decision": DECISION}
        rows = beacon_files.write(
            answers, Descriptor.model_validate(described), home / "data", "Institute", "genome-of-europe"
        )
        tables = {name: pl.read_csv(file, separator="\t", infer_schema_length=None) for name, file in answers.items()}
        with mini_node(options.checkout, options.python, home) as address, httpx.Client(timeout=30) as http:
            beacon = f"{address}/beacon/aggregated/v2"
            for one in tables["GB"].iter_rows(named=True):
                told = populations(http, beacon, one["POS"] - 1, one["REF"], one["ALT"])
                for name, table in tables.items():
                    place = (
                        (pl.col("POS") == one["POS"]) & (pl.col("ALT") == one["ALT"]) & (pl.col("REF") == one["REF"])
                    )
                    (mine,) = table.filter(place).to_dicts() or [dict.fromkeys(("AC", "AN", "AF"))]
                    if mine["AC"] is None or mine["AN"] is None:
                        if name in told:
                            wrong.append(f"{one['POS']} {name}: told, but it is no exact count")
                        continue
                    numbers += 1
                    theirs = told.get(name, {})
                    if (theirs.get("alleleCount"), theirs.get("alleleNumber")) != (mine["AC"], mine["AN"]):
                        wrong.append(f"{one['POS']} {name}: {theirs} instead of {mine['AC']} of {mine['AN']}")
                    elif abs(theirs["alleleFrequency"] - mine["AC"] / mine["AN"]) > 1e-12:
                        wrong.append(f"{one['POS']} {name}: the frequency differs")
                compared += 1
                if populations(http, beacon, one["POS"] - 1, one["ALT"], one["REF"]):
                    wrong.append(f"{one['POS']}: the other allele is answered")
            wrong += catalogue(f"{address}/fairdp", home / "data" / DATASET / "metadata.yaml")
    print(f"{rows} rows written; {compared} variants asked, {numbers} counts compared, {len(wrong)} wrong")
    print("\n".join(wrong[:20]))
    return 1 if wrong or numbers != rows else 0


if __name__ == "__main__":
    sys.exit(main())
