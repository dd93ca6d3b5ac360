"""The node's process host, asked over its control socket."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import httpx
from pydantic import TypeAdapter

from gdi.broker_client.client import as_problem, read
from gdi.contracts.process_host import HostedPod, PodRequest, StopMode, StopRequest
from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.problem import ProblemError
from gdi.kit.tls import authorities

PODS = TypeAdapter(list[HostedPod])


class AgentLauncher(Protocol):
    """Who starts Snakemake here. ProblemError where it refuses; 5xx, 429 and httpx.TransportError where it is away."""

    async def create(self, name: str, request: PodRequest) -> HostedPod:
        """The pod of that name, not started; the one that there is where it was made for the same request."""

    async def start(self, name: str) -> HostedPod:
        """Lets it go; nothing where it was."""

    async def get(self, name: str) -> HostedPod | None: ...

    async def stop(self, name: str, mode: StopMode, grace: float, *, uid: str) -> None:
        """Asks for the end of that pod, SIGKILL after `grace` seconds. No error where it ended or is another."""

    async def live(self) -> int:
        """How many pods are made or run."""

    async def upkeep(self) -> None:
        """What has to be done now and then. Errors as above."""

    async def aclose(self) -> None: ...


class NodeLauncher:
    """ProblemError where the host refuses, httpx.TransportError where it is away."""

    def __init__(self, socket: Path) -> None:
        transport = httpx.AsyncHTTPTransport(uds=str(socket), verify=authorities())
        self._http = BoundedAsyncClient(
            transport=transport, base_url="http://process-host", timeout=httpx.Timeout(60, connect=5)
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def create(self, name: str, request: PodRequest) -> HostedPod:
        return read(await self._http.put(f"/pods/{name}", json=request.model_dump(mode="json")), HostedPod)

    async def start(self, name: str) -> HostedPod:
        return read(await self._http.post(f"/pods/{name}/start"), HostedPod)

    async def get(self, name: str) -> HostedPod | None:
        answer = await self._http.get(f"/pods/{name}")
        return None if answer.status_code == 404 else read(answer, HostedPod)

    async def stop(self, name: str, mode: StopMode, grace: float, *, uid: str) -> None:
        found = await self.get(name)
        if found is None or found.uid != uid:
            return  # a name is used once in a host's life
        answer = await self._http.post(f"/pods/{name}/stop", json=StopRequest(mode=mode, grace=grace).model_dump())
        if not answer.is_success and answer.status_code != 404:
            raise as_problem(answer)

    async def upkeep(self) -> None:
        """Nothing: the host keeps its key set and its pods itself."""

    async def live(self) -> int:
        """How many pods are made or run."""
        answer = await self._http.get("/pods")
        if not answer.is_success:
            raise as_problem(answer)
        try:
            return sum(pod.state in ("created", "running") for pod in PODS.validate_json(answer.content))
        except ValueError:
            raise ProblemError(502, "bad-answer", "The process host answered nonsense.") from None
