"""Promise 6: only what the gateway released leaves a node. Every byte at each node's border is recorded and
searched.
"""

from __future__ import annotations

import json

from gdi.local_federation.cohort import CohortSite
from tests.federation.driver import Driver
from tests.support.federation_border import CLASSES, FLOOR, forbidden, leaving, sample_names, small_counts  # noqa: F401


def test_nothing_but_checked_aggregates_crosses_a_nodes_border(
    driver: Driver, pooled: dict[CohortSite, tuple[int, int]]
) -> None:
    called = {node: leaving(driver, node)[0].stat().st_size for node in driver.layout.nodes}
    run = driver.start({"regions": 2})
    driver.succeed(run)
    assert driver.answer(run, pooled).exact >= 100
    names = sample_names()
    for node in driver.layout.nodes:
        crossed = 0
        for file in leaving(driver, node):
            data = file.read_bytes()
            crossed += len(data)
            assert forbidden(data, names) == [], f"{file.name}"
        assert b'"chrom"' in leaving(driver, node)[1].read_bytes(), "the release itself did cross, and was recorded"
        assert leaving(driver, node)[0].stat().st_size == called[node], "nobody outside calls such a node"
        print(f"\n{node}: {crossed} bytes left, in all runs so far")


def test_the_search_finds_what_it_searches_for() -> None:
    names = sample_names()
    exact = {"chrom": "2", "pos": 1, "ref": "A", "alt": "C", "reason": "", "rare": ""}
    rows = [
        {**exact, "ac_min": 3, "ac_max": 3, "an_min": 100, "an_max": 100},
        {**exact, "ac_min": 97, "ac_max": 97, "an_min": 100, "an_max": 100},
        {**exact, "ac_min": 20, "ac_max": 20, "an_min": 100, "an_max": 100, "hom_alt": 9},
    ]
    honest = {**exact, "ac_min": 0, "ac_max": 8, "an_min": 100, "an_max": 100, "reason": "small"}
    assert small_counts(honest) == {}
    for planted in (
        names[7].encode(),
        b"2\t10\t.\tA\tC\t.\tPASS\t.\tGT\t0|1:3\t",
        b"##fileformat=VCFv4.0",
        b"LOG-LINE-OF-A-TASK",
        *(json.dumps(row).encode() for row in rows),
    ):
        assert forbidden(b"HTTP/1.1 200 OK\r\n\r\n" + planted, names), planted
