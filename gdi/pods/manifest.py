"""A Snakemake pod and its ConfigMap as Kubernetes objects: nothing secret in either, pod security `restricted`, held by
a gate until its uid is pinned.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gdi.contracts.run_file import RunFile
from gdi.contracts.workflow import CatalogueError
from gdi.contracts.workflow_files import digest_of, files_with_digest
from gdi.kit.canonical import sha256_hex
from gdi.pods.config import PodConfig, Wish, amount
from gdi.pods.model import LauncherError, PodSpec

GATE = "gdi-uid-not-pinned"  # a pod with a scheduling gate exists, has its uid, and runs nothing
# annotation: cancel | hand-over, written before the pod is deleted; the pod reads it at /gdi/pod/annotations
STOP = "gdi-stop"
SPEC = "gdi-spec"  # annotation: hash of what was asked for
# annotation: when the gate was taken away, by Airflow's clock; from then on a pod has its time to start
LET_GO = "gdi-let-go-at"
CONTAINER = "snakemake"
MESSAGES = "FallbackToLogsOnError"
MANAGED = {"app.kubernetes.io/name": "gdi-snakemake", "app.kubernetes.io/managed-by": "gdi-airflow"}
IDENTITY_SECONDS = 600  # the shortest life that Kubernetes gives
GRACE = 60  # seconds from SIGTERM on eviction: cancelling takes at most 50
MAX_CONFIG_MAP = 900_000  # bytes of file contents; Kubernetes takes 1 MiB with everything around


def spec_hash(spec: PodSpec) -> str:
    """The same for the same request, whoever repeats it."""
    return sha256_hex(json.dumps(vars(spec), sort_keys=True, separators=(",", ":")).encode())[:32]


def labels(spec: PodSpec) -> dict[str, str]:
    return {
        **MANAGED,
        "gdi-run": spec.run,
        "gdi-node": spec.node,
        "gdi-attempt": str(spec.attempt),
        "gdi-workflow": spec.workflow,
    }


def workflow_files(folder: Path, spec: PodSpec) -> dict[str, bytes]:
    """The files of the workflow in `folder`, as admitted. LauncherError where they are others now."""
    try:
        found, names = digest_of(folder), files_with_digest(folder, spec.digest)
        files = {name: (folder / name).read_bytes() for name in names}
    except (OSError, CatalogueError) as error:
        raise LauncherError(
            f"the workflow {spec.workflow} cannot be read: {error}; mend the catalogue and retry"
        ) from None
    if not names:
        raise LauncherError(
            f"the workflow {spec.workflow} is {found} here, but the run was admitted with {spec.digest}; start the"
            " analysis again"
        )
    return files


def fits(files: dict[str, bytes]) -> bool:
    """Whether the files go into the ConfigMap; otherwise the image must have them (the pod checks the digest either
    way).
    """
    return sum(len(data) * 4 // 3 + len(name) * 3 + 100 for name, data in files.items()) <= MAX_CONFIG_MAP


def keys(files: dict[str, bytes]) -> dict[str, str]:
    """{path: key of the ConfigMap}. A key may hold no slash."""
    return {name: f"file-{number}" for number, name in enumerate(sorted(files))}


def config_map(spec: PodSpec, uid: str, broker_url: str, files: dict[str, bytes]) -> dict[str, Any]:
    """run.json and the workflow's files; owned by the pod, so it goes with it."""
    named = keys(files)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": spec.name,
            "labels": labels(spec),
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": spec.name, "uid": uid}],
        },
        "immutable": True,
        "data": {"run.json": RunFile.of(spec, spec.name, broker_url=broker_url).model_dump_json()},
        "binaryData": {named[name]: base64.b64encode(data).decode() for name, data in files.items()},
    }


def resources_of(cpu: str, memory: str, disk: str) -> dict[str, dict[str, str]]:
    """A container's resources for quantities of Kubernetes. The disk's limit leaves room for logs and /tmp."""
    size = int(amount(disk))
    return {
        "requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": str(size)},
        "limits": {"memory": memory, "ephemeral-storage": str(size * 11 // 10 + 2**26)},
    }


def pod(spec: PodSpec, config: PodConfig, files: dict[str, bytes], author: Wish | None = None) -> dict[str, Any]:
    """The pod. `files`: the workflow's that come by ConfigMap; empty: they come from the image. `author`: what its DAG
    asks for, within the limits. LauncherError for a run's wish beyond the limits.
    """
    cluster = config.cluster(spec.node)
    try:
        wish = config.wish(spec.workflow, None if spec.pod is None else Wish.model_validate(spec.pod), author)
    except ValidationError as error:
        raise LauncherError(
            f"the run asks for a pod in a way that is not understood: {error.errors()[0]['msg']}"
        ) from None
    except ValueError as error:
        raise LauncherError(f"the run asks for a pod that it may not have: {error}") from None
    assert wish.cpu and wish.memory and wish.disk
    resources = resources_of(wish.cpu, wish.memory, wish.disk)
    disk = resources["requests"]["ephemeral-storage"]
    secure = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    mounts = [
        {"name": "work", "mountPath": "/gdi/work"},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "identity", "mountPath": "/gdi/identity", "readOnly": True},
        {"name": "pod", "mountPath": "/gdi/pod", "readOnly": True},
        # By subPath, so that they are files and not links: a workflow's digest counts no links.
        {"name": "run", "mountPath": "/gdi/run.json", "subPath": "run.json", "readOnly": True},
    ]
    items = [{"key": "run.json", "path": "run.json"}]
    volumes: list[dict[str, Any]] = [
        {"name": "work", "emptyDir": {"sizeLimit": disk}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        {
            "name": "identity",
            "projected": {
                "defaultMode": 0o400,
                "sources": [
                    {
                        "serviceAccountToken": {
                            "audience": "token-broker",
                            "expirationSeconds": IDENTITY_SECONDS,
                            "path": "token",
                        }
                    }
                ],
            },
        },
        {
            "name": "pod",
            "downwardAPI": {"items": [{"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}]},
        },
        {"name": "run", "configMap": {"name": spec.name, "items": items}},
    ]
    init = []
    env = []
    if files:
        items += [{"key": key, "path": f"workflow/{name}"} for name, key in keys(files).items()]
        mounts.append({"name": "run", "mountPath": "/gdi/workflow", "subPath": "workflow", "readOnly": True})
    else:
        volumes.append({"name": "workflow", "emptyDir": {"sizeLimit": "8Mi"}})
        mounts.append({"name": "workflow", "mountPath": "/gdi/workflow", "readOnly": True})
        init.append(
            {
                "name": "workflow",
                "image": cluster.image,
                "imagePullPolicy": config.image_pull_policy,
                "securityContext": secure,
                "command": ["cp", "-RL", f"/opt/gdi/workflows/{spec.workflow}/.", "/gdi/workflow/"],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                "volumeMounts": [{"name": "workflow", "mountPath": "/gdi/workflow"}],
            }
        )
    if cluster.ca_config_map is not None:
        volumes.append(
            {"name": "ca", "configMap": {"name": cluster.ca_config_map, "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
        )
        mounts.append({"name": "ca", "mountPath": "/gdi/ca", "readOnly": True})
        env.append({"name": "SSL_CERT_FILE", "value": "/gdi/ca/ca.crt"})
    body: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": cluster.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE,
        "schedulingGates": [{"name": GATE}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": config.user,
            "runAsGroup": config.user,
            "fsGroup": config.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": cluster.image,
                "imagePullPolicy": config.image_pull_policy,
                "resources": resources,
                "securityContext": secure,
                "command": ["python3", "-P", "-m", "snakemake_tes_auth.pod"],
                "workingDir": "/gdi/work",
                "env": env,
                "volumeMounts": mounts,
                "terminationMessagePolicy": MESSAGES,
            }
        ],
        "volumes": volumes,
    }
    optional = {
        "initContainers": init,
        "imagePullSecrets": [{"name": name} for name in cluster.image_pull_secrets or ()],
        "priorityClassName": wish.priority_class,
        "runtimeClassName": cluster.runtime_class,
        "nodeSelector": wish.node_selector,
        "tolerations": [t.manifest() for t in wish.tolerations or ()],
    }
    body.update({key: value for key, value in optional.items() if value})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": spec.name,
            "labels": labels(spec),
            "annotations": {SPEC: spec_hash(spec), "cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
        },
        "spec": body,
    }
