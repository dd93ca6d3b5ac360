"""As much of a Kubernetes API server as the launcher talks to: pods, ConfigMaps, logs, in memory over HTTP. What runs
in a pod is said by the test.

The real thing is met in tests/kubernetes; this one can be made to evict, refuse and vanish at any instant, in
milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from tests.support.wire import bind
from tests.support.wires import KUBERNETES

Json = dict[str, Any]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def container(state: Json) -> Json:
    """A container's status, with what Kubernetes always writes."""
    fixed = {"image": "gdi-snakemake:1", "imageID": "sha256:0", "ready": "running" in state, "restartCount": 0}
    return {"name": "snakemake", "state": state, **fixed}


def failure(status: int, reason: str, message: str) -> JSONResponse:
    return JSONResponse(
        {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status},
        status_code=status,
    )


@dataclass
class StandIn:
    """`pods`, `maps`: what there is. `refuse`: the answer to the next creations. `down`: every call is answered with
    503, `starting`: with 403, as by a server that has not read its roles yet. `deleted`: name, grace, marks.
    `ends_at_once`: a pod that is let go succeeds."""

    pods: dict[str, Json] = field(default_factory=dict)
    maps: dict[str, Json] = field(default_factory=dict)
    refuse: tuple[int, str, str] | None = None
    down: bool = False
    starting: bool = False
    turned_away: int = 0  # calls that were answered so
    deleted: list[tuple[str, int, Json]] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    ends_at_once: bool = False

    def run(self, name: str) -> None:
        """The pod is scheduled and its container runs."""
        self.pods[name]["spec"]["nodeName"] = "machine-1"
        self.set(name, phase="Running", containerStatuses=[container({"running": {}})])

    def end(self, name: str, code: int, reason: str = "Error", **status: Any) -> None:
        state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else reason, "finishedAt": now()}}
        self.set(
            name,
            phase="Succeeded" if code == 0 else "Failed",
            containerStatuses=[container(state)],
            **status,
        )

    def evict(self, name: str) -> None:
        """As the eviction API does: the object is gone when its container ended."""
        del self.pods[name]
        self.maps.pop(name, None)

    def set(self, name: str, **status: Any) -> None:
        self.pods[name].setdefault("status", {}).update(status)

    @staticmethod
    def _grace(body: Json, request: Request) -> int:
        """Of the options in the body, else of the query, else what Kubernetes takes."""
        for given in (body.get("gracePeriodSeconds"), request.query_params.get("gracePeriodSeconds")):
            if given is not None:
                return int(given)
        return 30

    def app(self) -> FastAPI:
        app = bind(FastAPI(), KUBERNETES)
        base = "/api/v1/namespaces/gdi-runs"

        @app.middleware("http")
        async def away(request: Request, call_next: Any) -> Response:
            if self.starting:
                self.turned_away += 1
                return failure(
                    403,
                    "Forbidden",
                    'pods is forbidden: User "system:serviceaccount:gdi:airflow" cannot list resource "pods"',
                )
            if self.down:
                self.turned_away += 1
                return failure(503, "ServiceUnavailable", "away")
            return await call_next(request)

        @app.get("/openid/v1/jwks")
        async def keys() -> Json:
            return {"keys": [{"kty": "RSA", "kid": "of-the-cluster"}]}

        @app.post(base + "/pods")
        async def create(request: Request) -> Response:
            body = await request.json()
            name = body["metadata"]["name"]
            if self.refuse is not None:
                self.turned_away += 1
                return failure(*self.refuse)
            if name in self.pods:
                return failure(409, "AlreadyExists", f'pods "{name}" already exists')
            body["metadata"].update(uid=str(uuid.uuid4()), creationTimestamp=now(), resourceVersion="1")
            body["status"] = {"phase": "Pending"}
            self.pods[name] = body
            self.created.append(name)
            return JSONResponse(body, status_code=201)

        @app.get(base + "/pods")
        async def pods(labelSelector: str = "", fieldSelector: str = "") -> Json:
            terms = [p.split("=", 1) for p in labelSelector.split(",") if p]
            found = [p for p in self.pods.values() if all(_selects(term, p["metadata"]["labels"]) for term in terms)]
            phases = {"": ("Pending", "Running", "Succeeded", "Failed"), "status.phase=Pending": ("Pending",)}.get(
                fieldSelector, ("Succeeded", "Failed")
            )
            return {"metadata": {}, "items": [_object(p) for p in found if p["status"]["phase"] in phases]}

        @app.get(base + "/pods/{name}")
        async def read(name: str) -> Response:
            if name not in self.pods:
                return failure(404, "NotFound", f'pods "{name}" not found')
            whole = json.dumps(_object(self.pods[name])).encode()

            async def pieces() -> AsyncIterator[bytes]:  # as a real one's large answers come
                yield whole[:1000]
                await asyncio.sleep(0.01)
                yield whole[1000:]

            return StreamingResponse(pieces(), media_type="application/json")

        @app.patch(base + "/pods/{name}")
        async def patch(name: str, request: Request) -> Response:
            assert request.headers["content-type"] == "application/strategic-merge-patch+json"
            if name not in self.pods:
                return failure(404, "NotFound", f'pods "{name}" not found')
            body = await request.json()
            pod = self.pods[name]
            if body.get("metadata", {}).get("uid", pod["metadata"]["uid"]) != pod["metadata"]["uid"]:
                return failure(422, "Invalid", 'Pod "x" is invalid: metadata.uid: Invalid value: field is immutable')
            for gate in body.get("spec", {}).get("schedulingGates", []):
                assert gate["$patch"] == "delete"
                pod["spec"]["schedulingGates"] = [
                    g for g in pod["spec"]["schedulingGates"] if g["name"] != gate["name"]
                ]
            pod["metadata"]["resourceVersion"] = str(int(pod["metadata"]["resourceVersion"]) + 1)
            pod["metadata"]["annotations"].update(body.get("metadata", {}).get("annotations", {}))
            if self.ends_at_once and not pod["spec"]["schedulingGates"]:
                self.end(name, 0)
            return JSONResponse(_object(pod))

        @app.delete(base + "/pods/{name}")
        async def delete(name: str, request: Request) -> Response:
            if name not in self.pods:
                return failure(404, "NotFound", f'pods "{name}" not found')
            body = json.loads(await request.body() or b"{}")
            if not body.get("preconditions", {}).items() <= self.pods[name]["metadata"].items():
                return failure(409, "Conflict", "the UID in the precondition (a) does not match the UID in record (b)")
            pod = self.pods.pop(name)
            self.maps.pop(name, None)
            self.deleted.append((name, self._grace(body, request), pod["metadata"]["annotations"]))
            return JSONResponse(_object(pod))

        @app.get(base + "/pods/{name}/log")
        async def log(name: str) -> Response:
            return PlainTextResponse(self.pods.get(name, {}).get("log", ""))

        @app.post(base + "/configmaps")
        async def create_map(request: Request) -> Response:
            body = await request.json()
            name = body["metadata"]["name"]
            if name in self.maps:
                return failure(409, "AlreadyExists", f'configmaps "{name}" already exists')
            body["metadata"].update(uid=str(uuid.uuid4()))
            self.maps[name] = body
            return JSONResponse(body, status_code=201)

        @app.get(base + "/configmaps/{name}")
        async def read_map(name: str) -> Response:
            return JSONResponse(self.maps[name]) if name in self.maps else failure(404, "NotFound", "not found")

        @app.delete(base + "/configmaps/{name}")
        async def delete_map(name: str) -> Response:
            self.maps.pop(name, None)
            return JSONResponse({})

        return app


def _object(pod: Json) -> Json:
    """As the API shows it: a test keeps its log there too."""
    return {key: value for key, value in pod.items() if key != "log"}


def _selects(term: list[str], labels: dict[str, str]) -> bool:
    """One term of a label selector: `key=value`, or `key`, which must be there."""
    return labels.get(term[0]) == term[1] if len(term) == 2 else term[0] in labels


def in_cluster(folder: Path, url: str, **config: Any) -> dict[str, str]:
    """Writes a kubeconfig and what the operator allows; the environment that makes an Airflow use this cluster."""
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": url}}],
        "users": [{"name": "x", "user": {}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(kubeconfig))
    allowed = {"conn_id": "the_cluster", "image": "gdi-snakemake:1", "mark_seconds": 0.01, **config}
    (folder / "pods.yaml").write_text(yaml.safe_dump(allowed))
    extra = {"kube_config_path": str(folder / "kubeconfig")}
    return {
        "AIRFLOW_CONN_THE_CLUSTER": json.dumps({"conn_type": "kubernetes", "extra": extra}),
        "GDI_POD_CONFIG": str(folder / "pods.yaml"),
    }
