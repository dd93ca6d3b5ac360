"""A node's gateway as the coordinator uses it: ask for a release, fetch what was published, close the run. Each call
with a fresh run token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from gdi.broker_client.client import as_problem, read
from gdi.contracts.cohorts import AdmissionAnswer, AdmissionIntent, CohortChoice
from gdi.contracts.gateway_api import CloseAttempt, Closed, Released, ReleaseRequest
from gdi.contracts.run_token import AirflowsScope
from gdi.kit import bounded_read
from gdi.kit.bearer import BearerAuth
from gdi.kit.problem import ProblemError
from gdi.kit.tls import authorities
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.retry import with_retry
from gdi_operators.settings import settings

T = TypeVar("T")
MAX_ANSWER = 1024 * 1024  # bytes of what a gateway says about a release; the release itself has a limit of its own
TIMEOUT = httpx.Timeout(120, connect=5)
CHECK_TIMEOUT = httpx.Timeout(900, connect=5)  # a gateway reads and checks a whole file before it answers a release


@contextmanager
def small_answers(path: str) -> Iterator[None]:
    """ProblemError where an answer is larger than MAX_ANSWER: another node's server is not to fill this process."""
    try:
        yield
    except bounded_read.TooLargeError:
        raise ProblemError(
            502,
            "bad-answer",
            f"{path} answered with more than {MAX_ANSWER} bytes.",
            action="See the gateway's log.",
        ) from None


class GatewayClient:
    """One gateway, for one run. `item` is the node's part of the plan."""

    def __init__(self, hook: TokenBrokerHook, run: str, item: dict[str, Any], *, patience: float | None = None) -> None:
        self.hook, self.run, self.node = hook, run, str(item["node"])
        self.url, self.audience = str(item["gateway_url"]), str(item["audience"])
        self.patience = settings().broker_patience if patience is None else patience

    def ask_release(self, request: ReleaseRequest) -> Released | None:
        """`POST /releases/{run}`; None while a person of the node has to approve it. ProblemError `release-refused`
        with reasons.
        """
        body = request.model_dump(mode="json") | {"check": request.kind}  # its name for gateways before version 0.2
        answer = self._send("releases", "POST", f"/releases/{self.run}", json=body)
        if answer.status_code == 202:
            return None
        return read(answer, Released)

    def fetch(self, name: str, into: Path, *, limit: int) -> None:
        """Writes the published bytes of a release. ProblemError where they are more than `limit`."""

        def once() -> None:
            path = f"/releases/{self.run}/{name}"
            with self._client("releases") as client, client.stream("GET", path) as answer:
                if not answer.is_success:
                    with small_answers(path):
                        raise as_problem(bounded_read.whole(answer, bounded_read.read(answer, MAX_ANSWER)))
                left = limit
                with into.open("wb") as file:
                    for piece in bounded_read.parts_of(answer):
                        left -= len(piece)
                        if left < 0:
                            raise ProblemError(
                                413,
                                "release-too-large",
                                f"The release {name} of {self.node} is larger than {limit} bytes.",
                            )
                        file.write(piece)

        self._patiently(once)

    def admit(self, kinds: Iterable[str], cohort: CohortChoice) -> None:
        """`POST /runs/{run}/admission`: whether this cohort may be asked there. ProblemError where not."""
        body = AdmissionIntent(kinds=tuple(sorted(set(kinds))), cohort=cohort).model_dump(mode="json")
        read(self._send("releases", "POST", f"/runs/{self.run}/admission", json=body), AdmissionAnswer)

    def close(self, attempt: int) -> None:
        """`POST /runs/{run}/close`: live tasks are cancelled, capabilities end."""
        body = CloseAttempt(attempt=attempt).model_dump()
        read(self._send("close", "POST", f"/runs/{self.run}/close", json=body), Closed)

    def _send(self, scope: AirflowsScope, method: str, path: str, *, json: dict[str, Any]) -> httpx.Response:
        def once() -> httpx.Response:
            with small_answers(path), self._client(scope) as client:
                timeout = CHECK_TIMEOUT if scope == "releases" else TIMEOUT
                answer = client.request(method, path, json=json, timeout=timeout)
            if not answer.is_success:
                raise as_problem(answer)
            return answer

        return self._patiently(once)

    def _client(self, scope: AirflowsScope) -> bounded_read.BoundedClient:
        token = self.hook.run_token(self.run, self.audience, scope)
        auth = BearerAuth(lambda: token)
        return bounded_read.BoundedClient(
            max_answer=MAX_ANSWER, base_url=self.url, auth=auth, timeout=TIMEOUT, verify=authorities()
        )

    def _patiently(self, call: Callable[[], T]) -> T:
        return with_retry(f"The gateway of {self.node}", call, seconds=self.patience)
