"""The Kubernetes API for what runs beside Funnel in a node's own pods: a few calls over HTTPS with the pod's own
service account.

Plain httpx: the official client would be 30 MB of the node's image and half a second of each task's start, for five
calls.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from gdi.kit.bearer import BearerAuth, token_file
from gdi.kit.bounded_read import BoundedClient, first, lines, parts_of, whole
from gdi.kit.retry import call_again, every

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# seconds for which an API server that does not answer is waited for: an upgrade of a control plane of one machine
AWAY = 600.0
REFUSED = (
    20.0  # one that has just started refuses everyone until it has read its roles: a refusal that lasts longer is one
)
MAX_OBJECT = 16 * 1024 * 1024  # bytes of one change; etcd holds no object of more than 1.5 MB
MAX_REFUSAL = 64 * 1024
Json = dict[str, Any]


class ClusterError(Exception):
    """The API server refuses, or is away for too long (`status` 0): what was asked, and what it said. `full`: a quota
    is used up.
    """

    def __init__(self, message: str, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.reason = status, reason
        self.full = status == 403 and "exceeded quota" in message


class Cluster:
    """The cluster around this pod; one thread's. OSError where the pod was given no service account."""

    def __init__(self) -> None:
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
        url = f"https://{f'[{host}]' if ':' in host else host}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"
        verify = httpx.create_ssl_context(verify=str(ACCOUNT / "ca.crt"))
        self._http = BoundedClient(
            base_url=url,
            auth=BearerAuth(token_file(ACCOUNT / "token")),  # rewritten by the kubelet as it ends
            verify=verify,
            trust_env=False,
            timeout=httpx.Timeout(30, connect=5),
        )

    def get(self, path: str, **query: str) -> Json | None:
        """The object or list; None where there is no such thing."""
        return self._ask("GET", path, params=query)

    def create(self, path: str, body: Json) -> Json:
        """The object as it was made. ClusterError: `reason` AlreadyExists where there is one of this name, `full` where
        a quota has no room.
        """
        made = self._ask("POST", path, json=body)
        if made is None:
            raise ClusterError(
                f"{path}: the API server knows no such place; see the namespace in the chart's values", 404
            )
        return made

    def delete(self, path: str, *, grace: int = 0) -> None:
        """No error where it is gone already."""
        self._ask("DELETE", path, json={"gracePeriodSeconds": grace})

    @contextmanager
    def watch(self, path: str, seconds: int, **query: str) -> Iterator[Iterator[Json]]:
        """Changes as they come, for at most so long. Ends early where the connection does: who needs the state asks for
        it then.
        """
        more = {**query, "watch": "1", "timeoutSeconds": str(seconds)}
        with self._http.stream("GET", path, params=more, timeout=httpx.Timeout(seconds + 30, connect=5)) as answer:
            if answer.status_code != 200:
                raise _refused("GET", path, whole(answer, first(parts_of(answer), MAX_REFUSAL)))
            yield map(json.loads, lines(answer, MAX_OBJECT))

    def _ask(self, method: str, path: str, **options: Any) -> Json | None:
        def once() -> Json | None:
            answer = self._http.request(method, path, **options)
            if answer.status_code == 404:
                return None
            if not answer.is_success:
                raise _refused(method, path, answer)
            body: Json = answer.json()
            return body

        try:
            return call_again(once, every(2), again=lambda f: f.since <= _patience(f.error))
        except httpx.TransportError as error:
            message = f"{method} {path}: the API server does not answer ({type(error).__name__})"
            raise ClusterError(message) from None


def _patience(error: Exception) -> float:
    """Seconds for which the call is tried again. For room in a full quota waits whoever asked."""
    if isinstance(error, httpx.TransportError):
        return AWAY
    if not isinstance(error, ClusterError) or error.full:
        return -1
    if error.status in (401, 403):
        return REFUSED
    return AWAY if error.status == 429 or error.status >= 500 else -1


def _refused(method: str, path: str, answer: httpx.Response) -> ClusterError:
    try:
        body = answer.json()
        detail, reason = str(body.get("message") or ""), str(body.get("reason") or "")
    except (ValueError, AttributeError):
        detail = reason = ""
    message = f"{method} {path}: the API server answers {answer.status_code}: {' '.join(detail.split())[:500]}"
    return ClusterError(message, answer.status_code, reason)
