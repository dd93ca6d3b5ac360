"""Airflow's REST API under the portal's own account, which starts, sees and stops runs of workflows: nobody's token is
sent there, only tickets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from gdi.contracts.run_endings import STOP_NOTE
from gdi.kit.bounded_read import BoundedAsyncClient, TooLargeError
from gdi.kit.problem import ProblemError
from gdi.kit.tls import authorities

TOKEN_KEPT = 3600.0  # seconds: Airflow's own default is a day
TIMEOUT = httpx.Timeout(60, connect=5)
PAGE = 100  # of Airflow's lists: its default maximum_page_limit
START_PATIENCE, START_PAUSE = 20.0, 0.5  # seconds: Airflow's SQLite may be busy
DOWNLOADS = 20  # at once; more are told to come again


@dataclass(frozen=True)
class DagRun:
    """A DAG run as Airflow knows it. `conf` without its ticket."""

    dag_id: str
    dag_run_id: str
    state: str
    conf: dict[str, Any]
    ended_at: str | None = None


class AirflowClient:
    """`password` is read at each sign-in: a rotated file is used at once."""

    def __init__(
        self, url: str, user: str, password: Callable[[], str], *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._user, self._password = user, password
        limits = httpx.Limits(max_connections=40, max_keepalive_connections=20, keepalive_expiry=2)

        def client(limits: httpx.Limits, timeout: httpx.Timeout) -> BoundedAsyncClient:
            return BoundedAsyncClient(
                base_url=url, timeout=timeout, limits=limits, trust_env=False, verify=authorities(), transport=transport
            )

        self._http = client(limits, TIMEOUT)
        # Readers may be slow: what they hold keeps no start and no stop waiting.
        self._files = client(httpx.Limits(max_connections=DOWNLOADS), httpx.Timeout(60, connect=5, pool=5))
        self._token, self._until = "", 0.0
        self._signing_in = asyncio.Lock()

    async def aclose(self) -> None:
        await self._http.aclose()
        await self._files.aclose()

    # --- runs ------------------------------------------------------------------------------------

    async def start(self, dag_id: str, dag_run_id: str, conf: dict[str, Any]) -> None:
        """Starts the DAG run, once: where Airflow has one of this id it is that one. Tried again while Airflow is away,
        for `START_PATIENCE` seconds; then ProblemError 503, and whether it arrived is not known.
        """
        body = {"dag_run_id": dag_run_id, "logical_date": None, "conf": conf}
        deadline = time.monotonic() + START_PATIENCE
        while True:
            try:
                answer = await self._send("POST", f"/api/v2/dags/{_part(dag_id)}/dagRuns", json=body)
            except ProblemError as error:
                if error.problem.status != 503 or time.monotonic() > deadline:
                    raise
            else:
                if answer.is_success or answer.status_code == 409:
                    return
                if answer.status_code < 500:
                    raise _refused(answer, f"the start of {dag_id}")
                if time.monotonic() > deadline:
                    raise _away(f"answered {answer.status_code}")
            await asyncio.sleep(START_PAUSE)

    async def dag_run(self, dag_id: str, dag_run_id: str) -> DagRun | None:
        answer = await self._send("GET", f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(dag_run_id)}")
        if _absent(answer):
            return None
        return _dag_run(_json(answer))

    async def unfinished(self) -> dict[tuple[str, str], str]:
        """State by (DAG, DAG run) of all that are queued or running."""
        found: dict[tuple[str, str], str] = {}
        while True:
            body = {"states": ["queued", "running"], "page_limit": PAGE, "page_offset": len(found), "order_by": "id"}
            answer = _json(await self._send("POST", "/api/v2/dags/~/dagRuns/list", json=body))
            page = answer.get("dag_runs")
            if not isinstance(page, list):  # none unfinished would be the end of all that run
                raise ProblemError(502, "bad-answer", "Airflow listed no DAG runs.", action=_OPERATOR)
            found |= {(str(r["dag_id"]), str(r["dag_run_id"])): str(r["state"]) for r in page}
            if len(page) < PAGE:
                return found

    async def stop(self, dag_id: str, dag_run_id: str, note: str = STOP_NOTE) -> bool:
        """Marks the run as failed, as Airflow's own *Mark as failed* does: what works is killed, its teardown closes
        the run at every gateway. False where Airflow has no such run.
        """
        path = f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(dag_run_id)}"
        answer = await self._send("PATCH", path, json={"state": "failed", "note": note[:1000]})
        if _absent(answer):
            return False
        if not answer.is_success:
            raise _refused(answer, "the stop")
        return True

    async def forget_stop(self, dag_id: str, dag_run_id: str) -> None:
        """Takes the note away: the run goes on."""
        path = f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(dag_run_id)}"
        await self._send("PATCH", path, json={"note": ""})

    # --- what the plugin's pages know ------------------------------------------------------------

    async def standing(self, dag_id: str, dag_run_id: str) -> dict[str, Any]:
        """`gdi.contracts.run_endings` of the run, as the plugin judged it."""
        return _json(await self._send("GET", f"/gdi/data/standing/{_part(dag_id)}/{_path(dag_run_id)}"))

    async def results(self, dag_id: str, dag_run_id: str) -> dict[str, Any]:
        return _json(await self._send("GET", f"/gdi/data/results/{_part(dag_id)}/{_path(dag_run_id)}"))

    @asynccontextmanager
    async def download(
        self, kind: str, dag_id: str, dag_run_id: str, name: str | None = None
    ) -> AsyncIterator[httpx.Response]:
        """A streamed answer of the plugin's `file` or `crate`; ProblemError 404 where there is none."""
        path = f"/gdi/{kind}/{_part(dag_id)}/{_path(dag_run_id)}"
        request = self._files.build_request(
            "GET", path, params={"name": name} if name else None, headers=await self._headers()
        )
        try:
            answer = await self._files.send(request, stream=True)
        except httpx.HTTPError as error:
            raise _away(type(error).__name__) from None
        try:
            if answer.status_code == 404:
                raise ProblemError(
                    404, "no-such-file", "The results of this run have no such file.", action="List its results."
                )
            if not answer.is_success:
                raise _away(f"answered {answer.status_code}")
            yield answer
        finally:
            await answer.aclose()

    # --- the wire --------------------------------------------------------------------------------

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        for last in (False, True):
            try:
                answer = await self._http.request(method, path, headers=await self._headers(), **options)
            except TooLargeError:
                raise ProblemError(502, "bad-answer", "Airflow's answer is too large.", action=_OPERATOR) from None
            except httpx.HTTPError as error:
                raise _away(type(error).__name__) from None
            if answer.status_code != 401 or last:
                break
            self._until = 0.0
        if answer.status_code in (401, 403):
            raise ProblemError(
                503, "airflow-refuses", "Airflow does not let the portal's account do this.", action=_OPERATOR
            )
        if answer.status_code in (502, 503, 504):
            raise _away(f"answered {answer.status_code}")
        return answer

    async def _headers(self) -> dict[str, str]:
        async with self._signing_in:
            if time.monotonic() >= self._until:
                self._token = await self._sign_in()
                self._until = time.monotonic() + TOKEN_KEPT
        return {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}

    async def _sign_in(self) -> str:
        body = {"username": self._user, "password": self._password()}
        try:
            answer = await self._http.post("/auth/token", json=body)
        except httpx.HTTPError as error:
            raise _away(type(error).__name__) from None
        if answer.status_code >= 500:
            raise _away(f"answered {answer.status_code}")
        token = _json(answer).get("access_token") if answer.is_success else None
        if not isinstance(token, str):
            raise ProblemError(
                503, "airflow-refuses", "Airflow does not accept the portal's own account.", action=_OPERATOR
            )
        return token


_OPERATOR = "Tell the operator of the coordinator."


def _part(text: str) -> str:
    return quote(text, safe="")


def _path(text: str) -> str:
    return quote(text, safe="/")


def _absent(answer: httpx.Response) -> bool:
    """Whether Airflow itself says so, in JSON: a proxy's page is no word about a run. ProblemError 503 for that."""
    if answer.status_code != 404:
        return False
    try:
        if isinstance(answer.json(), dict):
            return True
    except ValueError:
        pass
    raise _away("answered 404, and not in Airflow's words")


def _json(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise _away(f"answered {answer.status_code}")
    try:
        found = answer.json()
    except ValueError:
        raise ProblemError(502, "bad-answer", "Airflow answered no JSON.", action=_OPERATOR) from None
    return found if isinstance(found, dict) else {}


def _dag_run(found: dict[str, Any]) -> DagRun:
    conf = {k: v for k, v in (found.get("conf") or {}).items() if k not in ("ticket", "grant")}
    return DagRun(
        str(found["dag_id"]), str(found["dag_run_id"]), str(found["state"]), conf, ended_at=found.get("end_date")
    )


def _refused(answer: httpx.Response, what: str) -> ProblemError:
    """Airflow's own sentence is kept for the operator's log only: it may repeat a conf."""
    if answer.status_code == 404:
        return ProblemError(
            409,
            "workflow-not-offered",
            f"Airflow does not know what {what} needs (yet).",
            action="Try again in a minute.",
        )
    return ProblemError(502, "airflow-refuses", f"Airflow refused {what} with {answer.status_code}.", action=_OPERATOR)


def _away(what: str) -> ProblemError:
    return ProblemError(
        503,
        "airflow-away",
        f"Airflow cannot be asked now ({what}).",
        action="Send the request again in some seconds, a start with the same Idempotency-Key.",
        retry_after=5,
    )
