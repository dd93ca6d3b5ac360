"""The launcher `pods`: Snakemake as pods of the node's own cluster, made and judged by the code of SnakemakePodOperator
(gdi.pods). Every call may be repeated by another agent: a pod has one name, and what became of it is read from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from pathlib import Path
from typing import Any

from gdi.contracts.process_host import HostedPod, PodRequest, StopMode
from gdi.kit.problem import ProblemError
from gdi.pods import manifest, upkeep
from gdi.pods.answers import AbsentError, ExistsError, Json
from gdi.pods.config import PodConfig
from gdi.pods.model import LauncherError, PodSpec, PodStatus
from gdi.pods.status import status_of
from gdi.pods.stopping import deletion, mark, needs_mark, seconds_to_end
from gdi.pods.times import epoch, stamp_of
from node_gateway.agent.cluster_api import ClusterApi

log = logging.getLogger(__name__)
HOUR = 3600.0


class PodLauncher:
    """`folder`: where the agent keeps workflows' files. `config.broker_url` is this node's gateway as its pods see it:
    to them it is broker and gateway, which knows them by the keys in `keys_file`.
    """

    def __init__(self, api: ClusterApi, config: PodConfig, folder: Path, node: str, keys_file: Path) -> None:
        self._api, self._config, self._folder, self._node = api, config, folder, node
        self._keys_file, self._tidied = keys_file, 0.0
        self._own = f"{upkeep.SELECTOR},gdi-node={node}"  # others in the namespace may keep theirs for longer

    async def aclose(self) -> None:
        await self._api.aclose()

    async def create(self, name: str, request: PodRequest) -> HostedPod:
        """The pod of that name, held by its gate; the one that there is where it was made for the same request."""
        try:
            return await self._created(name, request)
        except LauncherError as error:
            raise _refused(error) from None

    async def _created(self, name: str, request: PodRequest) -> HostedPod:
        values = {k: getattr(request, k) for k in type(request).model_fields}
        spec = PodSpec(**(values | {"name": name, "gateway_url": self._gateway()}))
        place = self._folder / request.digest.replace(":", "-")
        files = await asyncio.to_thread(manifest.workflow_files, place, spec)
        if not manifest.fits(files):
            raise LauncherError(
                f"the workflow {spec.workflow} has more than {manifest.MAX_CONFIG_MAP} bytes of files, which a pod of"
                " this node's cluster cannot be given"
            )
        body = manifest.pod(spec, self._config, files)
        try:
            pod = await self._api.create_pod(body)
        except ExistsError:
            pod = await self._api.read_pod(name)
            existing = (pod["metadata"].get("annotations") or {}).get(manifest.SPEC)
            if existing != body["metadata"]["annotations"][manifest.SPEC]:
                raise LauncherError(f"pod {name} exists and was asked to do something else") from None
        except ProblemError as error:
            if error.slug == "quota-exceeded":
                await self.tidy(name)
            raise
        if self._status(pod).state == "created":
            await self._give_files(spec, str(pod["metadata"]["uid"]), files)
        return self._hosted(pod)

    async def start(self, name: str) -> HostedPod:
        """Lets it go. One that was let go, or ended, is left alone."""
        gates = {"schedulingGates": [{"$patch": "delete", "name": manifest.GATE}]}
        body = {"metadata": {"annotations": {manifest.LET_GO: stamp_of(time.time())}}, "spec": gates}
        try:
            return self._hosted(await self._api.patch_pod(name, body))
        except AbsentError:
            raise ProblemError(
                503, "cluster-away", f"Pod {name} was removed before it was let go.", action="It is made anew."
            ) from None
        except LauncherError as error:
            raise _refused(error) from None

    async def get(self, name: str) -> HostedPod | None:
        """As it is. One that waits for what will not come (an image that is not there) is ended, and says why."""
        pod = await self._read(name)
        if pod is None:
            return None
        status = self._status(pod)
        if status.blocked:
            log.warning("pod %s is stopped: %s", name, status.reason)
            await self.stop(name, "cancel", 0, uid=status.uid)
            return self._hosted(pod).model_copy(update={"state": "exited", "exit_code": 2})
        return self._hosted(pod)

    async def stop(self, name: str, mode: StopMode, grace: float, *, uid: str) -> None:
        """Marks that pod, where it can read that, and deletes it; one of another uid is left alone."""
        pod = await self._read(name)
        if pod is None or pod["metadata"]["uid"] != uid:
            return
        status = self._status(pod)
        if status.ended or status.stopping:
            return
        try:
            with contextlib.suppress(AbsentError):
                if needs_mark(pod, status, mode):
                    await self._api.patch_pod(name, mark(mode, uid))
                    await asyncio.sleep(self._config.mark_seconds)
                await self._api.delete_pod(name, deletion(uid, seconds_to_end(status, grace)))
        except LauncherError as error:
            raise _refused(error) from None

    async def live(self) -> int:
        """How many pods are made or run. ProblemError where the API does not answer rightly."""
        try:
            pods = await self._api.list_pods(self._own)
        except LauncherError as error:
            raise _refused(error) from None
        return sum(not self._status(pod).ended for pod in pods)

    async def upkeep(self) -> None:
        """The cluster's keys for the gateway, which has no token of the cluster; each hour what nobody needs goes."""
        try:
            body = json.dumps(await self._api.key_set()).encode()
        except (LauncherError, AbsentError) as error:
            raise _refused(LauncherError(str(error))) from None
        await asyncio.to_thread(_replace, self._keys_file, body)
        if time.monotonic() - self._tidied > HOUR:
            self._tidied = time.monotonic()
            await self.tidy("")

    async def tidy(self, mine: str) -> None:
        """Removes what nobody needs any more; `mine`, which may be let go now, is no such pod."""
        try:
            for fields in upkeep.PHASES:
                for pod in await self._api.list_pods(self._own, fields):
                    status, keep = self._status(pod), self._config.keep_seconds
                    if status.name != mine and upkeep.is_over(pod, status, keep_seconds=keep, now=time.time()):
                        version = pod["metadata"].get("resourceVersion")
                        with contextlib.suppress(AbsentError):
                            await self._api.delete_pod(status.name, deletion(status.uid, 0, version=version))
        except (ProblemError, LauncherError) as error:
            log.warning("pods that ended long ago are not removed now: %s", error)

    # ---

    async def _give_files(self, spec: PodSpec, uid: str, files: dict[str, bytes]) -> None:
        body = manifest.config_map(spec, uid, self._gateway(), files)
        try:
            await self._api.create_config_map(body)
        except ExistsError:
            with contextlib.suppress(AbsentError):
                owners = (await self._api.read_config_map(spec.name))["metadata"].get("ownerReferences") or []
                if [o.get("uid") for o in owners] == [uid]:
                    return
                await self._api.delete_config_map(spec.name)  # of an earlier pod of this name, not collected yet
            await self._api.create_config_map(body)

    async def _read(self, name: str) -> Json | None:
        try:
            return await self._api.read_pod(name)
        except AbsentError:
            return None
        except LauncherError as error:
            raise _refused(error) from None

    def _gateway(self) -> str:
        assert self._config.broker_url is not None  # the command needs it
        return self._config.broker_url

    def _status(self, pod: Json) -> PodStatus:
        return status_of(pod, start_timeout=self._config.start_timeout)

    def _hosted(self, pod: Json) -> HostedPod:
        status = self._status(pod)
        values: dict[str, Any] = {k: getattr(status, k) for k in ("name", "uid", "state", "stopping", "reason")}
        values |= {"exit_code": status.exit_code, "signal": status.signal}
        run, attempt, _ = status.name.rsplit("-", 2)  # labels may be a stranger's; the name was asked for
        values |= {"run": run.removesuffix(f"-{self._node}"), "node": self._node, "attempt": attempt}
        return HostedPod(**values, created_at=epoch(pod["metadata"].get("creationTimestamp")) or 0.0)


def _replace(file: Path, body: bytes) -> None:
    """A reader never sees half of it."""
    if not (file.is_file() and file.read_bytes() == body):
        part = file.with_name(f".{file.name}.new")
        part.write_bytes(body)
        part.replace(file)


def _refused(error: LauncherError) -> ProblemError:
    return ProblemError(409, "launcher-refused", f"{error}.", action="Tell the node's operator.")
