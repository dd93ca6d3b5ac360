"""What a node's agent asks of the broker and tells it, with the node's own key."""

from __future__ import annotations

import base64
import hashlib

import httpx

from gdi.broker_client.client import AsyncBrokerClient, as_problem, read
from gdi.contracts import orders as o
from gdi.contracts import round_messages as r
from gdi.contracts.nodes import Heartbeat, PreflightReply
from gdi.contracts.packed_workflow import MAX_PACK
from gdi.kit import bounded_read
from gdi.kit.problem import ProblemError

CHUNK = 8 * 1024 * 1024
SLACK = 15.0  # seconds beyond those for which the broker holds an answer


class NodeAgentClient(AsyncBrokerClient):
    """`node` is the node's id."""

    async def work(self, node: str, *, after: int, wait: float) -> o.Work:
        timeout = httpx.Timeout(wait + SLACK, connect=5)
        query = {"after": after, "wait": wait}
        return read(await self._http.get(f"/v1/nodes/{node}/work", params=query, timeout=timeout), o.Work)

    async def beat(self, node: str, heartbeat: Heartbeat) -> None:
        """A broker of before, which refuses fields that it does not know, gets it without those."""
        body = heartbeat.model_dump(mode="json", exclude_defaults=True)
        newer = [field for field in ("limits", "terms", "cohorts") if field in body]  # the newest last
        while True:
            try:
                await self._tell("PUT", f"/v1/nodes/{node}/status", body)
                return
            except ProblemError as error:
                if error.problem.status != 422 or not newer:
                    raise
                del body[newer.pop()]

    async def take(self, status: o.OrderStatus, nonce: str) -> o.OrderStatus:
        body = o.OrderTake(attempt=status.attempt, nonce=nonce)
        return await self._send(o.OrderStatus, "POST", f"{_path(status)}/take", body)

    async def report(self, run: str, node: str, kind: str, report: o.OrderReport) -> o.OrderStatus:
        return await self._send(o.OrderStatus, "POST", f"/v1/runs/{run}/orders/{node}/{kind}/report", report)

    async def order(self, run: str, node: str, kind: str, attempt: int) -> o.OrderStatus:
        return await self._send(o.OrderStatus, "GET", f"/v1/runs/{run}/orders/{node}/{kind}", attempt=attempt)

    async def answer(self, preflight: str, node: str, reply: PreflightReply) -> None:
        await self._tell("POST", f"/v1/preflights/{preflight}/{node}", reply.model_dump(mode="json"))

    async def workflow(self, digest: str) -> bytes:
        """The files' bytes, which the caller checks. ProblemError 404 where nobody uploaded them."""
        async with self._http.stream("GET", f"/v1/workflows/{digest}") as answer:
            body = await bounded_read.aread(answer, MAX_PACK)
        if not answer.is_success:
            raise as_problem(httpx.Response(answer.status_code, content=body, request=answer.request))
        return body

    async def offset(self, run: str, node: str, name: str, sha256: str) -> o.StoredRelease:
        return await self._send(o.StoredRelease, "GET", f"/v1/runs/{run}/releases/{node}/{name}", sha256=sha256)

    async def put_chunk(
        self, run: str, node: str, name: str, sha256: str, *, offset: int, total: int, chunk: bytes
    ) -> o.StoredRelease:
        digest = base64.b64encode(hashlib.sha256(chunk).digest()).decode()
        answer = await self._http.put(
            f"/v1/runs/{run}/releases/{node}/{name}",
            params={"sha256": sha256, "offset": offset, "total": total},
            content=chunk,
            headers={"Content-Digest": f"sha-256=:{digest}:"},
        )
        return read(answer, o.StoredRelease)

    async def question(
        self, run: str, node: str, attempt: int, generation: int, *, after: int, wait: float
    ) -> r.RoundNews:
        """The order's newest question above `after`."""
        query = {"attempt": attempt, "generation": generation, "after": after, "wait": wait}
        path, timeout = f"/v1/runs/{run}/rounds/{node}", httpx.Timeout(wait + SLACK, connect=5)
        return read(await self._http.get(path, params=query, timeout=timeout), r.RoundNews)

    async def put_answer(self, run: str, node: str, number: int, answer: r.RoundAnswer) -> r.RoundStatus:
        return await self._send(r.RoundStatus, "PUT", f"/v1/runs/{run}/rounds/{node}/{number}/answer", answer)

    async def _tell(self, method: str, path: str, body: object) -> None:
        answer = await self._http.request(method, path, json=body)
        if not answer.is_success:
            raise as_problem(answer)


def _path(status: o.OrderStatus) -> str:
    return f"/v1/runs/{status.run}/orders/{status.node}/{status.kind}"


def conflict_of(error: ProblemError) -> str:
    """Which of the conflicts of orders or rounds a 409 is; empty for other problems."""
    of_table = error.slug in ("order-conflict", "round-conflict")
    return str((error.problem.model_extra or {}).get("conflict", "")) if of_table else ""
