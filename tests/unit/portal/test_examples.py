"""The examples of docs/examples, run as they are written, against the portal on a port of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from gdi.contracts.run_endings import Standing
from tests.support.portal_world import DATASETS, PROJECT, WORKFLOW, PortalWorld, portal_world

EXAMPLES = PROJECT / "docs" / "examples"
OURS = {"start.sh": ("bash",), "start.py": (sys.executable, "-"), "start.ts": ("node", "--input-type=module")}
COMMANDS = {**OURS, "airflow.py": (sys.executable, "-")}


@asynccontextmanager
async def on_a_port(app: FastAPI) -> AsyncIterator[str]:
    """Its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[PortalWorld, str]]:
    async with portal_world(tmp_path) as world:
        world.airflow.ends_with = Standing(standing="succeeded", sentence="The answer is there.")
        async with on_a_port(world.app) as url:
            yield world, url


async def example(name: str, url: str, token: str = "token-alice", **more: str) -> tuple[int, str, str]:
    environment = more | {
        "PATH": os.environ["PATH"],
        "GDI_PORTAL": url,
        "GDI_TOKEN": token,
        "GDI_WORKFLOW": WORKFLOW,
        "GDI_DATASETS": json.dumps(list(DATASETS.values())),
    }
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *COMMANDS[name], env=environment, stdin=pipe, stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(process.communicate((EXAMPLES / name).read_bytes()), 120)
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("name", OURS)
async def test_an_example_goes_from_a_token_to_the_answer(served: tuple[PortalWorld, str], name: str) -> None:
    world, url = served
    code, out, err = await example(name, url)
    assert code == 0 and world.airflow.files["answer.tsv"].decode() in out, err
    assert len(world.airflow.runs) == 1


async def test_airflows_own_client_goes_from_a_token_to_the_answer(served: tuple[PortalWorld, str]) -> None:
    """airflow.py, without this server: apache-airflow-client, the broker, and what Airflow's plugin serves."""
    world, url = served
    async with on_a_port(world.broker.app) as broker, on_a_port(world.airflow.app) as airflow:
        where = {"GDI_BROKER": broker, "GDI_AIRFLOW": airflow, "GDI_AIRFLOW_TOKEN": "airflow-token"}
        code, out, err = await example("airflow.py", url, **where)
    assert code == 0 and world.airflow.files["answer.tsv"].decode() in out, err
    (conf,) = (run["conf"] for run in world.airflow.runs.values())
    assert conf["ticket"] == "gdit_1" and world.broker.tickets[0][1].dag_run_id in {
        name for _, name in world.airflow.runs
    }


async def test_an_example_says_what_the_server_said(served: tuple[PortalWorld, str]) -> None:
    code, out, err = await example("start.sh", served[1], "stolen")
    assert code != 0 and "not active" in out + err


def test_the_readme_names_each_example() -> None:
    text = "".join((PROJECT / "docs" / name).read_text() for name in ("portal-api.md", "client.md"))
    assert all(path.name in text for path in EXAMPLES.iterdir())
