"""Enforces NetworkPolicies in the test cluster: watches pods, namespaces and policies, and loads nftables rules.
`python -m tests.kubernetes.policies STATE`.

It runs in the cluster's network namespace. Where the apiserver is away, the rules stay as they were; a pod without
rules is cut off. A node asks here before it starts a pod's first process (gate.py, the last of its network plugins), so
that no pod runs a moment without its rules.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from tests.kubernetes import pki
from tests.kubernetes.parts import API_URL, PODS
from tests.kubernetes.rules import Cluster, Pod, ruleset

log = logging.getLogger("policies")
RESOURCES = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
}
WATCH_SECONDS = 300
GATE_SECONDS = 8  # how long a pod's start may wait for its rules


class View:
    """The watched objects, by (namespace, name)."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
        self.early: dict[tuple[str, str], str] = {}  # addresses that the apiserver does not know of yet
        self.loaded: set[tuple[str, str, str]] = (
            set()
        )  # (namespace, name, address) of the pods whose rules are in force
        self.changed = threading.Condition()

    def replace(self, resource: str, items: list[dict[str, Any]]) -> None:
        with self.changed:
            self.objects[resource] = {_key(item): item for item in items}
            self.changed.notify_all()

    def event(self, resource: str, kind: str, item: dict[str, Any]) -> None:
        with self.changed:
            if kind == "DELETED":
                self.objects[resource].pop(_key(item), None)
                if resource == "pods":
                    self.early.pop(_key(item), None)
            else:
                self.objects[resource][_key(item)] = item
            self.changed.notify_all()

    def cluster(self) -> Cluster | None:
        """None until each resource was listed once."""
        if set(self.objects) != set(RESOURCES):
            return None
        newest_last = sorted(self.objects["pods"].items(), key=lambda found: found[1]["metadata"]["creationTimestamp"])
        known = [Pod.of(raw, self.early.get(key)) for key, raw in newest_last]
        pods = list(
            {pod.ip: pod for pod in known if pod is not None}.values()
        )  # an address may be given again while its last holder is being buried
        namespaces = {name: raw["metadata"].get("labels", {}) for (_, name), raw in self.objects["namespaces"].items()}
        return Cluster(pods, namespaces, list(self.objects["policies"].values()))


def _key(item: dict[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def watch(client: httpx.Client, resource: str, view: View) -> None:
    """Lists, then follows; lists again when the watch ends or the apiserver was away. Never returns."""
    while True:
        try:
            listed = client.get(RESOURCES[resource]).raise_for_status().json()
            view.replace(resource, listed["items"])
            parameters = {
                "watch": "1",
                "resourceVersion": listed["metadata"]["resourceVersion"],
                "timeoutSeconds": str(WATCH_SECONDS),
            }
            with client.stream("GET", RESOURCES[resource], params=parameters) as answer:
                answer.raise_for_status()
                for line in answer.iter_lines():
                    change = json.loads(line)
                    if change["type"] == "ERROR":
                        break
                    if change["type"] != "BOOKMARK":
                        view.event(resource, change["type"], change["object"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            log.warning("%s: %s; listing again", resource, error or type(error).__name__)
            time.sleep(0.5)


def gate(view: View, path: Path) -> None:
    """Answers each `{"namespace", "name", "ip"}` with `ok` once that pod's rules are in force, or with `late`. Never
    returns.
    """
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(64)

    def one(client: socket.socket) -> None:
        with client:
            asked = json.loads(client.makefile("rb").readline(4096))
            key = (asked["namespace"], asked["name"])
            with view.changed:
                view.early[key] = asked["ip"]
                view.changed.notify_all()
                done = view.changed.wait_for(lambda: (*key, asked["ip"]) in view.loaded, GATE_SECONDS)
            client.sendall(b"ok\n" if done else b"late\n")

    while True:
        threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()


def enforce(view: View) -> None:
    loaded = ""
    while True:
        with view.changed:
            cluster = view.cluster()
            wanted = loaded if cluster is None else ruleset(cluster, PODS)
            if wanted == loaded:
                view.changed.wait()
                continue
        done = subprocess.run(["nft", "-f", "-"], input=wanted, capture_output=True, text=True, timeout=30)
        if done.returncode:
            log.error("nft refused the rules, the ones before stay: %s\n%s", done.stderr.strip(), wanted)
        loaded = wanted
        with view.changed:
            view.loaded = (
                {(pod.namespace, pod.name, pod.ip) for pod in cluster.pods}
                if cluster and not done.returncode
                else view.loaded
            )
            view.changed.notify_all()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    state = Path(sys.argv[1])
    client = httpx.Client(
        base_url=API_URL,
        verify=pki.admin(state / "pki"),
        trust_env=False,
        timeout=httpx.Timeout(10, read=WATCH_SECONDS + 10),
    )
    view = View()
    for resource in RESOURCES:
        threading.Thread(target=watch, args=(client, resource, view), daemon=True).start()
    threading.Thread(target=gate, args=(view, state / "policies.sock"), daemon=True).start()
    enforce(view)


if __name__ == "__main__":
    main()
