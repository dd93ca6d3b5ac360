"""Snakemake pods of Kubernetes: made behind a gate, let go once their uid is pinned at the broker, marked before they
are cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from gdi.contracts.process_host import StopMode
from gdi.kit.problem import ProblemError
from gdi.pods import log as pod_log
from gdi.pods import manifest, upkeep
from gdi.pods.answers import AbsentError, ExistsError
from gdi.pods.config import PodConfig
from gdi.pods.generations import node_in, selector
from gdi.pods.model import LauncherError, PodSpec, PodStatus
from gdi.pods.status import status_of
from gdi.pods.stopping import deletion, mark, needs_mark, seconds_to_end
from gdi.pods.times import stamp_of
from gdi_operators.launchers.base import Launcher
from gdi_operators.launchers.kubernetes_api import Api, AsyncApi

log = logging.getLogger(__name__)


class KubernetesLauncher(Launcher):
    """`config`: what the operator allows and gives (GDI_POD_CONFIG). `workflows`: finds the catalogue, asked only to
    make a pod: to have it may take a clone, and who watches or stops a pod needs none. `broker_url`: unless the file
    names another for pods.

    Which cluster a pod is in follows from the node in its name, so no call needs more than the name. All calls are
    idempotent.
    """

    def __init__(self, config: PodConfig, *, workflows: Callable[[], Path], broker_url: str | None = None) -> None:
        self.config, self.workflows, self.broker_url = config, workflows, broker_url
        self._apis: dict[tuple[str | None, str], Api] = {}
        self._open = contextlib.AsyncExitStack()
        self._cores: dict[tuple[str | None, str], tuple[AsyncApi, Any]] = {}

    # --- blocking --------------------------------------------------------------------------------

    def create(self, spec: PodSpec) -> PodStatus:
        files = manifest.workflow_files(self.workflows(), spec)
        inline = files if manifest.fits(files) else {}
        api = self._api(spec.name)
        try:
            pod = api.create_pod(manifest.pod(spec, self.config, inline))
        except ExistsError:
            pod = api.read_pod(spec.name)
            if (pod["metadata"].get("annotations") or {}).get(manifest.SPEC) != manifest.spec_hash(spec):
                raise LauncherError(
                    f"pod {spec.name} exists and was asked to do something else; use another name"
                ) from None
        except ProblemError as error:
            if error.slug == "quota-exceeded":  # by pods, it may be, that nobody will ever let go
                self._tidy(api, spec.name)
            raise
        status = self._status(pod)
        if status.state == "created":
            self._config_map(api, spec, status.uid, inline)
        self._tidy(api, spec.name)
        return status

    def start(self, name: str) -> PodStatus:
        gates = {"schedulingGates": [{"$patch": "delete", "name": manifest.GATE}]}
        try:
            return self._status(
                self._api(name).patch_pod(
                    name, {"metadata": {"annotations": {manifest.LET_GO: stamp_of(time.time())}}, "spec": gates}
                )
            )
        except AbsentError:
            raise LauncherError(f"pod {name} is gone; create one with another name") from None

    def get(self, name: str) -> PodStatus | None:
        try:
            return self._status(self._api(name).read_pod(name))
        except AbsentError:
            return None

    def of_attempt(self, run: str, node: str, attempt: int) -> dict[str, PodStatus]:
        """All pods of the node's part of an attempt, by name: one request, and those that Kubernetes deleted leave no
        gap.
        """
        pods = [self._status(p) for p in self._api_of(node).list_pods(selector(run, node, attempt))]
        return {p.name: p for p in pods}

    def stop(self, name: str, *, mode: StopMode, grace: float) -> None:
        api = self._api(name)
        try:
            pod = api.read_pod(name)
            status = self._status(pod)
            if status.ended or status.stopping:
                return
            if needs_mark(pod, status, mode):
                api.patch_pod(name, mark(mode))
                time.sleep(self.config.mark_seconds)
            api.delete_pod(name, status.uid, seconds_to_end(status, grace))
        except AbsentError:
            return

    # --- for triggers ----------------------------------------------------------------------------

    async def aget(self, name: str) -> PodStatus | None:
        api, core = await self._core(name)
        try:
            return self._status(await api.call(f"reading pod {name}", core.read_namespaced_pod, name=name))
        except AbsentError:
            return None

    async def astop(self, name: str, *, mode: StopMode, grace: float) -> None:
        api, core = await self._core(name)
        try:
            pod = await api.call(f"reading pod {name}", core.read_namespaced_pod, name=name)
            status = self._status(pod)
            if status.ended or status.stopping:
                return
            if needs_mark(pod, status, mode):
                kind = "application/strategic-merge-patch+json"
                await api.call(
                    f"marking pod {name}", core.patch_namespaced_pod, name=name, body=mark(mode), _content_type=kind
                )
                await asyncio.sleep(self.config.mark_seconds)
            body = deletion(status.uid, seconds_to_end(status, grace))
            await api.call(f"deleting pod {name}", core.delete_namespaced_pod, name=name, body=body)
        except AbsentError:
            return

    async def alog(self, name: str, since: str, *, ended: bool = False) -> tuple[list[str], str]:
        if not self.config.cluster(node_in(name)).logs:
            return [], since
        api, core = await self._core(name)
        options = pod_log.question(since, ended=ended)
        what = f"reading the log of pod {name}"
        status, body = await api.raw(
            what, core.read_namespaced_pod_log, name=name, container=manifest.CONTAINER, timestamps=True, **options
        )
        if status != 200:
            return [], since
        return pod_log.answer(body, since, ended=ended)

    async def aclose(self) -> None:
        self._cores.clear()
        await self._open.aclose()

    # --- inside ----------------------------------------------------------------------------------

    def _status(self, pod: dict[str, Any]) -> PodStatus:
        return status_of(pod, start_timeout=self.config.start_timeout)

    def _place(self, node: str) -> tuple[str | None, str]:
        cluster = self.config.cluster(node)
        return cluster.conn_id, str(cluster.namespace)

    def _api_of(self, node: str) -> Api:
        place = self._place(node)
        if place not in self._apis:
            self._apis[place] = Api(*place)
        return self._apis[place]

    def _api(self, name: str) -> Api:
        return self._api_of(node_in(name))

    async def _core(self, name: str) -> tuple[AsyncApi, Any]:
        place = self._place(node_in(name))
        if place not in self._cores:
            api = AsyncApi(*place)
            self._cores[place] = api, await self._open.enter_async_context(_api_context(api))
        return self._cores[place]

    def _config_map(self, api: Api, spec: PodSpec, uid: str, files: dict[str, bytes]) -> None:
        url = self.config.cluster(spec.node).broker_url or self.broker_url
        if not url:
            raise LauncherError("pods are told no broker: set broker_url in GDI_POD_CONFIG or GDI_BROKER_URL")
        body = manifest.config_map(spec, uid, url, files)
        try:
            api.create_config_map(body)
        except ExistsError:
            try:
                owners = api.read_config_map(spec.name)["metadata"].get("ownerReferences") or []
                if [o.get("uid") for o in owners] == [uid]:
                    return
                api.delete_config_map(spec.name)  # of an earlier pod of this name, not collected yet
            except AbsentError:
                pass
            api.create_config_map(body)

    def _tidy(self, api: Api, mine: str) -> None:
        """Deletes pods that ended long ago, as Kubernetes itself keeps thousands of them, and those that were never let
        go: a step that died before that, or could not pin their uid. `mine`, which may be let go now, is no such pod.
        """
        try:
            for phases in upkeep.PHASES:
                for pod in api.list_pods(upkeep.SELECTOR, field_selector=phases):
                    status, now = self._status(pod), time.time()
                    if status.name != mine and upkeep.is_over(
                        pod, status, keep_seconds=self.config.keep_seconds, now=now
                    ):
                        with contextlib.suppress(AbsentError):  # with its ConfigMap, which is owned by it
                            api.delete_pod(status.name, status.uid, 0, version=pod["metadata"].get("resourceVersion"))
        except (ProblemError, LauncherError) as error:
            log.warning("Pods that ended long ago, or were never let go, are not deleted now: %s", error)


@contextlib.asynccontextmanager
async def _api_context(api: AsyncApi) -> AsyncIterator[Any]:
    async with api.core() as core:
        yield core
