"""What a SIGTERM means for a pod: a cancelled run's tasks end, an evicted pod's go on; in doubt they go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts.run_file import RunFile
from snakemake_tes_auth.folders import Folders
from snakemake_tes_auth.pod import shutdown
from snakemake_tes_auth.pod.shutdown import Shutdown
from tests.support.clock import virtual_time
from tests.support.problems import problem_answer
from tests.support.snakemake_jobs import run_file
from tests.support.wire import answers_of
from tests.support.wires import BROKER


def away(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def token(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"token": "t", "expires_at": time.time() + 300})


def made(root: Path, broker: Callable[[httpx.Request], httpx.Response], annotations: str | None = "") -> Shutdown:
    if annotations is not None:
        (root / "pod").mkdir()
        (root / "pod" / "annotations").write_text(annotations)
    return Shutdown(
        Folders(root=root),
        RunFile(**run_file()),
        AsyncBrokerClient("http://broker.test", lambda: "id", transport=answers_of(BROKER, broker)),
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "MARK_BOUND", 0.2)
    monkeypatch.setattr(shutdown, "BOUND", 0.6)


@pytest.mark.parametrize(
    ("broker", "annotations", "meaning"),
    [
        (token, "", "hand-over"),
        (token, 'gdi-spec="x"\ngdi-stop="cancel"\n', "cancel"),
        (token, 'gdi-stop="hand-over"', "hand-over"),
        (token, 'other="gdi-stop=\\"cancel\\""', "hand-over"),
        (away, "", "hand-over"),
        (away, 'gdi-stop="cancel"', "cancel"),
        (lambda _: problem_answer(409, "run-closed"), "", "cancel"),
        (lambda _: problem_answer(409, "attempt-over"), "", "cancel"),
        (lambda _: problem_answer(403, "workload-fenced"), "", "hand-over"),
        (lambda _: problem_answer(503, "vault-unavailable"), "", "hand-over"),
        (token, None, "cancel"),
    ],
)
@virtual_time
async def test_a_mark_or_a_closed_run_cancels_and_anything_else_hands_over(
    broker: Callable[[httpx.Request], httpx.Response], annotations: str | None, meaning: str, tmp_path: Path
) -> None:
    assert await made(tmp_path, broker, annotations).meaning() == meaning


@virtual_time
async def test_a_mark_that_comes_late_counts(tmp_path: Path) -> None:
    asked = asyncio.create_task(made(tmp_path, token).meaning())
    await asyncio.sleep(0.05)
    (tmp_path / "pod" / "annotations").write_text('gdi-stop="cancel"\n')
    assert await asked == "cancel"


@virtual_time
async def test_a_broker_that_hangs_delays_the_end_by_the_bound_only(tmp_path: Path) -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    began = time.monotonic()
    assert await made(tmp_path, hang).meaning() == "hand-over" and time.monotonic() - began < 5  # type: ignore[arg-type]
