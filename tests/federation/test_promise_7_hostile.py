"""Promise 7: a hostile workflow gets nothing, and each attempt is in the audit."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from crypt4gh.keys.c4gh import generate

from gdi.contracts.ids import dataset_name
from gdi.kit.web import segment
from gdi.local_federation.federation import INPUT
from tests.federation.driver import Driver, Started, wait_for


@pytest.fixture(scope="module")
def victim(driver: Driver) -> Started:
    """Another run, finished, whose files the hostile one would like to have."""
    run = driver.start({"regions": 1})
    driver.succeed(run)
    return run


@pytest.fixture(scope="module")
def found(driver: Driver, victim: Started) -> dict[str, Any]:
    """What the hostile workflow wrote down."""
    dataset = driver.layout.dataset("node-a")
    parameters = {"ports": sorted(driver.layout.ports.values()), "other_run": victim.run, "other_dataset": "EGAD-OTHER"}
    run = driver.start(parameters, datasets=[dataset], workflow="hostile")
    assert driver.finish(run) == "failed"
    host = driver.layout.folder("nodes", "node-a", "host")
    files = wait_for("what it found", lambda: list(host.rglob("found.json")), timeout=60)
    return {"run": run, **json.loads(files[0].read_text())}


def test_it_sees_no_environment_process_or_file_but_its_own(driver: Driver, found: dict[str, Any]) -> None:
    allowed = {
        "PATH",
        "HOME",
        "LANG",
        "XDG_CACHE_HOME",
        "PWD",
        "SHLVL",
        "_",
        "TMPDIR",
        "PYTHONUNBUFFERED",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
        "TERM",
        "LC_CTYPE",
        "MPLCONFIGDIR",
        "AWS_REQUEST_CHECKSUM_CALCULATION",  # the S3 storage plugin's own remarks to its library
        "AWS_RESPONSE_CHECKSUM_VALIDATION",
    }
    names = set(found["environ"])
    assert not {n for n in names - allowed if not n.startswith("SNAKEMAKE")}, names
    for secret in driver.federation.secrets.folder.iterdir():
        if secret.is_file():
            assert secret.read_text(errors="replace").strip() not in found["environments"]
    strangers = (
        "-m airflow",
        "airflow api_server",
        "token_broker",
        "node_gateway",
        "gdi.local_federation",
        "bao server",
        "weed",
    )
    assert [p for p in found["processes"] if any(s in p for s in strangers)] == []
    work = str(driver.layout.work)
    assert [f for f in found["files"] if f.startswith(work)] == []
    keys = {"issued-tokens", "operator.json", "airflow.cfg", "policy.yaml", "broker.db", "gateway.db", "aai.sqlite"}
    assert [f for f in found["files"] if f.endswith(".sec") or Path(f).name in keys] == []
    assert [f for f in found["files"] if f.endswith("run.json")] == ["/gdi/run.json"]
    assert found["writes"] == []


def test_it_reaches_its_gateway_only(driver: Driver, found: dict[str, Any]) -> None:
    ports = driver.layout.ports
    allowed = {ports["node-a/gateway_tap"], ports["node-a/gateway"]}
    assert set(found["open ports"]) <= allowed, found["open ports"]


def test_neither_node_nor_broker_gives_it_anything_of_others(found: dict[str, Any]) -> None:
    for name in (
        "token for another run",
        "token for another audience",
        "user token",
        "admit",
        "another run",
        "another run's events",
    ):
        assert found[name][0] in (401, 403, 404, 405), (name, found[name])


def test_the_gateway_refuses_every_foreign_task_and_file(found: dict[str, Any]) -> None:
    refused = {
        k: v
        for k, v in found.items()
        if k.startswith("task") or k.startswith("another run's") or k in ("a file's content", "release by the pod")
    }
    assert len(refused) >= 15
    for name, (status, _) in refused.items():
        if name != "task with too many cores" and not name.startswith("token"):
            assert status in (400, 401, 403, 404, 405, 422), (name, refused[name])
    assert found["data at the public port"][0] in (401, 403, 404)
    assert found["audit at the public port"][0] in (401, 403, 404)


def test_nothing_of_it_ran(driver: Driver, found: dict[str, Any]) -> None:
    assert driver.all_tasks(found["run"].run) == []


def test_each_attempt_is_in_the_audit(driver: Driver, found: dict[str, Any]) -> None:
    audit = json.dumps([e for e in driver.audit("node-a") if not e["allowed"]])
    for trace in ("file://", "s3://", "http://127.0.0.1", "EGAD-OTHER", "evil:latest", "cpu"):
        assert trace in audit, f"no audit entry tells of {trace}"


def test_a_stolen_capability_is_worthless_elsewhere_and_with_another_key(driver: Driver, tmp_path: Any) -> None:
    """The node's operator (or a thief of the TES's database) reads a live capability from the TES's FULL view."""
    dataset = driver.layout.dataset("node-a")
    run = driver.start({"regions": 1, "slow_seconds": 15}, datasets=[dataset])
    (task,) = wait_for("the slow task", lambda: driver.running(run.run, "count"))
    url = next(i["url"] for i in task["inputs"] if i["url"].startswith("sda://"))
    capability = url.partition("#")[2]
    assert capability
    secret, public = tmp_path / "thief.sec", tmp_path / "thief.pub"
    generate(str(secret), str(public), passphrase=b"", comment=None)
    thief = {
        "Authorization": f"Bearer {capability}",
        "Client-Public-Key": base64.b64encode(public.read_bytes()).decode(),
    }
    rightful = driver.layout.work / "nodes" / "node-a" / "tes" / "c4gh.pub"
    right_key = {**thief, "Client-Public-Key": base64.b64encode(rightful.read_bytes()).decode()}
    file = url.partition("#")[0].removeprefix("sda://").partition("/")[2]  # maybe a section: good for that one only
    path = f"/s3-encrypted/{segment(dataset_name(dataset))}/{quote(file)}"

    elsewhere = httpx.get(driver.layout.url("node-a/gateway") + path, headers=right_key, timeout=60, trust_env=False)
    assert elsewhere.status_code in (401, 403, 404)
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(driver.layout.internal_socket("node-a"))),
        base_url="http://gateway",
        timeout=60,
    ) as inside:
        assert inside.get(path, headers=thief).status_code in (401, 403)
        assert inside.get("/s3-encrypted/EGAD-OTHER/" + INPUT, headers=right_key).status_code in (401, 403, 404)
    denied = [e for e in driver.audit("node-a") if not e["allowed"]]
    assert any("key" in json.dumps(e).lower() for e in denied), "the attempt with another Crypt4GH key is in the audit"
    driver.succeed(run)
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(driver.layout.internal_socket("node-a"))),
        base_url="http://gateway",
        timeout=60,
    ) as inside:
        assert inside.get(path, headers=right_key).status_code in (401, 403), "a closed run's capability is dead"
