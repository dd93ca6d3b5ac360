"""The portal's API, synchronously. Every error is a ProblemError that says what happened and what to do; while the
server is away, what may be sent again is sent again for a minute.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx
from pydantic import BaseModel, JsonValue

from gdi.broker_client.client import as_problem, read
from gdi.client import calls
from gdi.client.calls import PATIENCE, Call
from gdi.client.frames import frame_of
from gdi.client.login import StoredLogin, stored_login
from gdi.contracts import portal_api as p
from gdi.contracts.access import DatasetEntry
from gdi.contracts.grants import Grant, GrantRequest
from gdi.contracts.run_endings import ENDED
from gdi.kit.bearer import BearerAuth
from gdi.kit.bounded_read import BoundedClient, parts_of
from gdi.kit.problem import ProblemError
from gdi.kit.retry import call_again
from gdi.kit.tls import authorities

M = TypeVar("M", bound=BaseModel)
Token = str | Callable[[], str]
Parameters = Mapping[str, JsonValue] | None
TIMEOUT = httpx.Timeout(60, connect=10)
MAX_ANSWER = 64 * 1024 * 1024  # bytes of JSON
NEVER = float("inf")


def credential_of(token: Token) -> Callable[[], str]:
    return token if callable(token) else lambda: token


def not_ended(run: str, seconds: float) -> ProblemError:
    return ProblemError(
        504, "not-ended", f"The run {run} had not ended after {seconds:.0f} s.", action="It goes on: ask again later."
    )


class PortalClient:
    """`token`: an LS AAI access token, or a function that gives one (asked at each call)."""

    def __init__(self, url: str, token: Token, *, transport: httpx.BaseTransport | None = None) -> None:
        self._http = BoundedClient(
            base_url=url.rstrip("/"),
            auth=BearerAuth(credential_of(token)),
            timeout=TIMEOUT,
            verify=authorities(),
            max_answer=MAX_ANSWER,
            transport=transport,
        )

    @classmethod
    def signed_in(cls, login: StoredLogin | None = None) -> PortalClient:
        """As whoever signed in with `gdi login` here. ProblemError 401 where nobody did."""
        login = login or stored_login()
        return cls(login.portal, login.access_token)

    def __enter__(self) -> PortalClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _send(self, call: Call[M]) -> M:
        def once() -> M:
            return read(self._http.request(call.method, call.path, **call.options()), call.model)

        return call_again(once, PATIENCE, again=call.again)

    def whoami(self) -> str:
        return self._send(calls.me()).sub

    def workflows(self) -> list[p.CatalogueWorkflow]:
        return self._send(calls.workflows()).workflows

    def workflow(self, name: str) -> p.CatalogueWorkflow:
        return self._send(calls.workflow(name))

    def datasets(self) -> list[DatasetEntry]:
        return self._send(calls.datasets()).datasets

    def nodes(self) -> list[p.NodeEntry]:
        return self._send(calls.nodes()).nodes

    def preflight(self, workflow: str, datasets: Sequence[str], parameters: Parameters = None) -> p.StartChecked:
        return self._send(calls.preflight(workflow, datasets, parameters or {}))

    def grants(self) -> list[Grant]:
        return self._send(calls.grants()).grants

    def create_grant(self, request: GrantRequest) -> Grant:
        return self._send(calls.create_grant(request))

    def revoke_grant(self, grant: str) -> Grant:
        return self._send(calls.revoke_grant(grant))

    def start(
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
        """`consent_days`, `once`: consent that is given with the start, where none covers it yet. `key`: your own name
        for this start; the same key again is the same run.
        """
        return self._send(
            calls.start(
                workflow, datasets, parameters, consent_days=consent_days, once=once, grant=grant, tags=tags, key=key
            )
        )

    def runs(
        self, *, states: Sequence[str] = (), workflow: str | None = None, dataset: str | None = None, most: int = 1000
    ) -> Iterator[p.RunSummary]:
        """Yours, the newest first, page by page; `most` of them."""
        token = ""
        while most > 0:
            page = self._send(
                calls.runs(
                    states=states, workflow=workflow, dataset=dataset, page_size=min(most, 200), page_token=token
                )
            )
            yield from page.runs
            most, token = most - len(page.runs), page.next_page_token
            if not token:
                return

    def run(self, run: str) -> p.RunEntry:
        return self._send(calls.run(run))

    def cancel(self, run: str) -> p.RunSummary:
        return self._send(calls.cancel(run))

    def again(self, run: str, *, key: str | None = None) -> p.RunStarted:
        return self._send(calls.again(run, key))

    def jobs(self, run: str, after: int = 0) -> p.RunJobs:
        return self._send(calls.jobs(run, after))

    def watch(self, run: str, *, every: float = 2, timeout: float = NEVER) -> Iterator[p.RunEntry]:
        """How the run stands, every so many seconds, the last time when it has ended. ProblemError 504 `not-ended`."""
        end = time.monotonic() + timeout
        while True:
            entry = self.run(run)
            yield entry
            if entry.state in ENDED:
                return
            if time.monotonic() > end:
                raise not_ended(run, timeout)
            time.sleep(every)

    def wait(self, run: str, *, every: float = 2, timeout: float = NEVER) -> p.RunEntry:
        """The run once it has ended, well or not: look at `state` and `sentence`."""
        return deque(self.watch(run, every=every, timeout=timeout), maxlen=1).pop()

    def results(self, run: str) -> p.RunResults:
        return self._send(calls.results(run))

    def download(self, run: str, name: str, to: Path) -> Path:
        """A file of the results, streamed into `to`, which appears when it is whole."""
        return self._download(calls.file_path(run, name), to)

    def crate(self, run: str, to: Path) -> Path:
        """Everything as an RO-Crate (zip)."""
        return self._download(calls.crate_path(run), to)

    def frame(self, run: str, name: str = "answer.tsv", library: Literal["polars", "pandas"] = "polars") -> Any:
        """A table of the results as a DataFrame; what was withheld is null. ImportError: install gdi-client[frames]."""
        answer = self._http.get(calls.file_path(run, name))
        if not answer.is_success:
            raise as_problem(answer)
        return frame_of(answer.content, library)

    def _download(self, path: str, to: Path) -> Path:
        to.parent.mkdir(parents=True, exist_ok=True)
        part = to.with_name(f".{to.name}.part")
        with self._http.stream("GET", path) as answer:
            if not answer.is_success:
                answer.read()
                raise as_problem(answer)
            with part.open("wb") as file:
                for piece in parts_of(answer):
                    file.write(piece)
        return part.replace(to)
