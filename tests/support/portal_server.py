"""The portal with its pages on a port, signing in at a real LS AAI stand-in, over a broker and an Airflow in memory:
what a browser needs.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import httpx
import uvicorn

from gdi.kit.problem import ProblemError
from gdi.local_federation.aai.running import PORTAL, PUBLIC, RESOURCE, RunningAai
from tests.support.operators_world import until
from tests.support.portal_world import PortalWorld, portal_world


class PortalServer:
    """A context manager. `world`: what the fakes know, to be changed from the test's thread."""

    def __init__(self, folder: Path, aai: RunningAai, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._folder, self._aai, self._port = folder, aai, port
        self.world: PortalWorld
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        settings = {
            "public_url": self.url,
            "oidc_issuer": self._aai.issuer,
            "oidc_client_id": PORTAL,
            "device_client_id": PUBLIC,
            "oidc_client_secret_file": self._aai.secrets.path(f"client-{PORTAL}"),
        }
        async with portal_world(self._folder, **settings) as self.world:
            self.world.broker.user = self._user  # type: ignore[method-assign]
            config = uvicorn.Config(self.world.app, host="127.0.0.1", port=self._port, log_level="error")
            self._server = uvicorn.Server(config)
            await self._server.serve()

    def _user(self, authorization: str | None) -> str:
        """As the broker: by introspection."""
        answer = httpx.post(
            f"{self._aai.issuer}/introspect",
            data={"token": (authorization or "").removeprefix("Bearer ")},
            auth=(RESOURCE, self._aai.secret(RESOURCE)),
            trust_env=False,
            timeout=30,
        ).json()
        if not answer.get("active"):
            raise ProblemError(401, "unauthenticated", "The access token is not active.", action="Sign in again.")
        return str(answer["sub"])

    def __enter__(self) -> PortalServer:
        self._thread.start()
        until(lambda: self._server is not None and self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(120)
