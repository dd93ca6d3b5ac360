"""The broker's login at Vault: few leases, an old token used to its end, nothing of the environment, namespaces and
mounts as sites have them. A real OpenBao.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gdi.kit.secret_files import write_private
from gdi.kit.settings import SettingsError
from gdi.local_federation.openbao import POLICY, OpenBao
from tests.support.vault_proxy import Fault, VaultProxy, vault_proxy
from token_broker.tokens import vault as vault_module
from token_broker.tokens.vault import Vault, VaultUnavailable
from token_broker.tokens.vault_login import AppRole

pytest_plugins = ["tests.support.broker_fixtures"]
LOGIN = "/auth/.*/login$"


@pytest.fixture
async def proxy(openbao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VaultProxy]:
    monkeypatch.setattr(vault_module, "TRIES", 2)
    async with vault_proxy(openbao.url) as running:
        yield running


def vault_at(proxy: VaultProxy, bao: OpenBao, **more: str) -> Vault:
    return Vault(proxy.url, bao.mount, AppRole(bao.role_id_file, bao.secret_id_file), **more)  # type: ignore[arg-type]


# --- 403 ----------------------------------------------------------------------------------------


async def test_a_path_outside_the_policy_costs_two_logins_not_one_each_time(
    proxy: VaultProxy, openbao: OpenBao
) -> None:
    vault = vault_at(proxy, openbao)
    for _ in range(30):
        with pytest.raises(VaultUnavailable, match="policy"):
            await vault.read("elsewhere/x")
    assert proxy.count("POST", LOGIN) == 2


async def test_thirty_such_paths_at_once_cost_few_logins_and_the_others_go_on(
    proxy: VaultProxy, openbao: OpenBao
) -> None:
    vault = vault_at(proxy, openbao)
    await vault.read("grants/none")
    found = await asyncio.gather(*(vault.read(f"elsewhere/{i}") for i in range(30)), return_exceptions=True)
    assert all(isinstance(f, VaultUnavailable) for f in found)
    assert (await vault.read("grants/none")).data is None
    assert proxy.count("POST", LOGIN) <= 4


async def test_a_token_that_died_is_replaced_at_once_however_many_paths_were_refused_before(
    proxy: VaultProxy, openbao: OpenBao
) -> None:
    vault = vault_at(proxy, openbao)
    with pytest.raises(VaultUnavailable):
        await vault.read("elsewhere/x")
    assert (await vault.read("grants/none")).data is None
    logins = proxy.count("POST", LOGIN)
    for _ in range(2):
        with openbao.as_operator() as operator:
            token = vault._client.token
            operator.post("/v1/auth/token/revoke", json={"token": token}).raise_for_status()
        assert (await vault.read("grants/none")).data is None
    assert proxy.count("POST", LOGIN) == logins + 2


async def test_a_proxys_403_is_no_reason_to_log_in(proxy: VaultProxy, openbao: OpenBao) -> None:
    vault = vault_at(proxy, openbao)
    await vault.read("grants/none")
    proxy.faults = [Fault("GET", "/data/", (403, "<html>firewall</html>"), times=4)]
    for _ in range(2):
        with pytest.raises(VaultUnavailable, match="HTTP 403"):
            await vault.read("grants/none")
    assert proxy.count("POST", LOGIN) == 1


# --- the old token ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        (403, '{"errors": ["permission denied"]}'),
        (400, '{"errors": ["invalid role or secret ID"]}'),
        (502, ""),
        (200, "<html>"),
        (200, '{"auth": null}'),
        (200, '{"auth": {}}'),
        (307, ""),
        (404, "404 page not found"),
    ],
    ids=lambda a: f"{a[0]}-{a[1][:8]}",
)
async def test_while_no_login_works_the_old_token_is_used_to_its_end(
    proxy: VaultProxy, openbao: OpenBao, answer: tuple[int, str]
) -> None:
    vault = vault_at(proxy, openbao)
    await vault.read("grants/none")
    proxy.faults = [Fault("POST", LOGIN, answer, times=100)]
    session = vault._session
    session._renew_at = 0  # two thirds of its life are over
    for _ in range(5):
        assert (await vault.read("grants/none")).data is None
    assert proxy.count("POST", LOGIN) == 2, "and Vault is not asked at every call"
    session._renew_at = session._ends_at = time.monotonic()
    with pytest.raises(VaultUnavailable):
        await vault.read("grants/none")
    proxy.faults = []
    assert (await vault.read("grants/none")).data is None


async def test_a_secret_file_may_be_away_for_a_moment(proxy: VaultProxy, openbao: OpenBao, tmp_path: Path) -> None:
    secret = write_private(tmp_path / "secret", openbao.secret_id_file.read_text())
    vault = Vault(proxy.url, openbao.mount, AppRole(openbao.role_id_file, secret))
    await vault.read("grants/none")
    kept = secret.read_text()
    secret.unlink()
    vault._session._renew_at = 0
    assert (await vault.read("grants/none")).data is None
    vault._session._renew_at = vault._session._ends_at = time.monotonic()
    with pytest.raises(VaultUnavailable, match="No such file"):
        await vault.read("grants/none")
    write_private(secret, kept)
    assert (await vault.read("grants/none")).data is None


async def test_a_login_that_tells_no_lifetime_serves(proxy: VaultProxy, openbao: OpenBao) -> None:
    with httpx.Client(base_url=openbao.url, trust_env=False) as http:
        login = {"role_id": openbao.role_id_file.read_text(), "secret_id": openbao.secret_id_file.read_text()}
        token = http.post("/v1/auth/approle/login", json=login).json()["auth"]["client_token"]
    for auth in (f'{{"client_token": "{token}"}}', f'{{"client_token": "{token}", "lease_duration": null}}'):
        vault = vault_at(proxy, openbao)
        proxy.faults = [Fault("POST", LOGIN, (200, f'{{"auth": {auth}}}'))]
        assert (await vault.read("grants/none")).data is None


# --- how sites have it --------------------------------------------------------------------------


async def test_nothing_of_the_environment_is_trusted(
    openbao: OpenBao, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The login's secret id would go to whoever HTTP_PROXY names."""
    async with vault_proxy(openbao.url) as trap:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, trap.url)
        monkeypatch.setenv("VAULT_TOKEN", "stranger")
        monkeypatch.setenv("VAULT_ADDR", trap.url)
        monkeypatch.setenv("VAULT_NAMESPACE", "stranger")
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        vault = Vault(openbao.url, openbao.mount, AppRole(openbao.role_id_file, openbao.secret_id_file))
        assert vault._client.token in ("", None)
        await vault.check_mount()
        assert trap.log == []


async def test_a_namespace_and_a_mount_of_another_name(openbao: OpenBao, tmp_path: Path) -> None:
    with openbao.as_operator() as operator:
        operator.post("/v1/sys/namespaces/hospital").raise_for_status()
        operator.headers["X-Vault-Namespace"] = "hospital"
        kv = {"type": "kv", "options": {"version": "2"}}
        operator.post("/v1/sys/mounts/genomes", json=kv).raise_for_status()
        for _ in range(200):  # the engine is made ready after its mount
            if operator.post("/v1/genomes/config", json={"cas_required": True}).is_success:
                break
            await asyncio.sleep(0.05)
        operator.post("/v1/sys/auth/machines", json={"type": "approle"}).raise_for_status()
        operator.put("/v1/sys/policies/acl/b", json={"policy": POLICY.format(mount="genomes")}).raise_for_status()
        operator.post("/v1/auth/machines/role/b", json={"token_policies": ["b"]}).raise_for_status()
        role = operator.get("/v1/auth/machines/role/b/role-id").json()["data"]["role_id"]
        secret = operator.post("/v1/auth/machines/role/b/secret-id", json={}).json()["data"]["secret_id"]
    role_file, secret_file = write_private(tmp_path / "role", role), write_private(tmp_path / "secret", secret)
    vault = Vault(openbao.url, "genomes", AppRole(role_file, secret_file, "machines"), namespace="hospital")
    await vault.check_mount()
    assert await vault.write("grants/x", {"a": "b"}, cas=0) == 1
    assert (await vault.read("grants/x")).data == {"a": "b"}
    for wrong in (
        Vault(openbao.url, "genomes", AppRole(role_file, secret_file), namespace="hospital"),
        Vault(openbao.url, "genomes", AppRole(role_file, secret_file, "machines")),
    ):
        with pytest.raises(VaultUnavailable, match="VAULT_AUTH_MOUNT and TOKEN_BROKER_VAULT_NAMESPACE"):
            await wrong.read("grants/x")


async def test_a_mount_that_deletes_by_itself_is_refused(openbao: OpenBao, tmp_path: Path) -> None:
    with openbao.as_operator() as operator:
        mount = {"type": "kv", "options": {"version": "2"}}
        operator.post("/v1/sys/mounts/fading", json=mount).raise_for_status()
        for _ in range(200):
            config = {"cas_required": True, "delete_version_after": "2160h"}
            if operator.post("/v1/fading/config", json=config).is_success:
                break
            await asyncio.sleep(0.05)
        operator.put("/v1/sys/policies/acl/fading", json={"policy": POLICY.format(mount="fading")}).raise_for_status()
        operator.post("/v1/auth/approle/role/fading", json={"token_policies": ["fading"]}).raise_for_status()
        role = operator.get("/v1/auth/approle/role/fading/role-id").json()["data"]["role_id"]
        secret = operator.post("/v1/auth/approle/role/fading/secret-id", json={}).json()["data"]["secret_id"]
    auth = AppRole(write_private(tmp_path / "role", role), write_private(tmp_path / "secret", secret))
    vault = Vault(openbao.url, "fading", auth)
    with pytest.raises(SettingsError, match="delete_version_after"):
        await vault.check_mount()
    with openbao.as_operator() as operator:
        assert operator.request("LIST", "/v1/fading/metadata/broker").status_code == 404, "the probe is gone"
        operator.post("/v1/fading/config", json={"delete_version_after": "0s"}).raise_for_status()
    await vault.check_mount()


def test_the_settings_name_namespace_and_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from token_broker.settings import Settings
    from token_broker.tokens.vault_login import auth_of

    secret = write_private(tmp_path / "secret", "x")
    env = {
        "PUBLIC_URL": "https://b.example",
        "DATABASE_URL": "sqlite+aiosqlite:///x",
        "VAULT_ADDR": "https://v.example",
        "VAULT_ROLE_ID_FILE": str(secret),
        "VAULT_SECRET_ID_FILE": str(secret),
        "OIDC_ISSUER": "https://i.example",
        "CLIENT_ID": "c",
        "CLIENT_SECRET_FILE": str(secret),
        "ENROLMENT_FILE": str(secret),
    }
    for name, value in env.items():
        monkeypatch.setenv(f"TOKEN_BROKER_{name}", value)
    assert (Settings.load().vault_namespace, getattr(auth_of(Settings.load()), "mount", "")) == (None, "approle")
    monkeypatch.setenv("TOKEN_BROKER_VAULT_NAMESPACE", "hospital/genomes")
    monkeypatch.setenv("TOKEN_BROKER_VAULT_AUTH_MOUNT", "machines")
    found = Settings.load()
    assert (found.vault_namespace, getattr(auth_of(found), "mount", "")) == ("hospital/genomes", "machines")
