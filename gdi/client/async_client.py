"""The portal's API on an event loop: as `PortalClient`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence

import httpx

from gdi.broker_client.client import as_problem, read
from gdi.client import calls
from gdi.client.calls import PATIENCE, Call
from gdi.client.client import MAX_ANSWER, NEVER, TIMEOUT, M, Parameters, Token, credential_of, not_ended
from gdi.contracts import portal_api as p
from gdi.contracts.access import DatasetEntry
from gdi.contracts.grants import Grant, GrantRequest
from gdi.contracts.run_endings import ENDED
from gdi.kit.bearer import BearerAuth
from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.retry import acall_again
from gdi.kit.tls import authorities


class AsyncPortalClient:
    """Each method as that of `PortalClient`."""

    def __init__(self, url: str, token: Token, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = BoundedAsyncClient(
            base_url=url.rstrip("/"),
            auth=BearerAuth(credential_of(token)),
            timeout=TIMEOUT,
            verify=authorities(),
            max_answer=MAX_ANSWER,
            transport=transport,
        )

    async def __aenter__(self) -> AsyncPortalClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _send(self, call: Call[M]) -> M:
        async def once() -> M:
            return read(await self._http.request(call.method, call.path, **call.options()), call.model)

        return await acall_again(once, PATIENCE, again=call.again)

    async def whoami(self) -> str:
        return (await self._send(calls.me())).sub

    async def workflows(self) -> list[p.CatalogueWorkflow]:
        return (await self._send(calls.workflows())).workflows

    async def workflow(self, name: str) -> p.CatalogueWorkflow:
        return await self._send(calls.workflow(name))

    async def datasets(self) -> list[DatasetEntry]:
        return (await self._send(calls.datasets())).datasets

    async def nodes(self) -> list[p.NodeEntry]:
        return (await self._send(calls.nodes())).nodes

    async def preflight(self, workflow: str, datasets: Sequence[str], parameters: Parameters = None) -> p.StartChecked:
        return await self._send(calls.preflight(workflow, datasets, parameters or {}))

    async def grants(self) -> list[Grant]:
        return (await self._send(calls.grants())).grants

    async def create_grant(self, request: GrantRequest) -> Grant:
        return await self._send(calls.create_grant(request))

    async def revoke_grant(self, grant: str) -> Grant:
        return await self._send(calls.revoke_grant(grant))

    async def start(
        self,
        workflow: str,
        datasets: Sequence[str],
        parameters: Parameters = None,
        *,
        consent_days: float | None = None,
        once: bool = False,
        grant: str | None = None,
        tags: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> p.RunStarted:
        """As PortalClient.start."""
        return await self._send(
            calls.start(
                workflow, datasets, parameters, consent_days=consent_days, once=once, grant=grant, tags=tags, key=key
            )
        )

    async def runs(
        self, *, states: Sequence[str] = (), workflow: str | None = None, dataset: str | None = None, most: int = 1000
    ) -> AsyncIterator[p.RunSummary]:
        """As PortalClient.runs."""
        token = ""
        while most > 0:
            page = await self._send(
                calls.runs(
                    states=states, workflow=workflow, dataset=dataset, page_size=min(most, 200), page_token=token
                )
            )
            for run in page.runs:
                yield run
            most, token = most - len(page.runs), page.next_page_token
            if not token:
                return

    async def run(self, run: str) -> p.RunEntry:
        return await self._send(calls.run(run))

    async def cancel(self, run: str) -> p.RunSummary:
        return await self._send(calls.cancel(run))

    async def again(self, run: str, *, key: str | None = None) -> p.RunStarted:
        return await self._send(calls.again(run, key))

    async def jobs(self, run: str, after: int = 0) -> p.RunJobs:
        return await self._send(calls.jobs(run, after))

    async def wait(self, run: str, *, every: float = 2, timeout: float = NEVER) -> p.RunEntry:
        """As PortalClient.wait."""
        end = time.monotonic() + timeout
        while (entry := await self.run(run)).state not in ENDED:
            if time.monotonic() > end:
                raise not_ended(run, timeout)
            await asyncio.sleep(every)
        return entry

    async def results(self, run: str) -> p.RunResults:
        return await self._send(calls.results(run))

    async def content(self, run: str, name: str = "answer.tsv") -> bytes:
        """A file of the results, in memory: at most 64 MiB."""
        answer = await self._http.get(calls.file_path(run, name))
        if not answer.is_success:
            raise as_problem(answer)
        return answer.content
