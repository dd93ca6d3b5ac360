"""Every fake of the tests is bound to the contract of the server that it imitates (tests/support/wires.py), or stands
here with the reason why it is none.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import JSONResponse

from tests.support import wires
from tests.support.wire import BREACHES, Wire, answers_of, bind

ROOT = Path(__file__).parents[3]
# The contracts of each file's fakes.
FAKES: dict[str, set[str]] = {
    "tests/bench/airflow/sizing_triggerer.py": {"PROCESS_HOST"},
    "tests/bench/broker/beacons.py": {"BEACON"},
    "tests/bench/federation/gateways.py": {"TES"},
    "tests/bench/gateway/paced_archive.py": {"SDA"},
    "tests/bench/portal_start.py": {"GATEWAY"},
    "tests/integration/gdi_operators/test_progress_poller.py": {"BROKER"},
    "tests/support/agent_process.py": {"GATEWAY", "PROCESS_HOST"},
    "tests/support/archive.py": {"SDA"},
    "tests/support/cluster_stand_in.py": {"KUBERNETES"},
    "tests/support/data_point.py": {"DATA_POINT"},
    "tests/support/drs_server.py": {"DRS"},
    "tests/support/gateway_world.py": {"BROKER", "SDA", "TES"},
    "tests/support/hostile_coordinator.py": {"KEY_SETS"},
    "tests/support/htsget_server.py": {"HTSGET"},
    "tests/support/operators_world.py": {"BROKER", "GATEWAY"},
    "tests/support/portal_world.py": {"AIRFLOW", "BROKER", "GATEWAY"},
    "tests/support/otlp_receiver.py": {"OTLP"},
    "tests/support/snakemake_node.py": {"NODE"},
    "tests/support/snakemake_page.py": {"OAUTH"},
    "tests/support/tes_kit.py": {"NODE_INSIDE", "OAUTH", "TES"},
    "tests/support/ui_world.py": {"BROKER"},
    "tests/support/image_registry.py": {"REGISTRY"},
    "tests/unit/contracts/test_order_wire.py": {"BROKER"},
    "tests/unit/gdi_operators/test_operators_gateway.py": {"GATEWAY"},
    "tests/unit/kit/test_remote_keys.py": {"KEY_SETS"},
    "tests/unit/node_gateway/test_archive_v2.py": {"SDA_V2"},
    "tests/unit/node_gateway/test_drs_client.py": {"DRS"},
    "tests/unit/packaging/test_fakes.py": {"BROKER", "TES"},
    "tests/unit/snakemake_tes_auth/test_shutdown.py": {"BROKER"},
    "tests/unit/snakemake_tes_auth/test_snakemake_metadata.py": {"GATEWAY"},
    "tests/unit/snakemake_tes_auth/test_snakemake_parts.py": {"BROKER"},
    "tests/unit/snakemake_tes_auth/test_snakemake_sources.py": {"GATEWAY"},
    "tests/unit/snakemake_tes_auth/test_snakemake_tes.py": {"TES"},
    "tests/unit/snakemake_tes_auth/test_snakemake_tokens.py": {"OAUTH_AND_TES"},
    "tests/unit/token_broker/test_beacons.py": {"BEACON"},
    "tests/unit/token_broker/test_broker_callers.py": {"KEY_SETS"},
    "tests/unit/node_gateway/test_proven_tokens.py": {"KEY_SETS"},
    "tests/unit/token_broker/test_visa_links.py": {"KEY_SETS"},
}
WRONG, PROXY, OURS = "wrong on purpose", "passes on what a real server answers", "the product's own part under test"
# What answers and is no fake of a server: how many in each file, and what it is.
NO_FAKES: dict[str, tuple[int, str]] = {
    "gdi/local_federation/tap.py": (1, PROXY),
    "tests/bench/snakemake/instant.py": (1, "a benchmark's, whose answers `test_the_instant_node` holds against NODE"),
    "tests/integration/funnel/test_funnel_parts.py": (1, PROXY),
    "tests/support/border.py": (2, PROXY),
    "tests/support/faults.py": (1, PROXY),
    "tests/support/scripted_provider.py": (1, WRONG),
    "tests/support/suites/tes_own_run.py": (1, PROXY),
    "tests/support/vault_proxy.py": (1, PROXY),
    "tests/support/wire.py": (2, "what binds the others"),
    "tests/system/test_ui_answers.py": (1, "the page's own data, made by the models of the contract that it reads"),
    "tests/unit/client/test_login_answers.py": (1, WRONG),
    "tests/unit/funnel/test_task_pods.py": (1, WRONG),
    "tests/unit/gdi_operators/test_operators_gateway.py": (1, WRONG),
    "tests/unit/gdi_operators/test_sqlite_write_lock.py": (1, OURS),
    "tests/unit/kit/test_http.py": (6, OURS),
    "tests/unit/kit/test_measured.py": (1, OURS),
    "tests/unit/kit/test_socket_proxy.py": (1, OURS),
    "tests/unit/node_gateway/test_section_bounds.py": (1, "the gateway's own door over a gateway that opens nothing"),
    "tests/unit/node_gateway/test_drs_client.py": (1, WRONG),
    "tests/unit/portal/test_airflow_answers.py": (1, WRONG),
    "tests/unit/snakemake_tes_auth/test_snakemake_parts.py": (1, WRONG),
    "tests/unit/snakemake_tes_auth/test_tes_of_all_kinds.py": (1, WRONG),
    "tests/unit/token_broker/test_broker_notices.py": (1, "a user's own program, which verifies as its library does"),
    "tests/unit/token_broker/test_broker_store.py": (1, OURS),
    "tests/unit/token_broker/test_visa_table.py": (2, WRONG),
}
# The local federation's stand-ins, and the test that holds their answers against their contract.
STAND_INS = {
    "gdi/local_federation/aai/app.py": ("tests/integration/oauth/test_oauth_stand_in.py", "OAUTH"),
    "gdi/local_federation/beacon/app.py": ("tests/unit/token_broker/test_beacons.py", "BEACON"),
    "gdi/local_federation/sda/app.py": ("tests/integration/local_federation/test_sda_download.py", "SDA"),
    "gdi/local_federation/tes/app.py": ("tests/support/tes_kit.py", "TES"),
}
SERVERS = {"FastAPI", "Starlette", "Application", "start_server", "start_unix_server", "MockTransport"}


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def servers(text: str) -> tuple[int, set[str]]:
    """How many servers a file has that no contract binds, and the contracts of the others."""
    tree, bound, contracts = ast.parse(text), set[int](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (called := name_of(node.func)) in ("bind", "answers_of", "held"):
            contracts |= {name for a in node.args if (name := name_of(a)).isupper()}
            bound |= {id(child) for a in node.args for child in ast.walk(a)} if called == "bind" else set()
        if isinstance(node, ast.Assign) and name_of(node.targets[0]) == "wire":
            contracts.add(name_of(node.value))
    found = 0
    for node in ast.walk(tree):
        made = isinstance(node, ast.Call) and name_of(node.func) in SERVERS and id(node) not in bound
        derived = isinstance(node, ast.ClassDef) and "BaseHTTPRequestHandler" in {name_of(b) for b in node.bases}
        found += made or derived
    return found, contracts


def files() -> list[Path]:
    return sorted(p for part in ("tests", "gdi/local_federation") for p in (ROOT / part).rglob("*.py"))


def test_every_fake_is_bound_or_says_why_it_is_none() -> None:
    seen = {str(path.relative_to(ROOT)): servers(path.read_text()) for path in files()}
    bound = {path: contracts for path, (_, contracts) in seen.items() if contracts}
    checks = {path for path, _ in STAND_INS.values()}
    assert {path: names for path, names in bound.items() if path not in checks or path in FAKES} == FAKES
    loose = {path: count for path, (count, _) in seen.items() if count and path not in STAND_INS}
    assert loose == {path: count for path, (count, _) in NO_FAKES.items()}
    for path, (test, contract) in STAND_INS.items():
        assert seen[path][0] and contract in seen[test][1], path


@pytest.mark.parametrize(
    "text",
    ["app = FastAPI()", "x = httpx.MockTransport(f)", "class H(BaseHTTPRequestHandler): pass", "web.Application()"],
)
def test_an_unbound_fake_is_found(text: str) -> None:
    assert servers(text) == (1, set())
    assert servers("app = bind(FastAPI(), BROKER)") == (0, {"BROKER"})


def test_each_contract_has_a_fake() -> None:
    known = {name for name, value in vars(wires).items() if isinstance(value, Wire)}
    used = set().union(*FAKES.values(), {contract for _, contract in STAND_INS.values()})
    assert known <= used and used - known == {"OAUTH_AND_TES"}


async def test_an_answer_that_no_server_would_give_is_a_breach() -> None:
    app = bind(FastAPI(), wires.BROKER)

    @app.get("/v1/runs/{run}")
    async def run(run: str) -> Any:
        if run == "problem":
            return JSONResponse({"type": "urn:gdi:problem:no-such"}, 404, media_type="application/problem+json")
        return {"id": "r-1", "private": True}

    @app.get("/v1/none")
    async def none() -> dict[str, str]:
        return {}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://broker") as http:
        for path in ("/v1/runs/x", "/v1/runs/problem", "/v1/none"):
            assert (await http.get(path)).status_code == 500
    assert len(BREACHES) == 3 and re.search("no registered problem", BREACHES[1]) and "no such call" in BREACHES[2]
    BREACHES.clear()
    tasks = answers_of(wires.TES, lambda _: httpx.Response(200, json={"tasks": [{"id": "t", "state": "DONE"}]}))
    async with httpx.AsyncClient(transport=tasks, base_url="http://tes") as http:
        with pytest.raises(AssertionError, match="DONE"):
            await http.get("/ga4gh/tes/v1/tasks")
    BREACHES.clear()


def test_the_instant_node() -> None:
    """The benchmarks' node imports nothing of ours."""
    from tests.bench.snakemake.instant import Node

    node, path = Node(False, 0.0), "/ga4gh/tes/v1/tasks"
    task = {"name": "x", "tags": {"a": "b"}, "inputs": [], "executors": [{"image": "i", "command": ["c"]}]}
    task["outputs"] = [{"url": "workspace://r/a", "path": "/x/a"}]
    for method, where, query, body in (
        ("POST", "/v1/runs/r-1/tokens", {}, b""),
        ("POST", "/v1/runs/r-1/events", {}, b""),
        ("POST", path, {}, json.dumps(task).encode()),
        ("GET", path, {"page_size": ["10"]}, b""),
        ("GET", path, {"page_size": ["10"], "view": ["BASIC"]}, b""),
        ("GET", f"{path}/t0", {}, b""),
        ("POST", f"{path}/t0:cancel", {}, b""),
        ("GET", "/workspace/r-1", {}, b""),
    ):
        status, answer, _ = node.answer(method, where, query, body)
        wires.NODE.check(method, where, status, "application/json", answer)
