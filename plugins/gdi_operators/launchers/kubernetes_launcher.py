"""Snakemake pods of Kubernetes: made behind a gate, let go once their uid is pinned at the broker, marked before they
are cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from gdi.contracts.ids import node_of_pod
from gdi.contracts.process_host import StopMode
from gdi.kit.problem import ProblemError
from gdi_operators.launchers import kubernetes_manifest as manifest
from gdi_operators.launchers.base import Launcher, LauncherError, PodSpec, PodStatus
from gdi_operators.launchers.kubernetes_api import AbsentError, Api, AsyncApi, ExistsError
from gdi_operators.launchers.kubernetes_config import PodConfig
from gdi_operators.launchers.kubernetes_log import new_lines, stamp_of
from gdi_operators.launchers.kubernetes_status import gated, status_of

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
        selector = f"gdi-run={run},gdi-node={node},gdi-attempt={attempt}"
        pods = [self._status(p) for p in self._api_of(node).list_pods(selector)]
        return {p.name: p for p in pods}

    def stop(self, name: str, *, mode: StopMode, grace: float) -> None:
        api = self._api(name)
        try:
            status = self._status(api.read_pod(name))
            if status.ended or status.stopping:
                return
            if status.state == "running" and not status.reason:  # it has a process that can read the mark
                api.patch_pod(name, _mark(mode))
                time.sleep(self.config.mark_seconds)
            api.delete_pod(name, status.uid, _grace(status, grace))
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
            marked = (pod["metadata"].get("annotations") or {}).get(
                manifest.STOP
            ) == mode  # by an earlier try that was cut off
            if status.state == "running" and not status.reason and not marked:
                kind = "application/strategic-merge-patch+json"
                await api.call(
                    f"marking pod {name}", core.patch_namespaced_pod, name=name, body=_mark(mode), _content_type=kind
                )
                await asyncio.sleep(self.config.mark_seconds)
            body = {"gracePeriodSeconds": _grace(status, grace), "preconditions": {"uid": status.uid}}
            await api.call(f"deleting pod {name}", core.delete_namespaced_pod, name=name, body=body)
        except AbsentError:
            return

    async def alog(self, name: str, since: str, *, ended: bool = False) -> tuple[list[str], str]:
        if not self.config.cluster(_node(name)).logs:
            return [], since
        api, core = await self._core(name)
        asked: dict[str, Any] = (
            {"tail_lines": TAIL_LINES, "limit_bytes": MAX_TAIL} if ended else {"limit_bytes": MAX_LOG}
        )
        if since and not ended:
            asked["since_seconds"] = max(1, int(time.time() - _epoch(since)) + 2)
        what = f"reading the log of pod {name}"
        status, body = await api.raw(
            what, core.read_namespaced_pod_log, name=name, container=manifest.CONTAINER, timestamps=True, **asked
        )
        if status != 200:
            return [], since
        new, known = new_lines(body, since, ended=ended)
        lines = [text for _, text in new]
        if ended:
            if len(new) == known >= TAIL_LINES:  # nothing of it was shown before
                lines.insert(0, LEFT_OUT)
        elif (
            not new and len(body) >= MAX_LOG
        ):  # more than a look brings within what it looks back: it would bring the same for ever
            return [LEFT_OUT], stamp_of(time.time())
        return lines, new[-1][0] if new else since

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
        return self._api_of(_node(name))

    async def _core(self, name: str) -> tuple[AsyncApi, Any]:
        place = self._place(_node(name))
        if place not in self._cores:
            api = AsyncApi(*place)
            self._cores[place] = api, await self._open.enter_async_context(_held(api))
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
        selector = ",".join(f"{k}={v}" for k, v in manifest.MANAGED.items())
        try:
            for phases in ("status.phase!=Running,status.phase!=Pending", "status.phase=Pending"):
                for pod in api.list_pods(selector, field_selector=phases):
                    status = self._status(pod)
                    if status.name != mine and time.time() - _ended_at(pod) > self._kept(pod, status):
                        with contextlib.suppress(AbsentError):  # with its ConfigMap, which is owned by it
                            api.delete_pod(status.name, status.uid, 0, version=pod["metadata"].get("resourceVersion"))
        except (ProblemError, LauncherError) as error:
            log.warning("Pods that ended long ago, or were never let go, are not deleted now: %s", error)

    def _kept(self, pod: dict[str, Any], status: PodStatus) -> float:
        """Seconds for which a pod stays. One that is pending and not held is left to who waits for it, whatever its
        machine says.
        """
        if gated(pod):
            return GATED_SECONDS
        return self.config.keep_seconds if status.ended and pod["status"].get("phase") != "Pending" else float("inf")


MAX_LOG = 256 * 1024  # bytes of log that one look brings
TAIL_LINES = 150  # of a pod's log that are brought at its end: its last words, however far behind the looks were
MAX_TAIL = 4 * 1024 * 1024  # bytes of them: the kubelet cuts a line into pieces of 16 KiB, each of which counts
LEFT_OUT = "(more was said here than is shown; lines are left out)"
GATED_SECONDS = (
    3600.0  # after which a pod that was not let go is nobody's: a step waits for the broker and the API some minutes
)


@contextlib.asynccontextmanager
async def _held(api: AsyncApi) -> AsyncIterator[Any]:
    async with api.core() as core:
        yield core


def _node(name: str) -> str:
    node = node_of_pod(name)
    if node is None:
        raise LauncherError(f"{name[:80]!r} is not the name of a Snakemake pod")
    return node


def _mark(mode: StopMode) -> dict[str, Any]:
    return {"metadata": {"annotations": {manifest.STOP: mode}}}


def _grace(status: PodStatus, grace: float) -> int:
    """A pod that does not run has nothing to cancel. At least 1 s: 0 would forget the pod before its machine ended it,
    so that two could run.
    """
    return 0 if status.state == "created" else max(1, round(grace))


def _ended_at(pod: dict[str, Any]) -> float:
    """When its last container ended, else when it was made."""
    times = [str(pod["metadata"].get("creationTimestamp") or "")]
    for one in (pod.get("status") or {}).get("containerStatuses") or []:
        times.append(str(((one.get("state") or {}).get("terminated") or {}).get("finishedAt") or ""))
    return max(_epoch(t) for t in times)


def _epoch(value: str) -> float:
    try:
        return datetime.fromisoformat(value).timestamp() if value else 0.0
    except ValueError:
        return 0.0
