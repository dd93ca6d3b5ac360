"""The embedded default: pods are sandboxed processes of the process host (gdi.local_federation/host), asked over its
unix socket.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from gdi.broker_client.client import as_problem
from gdi.kit.bounded_read import BoundedAsyncClient, BoundedClient
from gdi.kit.problem import ProblemError
from gdi.kit.tls import authorities
from gdi_operators.launchers.base import Launcher, LauncherError, PodSpec, PodStatus, StopMode

TIMEOUT = httpx.Timeout(60, connect=5)


class ProcessLauncher(Launcher):
    """`socket`: the process host's control socket (setting GDI_PROCESS_HOST_SOCKET)."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._async: BoundedAsyncClient | None = None

    def create(self, spec: PodSpec) -> PodStatus:
        body = asdict(spec)
        del body["name"], body["pod"]  # a process has no resources to ask for
        return _status(self._send("PUT", f"/pods/{spec.name}", body))

    def start(self, name: str) -> PodStatus:
        return _status(self._send("POST", f"/pods/{name}/start"))

    def get(self, name: str) -> PodStatus | None:
        answer = self._send("GET", f"/pods/{name}", absent_ok=True)
        return None if answer.status_code == 404 else _status(answer)

    def of_attempt(self, run: str, node: str, attempt: int) -> dict[str, PodStatus]:
        pods = self._send("GET", "/pods").json()
        return {p["name"]: _of(p) for p in pods if (p["run"], p["node"], p["attempt"]) == (run, node, attempt)}

    def stop(self, name: str, *, mode: StopMode, grace: float) -> None:
        self._send("POST", f"/pods/{name}/stop", {"mode": mode, "grace": grace}, absent_ok=True)

    async def aget(self, name: str) -> PodStatus | None:
        answer = _checked(await self._aclient().get(f"/pods/{name}"), absent_ok=True)
        return None if answer.status_code == 404 else _status(answer)

    async def astop(self, name: str, *, mode: StopMode, grace: float) -> None:
        _checked(await self._aclient().post(f"/pods/{name}/stop", json={"mode": mode, "grace": grace}), absent_ok=True)

    async def aclose(self) -> None:
        if self._async is not None:
            await self._async.aclose()
            self._async = None

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, absent_ok: bool = False
    ) -> httpx.Response:
        with BoundedClient(
            transport=httpx.HTTPTransport(uds=str(self._socket), verify=authorities()),
            base_url="http://process-host",
            timeout=TIMEOUT,
        ) as client:
            return _checked(client.request(method, path, json=body), absent_ok=absent_ok)

    def _aclient(self) -> httpx.AsyncClient:
        if self._async is None:
            transport = httpx.AsyncHTTPTransport(uds=str(self._socket), verify=authorities())
            self._async = BoundedAsyncClient(transport=transport, base_url="http://process-host", timeout=TIMEOUT)
        return self._async


def _checked(answer: httpx.Response, *, absent_ok: bool = False) -> httpx.Response:
    if answer.is_success or (absent_ok and answer.status_code == 404):
        return answer
    problem = as_problem(answer)
    if problem.problem.status >= 500:
        raise problem  # may pass: repeated by who asked
    raise LauncherError(f"The process host refused: {problem}")


def _status(answer: httpx.Response) -> PodStatus:
    try:
        return _of(answer.json())
    except (ValueError, KeyError, TypeError):
        raise ProblemError(
            502, "bad-answer", "The process host answered something that is not a pod's status."
        ) from None


def _of(raw: dict[str, Any]) -> PodStatus:
    return PodStatus(raw["name"], raw["uid"], raw["state"], bool(raw["stopping"]), raw["exit_code"], raw["signal"])
