"""One user's downloads: so many at once, and a slow or lost one is given back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts.run_endings import Standing
from gdi.kit.problem import ProblemError
from tests.support.portal_world import portal_world


async def test_a_user_has_so_many_downloads_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with portal_world(tmp_path, downloads_per_user=2) as world:
        world.airflow.ends_with = Standing(standing="succeeded", sentence="Done.")
        run = await world.started()
        row = await world.door.runs.own(world.door.broker._callers.popitem()[1][1], "token-alice", run)
        files = world.door.files
        slow = [await files.stream(row, "file", "answer.tsv") for _ in range(2)]  # opened, and nothing read yet
        with pytest.raises(ProblemError) as refused:
            await files.stream(row, "crate")
        assert refused.value.problem.status == 429 and refused.value.problem.action
        other = await files.stream({**row, "owner": "bob"}, "crate")  # type: ignore[arg-type]
        with pytest.raises(ProblemError):
            await files.stream({**row, "owner": "carol"}, "file", "there-is-none")  # type: ignore[arg-type]
        assert files._going["carol"] == 0, "what was not there counts no longer"

        async def gone(_: Any) -> None:
            raise OSError("the reader left")

        for answer in (*slow, other):
            with pytest.raises(OSError, match="left"):
                await asyncio.wait_for(answer({"type": "http"}, _never, gone), 5)
        assert not files._going
        assert (await world.alice.get(f"/v1/runs/{run}/files/answer.tsv")).status_code == 200


async def _never() -> Any:
    await asyncio.sleep(60)
