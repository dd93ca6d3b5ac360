"""What a task's plan of sections can make the gateway do is bounded, and nginx serves no section by itself."""

from __future__ import annotations

import asyncio
from itertools import accumulate
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from gdi.contracts.orders import OrderClaims
from gdi.contracts.sections import Section
from gdi.contracts.urls import SdaUrl
from gdi.funnel.crypt4gh import SEGMENT
from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.judge import Judge
from node_gateway.data import door
from node_gateway.sections import MOST_RUNS, Selection

FILE = SdaUrl.of("DS-A", "cohort.vcf.gz.c4gh")


@pytest.mark.parametrize("count", [MOST_RUNS, MOST_RUNS + 1, 5 * MOST_RUNS])
def test_a_section_of_many_places_takes_so_many_requests_at_most(count: int) -> None:
    ranges = [(start, start + 10) for start in accumulate(SEGMENT * (3 + n % 7) for n in range(count))]
    chosen = Selection.of(ranges)
    assert len(chosen.runs) <= MOST_RUNS
    assert count > MOST_RUNS or len(chosen.runs) == count, "no more is fetched than has to be"
    found, at = [], 0
    for left_out, kept in zip(chosen.edits[::2], chosen.edits[1::2], strict=True):
        at += left_out
        found.append((_of_file(chosen.runs, at), kept))
        at += kept
    assert found == [(start, end - start) for start, end in ranges]


def _of_file(runs: list[tuple[int, int]], at: int) -> int:
    """Where in the decrypted file the byte `at` of the segments that were fetched lies."""
    for first, end in runs:
        if at < (end - first) * SEGMENT:
            return first * SEGMENT + at
        at -= (end - first) * SEGMENT
    raise AssertionError(at)


def test_the_door_leaves_a_section_to_the_gateway() -> None:
    """nginx would fetch the whole file in its stead, and the audit have the section."""
    opened: list[str] = []

    async def open_(file: SdaUrl, **_: Any) -> Any:
        opened.append(str(file))
        raise AssertionError

    app = FastAPI()
    gateway = SimpleNamespace(data=SimpleNamespace(open=open_))
    app.include_router(door.router(cast(Any, gateway), "secret"))

    async def status(file: SdaUrl) -> int:
        headers = {door.SECRET_HEADER: "secret", "authorization": "Bearer x"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door") as client:
            return (await client.get(f"/door/s3-encrypted/{file.url_path}", headers=headers)).status_code

    assert asyncio.run(status(Section(FILE, "plan", 0).url)) == 403 and not opened
    with pytest.raises(AssertionError):
        asyncio.run(status(FILE))
    assert opened == [str(FILE)]


FEMALE = {"cohort": {"split": "sex", "level": "female"}}


@pytest.mark.parametrize(
    ("states", "wanted", "may"),
    [
        (["succeeded"], FEMALE, True),
        (["failed"], FEMALE, False),
        (["succeeded", "failed"], FEMALE, False),
        (["failed", "succeeded"], FEMALE, True),
        (["succeeded"], {}, False),
        (["succeeded"], {"cohort": {"split": "sex", "level": "male"}}, False),
    ],
    ids=["done", "failed", "failed last", "done last", "of everybody", "of others"],
)
def test_only_what_the_last_analysis_finished_is_released_of_whom_it_counted(
    states: list[str], wanted: dict[str, Any], may: bool
) -> None:
    """Its attempt may have left half of its files among those of the one before."""

    async def of_run(run: str) -> list[Any]:
        mine = {"kind": "analyse", "user": "u", "digest": "d", "datasets": ["DS-A"], "parameters": FEMALE}
        return [SimpleNamespace(**mine, state=state, attempt=n) for n, state in enumerate(states, 1)]

    judge = cast(Any, SimpleNamespace(orders=SimpleNamespace(of_run=of_run)))
    claims = cast(OrderClaims, SimpleNamespace(run="r", sub="u", digest="d", datasets=["DS-A"], parameters=wanted))
    if may:
        asyncio.run(Judge.analysed(judge, claims))
        return
    with pytest.raises(RefusedOrder):
        asyncio.run(Judge.analysed(judge, claims))
