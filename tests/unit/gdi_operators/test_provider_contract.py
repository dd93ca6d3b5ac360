"""What SnakemakePodOperator rests on in Airflow's Kubernetes provider: the methods that it overrides or calls, and the
order in which the provider calls them. An upgrade that moves one fails here, by name.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes import __version__
from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.cli.kubernetes_command import cleanup_pods
from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook, KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger

from gdi.pods import template
from gdi_operators.operators.snakemake_pod import FIXED, NOT_THE_AUTHORS, LetGo, SnakemakePodOperator
from gdi_operators.triggers.snakemake_pod import SnakemakePodTrigger

ITEM = {"run": "r-0123456789abcdef0123", "node": "node-a"}


def parameters(method: Any) -> list[str]:
    return [name for name in inspect.signature(inspect.unwrap(method)).parameters if name != "self"]


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (KubernetesPodOperator.execute, ["context"]),
        (KubernetesPodOperator.execute_async, ["context"]),
        (KubernetesPodOperator.build_pod_request_obj, ["context", "dry_run"]),
        (KubernetesPodOperator.find_pod, ["namespace", "context", "exclude_checked"]),
        (KubernetesPodOperator.get_or_create_pod, ["pod_request_obj", "context"]),
        (KubernetesPodOperator.invoke_defer_method, ["last_log_time", "context"]),
        (KubernetesPodOperator.trigger_reentry, ["context", "event"]),
        (KubernetesPodOperator.on_kill, []),
        (KubernetesPodOperatorCallback.on_pod_creation, ["pod", "client", "mode", "operator", "context", "kwargs"]),
    ],
)
def test_the_provider_declares_what_is_overridden_as_it_did(method: Any, names: list[str]) -> None:
    assert parameters(method) == names
    ours = getattr(SnakemakePodOperator, method.__name__, None) or getattr(LetGo, method.__name__)
    if ours.__qualname__ != method.__qualname__ and method.__name__ != "on_pod_creation":
        assert parameters(ours) == names, "whoever calls ours may call it as the provider's"


def test_the_provider_is_the_one_that_was_read() -> None:
    assert __version__ == "10.25.0", "read its changes, then the docstring of SnakemakePodOperator, then change this"


def test_every_parameter_that_is_fixed_or_refused_is_the_providers() -> None:
    known = {*parameters(KubernetesPodOperator.__init__)}
    assert set(FIXED) <= known and known >= NOT_THE_AUTHORS - {"base_container_name"}
    assert {*inspect.signature(KubernetesHook.__init__).parameters} >= {"conn_id", "kubernetes_conn_id", "in_cluster"}
    assert "config_dict" in inspect.signature(AsyncKubernetesHook.__init__).parameters


class Steps(SnakemakePodOperator):
    """Notes who is called in which order, and does nothing in a cluster."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.calls: list[str] = []
        self.__dict__["client"] = object()

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> Any:
        self.calls.append("build_pod_request_obj")
        return "the request"

    def get_or_create_pod(self, pod_request_obj: Any, context: Any) -> Any:
        assert pod_request_obj == "the request"
        self.calls.append("get_or_create_pod")
        return SimpleNamespace(metadata=SimpleNamespace(name="x", namespace="y", uid="made"))

    def find_pod(self, namespace: str, context: Any, *, exclude_checked: bool = True) -> Any:
        assert namespace == "y"
        self.calls.append("find_pod")
        return SimpleNamespace(metadata=SimpleNamespace(uid="found"))

    def let_go(self, pod: Any) -> None:
        self.calls.append(f"let_go {pod.metadata.uid}")

    def invoke_defer_method(self, last_log_time: Any = None, context: Any = None) -> Any:
        assert context is not None and last_log_time is None
        self.calls.append("invoke_defer_method")


def test_the_provider_makes_a_pod_calls_back_and_then_defers() -> None:
    operator = Steps(task_id="analyse", workflow="probe", item=ITEM)
    pushed: list[str] = []
    operator.execute_async({"ti": SimpleNamespace(xcom_push=lambda key, value: pushed.append(key))})  # type: ignore[arg-type]
    assert operator.calls == [
        "build_pod_request_obj",
        "get_or_create_pod",
        "find_pod",
        "let_go found",
        "invoke_defer_method",
    ]
    assert pushed == ["pod_name", "pod_namespace"]


def test_an_author_may_use_the_providers_parameters_but_not_name_or_keep_a_runs_pod() -> None:
    made = SnakemakePodOperator(
        task_id="a", workflow="probe", item=ITEM, node_selector={"disk": "ssd"}, labels={"team": "blue"}, callbacks=None
    )
    assert made.callbacks == [LetGo] and made.deferrable and not made.durable and made.on_finish_action == "keep_pod"
    assert isinstance(made, KubernetesPodOperator) and made.base_container_name == "snakemake"
    assert set(made.template_fields) == {*KubernetesPodOperator.template_fields, "item"}
    for wrong in ({"name": "x"}, {"on_finish_action": "delete_pod"}, {"deferrable": False}, {"durable": True}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SnakemakePodOperator(task_id="a", workflow="probe", item=ITEM, **wrong)


def test_the_triggers_row_holds_names_only() -> None:
    trigger = SnakemakePodTrigger(
        run="r-1",
        attempt=1,
        node="node-a",
        pod="p",
        namespace="n",
        kubernetes_conn_id="c",
        uid="u",
        deadline=1.0,
        allowed=1.0,
        state={"attempt": 1},
    )
    path, kwargs = trigger.serialize()
    assert path == "gdi_operators.triggers.snakemake_pod.SnakemakePodTrigger"
    assert set(kwargs) == {
        "run",
        "attempt",
        "node",
        "pod",
        "token_broker_conn_id",
        "watch_run",
        "grace",
        "poll",
        "state",
        "namespace",
        "kubernetes_conn_id",
        "uid",
        "deadline",
        "allowed",
    }
    assert SnakemakePodTrigger(**kwargs).serialize() == (path, kwargs)
    row = KubernetesPodTrigger(pod_name="p", pod_namespace="n", trigger_start_time=None, base_container_name="b")  # type: ignore[arg-type]
    assert {"connection_extras", "config_dict"} <= set(row.serialize()[1]), "what the provider's row holds, and why"


def test_cleanup_pods_looks_for_the_label_that_ours_have_not() -> None:
    source = inspect.getsource(cleanup_pods)
    listed = source[source.index("airflow_pod_labels = [") :].split("]", 1)[0]
    assert f'"{template.TRY}"' in listed and '",".join(airflow_pod_labels)' in source, "all of its labels must be there"


def test_on_kill_is_still_called_by_its_name_for_a_trigger() -> None:
    from airflow.jobs.triggerer_job_runner import TriggerRunner

    source = inspect.getsource(TriggerRunner)
    assert "trigger.on_kill()" in source and "_USER_ACTION_CANCEL_MSG" in source
