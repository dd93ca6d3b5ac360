"""Vault (or OpenBao) KV v2 with check-and-set: the one place where secrets lie, and the one place where hvac's blocking
calls are made.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import hvac
import requests
from hvac import exceptions as hx

from gdi.kit.secret_files import read_secret_text
from gdi.kit.settings import SettingsError
from token_broker.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")
TIMEOUT = 10  # seconds for one call
TRIES = 5


class CasConflict(Exception):
    """Somebody else wrote since it was read: read again and decide anew."""


class VaultUnavailable(Exception):
    """Vault does not answer, is sealed, or refuses the broker's login; the message says which and carries nothing
    secret.
    """


@dataclass(frozen=True)
class VaultRecord:
    """What lies at a path: `data` is None where nothing does (never written, or deleted); `version` is what `cas` must
    name next.
    """

    data: dict[str, Any] | None
    version: int

    def __repr__(self) -> str:  # the data is secret
        return f"Record(version={self.version})"


@dataclass(frozen=True)
class AppRole:
    """`POST /v1/auth/approle/login` with role id and secret id, each from its file."""

    role_id_file: Path
    secret_id_file: Path
    name: str = "AppRole"
    advice: str = "Check the role and secret id files."

    def prepare(self) -> Callable[[hvac.Client], dict[str, Any]]:
        role, secret = (read_secret_text(f, "Vault AppRole") for f in (self.role_id_file, self.secret_id_file))
        return lambda client: client.auth.approle.login(role_id=role, secret_id=secret)


@dataclass(frozen=True)
class Kubernetes:
    """`POST /v1/auth/<mount>/login` with the pod's projected service account token, which the kubelet rewrites."""

    mount: str
    role: str
    token_file: Path
    name: str = "Kubernetes"
    advice: str = (
        "Check that the role exists at that mount and is bound to the broker's service account, namespace and token"
        " audience."
    )

    def prepare(self) -> Callable[[hvac.Client], dict[str, Any]]:
        token = read_secret_text(self.token_file, "Vault's service account token", of_cluster=True)
        return lambda client: client.auth.kubernetes.login(role=self.role, jwt=token, mount_point=self.mount)


VaultAuth = (
    AppRole | Kubernetes
)  # `prepare` reads the files anew (they rotate) and gives the call; the client keeps the token that it brings


def auth_of(s: Settings) -> VaultAuth:
    """The way to log in that the settings name. SettingsError where a file of it is not set."""
    if s.vault_auth == "kubernetes" and s.vault_token_file is not None:
        return Kubernetes(s.vault_auth_mount, s.vault_role, s.vault_token_file)
    if s.vault_auth == "approle" and s.vault_role_id_file is not None and s.vault_secret_id_file is not None:
        return AppRole(s.vault_role_id_file, s.vault_secret_id_file)
    raise SettingsError(f"TOKEN_BROKER_VAULT_AUTH is {s.vault_auth}, and its files are not set.")


class Vault:
    """KV v2 at `mount`. A dead token (revoked, expired after its maximum of about 32 days) leads to one new login and
    one retry.

    `ca_file`: the authority of Vault's certificate, where it is a private one.
    """

    def __init__(self, addr: str, mount: str, auth: VaultAuth, *, ca_file: Path | None = None) -> None:
        self._client = hvac.Client(
            url=addr, timeout=TIMEOUT, allow_redirects=False, verify=True if ca_file is None else str(ca_file)
        )
        self._mount = mount
        self._auth = auth
        self._login_lock = asyncio.Lock()
        self._slots = asyncio.Semaphore(8)  # hvac has one connection pool of ten
        self._login_number = 0
        self._renew_at = 0.0

    async def read(self, path: str) -> VaultRecord:
        """`GET /v1/<mount>/data/<path>`."""

        def call() -> VaultRecord:
            try:
                answer = self._client.secrets.kv.v2.read_secret_version(
                    path, mount_point=self._mount, raise_on_deleted_version=False
                )
            except hx.InvalidPath as error:
                if error.errors:  # not "there is none", but "no handler for route": nothing is known of what lies there
                    raise VaultUnavailable(
                        f"Vault has no engine at {self._mount!r}. Check that it is the right Vault, and was restored."
                    ) from None
                return VaultRecord(None, 0)
            return VaultRecord(answer["data"]["data"], int(answer["data"]["metadata"]["version"]))

        return await self._call(call)

    async def write(self, path: str, data: dict[str, Any], *, cas: int) -> int:
        """`POST /v1/<mount>/data/<path>` with `cas`; the new version. CasConflict where another was faster."""

        def call() -> int:
            try:
                answer = self._client.secrets.kv.v2.create_or_update_secret(
                    path, data, cas=cas, mount_point=self._mount
                )
            except hx.InvalidRequest as error:
                if "check-and-set" in str(error):
                    raise CasConflict(path) from None
                raise
            return int(answer["data"]["version"])

        # A write whose answer was lost may have been done: it is not repeated blindly, the caller reads and decides.
        return await self._call(call, retry=False)

    async def keep_one_version(self, path: str) -> None:
        """`POST /v1/<mount>/metadata/<path>`: old refresh tokens must not stay readable as old versions."""
        await self._call(
            lambda: self._client.secrets.kv.v2.update_metadata(
                path, max_versions=1, cas_required=True, mount_point=self._mount
            )
        )

    async def destroy(self, path: str) -> None:
        """`DELETE /v1/<mount>/metadata/<path>`: all versions, for good."""
        await self._call(
            lambda: self._client.secrets.kv.v2.delete_metadata_and_all_versions(path, mount_point=self._mount)
        )

    async def check_mount(self) -> None:
        """SettingsError unless the mount is KV v2 that refuses writes without `cas` (KV v1 would ignore it silently:
        replicas would overwrite each other).
        """

        def call() -> bool:
            probe = f"broker/cas-probe-{secrets.token_hex(6)}"
            try:
                self._client.write_data(f"{self._mount}/data/{probe}", data={"data": {"probe": "x"}})
            except hx.InvalidRequest as error:
                return "check-and-set" in str(error)
            except hx.InvalidPath:
                return False
            self._client.delete(f"{self._mount}/data/{probe}")
            self._client.delete(f"{self._mount}/metadata/{probe}")
            return False

        if not await self._call(call):
            raise SettingsError(
                f"The Vault mount {self._mount!r} is not KV version 2 with cas_required: it accepted a write without"
                f" check-and-set. Enable it: vault secrets enable -path={self._mount} -version=2 kv; vault write"
                f" {self._mount}/config cas_required=true"
            )

    async def check(self) -> None:
        """VaultUnavailable unless a read works."""
        await self.read("broker/signing-key")

    async def _call(self, function: Callable[[], T], *, retry: bool = True) -> T:
        """Runs a blocking call in a thread: logs in when needed, again when the token died; bounded backoff when Vault
        is away.
        """
        relogged = False
        for attempt in range(1, TRIES + 1):
            try:
                number = await self._login()
                async with self._slots:
                    return await asyncio.to_thread(function)
            except (hx.Forbidden, hx.Unauthorized):
                # Vault answers 403 both to a dead token and to a path outside the policy: one new login tells which.
                if relogged:
                    raise VaultUnavailable(
                        "Vault refuses the broker's policy this path (403). Check the AppRole's policy."
                    ) from None
                relogged = True
                await self._login(after=number)
            except (requests.RequestException, hx.VaultError) as error:
                if isinstance(error, (hx.InvalidRequest, hx.InvalidPath)):
                    raise VaultUnavailable(f"Vault refused the request: {type(error).__name__}.") from None
                certain = (
                    isinstance(error, requests.ConnectionError)
                    and not isinstance(error, requests.ReadTimeout)
                    and "refused" in str(error).lower()
                )
                if attempt == TRIES or not (retry or certain or isinstance(error, hx.VaultDown)):
                    raise VaultUnavailable(
                        f"Vault does not answer rightly ({type(error).__name__}). Check that it runs and is unsealed."
                    ) from None
            await asyncio.sleep(min(2.0, 0.1 * 2**attempt) * (0.5 + secrets.randbelow(1000) / 1000))
        raise VaultUnavailable("Vault does not answer.")

    async def _login(self, after: int | None = None) -> int:
        """Logs in when there is no token, two thirds of its life are over, or the login numbered `after` turned out
        dead.
        """
        if self._login_number and time.monotonic() < self._renew_at and self._login_number != after:
            return self._login_number
        async with self._login_lock:
            if self._login_number and time.monotonic() < self._renew_at and self._login_number != after:
                return self._login_number
            login = self._auth.prepare()

            def call() -> float:
                try:
                    answer = login(self._client)
                except (hx.InvalidRequest, hx.Forbidden) as error:
                    raise VaultUnavailable(
                        f"Vault refuses the broker's {self._auth.name} login ({type(error).__name__})."
                        f" {self._auth.advice}"
                    ) from None
                return float(answer["auth"]["lease_duration"] or 3600)

            lease = await asyncio.to_thread(call)
            self._renew_at = time.monotonic() + lease * 2 / 3
            self._login_number += 1
            log.info("logged in at Vault for %.0f s", lease)
            return self._login_number
