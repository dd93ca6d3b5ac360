"""The embedded default: pods are sandboxed processes of the process host (gdi/runner/host), asked over its
unix socket.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from gdi.broker_client.client import as_problem
from gdi.contracts.process_host import HostedPod, PodRequest, StopMode, StopRequest
from gdi.contracts.run_file import RunPart
from gdi.kit.bounded_read import BoundedAsyncClient, BoundedClient
from gdi.kit.problem import ProblemError
from gdi.kit.tls import authorities
from gdi.pods.model import LauncherError, PodSpec, PodStatus
from gdi_operators.launchers.base import Launcher

T = TypeVar("T")
POD, PODS = TypeAdapter(HostedPod), TypeAdapter(list[HostedPod])
TIMEOUT = httpx.Timeout(60, connect=5)


class ProcessLauncher(Launcher):
    """`socket`: the process host's control socket (setting GDI_PROCESS_HOST_SOCKET)."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._async: BoundedAsyncClient | None = None

    def create(self, spec: PodSpec) -> PodStatus:
        request = PodRequest(**{name: getattr(spec, name) for name in RunPart.model_fields})  # no resources to ask for
        return _status(self._send("PUT", f"/pods/{spec.name}", request))

    def start(self, name: str) -> PodStatus:
        return _status(self._send("POST", f"/pods/{name}/start"))

    def get(self, name: str) -> PodStatus | None:
        answer = self._send("GET", f"/pods/{name}", absent_ok=True)
        return None if answer.status_code == 404 else _status(answer)

    def of_attempt(self, run: str, node: str, attempt: int) -> dict[str, PodStatus]:
        pods = _read(self._send("GET", "/pods"), PODS)
        return {p.name: _of(p) for p in pods if (p.run, p.node, p.attempt) == (run, node, attempt)}

    def stop(self, name: str, *, mode: StopMode, grace: float, uid: str | None = None) -> None:
        if uid is not None and ((found := self.get(name)) is None or found.uid != uid):
            return  # a name is used once in a host's life: what was seen now is what is stopped
        self._send("POST", f"/pods/{name}/stop", StopRequest(mode=mode, grace=grace), absent_ok=True)

    async def aget(self, name: str) -> PodStatus | None:
        answer = _checked(await self._aclient().get(f"/pods/{name}"), absent_ok=True)
        return None if answer.status_code == 404 else _status(answer)

    async def astop(self, name: str, *, mode: StopMode, grace: float) -> None:
        _checked(
            await self._aclient().post(f"/pods/{name}/stop", json=StopRequest(mode=mode, grace=grace).model_dump()),
            absent_ok=True,
        )

    async def aclose(self) -> None:
        if self._async is not None:
            await self._async.aclose()
            self._async = None

    def _send(
        self, method: str, path: str, body: BaseModel | None = None, *, absent_ok: bool = False
    ) -> httpx.Response:
        with BoundedClient(
            transport=httpx.HTTPTransport(uds=str(self._socket), verify=authorities()),
            base_url="http://process-host",
            timeout=TIMEOUT,
        ) as client:
            return _checked(
                client.request(method, path, json=None if body is None else body.model_dump(mode="json")),
                absent_ok=absent_ok,
            )

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
    return _of(_read(answer, POD))


def _read(answer: httpx.Response, adapter: TypeAdapter[T]) -> T:
    try:
        return adapter.validate_json(answer.content)
    except ValidationError:
        raise ProblemError(
            502, "bad-answer", "The process host answered something that is not a pod's status."
        ) from None


def _of(pod: HostedPod) -> PodStatus:
    return PodStatus(pod.name, pod.uid, pod.state, pod.stopping, pod.exit_code, pod.signal)
