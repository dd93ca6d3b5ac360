"""charts/gdi-node in placement `node`: no way in from outside, 443 the only way out, an agent that may make pods in one
namespace, and a gateway without a token of the cluster. By `helm template` alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gdi.kit.settings import SettingsError
from gdi.pods.config import read
from node_gateway.policy import PolicyFile
from tests.kubernetes.charts import named, rendered, template
from tests.support.debian import program

OWN = "gdi-node/ci/own.yaml"
COORDINATOR = ("--set", "node.placement=coordinator")


@pytest.fixture(scope="module")
def own() -> list[dict[str, Any]]:
    return rendered(OWN)


def gateway_pod(objects: list[dict[str, Any]]) -> Any:
    return named(objects, "Deployment", "node-a-gateway")["spec"]["template"]["spec"]


def policies(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [o for o in objects if o["kind"] == "NetworkPolicy"]


def test_nothing_of_the_node_is_reached_from_outside(own: list[dict[str, Any]]) -> None:
    assert not [o for o in own if o["kind"] in ("Ingress", "HTTPRoute", "Gateway")]
    services = [o for o in own if o["kind"] == "Service"]
    assert {s["spec"].get("type", "ClusterIP") for s in services} == {"ClusterIP"}
    assert "node-a-gateway" not in [s["metadata"]["name"] for s in services]
    for policy in policies(own):
        for rule in policy["spec"].get("ingress") or []:
            for peer in rule["from"]:
                assert "ipBlock" not in peer
                space = (peer.get("namespaceSelector") or {}).get("matchLabels", {})
                allowed = {"node-a", "node-a-runs", "node-a-tasks", "monitoring"}
                assert space.get("kubernetes.io/metadata.name", "node-a") in allowed
    pods = [
        *gateway_pod(own)["containers"],
        *named(own, "Deployment", "node-a-funnel")["spec"]["template"]["spec"]["containers"],
    ]
    assert not [port for pod in pods for port in pod.get("ports") or [] if "hostPort" in port]


def test_the_only_way_out_is_443(own: list[dict[str, Any]]) -> None:
    outside = [
        (peer["ipBlock"]["cidr"], port["port"])
        for policy in policies(own)
        for rule in policy["spec"].get("egress") or []
        for peer in rule["to"]
        if "ipBlock" in peer
        for port in rule["ports"]
    ]
    assert {port for _, port in outside} == {443, 6443}  # 6443: the cluster's own API server (cluster.apiServer)
    denied = [p for p in policies(own) if p["spec"]["podSelector"] == {}]
    assert {p["metadata"]["namespace"] for p in denied} == {"node-a-runs", "node-a-tasks"}
    snakemake = next(p for p in policies(own) if p["metadata"]["name"] == "node-a-snakemake")["spec"]
    assert "ingress" not in snakemake and set(snakemake["policyTypes"]) == {"Ingress", "Egress"}
    assert not [peer for rule in snakemake["egress"] for peer in rule["to"] if "ipBlock" in peer]


def test_only_the_agent_has_a_token_of_the_cluster_and_it_may_make_pods_in_one_namespace(
    own: list[dict[str, Any]],
) -> None:
    pod = gateway_pod(own)
    assert pod["automountServiceAccountToken"] is False
    gateway, agent = pod["containers"]
    assert (gateway["name"], agent["name"], agent["args"]) == ("gateway", "agent", ["agent"])
    mounts = {m["name"]: m for m in gateway["volumeMounts"]}
    assert "cluster" not in mounts and mounts["agent"]["readOnly"] is True
    assert "cluster" in {m["name"] for m in agent["volumeMounts"]} and not agent.get("ports")
    assert {v["name"] for v in pod["volumes"]} >= {m["name"] for c in pod["containers"] for m in c["volumeMounts"]}
    role = named(own, "Role", "node-a-gateway-agent")
    assert role["metadata"]["namespace"] == "node-a-runs"
    assert [r["resources"] for r in role["rules"]] == [["pods"], ["configmaps"]]
    binding = named(own, "RoleBinding", "node-a-gateway-agent")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "node-a-gateway", "namespace": "node-a"}]
    assert not [o for o in own if o["kind"] == "ClusterRoleBinding" and "gateway" in str(o["subjects"])]


def test_the_pods_file_and_the_policy_are_understood_and_name_this_node(
    own: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "pods.yaml").write_text(named(own, "ConfigMap", "node-a-gateway-pods")["data"]["pods.yaml"])
    config = read(tmp_path / "pods.yaml")
    assert (config.namespace, config.broker_url) == ("node-a-runs", "http://node-a-gateway-runs.node-a.svc:8080")
    assert (config.start_timeout, config.workflows["allele-frequency"].memory) == (600, "2Gi")
    (tmp_path / "policy.yaml").write_text(named(own, "ConfigMap", "node-a-gateway-policy")["data"]["policy.yaml"])
    assert PolicyFile(tmp_path / "policy.yaml").current().placement == "node"
    gateway, agent = ({e["name"]: e.get("value") for e in c["env"]} for c in gateway_pod(own)["containers"])
    assert agent["NODE_GATEWAY_LAUNCHER"] == "pods" and "NODE_GATEWAY_LAUNCHER" not in gateway
    assert gateway["NODE_GATEWAY_LAUNCHER_SUBJECT"] == "system:serviceaccount:node-a-runs:snakemake"
    assert gateway["NODE_GATEWAY_LAUNCHER_JWKS_FILE"] == agent["NODE_GATEWAY_LAUNCHER_JWKS_FILE"]
    assert gateway.items() <= agent.items()


def test_placement_node_is_the_default_and_one_of_the_coordinator_keeps_its_service() -> None:
    policy = named(rendered("gdi-node/ci/minimal.yaml"), "ConfigMap", "node-a-gateway-policy")["data"]["policy.yaml"]
    assert yaml.safe_load(policy)["placement"] == "node"
    before = rendered("gdi-node/ci/minimal.yaml", *COORDINATOR)
    names = {(o["kind"], o["metadata"]["name"]) for o in before}
    assert ("Service", "node-a-gateway") in names and ("Service", "node-a-gateway-runs") not in names
    assert not {n for n in names if "runs" in n[1] or n[1].endswith(("-agent", "-pods", "-snakemake"))}
    assert [c["name"] for c in gateway_pod(before)["containers"]] == ["gateway"]
    assert {o["kind"] for o in rendered("gdi-node/ci/minimal.yaml")} >= {"Role", "RoleBinding"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("gateway.ingress.enabled=true", "gateway.ingress.host=a.example.org"), "nothing of the node listens"),
        (("gateway.policy.placement=coordinator",), "gateway.policy.placement"),
        (("node.placement=both",), "placement"),
        (("runs.namespace=node-a",), "runs.namespace must not be"),
        (("agent.maxRuns=0",), "maxRuns"),
        (("runs.pods.limits.cpus=1",), "cpus"),
    ],
)
def test_what_contradicts_the_placement_is_refused_by_name(wrong: tuple[str, ...], said: str) -> None:
    done = template(OWN, *(a for one in wrong for a in ("--set", one)))
    assert done.returncode and said in done.stderr


def test_a_pods_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_text("image: 1")
    with pytest.raises(SettingsError, match="GDI_POD_CONFIG"):
        read(tmp_path / "pods.yaml")


def test_nginx_before_the_bytes_reads_the_configuration_that_the_gateways_settings_make(tmp_path: Path) -> None:
    local = ("--set", "gateway.sda.url=http://127.0.0.1:9")  # nginx looks names up as it starts
    objects = rendered("gdi-node/ci/nginx.yaml", *local)
    pod = gateway_pod(objects)
    (first,), (gateway, nginx) = pod["initContainers"], pod["containers"]
    assert (gateway["name"], nginx["name"], nginx["ports"]) == (
        "gateway",
        "nginx",
        [{"name": "data", "containerPort": 8083}],
    )
    mounts = {c["name"]: {m["name"] for m in c["volumeMounts"]} for c in (first, gateway, nginx)}
    assert mounts["nginx"] == {"nginx", "nginx-main"}, "it has no key of the node's, but for the door's secret"
    assert mounts["nginx-config"] == {"nginx", "door", "policy", "datasets"} and "door" in mounts["gateway"]
    volume = next(v for v in pod["volumes"] if v["name"] == "nginx")
    assert volume["emptyDir"]["medium"] == "Memory", "the secret lies on no disk"
    service = named(objects, "Service", "node-a-gateway-internal")["spec"]["ports"]
    assert [(p["name"], p["targetPort"]) for p in service] == [("internal", "data"), ("operators", "internal")]
    allowed = named(objects, "NetworkPolicy", "node-a-gateway")["spec"]["ingress"]
    workers = [r["ports"] for r in allowed if "node-a-tasks" in str(r["from"])]
    assert workers == [[{"protocol": "TCP", "port": "data"}]], "the TES's workers reach nginx alone"

    for name, text in (("door/secret", "s" * 64), ("policy/policy.yaml", "{}"), ("datasets/none", "")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    environment = {one["name"]: one["value"].replace("/etc/gdi", str(tmp_path)) for one in first["env"]}
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "node_gateway.main",
            *(a.replace("/run/gdi-nginx", str(tmp_path)) for a in first["args"]),
        ],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0 and not made.stdout, made.stderr
    written = tmp_path / "gateway.conf"
    assert written.stat().st_mode & 0o077 == 0 and "server 127.0.0.1:8081;" in written.read_text()
    main = named(objects, "ConfigMap", "node-a-gateway-nginx")["data"]["nginx.conf"]
    (tmp_path / "nginx.conf").write_text(main.replace("/run/gdi-nginx", str(tmp_path)))
    tried = subprocess.run(
        [program("nginx-light"), "-t", "-e", "/dev/stderr", "-c", tmp_path / "nginx.conf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr


def test_nginx_and_mtls_of_the_internal_listener_exclude_each_other() -> None:
    done = template("gdi-node/ci/nginx.yaml", "--set", "gateway.internalTls.serverSecret=tls")
    assert done.returncode and "set one of the two" in done.stderr


def test_alerts_name_the_service_that_prometheus_meets_in_either_placement() -> None:
    shown = ("--set", "monitoring.dashboards.enabled=true")
    for more, service in ((shown, "node-a-gateway-runs"), ((*shown, *COORDINATOR), "node-a-gateway")):
        objects = rendered(OWN, *more)
        groups = named(objects, "PrometheusRule", "node-a-gateway")["spec"]["groups"]
        rules = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
        assert rules["GdiGatewayDown"] == f'absent(up{{job="{service}"}} == 1)'
        assert rules["GdiStreamsFull"].endswith(">= 64") and "GDI_" not in "".join(rules.values())
        monitored = named(objects, "ServiceMonitor", "node-a-gateway")["spec"]["selector"]["matchLabels"]
        met = [o for o in objects if o["kind"] == "Service" and monitored.items() <= o["metadata"]["labels"].items()]
        assert [o["metadata"]["name"] for o in met] == [service]
        board = named(objects, "ConfigMap", "node-a-gateway-dashboard")
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1" and json.loads(board["data"]["gdi-node.json"])
