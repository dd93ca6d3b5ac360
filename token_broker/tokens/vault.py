"""Vault (or OpenBao) KV v2 with check-and-set: the one place where secrets lie, and the one place where hvac's blocking
calls are made.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
from hvac import exceptions as hx

from gdi.kit.settings import SettingsError
from token_broker.tokens import vault_http
from token_broker.tokens.vault_http import UnusableAnswer
from token_broker.tokens.vault_login import VaultAuth
from token_broker.tokens.vault_session import VaultSession
from token_broker.tokens.vault_session import VaultUnavailable as VaultUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
TRIES = 5
SIGNING_KEY = "broker/signing-key"  # always there once a broker has started: who does not have it is another Vault
SECOND_READING = 1.0  # seconds after the first


class CasConflict(Exception):
    """Somebody else wrote since it was read: read again and decide anew."""


@dataclass(frozen=True)
class VaultRecord:
    """What lies at a path: `data` is None where nothing does (never written, or deleted); `version` is what `cas` must
    name next.
    """

    data: dict[str, Any] | None
    version: int

    def __repr__(self) -> str:  # the data is secret
        return f"VaultRecord(version={self.version})"


class Vault:
    """KV v2 at `mount`. A dead token (revoked, expired after its maximum of about 32 days) leads to one new login and
    one retry.

    `ca_file`: the authority of Vault's certificate, where it is a private one. `namespace`: of Vault Enterprise, HCP or
    OpenBao; the mounts are those within it.
    """

    def __init__(
        self, addr: str, mount: str, auth: VaultAuth, *, ca_file: Path | None = None, namespace: str | None = None
    ) -> None:
        self._client = vault_http.client(addr, ca_file=ca_file, namespace=namespace)
        self._mount = mount
        self._session = VaultSession(self._client, auth)
        self._slots = asyncio.Semaphore(8)  # hvac has one connection pool of ten
        self._warned = False

    async def read(self, path: str) -> VaultRecord:
        """`GET /v1/<mount>/data/<path>`. Nothing is there only where Vault itself says so."""

        def call() -> VaultRecord:
            try:
                answer = self._client.secrets.kv.v2.read_secret_version(
                    path, mount_point=self._mount, raise_on_deleted_version=True
                )
            except hx.InvalidPath as error:
                if error.errors:  # not "there is none", but "no handler for route": nothing is known of what lies there
                    raise VaultUnavailable(
                        f"Vault has no engine at {self._mount!r}. Check that it is the right Vault, and was restored."
                    ) from None
                return VaultRecord(None, 0 if error.json.get("data") is None else _version(error.json, "metadata"))
            data = _object(answer, "data").get("data")
            if not isinstance(data, dict):
                raise UnusableAnswer("its answer holds no data")
            return VaultRecord(data, _version(answer, "metadata"))

        return await self._call(f"data/{path}", call)

    async def write(self, path: str, data: dict[str, Any], *, cas: int) -> int:
        """`POST /v1/<mount>/data/<path>` with `cas`; the new version. CasConflict where another was faster.

        Whether it was done is unknown after VaultUnavailable, and a CasConflict may be one's own write whose answer
        went lost: the caller reads and decides.
        """

        def call() -> int:
            try:
                answer = self._client.secrets.kv.v2.create_or_update_secret(
                    path, data, cas=cas, mount_point=self._mount
                )
            except hx.InvalidRequest as error:
                if "check-and-set" in str(error):
                    raise CasConflict(path) from None
                raise
            if _object(answer, "data").get("deletion_time") and not self._warned:
                self._warned = True
                log.error("%s", self._vanishing())
            return _version(answer)

        return await self._call(f"data/{path}", call, retry=False)

    async def keep_one_version(self, path: str) -> None:
        """`POST /v1/<mount>/metadata/<path>`: old refresh tokens must not stay readable as old versions."""
        await self._call(
            f"metadata/{path}",
            lambda: self._client.secrets.kv.v2.update_metadata(
                path, max_versions=1, cas_required=True, mount_point=self._mount
            ),
        )

    async def destroy(self, path: str) -> None:
        """`DELETE /v1/<mount>/metadata/<path>`: all versions, for good. VaultUnavailable where it is still there: what
        answered was not Vault.
        """
        await self._call(
            f"metadata/{path}",
            lambda: self._client.secrets.kv.v2.delete_metadata_and_all_versions(path, mount_point=self._mount),
        )
        if await self._metadata(path) is not None:
            raise VaultUnavailable("Vault still has a record that it was told to destroy.")

    async def why_absent(self, path: str) -> str:
        """The second reading of a path at which nothing was: a moment later, and with its metadata. Why nothing is
        there; empty where something is. VaultUnavailable where this Vault is in doubt.
        """
        await asyncio.sleep(SECOND_READING)
        if (await self.read(SIGNING_KEY)).data is None:
            raise VaultUnavailable(
                f"Vault has not even the broker's own key ({SIGNING_KEY}). Check that it is the right Vault and mount,"
                " and that it was restored whole."
            )
        metadata = await self._metadata(path)
        if (await self.read(path)).data is not None:
            return ""
        if metadata is None:
            return "Vault has no record of it: it was destroyed, or Vault was restored from an older snapshot."
        versions = metadata.get("versions")
        last = versions.get(str(metadata.get("current_version"))) if isinstance(versions, dict) else None
        if not isinstance(last, dict) or not (last.get("deletion_time") or last.get("destroyed")):
            raise VaultUnavailable("Vault contradicts itself: it has a record's metadata, and not the record.")
        return (
            "Vault deleted its record: somebody did it by hand, or the mount or the record has delete_version_after"
            " set. The broker's operator knows more."
        )

    async def check_mount(self) -> None:
        """SettingsError unless the mount is KV v2 that refuses writes without `cas` (KV v1 would ignore it silently:
        replicas would overwrite each other) and keeps what is written.
        """
        probe = f"broker/cas-probe-{secrets.token_hex(6)}"

        def loose() -> bool:
            try:
                self._client.write_data(f"{self._mount}/data/{probe}", data={"data": {"probe": "x"}})
            except hx.InvalidRequest as error:
                if "check-and-set" in str(error):
                    return False
                raise
            except hx.InvalidPath:
                return True
            self._client.delete(f"{self._mount}/data/{probe}")
            self._client.delete(f"{self._mount}/metadata/{probe}")
            return True

        def vanishes() -> bool:
            answer = self._client.secrets.kv.v2.create_or_update_secret(
                probe, {"probe": "x"}, cas=0, mount_point=self._mount
            )
            self._client.secrets.kv.v2.delete_metadata_and_all_versions(probe, mount_point=self._mount)
            return bool(_object(answer, "data").get("deletion_time"))

        if await self._call(f"data/{probe}", loose):
            raise SettingsError(
                f"The Vault mount {self._mount!r} is not KV version 2 with cas_required: it accepted a write without"
                f" check-and-set. Enable it: vault secrets enable -path={self._mount} -version=2 kv; vault write"
                f" {self._mount}/config cas_required=true"
            )
        if await self._call(f"data/{probe}", vanishes, retry=False):
            raise SettingsError(self._vanishing())

    async def check(self) -> None:
        """VaultUnavailable unless a read works."""
        await self.read(SIGNING_KEY)

    def _vanishing(self) -> str:
        return (
            f"The Vault mount {self._mount!r} deletes what is written to it after a while (delete_version_after):"
            f" grants would vanish. Switch it off: vault write {self._mount}/config delete_version_after=0s"
        )

    async def _metadata(self, path: str) -> dict[str, Any] | None:
        """`GET /v1/<mount>/metadata/<path>`: its `data`, or None where Vault says that there is none."""

        def call() -> dict[str, Any] | None:
            try:
                answer = self._client.secrets.kv.v2.read_secret_metadata(path, mount_point=self._mount)
            except hx.InvalidPath as error:
                if error.errors:
                    raise VaultUnavailable(f"Vault has no engine at {self._mount!r}.") from None
                return None
            return _object(answer, "data")

        return await self._call(f"metadata/{path}", call)

    async def _call(self, what: str, function: Callable[[], T], *, retry: bool = True) -> T:
        """Runs a blocking call at the path `what` in a thread: logs in when needed, again when the token died; bounded
        backoff when Vault is away. VaultUnavailable, and what `function` raises of ours; never anything else.
        """
        for attempt in range(1, TRIES + 1):
            number = await self._session.login()
            try:
                async with self._slots:
                    found = await asyncio.to_thread(function)
                self._session.worked(what, number)
                return found
            except (VaultUnavailable, CasConflict):
                raise
            except (hx.Forbidden, hx.Unauthorized):
                await self._session.refused(what, number)  # nothing was done: once more, with the new login
            except (hx.InvalidRequest, hx.InvalidPath) as error:
                raise VaultUnavailable(f"Vault refused the request: {type(error).__name__}.") from None
            except Exception as error:  # of requests, of hvac, or of a parser that met an answer of a kind unknown
                nothing_sent = isinstance(error, requests.ConnectionError) and "refused" in str(error).lower()
                if attempt == TRIES or not (retry or nothing_sent):
                    why = error.why if isinstance(error, UnusableAnswer) else type(error).__name__
                    raise VaultUnavailable(
                        f"Vault does not answer rightly ({why}). Check that it runs and is unsealed, and what stands"
                        " before it."
                    ) from None
            await asyncio.sleep(min(2.0, 0.1 * 2**attempt) * (0.5 + secrets.randbelow(1000) / 1000))
        raise VaultUnavailable("Vault does not answer.")


def _object(answer: dict[str, Any], name: str) -> dict[str, Any]:
    found = answer.get(name)
    if not isinstance(found, dict):
        raise UnusableAnswer(f"its answer holds no {name}")
    return found


def _version(answer: dict[str, Any], within: str | None = None) -> int:
    data = _object(answer, "data")
    version = (data if within is None else _object(data, within)).get("version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise UnusableAnswer("its answer holds no version")
    return version
