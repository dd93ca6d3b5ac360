"""A node's two processes import no more than an idle node needs; what is left out comes when it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("rich", "pygments", "sqlalchemy.orm", "alembic", "boto3", "authlib", "polars", "numpy", "pyarrow", "snakemake")
GATEWAYS = ("fastapi", "uvicorn", "jinja2", "botocore", "prometheus_client", "typer")


def imported(code: str) -> set[str]:
    """The modules of a new interpreter that ran this."""
    begin, end = "from node_gateway import lean_imports as lean; lean.apply()", "import json, sys"
    text = f"{begin}\n{code}\n{end}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("node_gateway.listeners", HEAVY),
        ("node_gateway.agent.command", (*HEAVY, *GATEWAYS)),
        ("node_gateway.opened_database", (*HEAVY, *GATEWAYS, "node_gateway.context")),
    ],
    ids=["gateway", "agent", "migration"],
)
def test_what_an_idle_node_does_not_need_is_not_imported(module: str, without: tuple[str, ...]) -> None:
    found = imported(f"import node_gateway.main, {module}")
    assert not found & set(without)
    assert "sqlalchemy.ext.asyncio.engine" in found


def test_what_was_left_out_comes_when_it_is_asked_for() -> None:
    code = """
import asyncio, sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext import asyncio as package
assert not hasattr(package, "async_nothing") and not hasattr(package, "nothing")
import httpx; assert httpx.main
async def once():
    engine = create_async_engine("sqlite+aiosqlite://")
    async with AsyncSession(engine) as session:
        assert (await session.execute(sa.select(1))).scalar() == 1
    await engine.dispose()
asyncio.run(once())
"""
    assert "sqlalchemy.orm" in imported(code)


def test_s3_clients_of_a_process_share_what_is_known_of_s3_and_no_key() -> None:
    code = """
from gdi.kit.s3 import s3_client
one, other = (s3_client("http://127.0.0.1:1", "x", (k, k), connect=1, read=1) for k in ("first", "second"))
assert one.meta.service_model._service_description is other.meta.service_model._service_description
assert one._request_signer._credentials.access_key == "first"
assert other._request_signer._credentials.access_key == "second"
assert "<p>" not in repr(one.meta.service_model._service_description)
whole = s3_client("http://127.0.0.1:1", "x", ("a", "b"), connect=1, read=1, transfers=True)
assert whole.upload_fileobj and whole.copy
assert s3_client(None, "eu-north-1", ("a", "b"), connect=1, read=1).meta.endpoint_url == "https://s3.eu-north-1.amazonaws.com"
"""
    assert "botocore" in imported(code)
