"""The Kubernetes API for pods of runs, blocking and asynchronous: the provider's hooks find the cluster, answers stay
plain JSON, errors become ours (gdi.pods.answers).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import urllib3
from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException
from kubernetes import client as sync_client
from kubernetes.config import ConfigException
from kubernetes_asyncio import client as async_client
from kubernetes_asyncio.config import ConfigException as AsyncConfigException

from gdi.kit.bounded_read import afirst
from gdi.kit.retry import acall_again, call_again
from gdi.pods.answers import MAX_ANSWER, ROLES, Json, away, items_of, judge, may_not_know_its_roles, object_of
from gdi.pods.model import LauncherError

TIMEOUT = (5, 30)  # seconds to connect, to read
PATCH = "application/strategic-merge-patch+json"


def misconfigured(conn_id: str | None, error: BaseException) -> LauncherError:
    where = f"the Airflow connection {conn_id}" if conn_id else "the cluster that Airflow runs in"
    return LauncherError(
        f"{where} cannot be used: {type(error).__name__}; define a connection of type kubernetes, or run Airflow inside"
        " the cluster"
    )


def client_of(conn_id: str | None, make: Callable[[], Any]) -> Any:
    """The client that `make` takes from the provider's hook. LauncherError where its connection cannot be used."""
    try:
        return make()
    except (ConfigException, AirflowException, AirflowNotFoundException, OSError, ValueError) as error:
        raise misconfigured(conn_id, error) from None


class Api:
    """Blocking calls in one namespace. `core`: a kubernetes.client.CoreV1Api of the provider's hook."""

    def __init__(self, core: Any, namespace: str) -> None:
        self._core, self.namespace = core, namespace

    def read_pod(self, name: str) -> Json:
        what = f"reading pod {name}"
        return object_of(self._call(what, self._core.read_namespaced_pod, name=name), what)

    def create_pod(self, body: Json) -> Json:
        what = f"creating pod {body['metadata']['name']}"
        return object_of(self._call(what, self._core.create_namespaced_pod, body=body), what)

    def patch_pod(self, name: str, body: Json) -> Json:
        patch, what = self._core.patch_namespaced_pod, f"changing pod {name}"
        return object_of(self._call(what, patch, name=name, body=body, _content_type=PATCH), what)

    def delete_pod(self, name: str, body: Json) -> Json:
        return self._call(f"deleting pod {name}", self._core.delete_namespaced_pod, name=name, body=body)

    def list_pods(self, selector: str, **more: Any) -> list[Json]:
        what, listed = "listing pods", self._core.list_namespaced_pod
        return items_of(self._call(what, listed, label_selector=selector, limit=500, **more), what)

    def create_config_map(self, body: Json) -> Json:
        create = self._core.create_namespaced_config_map
        return self._call(f"creating ConfigMap {body['metadata']['name']}", create, body=body)

    def read_config_map(self, name: str) -> Json:
        what = f"reading ConfigMap {name}"
        return object_of(self._call(what, self._core.read_namespaced_config_map, name=name), what)

    def delete_config_map(self, name: str) -> Json:
        return self._call(f"deleting ConfigMap {name}", self._core.delete_namespaced_config_map, name=name)

    def _call(self, what: str, method: Callable[..., Any], **arguments: Any) -> Json:
        return call_again(lambda: self._once(what, method, **arguments), ROLES, again=may_not_know_its_roles)

    def _once(self, what: str, method: Callable[..., Any], **arguments: Any) -> Json:
        try:
            answer = method(namespace=self.namespace, _preload_content=False, _request_timeout=TIMEOUT, **arguments)
            return judge(answer.status, answer.data, what)
        except sync_client.ApiException as error:
            return judge(int(error.status or 0) or 503, str(error.body or "").encode(), what)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise away(what, error) from None


class AsyncApi:
    """The few calls that a trigger makes, on its event loop. `conn_id` None: the cluster around this process, by its
    service account.
    """

    def __init__(self, conn_id: str | None, namespace: str) -> None:
        self.conn_id, self.namespace = conn_id, namespace
        self._hook = AsyncKubernetesHook(conn_id=conn_id, kubernetes_conn_id=None, in_cluster=None if conn_id else True)

    @asynccontextmanager
    async def core(self) -> AsyncIterator[Any]:  # kubernetes_asyncio.client.CoreV1Api
        """The client, with one connection pool; the caller keeps it for as long as it needs one."""
        try:
            manager = self._hook.get_conn()
            connection = await manager.__aenter__()
        except (AsyncConfigException, AirflowException, AirflowNotFoundException, OSError, ValueError) as error:
            raise misconfigured(self.conn_id, error) from None
        try:
            yield async_client.CoreV1Api(connection)
        finally:
            await manager.__aexit__(None, None, None)

    async def call(self, what: str, method: Callable[..., Any], **arguments: Any) -> Json:
        async def once() -> Json:
            status, body = await self.raw(what, method, **arguments)
            return judge(status, body, what)

        return await acall_again(once, ROLES, again=may_not_know_its_roles)

    async def raw(self, what: str, method: Callable[..., Any], **arguments: Any) -> tuple[int, bytes]:
        """(status, body) without judging it: logs are no JSON."""
        try:
            answer = await method(
                namespace=self.namespace,
                _preload_content=False,
                _request_timeout=aiohttp.ClientTimeout(total=35, connect=5),
                **arguments,
            )
            async with answer:
                # Not read(n): that would give what has come so far.
                return int(answer.status), await afirst(answer.content.iter_any(), MAX_ANSWER)
        except async_client.ApiException as error:
            raise away(what, error) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise away(what, error) from None
