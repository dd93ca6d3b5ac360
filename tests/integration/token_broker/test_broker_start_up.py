"""The broker does not start on a Vault mount that would lose tokens, says plainly what is wrong, and lives through
Vault's absence.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gdi.kit.secret_files import write_private
from gdi.local_federation.openbao import POLICY, OpenBao
from tests.support.broker_kit import World
from token_broker.broker import signing_key
from token_broker.tokens.vault import SIGNING_KEY, Vault
from token_broker.tokens.vault_login import AppRole

pytest_plugins = ["tests.support.broker_fixtures"]


def starting(world: World, **changes: str) -> subprocess.CompletedProcess[str]:
    env = {**world.environment(), **{f"TOKEN_BROKER_{k}": v for k, v in changes.items()}}
    return subprocess.run(
        [sys.executable, "-m", "token_broker.main"], env=env, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("mount", "kind"),
    [("plain", {"type": "kv", "options": {"version": "1"}}), ("loose", {"type": "kv", "options": {"version": "2"}})],
)
def test_a_mount_without_check_and_set_is_refused(
    world: World, openbao: OpenBao, tmp_path: Path, mount: str, kind: dict[str, object]
) -> None:
    with openbao.as_operator() as operator:
        operator.post(f"/v1/sys/mounts/{mount}", json=kind).raise_for_status()
        operator.put(f"/v1/sys/policies/acl/{mount}", json={"policy": POLICY.format(mount=mount)}).raise_for_status()
        operator.post(f"/v1/auth/approle/role/{mount}", json={"token_policies": [mount]}).raise_for_status()
        role = operator.get(f"/v1/auth/approle/role/{mount}/role-id").json()["data"]["role_id"]
        secret = operator.post(f"/v1/auth/approle/role/{mount}/secret-id", json={}).json()["data"]["secret_id"]
    files = {
        "VAULT_ROLE_ID_FILE": str(write_private(tmp_path / "role", role)),
        "VAULT_SECRET_ID_FILE": str(write_private(tmp_path / "secret", secret)),
    }
    ended = starting(world, VAULT_MOUNT=mount, **files)
    assert (
        ended.returncode == 2
        and "Traceback" not in ended.stderr
        and "cas_required" in ended.stderr
        and secret not in ended.stderr
    )


def test_the_brokers_policy_reaches_its_own_paths_only(openbao: OpenBao) -> None:
    with httpx.Client(base_url=openbao.url, trust_env=False) as http:
        login = {"role_id": openbao.role_id_file.read_text(), "secret_id": openbao.secret_id_file.read_text()}
        http.headers["X-Vault-Token"] = http.post("/v1/auth/approle/login", json=login).json()["auth"]["client_token"]
        for path in ("/v1/gdi/data/other/x", "/v1/gdi/config", "/v1/sys/mounts", "/v1/auth/approle/role/token-broker"):
            assert http.get(path).status_code == 403, path
        assert http.post("/v1/gdi/data/broker/x", json={"data": {"a": "b"}}).status_code == 400, (
            "no write without check-and-set"
        )


def test_a_settings_mistake_is_said_in_one_line_without_the_secret(world: World, tmp_path: Path) -> None:
    open_file = tmp_path / "open"
    open_file.write_text("not-so-secret")
    open_file.chmod(0o644)
    ended = starting(world, CLIENT_SECRET_FILE=str(open_file), PORT="0")
    assert (
        ended.returncode == 2
        and "chmod 600" in ended.stderr
        and "not-so-secret" not in ended.stderr
        and "Traceback" not in ended.stderr
    )


async def test_replicas_that_start_at_once_make_one_signing_key(openbao: OpenBao) -> None:
    vaults = [Vault(openbao.url, "gdi", AppRole(openbao.role_id_file, openbao.secret_id_file)) for _ in range(5)]
    before = await vaults[0].read(SIGNING_KEY)
    await vaults[0].destroy(SIGNING_KEY)
    keys = await asyncio.gather(*(signing_key(v) for v in vaults))
    assert len({k.kid for k in keys}) == 1
    with openbao.as_operator() as operator:  # a soft delete leaves versions behind: cas=0 would fail for ever
        operator.delete(f"/v1/gdi/data/{SIGNING_KEY}").raise_for_status()
    assert (await signing_key(vaults[1])).kid != keys[0].kid
    if before.data is not None:
        await vaults[0].write(SIGNING_KEY, before.data, cas=(await vaults[0].read(SIGNING_KEY)).version)


PLACES = {
    "grant": "g-" + "0" * 32,
    "run": "r-" + "0" * 20,
    "pod": "p",
    "node": "node-a",
    "kind": "analyse",
    "digest": "sha256:" + "0" * 64,
    "preflight": "0" * 32,
    "id": "0" * 32,
    "name": "counts",
    "stop": "1",
    "number": "1",
}


def test_operations_can_look_and_strangers_cannot_call(world: World) -> None:
    metrics = world.watch("/metrics")
    assert metrics.status_code == 200 and "token_broker_refreshes_total" in metrics.text
    assert httpx.get(world.url() + "/docs", trust_env=False).status_code == 200
    paths = httpx.get(world.url() + "/openapi.json", trust_env=False).json()["paths"]
    assert {"/v1/grants", "/v1/runs/{run}/node-tokens", "/v1/audit"} <= set(paths)
    for method, operations in ((m, p) for p, ops in paths.items() if p.startswith("/v1/") for m in ops):
        answer = httpx.request(method, world.url() + operations.format(**PLACES), trust_env=False)
        assert answer.status_code in (401, 422), f"{method} {operations} without a token"
        assert answer.status_code == 401, f"{method} {operations}: who calls is checked before what they send"
