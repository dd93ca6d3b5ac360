"""A registry of images in memory, and images for it."""

from __future__ import annotations

import gzip
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

import httpx

from gdi.cli.images.layout import INDEXES, MANIFESTS, ImageLayout, digest_of
from gdi.cli.images.registry import Registry
from gdi.cli.images.root_folder import ARCHITECTURES
from tests.support.wire import answers_of
from tests.support.wires import REGISTRY

MINE = ARCHITECTURES.get(platform.machine(), platform.machine())


def layer(entries: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, body in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), 0o4755
            archive.addfile(entry, io.BytesIO(body))
        for one in more:
            archive.addfile(one)
    return gzip.compress(target.getvalue(), mtime=0)


class Store:
    """A registry in memory, at `http://127.0.0.1:5000`: `user` must sign in where it is set. `moved`: blobs lie
    behind a redirect.
    """

    def __init__(self, user: tuple[str, str] | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.user, self.moved = user, False
        self.seen: list[httpx.Request] = []
        self.transport = answers_of(REGISTRY, self.answer)

    def blob(self, body: bytes, kind: str, **more: Any) -> dict[str, Any]:
        self.blobs[digest_of(body)] = body
        return {"mediaType": kind, "digest": digest_of(body), "size": len(body), **more}

    def manifest(self, reference: str, value: dict[str, Any], kind: str, **more: Any) -> dict[str, Any]:
        body = json.dumps({"schemaVersion": 2, "mediaType": kind, **value}).encode()
        for name in (reference, digest_of(body)):
            self.manifests[name] = (kind, body)
        return {"mediaType": kind, "digest": digest_of(body), "size": len(body), **more}

    def image(self, *layers: bytes, reference: str = "1") -> dict[str, Any]:
        """An index with an image for this machine."""
        config = self.blob(json.dumps({"config": {"Env": ["PATH=/opt/bin:/bin"]}}).encode(), "application/json")
        listed = [self.blob(one, "application/vnd.oci.image.layer.v1.tar+gzip") for one in layers]
        where = {"os": "linux", "architecture": MINE}
        one = self.manifest("m", {"config": config, "layers": listed}, MANIFESTS[0], platform=where)
        return self.manifest(reference, {"manifests": [one]}, INDEXES[0])

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        path, allowed = request.url.path, request.headers.get("authorization", "")
        if path == "/token":
            good = httpx.BasicAuth(*(self.user or ("", "")))
            wanted = next(good.auth_flow(httpx.Request("GET", request.url))).headers["authorization"]
            return httpx.Response(200, json={"token": "t"}) if allowed == wanted else httpx.Response(401)
        if self.user and "elsewhere" not in path and allowed != "Bearer t":
            challenge = 'Bearer realm="http://127.0.0.1:5000/token",service="s",scope="repository:gdi-task:pull"'
            return httpx.Response(401, headers={"www-authenticate": challenge})
        if request.method == "POST":
            return httpx.Response(202, headers={"location": "/v2/gdi-task/blobs/uploads/u?state=1"})
        last = path.rpartition("/")[2]
        if request.method == "PUT":
            if "/manifests/" in path:
                kind = request.headers["content-type"]
                self.manifests |= dict.fromkeys((last, digest_of(request.content)), (kind, request.content))
            else:
                assert digest_of(request.read()) == request.url.params["digest"]
                self.blobs[request.url.params["digest"]] = request.content
            return httpx.Response(201)
        if "/manifests/" in path and last in self.manifests:
            kind, body = self.manifests[last]
            return httpx.Response(200, content=body, headers={"content-type": kind})
        if last not in self.blobs:
            return httpx.Response(404)
        if self.moved and "elsewhere" not in path:
            return httpx.Response(307, headers={"location": f"http://localhost:5001/v2/elsewhere/blobs/{last}"})
        return httpx.Response(200, content=self.blobs[last])


def layout(folder: Path, limit: int = 10**9) -> ImageLayout:
    made = ImageLayout(folder, limit=limit)
    made.create()
    return made


def registry(store: Store, **options: Any) -> Registry:
    return Registry("http://127.0.0.1:5000", transport=store.transport, **options)
