"""The process host's HTTP API on its control socket (contracts: Process launcher). Who may open the socket may start
pods: its file mode is the guard.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path

from gdi.contracts.ids import PodName
from gdi.contracts.process_host import HostedPod, PodRequest, StopRequest
from gdi.kit.server import install
from gdi.runner.host.host import Host

Name = Annotated[PodName, Path()]


def create_app(host: Host) -> FastAPI:
    app = FastAPI(title="GDI process host", version="1", docs_url=None, redoc_url=None)
    install(app, max_body=1024 * 1024)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/jwks")
    async def jwks() -> dict[str, object]:
        return host.identities.jwks()

    @app.get("/pods")
    async def pods() -> list[HostedPod]:
        return host.list()

    @app.put("/pods/{name}")
    async def create(name: Name, request: PodRequest) -> HostedPod:
        return host.create(name, request)

    @app.get("/pods/{name}")
    async def get(name: Name) -> HostedPod:
        return host.get(name)

    @app.post("/pods/{name}/start")
    async def start(name: Name) -> HostedPod:
        return await host.start(name)

    @app.post("/pods/{name}/stop")
    async def stop(name: Name, request: StopRequest) -> HostedPod:
        return host.stop(name, request.mode, request.grace)

    @app.delete("/pods/{name}", status_code=204)
    async def delete(name: Name) -> None:
        await host.delete(name)

    return app
