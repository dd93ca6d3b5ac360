"""Airflow's KubernetesExecutor on the test cluster: scheduler, triggerer and API server are processes, every task
instance that needs a worker is a pod.

The settings are those of charts/gdi/values-airflow.yaml, as plain manifests: what the official chart makes of them
cannot be had in a test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from gdi.kit.secret_files import write_private
from tests.kubernetes import images
from tests.kubernetes.cluster import ROOT, Cluster
from tests.kubernetes.coordinator import NAMESPACE
from tests.kubernetes.federated import ClusterFederation
from tests.kubernetes.launcher_kit import CONNECTION, RUNS, kubeconfig
from tests.kubernetes.parts import API, API_URL

IN_CLUSTER = {"conn_type": "kubernetes", "extra": {"in_cluster": True, "namespace": RUNS}}
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "charts" / "gdi" / "values-airflow.yaml").read_text())


class ExecutorFederation(ClusterFederation):
    """A federation whose Airflow starts a pod for each task instance."""

    def airflow_environment(self) -> dict[str, str]:
        cluster, layout = self.cluster, self.layout
        # Workers are in the cluster, the triggerer that follows their pods is not: one connection of two meanings.
        meta = {"name": "gdi-pods", "namespace": NAMESPACE}
        pods = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta,
            "data": {"pods.yaml": self.pod_config.read_text()},
        }
        cluster.apply([*rights(), pods])
        token = cluster.kubectl("create", "token", "airflow", "-n", NAMESPACE, "--duration=4h").strip()
        config = kubeconfig(cluster, self.work / "executor-kubeconfig", API_URL, token)
        layout.results.chmod(0o777)  # workers are another user: a claim of their own stands here in production
        template = write_private(
            self.work / "worker.yaml", yaml.safe_dump(worker(layout.ports["airflow"], layout.results))
        )
        repository, tag = images.name_of("airflow").rsplit(":", 1)
        executor = {
            "NAMESPACE": NAMESPACE,
            "IN_CLUSTER": "False",
            "CONFIG_FILE": str(config),
            "POD_TEMPLATE_FILE": str(template),
            "WORKER_CONTAINER_REPOSITORY": repository,
            "WORKER_CONTAINER_TAG": tag,
            "DELETE_WORKER_PODS": "False",
        }
        return {
            **super().airflow_environment(),
            "AIRFLOW__CORE__EXECUTOR": "KubernetesExecutor",
            "AIRFLOW__API__HOST": "0.0.0.0",
            **{f"AIRFLOW__KUBERNETES_EXECUTOR__{name}": value for name, value in executor.items()},
        }

    def workers(self, dag_run: str) -> dict[str, str]:
        """{task id: phase} of the worker pods that there are."""
        found = json.loads(
            self.cluster.kubectl("get", "pods", "-n", NAMESPACE, "-l", "kubernetes_executor=True", "-o", "json")
        )["items"]
        of_run = [p for p in found if p["metadata"]["annotations"].get("run_id") == dag_run]
        return {p["metadata"]["annotations"]["task_id"]: p["status"]["phase"] for p in of_run}


def rights() -> list[dict[str, Any]]:
    """What the official chart gives the executor in Airflow's own namespace."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "airflow-workers"}
    meta = {"name": "airflow-workers", "namespace": NAMESPACE}
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete", "get", "list", "patch", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
    ]
    return [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", "name": "airflow", "namespace": NAMESPACE}],
        },
    ]


def worker(port: int, results: Path) -> dict[str, Any]:
    """The pod template: environment, volumes and security of values-airflow.yaml; the API server at a node's address,
    answers in a folder of the node.
    """
    env = [
        *VALUES["env"],
        {"name": "AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "value": f"http://{API}:{port}/execution/"},
        {"name": f"AIRFLOW_CONN_{CONNECTION.upper()}", "value": json.dumps(IN_CLUSTER)},
    ]
    given = [v for v in VALUES["volumes"] if v["name"] != "gdi-results"]
    scratch = [{"name": name, "emptyDir": {}} for name in ("home", "tmp")]
    container = {
        "name": "base",
        "image": images.name_of("airflow"),
        "imagePullPolicy": "Never",
        "env": env,
        "securityContext": {**VALUES["securityContexts"]["containers"], "readOnlyRootFilesystem": True},
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [
            {"name": "home", "mountPath": "/opt/airflow"},
            {"name": "tmp", "mountPath": "/tmp"},
            *VALUES["volumeMounts"],
        ],
    }
    spec = {
        "serviceAccountName": "airflow",
        "restartPolicy": "Never",
        "containers": [container],
        "securityContext": VALUES["securityContexts"]["pod"],
        "volumes": [*scratch, *given, {"name": "gdi-results", "hostPath": {"path": str(results)}}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker", "labels": {"tier": "airflow"}},
        "spec": spec,
    }


def loaded(cluster: Cluster) -> None:
    """Airflow's image on every node."""
    images.built("airflow")
    cluster.load(images.archive_of("airflow"))
