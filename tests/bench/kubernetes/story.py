"""What happens to Snakemake pods, as the API server tells it: a watch that notes the moment of each change, more
exactly than a pod's own whole seconds.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any

import httpx

from tests.kubernetes import pki
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.parts import API_URL

PODS = "/api/v1/namespaces/gdi-runs/pods"


class Story:
    """Made within the cluster's network. `moments`: {pod: {created | let-go | started | ended: seconds of the wall
    clock}}.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.moments: dict[str, dict[str, float]] = {}
        self._client = httpx.Client(
            base_url=API_URL,
            verify=pki.admin(cluster.state / "pki"),
            trust_env=False,
            timeout=httpx.Timeout(10, read=None),
        )
        threading.Thread(target=self._follow, daemon=True).start()

    def close(self) -> None:
        self._client.close()

    def of(self, run: str) -> dict[str, float]:
        """The moments of a run's first pod that ran."""
        return next((m for name, m in sorted(self.moments.items()) if name.startswith(run) and "started" in m), {})

    def _follow(self) -> None:
        """Until it is closed: lists, then watches from there, and again where the watch ends."""
        while not self._client.is_closed:
            with contextlib.suppress(httpx.HTTPError):
                listed = self._client.get(PODS).raise_for_status().json()
                for pod in listed["items"]:
                    self._note(pod, time.time())
                parameters = {
                    "watch": "1",
                    "timeoutSeconds": "3600",
                    "resourceVersion": listed["metadata"]["resourceVersion"],
                }
                with self._client.stream("GET", PODS, params=parameters) as answer:
                    for change in map(json.loads, answer.iter_lines()):
                        if change["type"] == "ERROR":
                            break
                        self._note(change["object"], time.time())

    def _note(self, pod: dict[str, Any], now: float) -> None:
        name = pod["metadata"]["name"]
        moments = self.moments.setdefault(name, {"created": now})
        if not pod["spec"].get("schedulingGates"):
            moments.setdefault("let-go", now)
        states = [s["state"] for s in pod["status"].get("containerStatuses", [])]
        if any("running" in s or "terminated" in s for s in states):
            moments.setdefault("started", now)
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            moments.setdefault("ended", now)
