"""SnakemakePodTrigger: SnakemakeTrigger for a pod of Kubernetes, over the provider's asynchronous hook."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from gdi.pods import config
from gdi_operators.kubernetes.api import AsyncApi
from gdi_operators.kubernetes.pod_watch import PodWatch
from gdi_operators.settings import settings
from gdi_operators.triggers.snakemake import PodWatcher, SnakemakeTrigger


class SnakemakePodTrigger(SnakemakeTrigger):
    """`namespace`, `kubernetes_conn_id` (None: the cluster around this process) and `uid` are of the pod that is waited
    for: another of its name counts as gone. `deadline` (seconds since the epoch) and `allowed` (seconds that this is
    from the start): then the event is `overdue`.

    Its row in Airflow's database holds names only: no connection's extra, no kubeconfig. The provider's trigger gives
    up after three reads, knows nothing of the run, and writes the connection into its row.
    """

    def __init__(
        self,
        *,
        namespace: str,
        kubernetes_conn_id: str | None,
        uid: str,
        deadline: float,
        allowed: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.namespace, self.kubernetes_conn_id, self.uid = namespace, kubernetes_conn_id, uid
        self.deadline, self.allowed = deadline, allowed

    def serialize(self) -> tuple[str, dict[str, Any]]:
        path, kwargs = super().serialize()
        del kwargs["launcher"]
        return path, {
            **kwargs,
            "namespace": self.namespace,
            "kubernetes_conn_id": self.kubernetes_conn_id,
            "uid": self.uid,
            "deadline": self.deadline,
            "allowed": self.allowed,
        }

    def _watch(self) -> PodWatcher:
        api = AsyncApi(self.kubernetes_conn_id, self.namespace)
        return PodWatch(api, config.read(settings().need("pod_config")), self.uid)

    def _overdue(self) -> str:
        return str(timedelta(seconds=round(self.allowed))) if time.time() >= self.deadline else ""
