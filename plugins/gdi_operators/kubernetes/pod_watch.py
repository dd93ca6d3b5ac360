"""What a trigger does with one pod in a cluster: looks at it, reads its log, asks it to stop. On the trigger's event
loop, over the provider's asynchronous hook.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from gdi.contracts.process_host import StopMode
from gdi.pods import log as pod_log
from gdi.pods.answers import AbsentError, Json, object_of
from gdi.pods.config import PodConfig
from gdi.pods.generations import node_in
from gdi.pods.manifest import CONTAINER
from gdi.pods.model import PodStatus
from gdi.pods.status import status_of
from gdi.pods.stopping import deletion, mark, needs_mark, seconds_to_end
from gdi_operators.kubernetes.api import PATCH, AsyncApi


class PodWatch:
    """`uid`: of the pod that is watched; another of its name is not there for us, and never stopped."""

    def __init__(self, api: AsyncApi, config: PodConfig, uid: str) -> None:
        self.api, self.config, self.uid = api, config, uid
        self._open = contextlib.AsyncExitStack()
        self._core: Any = None  # kubernetes_asyncio.client.CoreV1Api

    async def aget(self, name: str) -> PodStatus | None:
        """The pod, or None where it is gone. ProblemError 503 where the API server is away."""
        pod = await self._read(name)
        return None if pod is None else self._status(pod)

    async def astop(self, name: str, *, mode: StopMode, grace: float) -> None:
        """Marks it, where it can read that, and deletes it; returns at once. No error where it ended or is gone."""
        pod = await self._read(name)
        if pod is None:
            return
        status, core = self._status(pod), await self.core()
        if status.ended or status.stopping:
            return
        with contextlib.suppress(AbsentError):
            if needs_mark(pod, status, mode):
                patch = core.patch_namespaced_pod
                await self.api.call(
                    f"marking pod {name}", patch, name=name, body=mark(mode, status.uid), _content_type=PATCH
                )
                await asyncio.sleep(self.config.mark_seconds)
            body = deletion(status.uid, seconds_to_end(status, grace))
            await self.api.call(f"deleting pod {name}", core.delete_namespaced_pod, name=name, body=body)

    async def alog(self, name: str, since: str, *, ended: bool = False) -> tuple[list[str], str]:
        """(lines of its log after `since`, the next `since`); nothing where the operator keeps logs out of Airflow."""
        if not self.config.cluster(node_in(name)).logs:
            return [], since
        core = await self.core()
        options = pod_log.question(since, ended=ended)
        read, what = core.read_namespaced_pod_log, f"reading the log of pod {name}"
        status, body = await self.api.raw(what, read, name=name, container=CONTAINER, timestamps=True, **options)
        return pod_log.answer(body, since, ended=ended) if status == 200 else ([], since)

    async def aclose(self) -> None:
        self._core = None
        await self._open.aclose()

    async def core(self) -> Any:  # kubernetes_asyncio.client.CoreV1Api
        if self._core is None:
            self._core = await self._open.enter_async_context(self.api.core())
        return self._core

    def _status(self, pod: Json) -> PodStatus:
        return status_of(pod, start_timeout=self.config.start_timeout)

    async def _read(self, name: str) -> Json | None:
        node_in(name)
        core, what = await self.core(), f"reading pod {name}"
        try:
            pod = object_of(await self.api.call(what, core.read_namespaced_pod, name=name), what)
        except AbsentError:
            return None
        return pod if pod["metadata"]["uid"] == self.uid else None
