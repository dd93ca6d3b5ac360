"""The charts: helm lint, every object of every values file accepted by a real API server, wrong values refused by name,
Airflow's values within its chart.
"""

from __future__ import annotations

import json
import re
import string
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gdi.funnel.container_line import PULL, RUN, STOP
from gdi.kit.jose import SigningKey
from gdi.pods.config import amount
from node_gateway.policy import ReleasePolicy
from tests.kubernetes.charts import CHARTS, FOREIGN, VALUES, helm, named, rendered
from tests.kubernetes.cluster import Cluster

CLUSTERS = {
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "PriorityClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
# The keys of Airflow's chart 1.22.0 that our values use
# (https://airflow.apache.org/docs/helm-chart/1.22.0/parameters-ref.html). `*`: whatever is below.
AIRFLOW = {
    "airflowVersion": None,
    "defaultAirflowRepository": None,
    "defaultAirflowTag": None,
    "executor": None,
    "env": None,
    "config": "*",
    "uid": None,
    "gid": None,
    "fernetKeySecretName": None,
    "apiSecretKeySecretName": None,
    "jwtSecretName": None,
    "volumes": None,
    "volumeMounts": None,
    "images": {"airflow": {"repository", "tag", "pullPolicy"}, "pod_template": {"repository", "tag", "pullPolicy"}},
    "dags": {"persistence": {"enabled"}, "gitSync": {"enabled"}},
    "data": {"metadataSecretName", "brokerUrlSecretName"},
    "postgresql": {"enabled"},
    "redis": {"enabled"},
    "pgbouncer": {"enabled", "maxClientConn", "metadataPoolSize"},
    "securityContexts": {"pod": "*", "containers": "*"},
    "workers": {
        "celery": {
            "serviceAccount": {"create", "name"},
            "replicas": None,
            "terminationGracePeriodSeconds": None,
            "persistence": {"enabled"},
            "resources": "*",
            "keda": {"enabled", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod"},
        },
        "kubernetes": {"serviceAccount": {"create", "name"}, "resources": "*"},
    },
    "scheduler": {
        "replicas": None,
        "serviceAccount": {"create", "name"},
        "podDisruptionBudget": {"enabled": None, "config": "*"},
        "resources": "*",
    },
    "triggerer": {
        "replicas": None,
        "serviceAccount": {"create", "name"},
        "podDisruptionBudget": {"enabled": None, "config": "*"},
        "persistence": {"enabled"},
        "resources": "*",
    },
    "apiServer": {
        "replicas": None,
        "serviceAccount": {"create", "name"},
        "podDisruptionBudget": {"enabled": None, "config": "*"},
        "resources": "*",
    },
    "dagProcessor": {"enabled": None, "serviceAccount": {"create", "name"}, "resources": "*"},
    "createUserJob": {"useHelmHooks"},
    "migrateDatabaseJob": {"useHelmHooks"},
    "statsd": {"enabled"},
    "flower": {"enabled"},
    "networkPolicies": {"enabled"},
}


@pytest.mark.parametrize("values", VALUES)
def test_helm_lint_finds_nothing(values: str) -> None:
    done = helm("lint", "--strict", str(CHARTS / values.split("/")[0]), "-f", str(CHARTS / values))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", VALUES)
def test_every_object_is_accepted_by_the_api_server(cluster: Cluster, values: str) -> None:
    objects = rendered(values)
    namespaces = {o["metadata"].get("namespace") for o in objects} | {"gdi", "node-a"}
    made = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in sorted(n for n in namespaces if n)
    ]
    cluster.apply(made)
    release = "gdi" if values.startswith("gdi/") else "node-a"
    for one in objects:
        one["metadata"].setdefault("namespace", release)
        if one["kind"] in CLUSTERS:
            del one["metadata"]["namespace"]
    own = [o for o in objects if not o["apiVersion"].startswith(FOREIGN)]
    priority = {"apiVersion": "v1", "kind": "List", "items": own}
    said = cluster.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(priority), timeout=120
    )
    assert said.count("(server dry run)") == len(own) and "Warning" not in said, said


@pytest.mark.parametrize("values", VALUES)
def test_every_pod_of_the_charts_is_restricted_and_holds_no_secret_in_its_environment(values: str) -> None:
    for one in rendered(values):
        spec = one.get("spec", {}).get("template", {}).get("spec")
        if spec is None:
            continue
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {
            "type": "RuntimeDefault"
        }
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            held = container["securityContext"]
            assert (
                held["readOnlyRootFilesystem"]
                and not held["allowPrivilegeEscalation"]
                and held["capabilities"] == {"drop": ["ALL"]}
            ), container["name"]
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
            assert not [e for e in container.get("env", []) if "valueFrom" in e], "secrets come as files"


@pytest.mark.parametrize(
    ("chart", "wrong", "named"),
    [
        ("gdi", "broker.replicas=0", "replicas"),
        ("gdi", "broker.publicUrl=http://broker.example.org", "publicUrl"),
        ("gdi", "broker.vault.auth=token", "auth"),
        ("gdi", "broker.databse.url=x", "databse"),
        ("gdi", "runs.pods.limits.memory=lots", "memory"),
        ("gdi", "broker.database.url=postgresql+asyncpg://u:secret@h/d", "url"),
        ("gdi", "runs.namespace=gdi", "runs.namespace"),
        ("gdi", "broker.oidc.issuer=", "broker.oidc.issuer"),
        ("gdi-node", "node.id=Node A", "id"),
        ("gdi-node", "gateway.tes.flavour=tesk", "flavour"),
        ("gdi-node", "gateway.workspace.bucket=No_Bucket", "bucket"),
        ("gdi-node", "node.id=", "node.id"),
        ("gdi-node", "gateway.database.url=sqlite+aiosqlite:////x", "url"),
        ("gdi-node", "gateway.database.url=postgresql+asyncpg://u:secret@h/d", "url"),
        ("gdi-node", "gateway.replicas=2", "gateway.replicas"),
        ("gdi-node", "funnel.tasks.storageClass=No Class", "storageClass"),
        ("gdi-node", "funnel.tasks.accessMode=ReadOnlyMany", "accessMode"),
        ("gdi-node", "funnel.tasks.quota.count/pods=5", "quota"),
        ("gdi-node", "monitoring.prometheusRules.enabled=true", "prometheusRules"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(chart: str, wrong: str, named: str) -> None:
    values = str(CHARTS / chart / "ci/minimal.yaml")
    setting = ("--set-string" if wrong.endswith("=") else "--set", wrong)
    done = helm("template", "gdi", str(CHARTS / chart), "-n", "gdi", "--kube-version", "1.34.2", "-f", values, *setting)
    assert done.returncode != 0 and named in done.stderr, done.stderr


def test_gateways_share_postgresql_without_a_volume_and_one_alone_writes_sqlite() -> None:
    def parts(values: str) -> tuple[Any, Any, dict[str, str], list[dict[str, Any]]]:
        objects = rendered(values)
        spec = next(o["spec"] for o in objects if o["kind"] == "Deployment" and o["metadata"]["name"].endswith("way"))
        container = spec["template"]["spec"]["containers"][0]
        environment = {e["name"].removeprefix("NODE_GATEWAY_"): e["value"] for e in container["env"]}
        claims = [o for o in objects if o["kind"] == "PersistentVolumeClaim"]
        return spec, container, environment, claims

    spec, container, environment, claims = parts("gdi-node/ci/postgresql.yaml")
    assert spec["replicas"] == 2 and spec["strategy"]["type"] == "RollingUpdate" and claims == []
    assert environment["DATABASE_URL"].startswith("postgresql+asyncpg://gateway@")
    assert environment["DATABASE_PASSWORD_FILE"] == "/etc/gdi/database/password"
    mounts = {m["mountPath"] for m in container["volumeMounts"]}
    assert "/etc/gdi/database" in mounts and "/var/lib/gdi" not in mounts
    assert all("persistentVolumeClaim" not in v for v in spec["template"]["spec"]["volumes"])
    spec, container, environment, claims = parts("gdi-node/ci/minimal.yaml")
    assert spec["replicas"] == 1 and spec["strategy"]["type"] == "Recreate" and len(claims) == 1
    assert environment["DATABASE_URL"] == "sqlite+aiosqlite:////var/lib/gdi/gateway.db"
    assert "DATABASE_PASSWORD_FILE" not in environment
    assert "/var/lib/gdi" in {m["mountPath"] for m in container["volumeMounts"]}


def test_the_enrolment_and_the_pods_settings_that_the_chart_writes_are_understood(tmp_path: Path) -> None:
    from gdi.pods.config import read
    from token_broker.enrolment import parse

    maps = {o["metadata"]["name"]: o["data"] for o in rendered("gdi/ci/full.yaml") if o["kind"] == "ConfigMap"}
    (tmp_path / "enrolment.yaml").write_text(maps["gdi-broker-enrolment"]["enrolment.yaml"])
    issuer = parse(tmp_path / "enrolment.yaml").workload_issuers[0]
    assert issuer.airflow == ["system:serviceaccount:airflow:airflow"] and issuer.snakemake == [
        "system:serviceaccount:gdi-runs:snakemake"
    ]
    (tmp_path / "pods.yaml").write_text(maps["gdi-pods"]["pods.yaml"])
    config = read(tmp_path / "pods.yaml")
    assert (
        config.namespace == "gdi-runs"
        and config.broker_url == "http://gdi-broker.gdi.svc:8080"
        and config.image_pull_secrets == ("registry",)
    )
    assert (
        config.cluster("node-b").conn_id == "node_b_cluster" and config.wish("allele-frequency", None).memory == "2Gi"
    )


def test_a_nodes_public_key_is_taken_as_it_is_printed_and_whether_its_y_is_quoted_or_not(tmp_path: Path) -> None:
    from token_broker.enrolment import parse

    jwk = {**SigningKey.generate().jwk(), "alg": "ES256"}
    plain = "{" + ", ".join(f"{key}: {value}" for key, value in jwk.items()) + "}"
    for number, written in enumerate((plain, json.dumps(jwk), repr(json.dumps(jwk)))):
        node = (
            f'{{id: a, gateway_url: "https://a.example.org", public_key: {written}, datasets: [D], sda_audience: s,'
            " tes_audience: t}"
        )
        values = tmp_path / f"{number}.yaml"
        values.write_text(f"enrolment: {{nodes: [{node}]}}\n")
        maps = {
            o["metadata"]["name"]: o["data"]
            for o in rendered("gdi/ci/minimal.yaml", "-f", str(values))
            if o["kind"] == "ConfigMap"
        }
        (tmp_path / "enrolment.yaml").write_text(maps["gdi-broker-enrolment"]["enrolment.yaml"])
        assert parse(tmp_path / "enrolment.yaml").nodes[0].public_key == jwk


def test_the_policy_and_funnels_configuration_that_the_chart_writes_are_understood(tmp_path: Path) -> None:
    from node_gateway.policy import load

    maps: dict[str, dict[str, str]] = {}
    for one in rendered("gdi-node/ci/full.yaml"):
        if one["kind"] == "ConfigMap":
            maps[f"{one['metadata'].get('namespace', '')}/{one['metadata']['name']}"] = one["data"]
    (tmp_path / "policy.yaml").write_text(maps["/node-a-gateway-policy"]["policy.yaml"])
    assert load(tmp_path / "policy.yaml").review
    for place, file in (("node-a", "server.yaml"), ("node-a-tasks", "worker.yaml")):
        data = maps[f"{place}/node-a-funnel-config"]
        for name, content in {
            "tes/password": 'a"b: $c\n',
            "s3/credentials.json": '{"access_key": "k", "secret_key": "s\'{"}',
            "oidc/client-secret": "o",
        }.items():
            secret = tmp_path / "secrets" / name
            secret.parent.mkdir(parents=True, exist_ok=True)
            secret.write_text(content)
        (tmp_path / "render.py").write_text(
            data["render.py"].replace('"/secrets"', json.dumps(str(tmp_path / "secrets")))
        )
        (tmp_path / file).write_text(data[file])
        done = subprocess.run(
            ["python3", "-I", str(tmp_path / "render.py"), str(tmp_path / file), str(tmp_path / "out.yaml")],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        config = yaml.safe_load((tmp_path / "out.yaml").read_text())
        assert (
            config["Server"]["TaskAccess"] == "OwnerOrAdmin"
            and config["Compute"] == "kubernetes"
            and config["RPCClient"]["Password"] == 'a"b: $c'
        )
        assert config["SDAStorage"]["ServiceURL"] == "http://127.0.0.1:8090"
        worker = yaml.safe_load(
            config["Kubernetes"]["Template"].replace("{{.TaskId}}", "t1").replace("{{.Namespace}}", "node-a-tasks")
        )
        beside = worker["spec"]["template"]["spec"]["initContainers"][2]
        assert beside["command"][-2:] == ["https://node-a-gateway-internal.node-a.svc:8081", "/certificates"]
        told = {e["name"] for e in worker["spec"]["template"]["spec"]["containers"][0]["env"]}
        assert (
            "{{.TaskId}}" in config["Kubernetes"]["Template"]
            and set(re.findall("GDI_[A-Z_]+", config["Kubernetes"]["Template"])) <= told
        )
        assert (
            worker["spec"]["template"]["spec"]["tolerations"]
            and yaml.safe_load(maps["node-a-tasks/node-a-funnel-config"]["task.yaml"])["spec"]["tolerations"]
        )
        assert (
            config["Worker"]["Container"].items()
            >= {
                "RunCommand": RUN,
                "PullCommand": PULL,
                "StopCommand": STOP,
            }.items()
        )
        assert (tmp_path / "out.yaml").stat().st_mode & 0o777 == 0o600


def test_workers_and_the_commands_that_they_wait_for_share_no_quota() -> None:
    """Which of a namespace's pods a quota counts: those with an end, or those without."""
    objects = rendered("gdi-node/ci/full.yaml")
    quotas = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "ResourceQuota"}
    assert quotas == {
        "node-a-funnel-executors": {"scopes": ["NotTerminating"], "hard": {"pods": "500", "requests.memory": "2Ti"}},
        "node-a-funnel-workers": {"scopes": ["Terminating"], "hard": {"pods": "500"}},
        "node-a-funnel-all": {"hard": {"services": "0"}},
    }
    worker, task = tasks_of(objects)
    assert (
        worker["spec"]["template"]["spec"]["activeDeadlineSeconds"] > 0 and "activeDeadlineSeconds" not in task["spec"]
    )
    assert not [o for o in rendered("gdi-node/ci/funnel.yaml") if o["kind"] == "ResourceQuota"]


def funnels(objects: list[dict[str, Any]], template: str) -> Any:
    """One of the templates in the configuration of Funnel's server."""
    (data,) = (o["data"] for o in objects if o["kind"] == "ConfigMap" and "server.yaml" in o["data"])
    filled = string.Template(data["server.yaml"]).substitute(
        tes_password="x", s3_access="x", s3_secret="x", oidc_secret="x"
    )
    return yaml.safe_load(yaml.safe_load(filled)["Kubernetes"][template])


def tasks_of(objects: list[dict[str, Any]]) -> tuple[Any, Any]:
    """The manifests of a worker and of a command."""
    (task,) = (o["data"]["task.yaml"] for o in objects if o["kind"] == "ConfigMap" and "task.yaml" in o["data"])
    return funnels(objects, "Template"), yaml.safe_load(task)


def test_a_tasks_volume_is_of_the_clusters_own_class_where_none_is_named() -> None:
    claim = funnels(rendered("gdi-node/ci/funnel.yaml"), "PVCTemplate")["spec"]
    assert "storageClassName" not in claim and claim["accessModes"] == ["ReadWriteMany"]
    claim = funnels(rendered("gdi-node/ci/full.yaml", "--set", "funnel.tasks.accessMode=ReadWriteOnce"), "PVCTemplate")[
        "spec"
    ]
    assert claim["storageClassName"] == "shared" and claim["accessModes"] == ["ReadWriteOnce"]


def test_the_driver_is_told_the_nodes_names_of_images_and_its_patience() -> None:
    worker, _ = tasks_of(rendered("gdi-node/ci/full.yaml", "--set", "funnel.tasks.startSeconds=1000000"))
    told = {e["name"]: e.get("value", "") for e in worker["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert (
        json.loads(told["GDI_IMAGES"]) == {"gdi-task:1": "registry.example.org/gdi-task:0.1.0"}
        and told["GDI_START_SECONDS"] == "1000000"
    )
    worker, _ = tasks_of(rendered("gdi-node/ci/funnel.yaml"))
    assert {"name": "GDI_IMAGES", "value": "{}"} in worker["spec"]["template"]["spec"]["containers"][0]["env"]


@pytest.mark.parametrize("values", [v for v in VALUES if v.startswith("gdi-node/")])
def test_the_largest_release_evicts_no_gateway(values: str) -> None:
    deployment = named(rendered(values), "Deployment", "node-a-gateway")
    (tmp,) = (v["emptyDir"] for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "tmp")
    assert amount(tmp["sizeLimit"]) >= 4 * ReleasePolicy().max_parquet_bytes


def test_a_gateway_that_nobody_is_named_for_lets_nobody_in() -> None:
    coordinator = ("--set", "node.placement=coordinator", "--set-json", "gateway.network.from=[]")
    shut = rendered("gdi-node/ci/minimal.yaml", *coordinator)
    assert not named(shut, "NetworkPolicy", "node-a-gateway")["spec"]["ingress"]
    shut = rendered("gdi-node/ci/funnel.yaml", *coordinator)
    assert [r["ports"][0]["port"] for r in named(shut, "NetworkPolicy", "node-a-gateway")["spec"]["ingress"]] == [
        "internal"
    ]
    for values in VALUES:
        for one in rendered(values):
            rules = [r for r in one.get("spec", {}).get("ingress") or [] if one["kind"] == "NetworkPolicy"]
            assert all(rule["from"] for rule in rules), one["metadata"]["name"]


def test_funnel_starts_anew_where_what_it_reads_changes() -> None:
    def checksum(*more: str) -> str:
        deployment = named(rendered("gdi-node/ci/full.yaml", *more), "Deployment", "node-a-funnel")
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert (
        checksum() == checksum("--set", "gateway.maxStreams=3") != checksum("--set", "funnel.tasks.storageClass=other")
    )


@pytest.mark.parametrize(
    ("values", "namespace"), [("gdi-node/ci/full.yaml", "node-a-tasks"), ("gdi/ci/full.yaml", "gdi-runs")]
)
def test_strangers_programs_stay_shut_in_when_the_release_goes(values: str, namespace: str) -> None:
    (deny,) = (
        o
        for o in rendered(values)
        if o["kind"] == "NetworkPolicy"
        and o["metadata"].get("namespace") == namespace
        and o["spec"]["podSelector"] == {}
    )
    assert deny["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"} and set(deny["spec"]) == {
        "podSelector",
        "policyTypes",
    }


def test_airflows_values_use_keys_that_its_chart_documents() -> None:
    def unknown(values: Any, known: Any, place: str) -> list[str]:
        if known is None or known == "*" or not isinstance(values, dict):
            return []
        names = known if isinstance(known, dict) else dict.fromkeys(known)
        return [f"{place}{key}" for key in values if key not in names] + [
            u for key in values if key in names for u in unknown(values[key], names[key], f"{place}{key}.")
        ]

    values = yaml.safe_load((CHARTS / "gdi" / "values-airflow.yaml").read_text())
    assert unknown(values, AIRFLOW, "") == []
    environment = {e["name"]: e["value"] for e in values["env"]}
    mounts = {m["mountPath"] for m in values["volumeMounts"]}
    assert (
        str(Path(environment["GDI_IDENTITY_TOKEN_FILE"]).parent) in mounts
        and str(Path(environment["GDI_POD_CONFIG"]).parent) in mounts
    )
    assert {m["name"] for m in values["volumeMounts"]} == {v["name"] for v in values["volumes"]}
    accounts = [values[c]["serviceAccount"] for c in ("scheduler", "triggerer", "apiServer", "dagProcessor")] + [
        w["serviceAccount"] for w in values["workers"].values()
    ]
    assert all(a == {"create": False, "name": "airflow"} for a in accounts)
