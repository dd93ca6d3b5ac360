"""The test cluster's configuration files, as plain values: addresses, what each process is started with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

API = "10.10.0.1"
API_URL = f"https://{API}:6443"
ETCD = "http://127.0.0.1:2379"
SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/16"
DNS = "10.96.0.10"
DOMAIN = "cluster.local"
PAUSE_IMAGE = "localhost/pause:1"
COREDNS_IMAGE = "localhost/coredns:1"


@dataclass(frozen=True)
class Node:
    """Node `number` (from 1). All nodes share one network namespace; each has an address, a pod network, a kubelet and
    a containerd of its own.
    """

    number: int
    state: Path

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    @property
    def address(self) -> str:
        return f"10.10.0.{self.number}"

    @property
    def pods(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def folder(self) -> Path:
        return self.state / self.name

    @property
    def socket(self) -> Path:
        return Path("/run") / f"containerd-{self.number}.sock"

    def cgroup(self, cluster: str) -> str:
        return f"/{cluster}/{self.name}"

    def containerd(self) -> str:
        return f"""version = 2
root = "{self.folder}/containerd"
state = "/run/containerd-{self.number}"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{self.state}/cni-programs"
  conf_dir = "{self.folder}/cni"
"""

    def cni(self) -> str:
        """Point to point: every packet of a pod is routed, so that one forward chain sees all of them."""
        ipam = {
            "type": "host-local",
            "ranges": [[{"subnet": self.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": f"{self.folder}/ipam",
        }
        return json.dumps(
            {
                "cniVersion": "0.4.0",
                "name": "pods",
                "plugins": [{"type": "ptp", "ipam": ipam}, {"type": "gate", "socket": f"{self.state}/policies.sock"}],
            }
        )

    def kubelet(self, cluster: str, pki: Path) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "healthzBindAddress": self.address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / f"kubelet-{self.number}.crt"),
            "tlsPrivateKeyFile": str(pki / f"kubelet-{self.number}.key"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup(cluster),
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "clusterDNS": [DNS],
            "clusterDomain": DOMAIN,
            "resolvConf": "/etc/resolv.conf",
            "podLogsDir": f"{self.folder}/pod-logs",
            "volumePluginDir": f"{self.folder}/volume-plugins",
            "makeIPTablesUtilChains": False,  # kube-proxy speaks nftables
            "failSwapOn": False,
            "failCgroupV1": False,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,  # images are brought by hand: none may be collected
            "serializeImagePulls": False,
            "nodeStatusUpdateFrequency": "2s",
            "kubeAPIQPS": 200,
            "kubeAPIBurst": 400,
            "maxPods": 200,
        }


def apiserver(pki: Path) -> list[str]:
    return [
        f"--etcd-servers={ETCD}",
        "--bind-address=0.0.0.0",
        "--secure-port=6443",
        f"--advertise-address={API}",
        f"--service-cluster-ip-range={SERVICES}",
        "--allow-privileged",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--kubelet-client-certificate={pki}/admin.crt",
        f"--kubelet-client-key={pki}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
    ]


def proxy(node: Node, kubeconfig: Path) -> dict[str, Any]:
    """nftables mode: needs the `nft` program and nothing of iptables. The conntrack limits are the machine's, so they
    are left alone.
    """
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": node.name,
        "clusterCIDR": PODS,
        "bindAddress": node.address,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "0s", "syncPeriod": "10s"},
    }


def coredns() -> list[dict[str, Any]]:
    """CoreDNS as clusters have it: two names in kube-system that policies refer to, `k8s-app: kube-dns` and the service
    kube-dns.
    """
    meta = {"name": "coredns", "namespace": "kube-system"}
    label = {"k8s-app": "kube-dns"}
    corefile = (
        f".:53 {{\n  errors\n  ready :8181\n  kubernetes {DOMAIN} in-addr.arpa {{\n    pods insecure\n    ttl 5\n "
        " }\n}\n"
    )
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    container = {
        "name": "coredns",
        "image": COREDNS_IMAGE,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"containerPort": 53, "name": "dns", "protocol": "UDP"}, {"containerPort": 53, "name": "dns-tcp"}],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
        "terminationGracePeriodSeconds": 1,
        "dnsPolicy": "Default",
        "securityContext": {
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
        },  # port 53 with no capability
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": corefile}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {**meta, "labels": label},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": label},
                "template": {"metadata": {"labels": label}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": label},
            "spec": {
                "selector": label,
                "clusterIP": DNS,
                "ports": [
                    {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                    {"name": "dns-tcp", "port": 53, "targetPort": 53},
                ],
            },
        },
    ]
