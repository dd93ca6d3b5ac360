"""How long it takes to open an epoch of 5,000 people beside ten earlier ones, and to check 1.1 million sites. CPU time
of this process: other work on the machine does not count.
"""

from __future__ import annotations

import asyncio
import json
import resource
import tempfile
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

from gdi.releases.allele_counts.table import FORMAT
from node_gateway.listeners import collect_seldom
from tests.bench.disclosure.figure import Figure, at_most
from tests.support.attacks_author import counts
from tests.support.disclosure_node import DisclosureNode, disclosure_node

SITES = 1_100_000
PEOPLE = 5000


async def _seconds(work: Awaitable[object]) -> float:
    before = time.process_time()
    await work
    return time.process_time() - before


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _epochs(node: DisclosureNode) -> float:
    phenotypes = [{"column": "status", "type": "category", "categories": ["case", "control"]}]
    samples = {"file": "s.tsv.c4gh", "format": "tsv", "person": "person", "country": "country"}
    node.describe("DS1", samples={**samples, "phenotypes": phenotypes}, splits=["country", "status"])
    took = 0.0
    for epoch in range(11):
        rows = [
            {"person": f"HG{one:05d}", "country": "SE" if one % 2 else "FI", "status": "case" if one % 3 else "control"}
            for one in range(epoch * 240, epoch * 240 + PEOPLE)
        ]
        took = await _seconds(node.open_table("DS1", rows))
    return took


def _document() -> bytes:
    text = ",".join(
        json.dumps(counts(("2", place + 1, "A", "C"), PEOPLE - 300 - place % 50, 250 + place % 50, 50))
        for place in range(SITES)
    )
    return f'{{"format":"{FORMAT}","sites":[{text}]}}'.encode()


def figures() -> Iterator[Figure]:
    async def measured() -> list[Figure]:
        collect_seldom()  # as the gateway does at its start
        with tempfile.TemporaryDirectory() as folder:
            async with disclosure_node(Path(folder) / "a", Path(folder) / "empty.db") as node:
                epoch = await _epochs(node)
            async with disclosure_node(Path(folder) / "b", Path(folder) / "empty.db") as node:
                node.policy(releases={"kinds": ["allele-counts"], "max_bytes": 2**30, "max_rows": 2_000_000})
                document = _document()
                before = _memory()
                check = await _seconds(node.ask("DS2", document))
                memory = _memory() - before
        return [
            at_most("epoch-of-5000-beside-10", epoch, "s of CPU", 60),
            at_most("check-of-1.1-million-sites", check, "s of CPU", 30),
            Figure("check-of-1.1-million-sites-memory", memory, "MiB"),
        ]

    yield from asyncio.run(measured())
