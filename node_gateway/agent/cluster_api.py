"""The few calls to a Kubernetes API that the agent makes, by its service account. Over httpx: the official clients cost
60 MB of memory, and a node's agent and gateway have 150 together.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gdi.kit.bearer import BearerAuth, token_file
from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.retry import acall_again
from gdi.kit.settings import SettingsError
from gdi.pods.answers import ROLES, Json, away, items_of, judge, keys_of, may_not_know_its_roles, object_of

PATCH = "application/strategic-merge-patch+json"


@dataclass(frozen=True)
class ClusterAccount:
    """Where the API server is, and who we are there: rewritten by the kubelet, read at each call."""

    url: str
    ca_file: Path | None
    token_file: Path | None

    @classmethod
    def of_pod(cls, environment: Mapping[str, str], folder: Path) -> ClusterAccount:
        """The cluster around this process; `folder` has `token` and `ca.crt`. SettingsError outside of one."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise SettingsError("LAUNCHER is pods, but this process runs in no cluster (no KUBERNETES_SERVICE_HOST)")
        name = f"[{host}]" if ":" in host else host
        return cls(f"https://{name}:{port}", folder / "ca.crt", folder / "token")


class ClusterApi:
    """Calls in one namespace. AbsentError, ExistsError, LauncherError; ProblemError 429 and 503."""

    def __init__(self, account: ClusterAccount, namespace: str) -> None:
        self._base = f"/api/v1/namespaces/{namespace}"
        trusted = ssl.create_default_context(cafile=account.ca_file) if account.ca_file else True
        self._http = BoundedAsyncClient(
            base_url=account.url,
            timeout=httpx.Timeout(30, connect=5),
            auth=None if account.token_file is None else BearerAuth(token_file(account.token_file)),
            verify=trusted,
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def read_pod(self, name: str) -> Json:
        what = f"reading pod {name}"
        return object_of(await self._call(what, "GET", f"/pods/{name}"), what)

    async def create_pod(self, body: Json) -> Json:
        what = f"creating pod {body['metadata']['name']}"
        return object_of(await self._call(what, "POST", "/pods", body), what)

    async def patch_pod(self, name: str, body: Json) -> Json:
        what = f"changing pod {name}"
        return object_of(await self._call(what, "PATCH", f"/pods/{name}", body), what)

    async def delete_pod(self, name: str, body: Json) -> Json:
        return await self._call(f"deleting pod {name}", "DELETE", f"/pods/{name}", body)

    async def list_pods(self, selector: str, fields: str = "") -> list[Json]:
        query = {"labelSelector": selector, "limit": "500"} | ({"fieldSelector": fields} if fields else {})
        return items_of(await self._call("listing pods", "GET", "/pods", query=query), "listing pods")

    async def key_set(self) -> Json:
        """The keys by which the cluster signs its pods' identities."""
        what = "reading the cluster's keys"
        return keys_of(await self._call(what, "GET", "/openid/v1/jwks", base=""), what)

    async def create_config_map(self, body: Json) -> Json:
        return await self._call(f"creating ConfigMap {body['metadata']['name']}", "POST", "/configmaps", body)

    async def read_config_map(self, name: str) -> Json:
        what = f"reading ConfigMap {name}"
        return object_of(await self._call(what, "GET", f"/configmaps/{name}"), what)

    async def delete_config_map(self, name: str) -> Json:
        return await self._call(f"deleting ConfigMap {name}", "DELETE", f"/configmaps/{name}")

    async def _call(
        self,
        what: str,
        method: str,
        path: str,
        body: Json | None = None,
        query: dict[str, Any] | None = None,
        base: str | None = None,
    ) -> Json:
        headers = {"Content-Type": PATCH} if method == "PATCH" else None
        where = (self._base if base is None else base) + path

        async def once() -> Json:
            try:
                answer = await self._http.request(method, where, json=body, params=query, headers=headers)
            except (httpx.HTTPError, OSError) as error:
                raise away(what, error) from None
            return judge(answer.status_code, answer.content, what)

        return await acall_again(once, ROLES, again=may_not_know_its_roles)
