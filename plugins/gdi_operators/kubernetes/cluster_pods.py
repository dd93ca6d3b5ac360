"""What an operator does with a run's pods in a cluster: takes or makes one, gives it its files, lets it go, stops it,
removes what is over.
"""

from __future__ import annotations

import contextlib
import logging
import time

from gdi.contracts.process_host import StopMode
from gdi.kit.problem import ProblemError
from gdi.pods import manifest, upkeep
from gdi.pods.answers import AbsentError, ExistsError, Json
from gdi.pods.config import PodConfig
from gdi.pods.generations import node_in, selector
from gdi.pods.model import LauncherError, PodSpec, PodStatus
from gdi.pods.status import status_of
from gdi.pods.stopping import deletion, mark, needs_mark, seconds_to_end
from gdi.pods.times import stamp_of
from gdi_operators.kubernetes.api import Api

log = logging.getLogger(__name__)


class ClusterPods:
    """Blocking; all calls are idempotent, so that a step that died in between is taken up by the next."""

    def __init__(self, api: Api, config: PodConfig) -> None:
        self.api, self.config = api, config

    def status(self, pod: Json) -> PodStatus:
        return status_of(pod, start_timeout=self.config.start_timeout)

    def read(self, name: str) -> Json | None:
        """The pod's object, or None where there is none. LauncherError for a name that is no Snakemake pod's."""
        node_in(name)
        try:
            return self.api.read_pod(name)
        except AbsentError:
            return None

    def get(self, name: str) -> PodStatus | None:
        pod = self.read(name)
        return None if pod is None else self.status(pod)

    def of_attempt(self, run: str, node: str, attempt: int) -> dict[str, PodStatus]:
        """All pods of the node's part of an attempt, by name: one request, and those that Kubernetes deleted leave no
        gap.
        """
        pods = [self.status(p) for p in self.api.list_pods(selector(run, node, attempt))]
        return {p.name: p for p in pods}

    def take(self, body: Json) -> Json:
        """The pod of that name and that request: made, or the one that there is, whatever became of it. LauncherError
        where a pod of that name does something else; ProblemError where the quota is full or the API server away.
        """
        meta = body["metadata"]
        try:
            return self.api.create_pod(body)
        except ExistsError:
            pod = self.api.read_pod(meta["name"])
            if (pod["metadata"].get("annotations") or {}).get(manifest.SPEC) != meta["annotations"][manifest.SPEC]:
                raise LauncherError(
                    f"pod {meta['name']} exists and was asked to do something else; use another name"
                ) from None
            return pod
        except ProblemError as error:
            if error.slug == "quota-exceeded":  # by pods, it may be, that nobody will ever let go
                self.tidy(meta["name"])
            raise

    def give_files(self, spec: PodSpec, uid: str, files: dict[str, bytes], broker_url: str) -> None:
        """The ConfigMap with run.json and the workflow's files, owned by that pod."""
        body = manifest.config_map(spec, uid, broker_url, files)
        try:
            self.api.create_config_map(body)
        except ExistsError:
            try:
                owners = self.api.read_config_map(spec.name)["metadata"].get("ownerReferences") or []
                if [o.get("uid") for o in owners] == [uid]:
                    return
                self.api.delete_config_map(spec.name)  # of an earlier pod of this name, not collected yet
            except AbsentError:
                pass
            self.api.create_config_map(body)

    def let_go(self, name: str) -> PodStatus:
        """Takes the gate away; a pod without one is left alone. LauncherError where it is gone."""
        gates = {"schedulingGates": [{"$patch": "delete", "name": manifest.GATE}]}
        body = {"metadata": {"annotations": {manifest.LET_GO: stamp_of(time.time())}}, "spec": gates}
        try:
            return self.status(self.api.patch_pod(name, body))
        except AbsentError:
            raise LauncherError(f"pod {name} is gone; create one with another name") from None

    def stop(self, name: str, *, mode: StopMode, grace: float, uid: str | None = None) -> None:
        """Marks it, where it can read that, and deletes it; returns at once. No error where it ended or never was. With
        `uid` that pod only: another of the name is left alone.
        """
        with contextlib.suppress(AbsentError):
            status = self.mark(name, mode, uid=uid)
            if status is not None:
                self.api.delete_pod(name, deletion(status.uid, seconds_to_end(status, grace)))

    def mark(self, name: str, mode: StopMode, *, uid: str | None = None) -> PodStatus | None:
        """Writes the stop mark and waits until the kubelet has written it too; None where there is nothing to stop."""
        pod = self.read(name)
        if pod is None or uid not in (None, pod["metadata"]["uid"]):
            return None
        status = self.status(pod)
        if status.ended or status.stopping:
            return None
        if needs_mark(pod, status, mode):
            with contextlib.suppress(AbsentError):  # the deletion will say so
                self.api.patch_pod(name, mark(mode, status.uid))
            time.sleep(self.config.mark_seconds)
        return status

    def tidy(self, mine: str) -> None:
        """Removes what nobody needs any more (gdi.pods.upkeep). `mine`, which may be let go now, is no such pod."""
        try:
            for phases in upkeep.PHASES:
                for pod in self.api.list_pods(upkeep.SELECTOR, field_selector=phases):
                    status, keep = self.status(pod), self.config.keep_seconds
                    if status.name != mine and upkeep.is_over(pod, status, keep_seconds=keep, now=time.time()):
                        version = pod["metadata"].get("resourceVersion")
                        with contextlib.suppress(AbsentError):  # with its ConfigMap, which is owned by it
                            self.api.delete_pod(status.name, deletion(status.uid, 0, version=version))
        except (ProblemError, LauncherError) as error:
            log.warning("Pods that ended long ago, or were never let go, are not deleted now: %s", error)
