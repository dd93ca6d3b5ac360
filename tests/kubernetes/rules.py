"""Label selectors and what a NetworkPolicy's rules mean for one pod, as nftables rules. Nothing here talks to anyone.

Source: Kubernetes API, networking.k8s.io/v1 NetworkPolicySpec. Not supported, because nothing here uses it: IPv6, SCTP.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("policies")


@dataclass(frozen=True)
class Pod:
    namespace: str
    name: str
    ip: str
    labels: dict[str, str]
    ports: dict[tuple[str, str], int] = field(default_factory=dict)  # (name, protocol) -> number

    @classmethod
    def of(cls, raw: dict[str, Any], early: str | None = None) -> Pod | None:
        """None for a pod that has no address of its own (any more). `early`: the address that its node gave it and has
        not told yet.
        """
        spec, status, meta = raw["spec"], raw.get("status", {}), raw["metadata"]
        address = status.get("podIP") or early
        if not address or spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
            return None
        containers = [*spec.get("containers", []), *spec.get("initContainers", [])]
        ports = {
            (p["name"], p.get("protocol", "TCP")): p["containerPort"]
            for c in containers
            for p in c.get("ports", [])
            if "name" in p
        }
        return cls(meta["namespace"], meta["name"], address, meta.get("labels", {}), ports)


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """An empty selector matches everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], expression.get("values") or []
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[expression["operator"]]
        if not holds:
            return False
    return True


@dataclass
class Cluster:
    """What policies refer to."""

    pods: list[Pod]
    namespaces: dict[str, dict[str, str]]  # name -> labels
    policies: list[dict[str, Any]]

    def rules(self, pod: Pod, direction: str) -> list[str] | None:
        """The nftables matches that allow a new connection `Ingress` to or `Egress` from the pod; None where no policy
        isolates it in that direction.
        """
        mine = [
            p
            for p in self.policies
            if p["metadata"]["namespace"] == pod.namespace
            and direction in p["spec"].get("policyTypes", [])
            and matches(p["spec"]["podSelector"], pod.labels)
        ]
        if not mine:
            return None
        return [
            match
            for p in mine
            for rule in p["spec"].get(direction.lower()) or []
            for match in self._rule(p, rule, pod, direction)
        ]

    def _rule(self, policy: dict[str, Any], rule: dict[str, Any], pod: Pod, direction: str) -> Iterable[str]:
        peers = rule.get("from" if direction == "Ingress" else "to")
        other = "saddr" if direction == "Ingress" else "daddr"
        for peer in peers or [None]:
            for address, targets in self._peer(policy, peer, other):
                for port in rule.get("ports") or [None]:
                    yield from self._port(port, address, [pod] if direction == "Ingress" else targets, other)

    def _peer(self, policy: dict[str, Any], peer: dict[str, Any] | None, other: str) -> Iterable[tuple[str, list[Pod]]]:
        """(match on the other side's address, the pods that it means)."""
        if peer is None:
            yield "", self.pods
        elif block := peer.get("ipBlock"):
            excepted = "".join(f" ip {other} != {cidr}" for cidr in block.get("except") or [])
            yield f"ip {other} {block['cidr']}{excepted}", []
        else:
            wanted, own = peer.get("namespaceSelector"), policy["metadata"]["namespace"]
            namespaces = (
                {own} if wanted is None else {n for n, labels in self.namespaces.items() if matches(wanted, labels)}
            )
            chosen = [
                p for p in self.pods if p.namespace in namespaces and matches(peer.get("podSelector") or {}, p.labels)
            ]
            if chosen:
                yield f"ip {other} {{ {', '.join(sorted({p.ip for p in chosen}))} }}", chosen

    @staticmethod
    def _port(port: dict[str, Any] | None, address: str, targets: list[Pod], other: str) -> Iterable[str]:
        if port is None:
            yield address
            return
        protocol, number = port.get("protocol", "TCP"), port.get("port")
        if protocol not in ("TCP", "UDP"):
            log.warning("a rule for %s is left out: what it would allow stays denied", protocol)
        elif number is None:
            yield f"{address} meta l4proto {protocol.lower()}".strip()
        elif isinstance(number, int):
            last = f"-{port['endPort']}" if "endPort" in port else ""
            yield f"{address} {protocol.lower()} dport {number}{last}".strip()
        else:
            for target in targets:  # a named port has a number of its own at each pod
                if (found := target.ports.get((number, protocol))) is not None:
                    named = f"ip daddr {target.ip}" if other == "daddr" else address
                    yield f"{named} {protocol.lower()} dport {found}".strip()


def ruleset(cluster: Cluster, pod_network: str) -> str:
    """The whole table, to be loaded in one transaction. A pod that is not known yet reaches nobody and is reached by
    nobody but its node.
    """
    chains: list[str] = []
    outgoing: list[str] = []
    incoming: list[str] = []
    for pod in sorted(cluster.pods, key=lambda p: p.ip):
        for direction, jumps in (("Egress", outgoing), ("Ingress", incoming)):
            allowed = cluster.rules(pod, direction)
            if allowed is None:
                continue
            chain = f"{direction.lower()}_{pod.ip.replace('.', '_')}"
            lines = [f"    {match} return".replace("     return", "    return") for match in dict.fromkeys(allowed)]
            chains.append(
                "\n".join(
                    [
                        f"  chain {chain} {{ # {pod.namespace}/{pod.name}",
                        *lines,
                        "    reject with icmpx admin-prohibited",
                        "  }",
                    ]
                )
            )
            jumps.append(f"{pod.ip} : jump {chain}")
    known = ", ".join(sorted({p.ip for p in cluster.pods}))
    elements = f"elements = {{ {known} }}; " if known else ""

    def verdicts(side: str, jumps: list[str]) -> str:
        return f"    ip {side} vmap {{ {', '.join(jumps)} }}\n" if jumps else ""

    stranger = "    ip {side} {network} ip {side} != @known reject with icmpx admin-prohibited\n"
    source, target = (stranger.format(side=side, network=pod_network) for side in ("saddr", "daddr"))
    settled = "    ct state established,related accept\n"
    return (
        "add table inet policies\ndelete table inet policies\ntable inet policies {\n"
        f"  set known {{ type ipv4_addr; {elements}}}\n" + "\n".join(chains) + "\n"
        "  chain forward {\n    type filter hook forward priority 0; policy accept;\n"
        f"{settled}{source}{target}{verdicts('saddr', outgoing)}{verdicts('daddr', incoming)}  }}\n"
        # What a pod asks of its node: the apiserver, and what a test runs there.
        "  chain input {\n    type filter hook input priority 0; policy"
        f" accept;\n{settled}{source}{verdicts('saddr', outgoing)}  }}\n}}\n"
    )
