"""What a SIGTERM means for a pod: a cancelled run's tasks end, an evicted pod's go on; in doubt they go on."""

from __future__ import annotations

import asyncio
import json
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

RUN = {
    "run": "r-0123456789abcdef0123",
    "attempt": 1,
    "node": "node-a",
    "pod": "pod-1",
    "broker_url": "http://broker.test",
    "gateway_url": "http://gateway.test",
    "audience": "http://gateway.test",
    "workflow": "w",
    "digest": "sha256:" + "0" * 64,
}


def problem(status: int, slug: str) -> httpx.Response:
    body = {"type": f"urn:gdi:problem:{slug}", "title": slug, "status": status, "detail": "x", "action": ""}
    return httpx.Response(status, content=json.dumps(body))


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
        RunFile(**RUN),
        AsyncBrokerClient("http://broker.test", lambda: "id", transport=httpx.MockTransport(broker)),
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
        (lambda _: problem(409, "run-closed"), "", "cancel"),
        (lambda _: problem(409, "attempt-over"), "", "cancel"),
        (lambda _: problem(403, "workload-fenced"), "", "hand-over"),
        (lambda _: problem(503, "vault-away"), "", "hand-over"),
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
