"""SnakemakePodOperator: one node's part of a run, as a KubernetesPodOperator's pod."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any, NoReturn

from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import ApiClient
from kubernetes.client.models import V1Pod

from gdi.contracts import broker_api as m
from gdi.pods import config, manifest, template
from gdi.pods.answers import Json
from gdi.pods.model import LauncherError, PodSpec, PodStatus
from gdi.pods.status import gated
from gdi.pods.stopping import deletion, seconds_to_end
from gdi_operators.admitted_workflow import entry_of_run
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.kubernetes.api import Api, client_of
from gdi_operators.kubernetes.cluster_pods import ClusterPods
from gdi_operators.operators.snakemake_steps import SnakemakeSteps
from gdi_operators.pods import PodOrder, Pods
from gdi_operators.retry import with_retry
from gdi_operators.runs import Context
from gdi_operators.settings import settings
from gdi_operators.triggers.snakemake_pod import SnakemakePodTrigger

# How the provider's operator is to work here. An author who says otherwise is told so when the DAG is read.
FIXED: dict[str, Any] = {
    "random_name_suffix": False,
    "deferrable": True,
    "durable": False,  # looked up by name, uid and broker, never in Airflow's task state or by labels
    "on_finish_action": "keep_pod",  # until it was judged; then by age (gdi.pods.upkeep)
    "on_kill_action": "delete_pod",  # after the stop mark: one only marked would take an eviction for a cancel
    "log_events_on_startup": False,  # the Role grants no events
    "log_events_on_failure": False,
    "log_pod_spec_on_failure": False,
}
# Each run's, or the installation's (GDI_POD_CONFIG). What else a pod may not be told, gdi.pods.template refuses.
NOT_THE_AUTHORS = {
    "name",
    "namespace",
    "kubernetes_conn_id",
    "in_cluster",
    "config_file",
    "cluster_context",
    "base_container_name",
    "do_xcom_push",
    "reattach_on_restart",
    "is_delete_operator_pod",
    "logging_interval",
    "trigger_kwargs",
    "termination_grace_period",
    "termination_message_policy",
    "skip_on_exit_code",
    "secrets",
}
BACKSTOP = 60.0  # seconds after the trigger's own deadline, for a triggerer that is away


@dataclass(frozen=True)
class _Launch:
    """A pod that is being started."""

    pods: Pods
    spec: PodSpec
    generation: int
    state: dict[str, Any]
    files: dict[str, bytes]


class LetGo(KubernetesPodOperatorCallback):
    """The provider calls this between making a pod and waiting for it."""

    @staticmethod
    def on_pod_creation(*, pod: V1Pod, operator: SnakemakePodOperator, **_: Any) -> None:
        operator.let_go(pod)


class SnakemakePodOperator(SnakemakeSteps, KubernetesPodOperator):
    """KubernetesPodOperator for a node's part of a run, always deferred. Map it over the plan:
    `SnakemakePodOperator.partial(…).expand(item=admit.output)`; its own parameters are those of SnakemakeSteps. The
    cluster, namespace, image, account and limits are the installation's (GDI_POD_CONFIG). Within the limits a DAG may
    use `container_resources`, `affinity`, `tolerations`, `node_selector`, `priority_class_name`, `labels`,
    `annotations`, `pod_template_file`, `pod_template_dict`, `full_pod_spec` and `callbacks` as with the provider's.

    Overridden of the provider (10.25.0; tests/unit/gdi_operators/test_provider_contract.py holds what this rests on):

    - `execute`: whether a pod is to be started at all, and which; then the provider's `execute_async`.
    - `build_pod_request_obj`: the provider's pod, then ours over it (gdi.pods.manifest). No label `try_number`, by
      which `airflow kubernetes cleanup-pods` takes ended pods. No XCom sidecar: the result is a return value.
    - `find_pod`, `get_or_create_pod`: by name, uid and hash of the request. The provider's look by labels, take a
      stranger's pod, make a finished pod anew and return a request without uid.
    - the callback `on_pod_creation` (`let_go`): ConfigMap, uid pinned at the broker, gate taken away.
    - `invoke_defer_method`, `trigger_reentry`: SnakemakePodTrigger; the end is judged as SnakemakeOperator judges it.
    - `on_kill`: the stop mark, then the provider's, whose deletion names the uid; a pod that ended is kept.
    - `hook`: no connection `kubernetes_default` where the cluster around Airflow is meant.
    """

    template_fields = (*KubernetesPodOperator.template_fields, *SnakemakeSteps.template_fields)
    BASE_CONTAINER_NAME = manifest.CONTAINER

    def __init__(self, **kwargs: Any) -> None:
        wrong = sorted(k for k in kwargs if k in NOT_THE_AUTHORS or (k in FIXED and kwargs[k] != FIXED[k]))
        if wrong:
            raise ValueError(
                f"{', '.join(wrong)}: a run's pod is named, placed and kept by GDI_POD_CONFIG and the run; leave it out"
            )
        super().__init__(**{**kwargs, **FIXED, "termination_message_policy": manifest.MESSAGES})
        self.callbacks: list[Any] = [LetGo, *_listed(kwargs.get("callbacks"))]
        self.do_xcom_push = True  # of what is returned; the provider means a sidecar (build_pod_request_obj)
        self._launch_of: _Launch | None = None
        self._context: Context = {}

    # --- the provider's parts --------------------------------------------------------------------

    @cached_property
    def hook(self) -> KubernetesHook:
        return KubernetesHook(conn_id=self.kubernetes_conn_id, kubernetes_conn_id=None, in_cluster=self.in_cluster)

    def build_pod_request_obj(self, context: Context | None = None, *, dry_run: bool = False) -> V1Pod:
        self.do_xcom_push = False
        try:
            request = super().build_pod_request_obj(context, dry_run=dry_run)
        finally:
            self.do_xcom_push = True
        return request if self._launch_of is None else _model(self._manifest(self._launch_of, _json(request)))

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Context) -> V1Pod:
        body = _json(pod_request_obj)
        pod = self._patiently(lambda: self._cluster().take(body))
        with_uid = _model(pod)
        self._cluster().tidy(body["metadata"]["name"])
        return with_uid

    def find_pod(self, namespace: str, context: Context, *, exclude_checked: bool = True) -> V1Pod | None:
        if self.pod is None:
            return None
        name, uid = self.pod.metadata.name, self.pod.metadata.uid
        pod = self._patiently(lambda: self._cluster().read(name))
        if pod is None or pod["metadata"]["uid"] != uid:
            raise AirflowException(f"Pod {name} is gone before it was let go; the next try makes another.")
        return _model(pod)

    def invoke_defer_method(self, last_log_time: Any = None, context: Context | None = None) -> NoReturn:
        launch = self._launched()
        pod: Any = self.pod  # V1Pod: execute_async has set it
        state = {**launch.state, "generation": launch.generation, "uid": pod.metadata.uid}
        self.log.info("Started pod %s.", launch.spec.name)
        self._wait(context or self._context, launch.pods, None, state)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        return self.resume(context, event)

    def on_kill(self) -> None:
        """The task was ended by a user while on a worker: its pod is stopped. (Deferred, its trigger does it.)"""
        self._killed = True  # a pod that is being made is stopped in let_go
        if self.pod is None or not self.pod.metadata.uid:
            return
        name, uid, core = self.pod.metadata.name, self.pod.metadata.uid, self.client
        if (status := self._cluster().mark(name, "cancel", uid=uid)) is None:
            return
        body = deletion(uid, seconds_to_end(status, self.grace))  # the provider's call names no uid
        self.__dict__["client"] = SimpleNamespace(delete_namespaced_pod=partial(core.delete_namespaced_pod, body=body))
        try:
            super().on_kill()
        finally:
            self.__dict__["client"] = core

    # --- between making a pod and waiting for it ---------------------------------------------------

    def let_go(self, pod: V1Pod) -> None:
        """Gives a pod that is held its files, pins its uid, takes the gate away. Where the broker refuses, or the task
        was ended meanwhile, the pod is deleted: nobody else would.
        """
        launch, cluster = self._launched(), self._cluster()
        name, uid = pod.metadata.name, pod.metadata.uid
        at_gate = gated(_json(pod))
        if at_gate:
            url = self._config().cluster(self._node).broker_url or settings().broker_url
            if not url:
                raise LauncherError("pods are told no broker: set broker_url in GDI_POD_CONFIG or GDI_BROKER_URL")
            self._patiently(lambda: cluster.give_files(launch.spec, uid, launch.files, url))
        launch.pods.pin(name, uid)
        if self._killed:
            cluster.stop(name, mode="cancel", grace=0, uid=uid)
            raise AirflowException(f"The task was ended while pod {name} was made; the pod is not started.")
        if at_gate:
            self._patiently(lambda: cluster.let_go(name))

    # --- the steps' parts --------------------------------------------------------------------------

    def _pods(self, hook: TokenBrokerHook, run: m.Run) -> Pods:
        place = self._config().cluster(self._node)
        self.kubernetes_conn_id, self.namespace = place.conn_id, place.namespace
        self.in_cluster = None if place.conn_id else True
        return Pods(self._cluster(), hook, run, self._node)

    def _start(self, context: Context, pods: Pods, order: PodOrder, state: dict[str, Any]) -> NoReturn:
        generation = pods.register(order.generation)
        spec = pods.spec(order, generation)
        files = manifest.workflow_files(entry_of_run(self.workflow, pods.run).folder, spec)
        inline = files if manifest.fits(files) else {}
        self._launch_of = _Launch(pods, spec, generation, state, inline)
        self._context, self.name, self.pod, self.pod_request_obj = context, spec.name, None, None
        self.execute_async(context)  # not `execute`, which Airflow lets nobody call when a task is resumed
        raise AssertionError("execute_async defers")

    def _wait(
        self, context: Context, pods: Pods, status: PodStatus | None, state: dict[str, Any], *, watch_run: bool = True
    ) -> NoReturn:
        name = pods.name(int(state["generation"]))
        if status is not None:
            if "uid" not in state:
                pods.pin(name, status.uid)  # one that was found running: is it the one that the broker knows?
            state = {**state, "uid": status.uid}
        end, allowed = self._deadline(state), self.max_duration.total_seconds()
        started = getattr(context["ti"], "start_date", None)
        if self.execution_timeout is not None and started is not None:
            most = self.execution_timeout.total_seconds()
            if started.timestamp() + most < end:
                end, allowed = started.timestamp() + most, most
        trigger = SnakemakePodTrigger(
            run=str(self.item["run"]),
            attempt=int(state["attempt"]),
            node=self._node,
            pod=name,
            namespace=str(self.namespace),
            kubernetes_conn_id=self.kubernetes_conn_id,
            uid=str(state["uid"]),
            deadline=end,
            allowed=allowed,
            token_broker_conn_id=self.token_broker_conn_id,
            watch_run=watch_run,
            grace=self.grace,
            poll=self.poll,
            state={**state, "deadline": self._deadline(state)},
        )
        left = timedelta(seconds=max(0.0, end - time.time()) + BACKSTOP)
        self.defer(trigger=trigger, method_name="trigger_reentry", timeout=left)
        raise AssertionError("defer does not return")

    # --- inside ------------------------------------------------------------------------------------

    def _manifest(self, launch: _Launch, request: Json) -> Json:
        found = self._config()
        ours = manifest.pod(launch.spec, found, launch.files, template.wish_of(request, found.limits))
        ours["metadata"]["namespace"] = self.namespace
        return template.merged(request, ours)

    def _launched(self) -> _Launch:
        assert self._launch_of is not None
        return self._launch_of

    @staticmethod
    def _config() -> config.PodConfig:
        return config.read(settings().need("pod_config"))

    def _cluster(self) -> ClusterPods:
        core = client_of(self.kubernetes_conn_id, lambda: self.client)
        return ClusterPods(Api(core, str(self.namespace)), self._config())

    def _patiently(self, call: Any) -> Any:  # Callable[[], T] -> T
        return with_retry("The cluster", call, seconds=settings().broker_patience)


def _listed(callbacks: Any) -> list[Any]:  # the provider takes a class, a list of them, or None
    return list(callbacks) if isinstance(callbacks, list) else [callbacks] if callbacks else []


def _json(pod: V1Pod) -> Json:
    found: Json = ApiClient().sanitize_for_serialization(pod)
    return found


def _model(pod: Json) -> V1Pod:
    return PodGenerator.deserialize_model_dict(pod)
