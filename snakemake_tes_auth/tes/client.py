"""A TES 1.1 client that is asynchronous and light: py-tes's tasks go in and come out, lists are paged, bounded and
adapt to what the server bears. GA4GH TES 1.1.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tes.models import Task

from gdi.contracts.tes import (
    ENDING,
    LIVE,
    View,
    from_json,
    id_of,
    identifier_of,
    state_of,
    tags_of,
    tasks_from_json,
    to_json,
)
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.retry import error_of, persist
from snakemake_tes_auth.tes.paging import PageSize

Json = dict[str, Any]  # an answer as the server gave it; it does not leave this room
SERVES = (LIVE - ENDING) | {"COMPLETE"}  # the states of a task that need not be made again
MAX_PAGES = 10_000
MAX_STARTS = 4  # how often a list whose pages repeat is begun anew before what came of it has to do
SETTLE = 1.5  # seconds a list may lag behind a creation whose answer was lost
TASKS = "/ga4gh/tes/v1/tasks"
REFUSED = frozenset({400, 422, 501})  # what a server says to a parameter that it does not know
UNLISTED = frozenset({404, 405, 410, 501})  # what one says that has no list of tasks
MOVED = frozenset({301, 302, 303, 307, 308})
MAX_MOVES = 3
MAX_PAGES_IN_A_ROW = 6  # answers that are no JSON, until a server that never gave any counts as no TES
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class BrokenList(ProblemError):
    """A task list whose pages repeat or go round: what came of it is true, but it may not be all."""


class TesClient:
    """Calls of one TES (or gateway) through `http`, whose auth puts the token on. Every call waits for a server that is
    away, within `patience`.

    `idempotent`: the server knows a task by (gdi-job, gdi-try), so that creating may be repeated blindly (the gateway).
    ProblemError where the server refuses; Away where patience ended; Refusal where no token is to be had.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        patience: RetryPolicy,
        say: Callable[[str], None],
        name: str,
        idempotent: bool = False,
    ) -> None:
        self._http = http
        self._patience = patience
        self._say = say
        self._name = name
        self._idempotent = idempotent
        self._filters = True  # until the server refuses a list narrowed by tags
        self._minimal = True  # until it refuses the view MINIMAL
        self._lists = True  # until it has no list at all
        self._pages_in_a_row: int | None = 0  # answers that were no JSON, before the first that was; then None
        self._sizes = {
            "MINIMAL": PageSize(largest=2000),
            "BASIC": PageSize(largest=1000),
            "FULL": PageSize(largest=100),
        }
        self.requests = 0
        self._date = ""
        self._tasks_url = httpx.URL(str(http.base_url).rstrip("/") + TASKS)

    @property
    def server_time(self) -> float:
        """The server's own clock at its last answer, epoch seconds; ours where it does not tell."""
        try:
            return parsedate_to_datetime(self._date).timestamp()
        except ValueError:
            return time.time()

    def page_size(self, view: View = "MINIMAL") -> int:
        """How many tasks the next page asks for."""
        return self._sizes[view].size

    def link(self, identifier: str) -> str:
        """Where a person reads more about a task: the gateway's log page, or the task itself."""
        base = str(self._http.base_url).rstrip("/")
        return f"{base}/logs/{identifier}" if self._idempotent else f"{base}{TASKS}/{identifier}?view=FULL"

    async def create(self, task: Task) -> str:
        """`POST /tasks`; the new task's id. Where an answer was lost the task is looked for by its tags before it is
        sent again.
        """
        began = time.monotonic()
        lost: Exception | None = None  # the error that left open whether the task was made

        async def once() -> str:
            nonlocal lost
            if lost is not None and (found := await self._find(task)):
                return found
            if lost is not None and not self._lists:
                raise ProblemError(
                    409,
                    "lost-answer",
                    f"{self._name} did not answer to a creation and cannot list its tasks: whether the task is there is"
                    " not known, and it is not sent twice. Start again when the TES has no such task any more",
                ) from None
            if _status(lost) == 500 and time.monotonic() - began > self._patience.total / 4:
                # Lists work, this task does not: Funnel says 500 to a wrong task too.
                raise ProblemError(422, "rejected", f"{self._name} does not take the task: {lost}") from None
            try:
                answer = await self._send(self._creation(task))
            except UNSENT:
                raise
            except (httpx.TransportError, ProblemError) as error:
                if not self._idempotent and (isinstance(error, httpx.TransportError) or _status(error) >= 500):
                    lost = error
                raise
            return _identifier(answer, self._name)

        return await persist(once, what=self._name, patience=self._patience, say=self._say)

    async def _find(self, task: Task) -> str:
        """The id of a live or complete task with this one's tags, "" where there is none after a while: lists may
        lag.
        """
        tags = {k: v for k, v in tags_of(task).items() if k in ("gdi-run", "gdi-job", "gdi-try")}
        until = time.monotonic() + SETTLE
        while True:
            async for page in self._pages(tags, "BASIC", once=True):
                for found in page:
                    if state_of(found) in SERVES:
                        return id_of(found)
            if time.monotonic() >= until:
                return ""
            await asyncio.sleep(SETTLE / 3)

    async def get(self, identifier: str, view: View = "FULL") -> Task:
        """`GET /tasks/{id}`. ProblemError 404 where the TES forgot it."""
        path = f"{TASKS}/{_segment(identifier)}"

        async def once() -> Json:
            try:
                return await self._once("GET", path, params={"view": self._view(view)})
            except ProblemError as error:
                if not self._other_view(view, error):
                    raise
                return await self._once("GET", path, params={"view": self._view(view)})

        answer = await persist(once, what=self._name, patience=self._patience, say=self._say)
        return from_json(answer, identifier=identifier)

    def _view(self, view: View) -> View:
        return "BASIC" if view == "MINIMAL" and not self._minimal else view

    def _other_view(self, view: View, error: ProblemError) -> bool:
        """Whether to ask once more, with the view BASIC: some servers do not know MINIMAL, and one says 500 to it."""
        if view != "MINIMAL" or not self._minimal or error.problem.status not in (*REFUSED, 500):
            return False
        self._minimal = False
        return True

    async def cancel(self, identifier: str) -> None:
        """`POST /tasks/{id}:cancel`. A task that ended or is forgotten is no error."""
        try:
            await self._call("POST", f"{TASKS}/{_segment(identifier)}:cancel")
        except ProblemError as error:
            if error.problem.status not in (404, 409, 400):
                raise

    async def pages(self, tags: Mapping[str, str], *, view: View = "MINIMAL") -> AsyncGenerator[list[Task], None]:
        """All tasks with these tags, page by page, in the server's order; a task may come twice. BrokenList at the end
        where pages repeated.

        MINIMAL pages hold no tags: where the server ignores the filter, other tasks are among them. BASIC and FULL
        pages are filtered here too.
        """
        async for page in self._pages(tags, view):
            yield page

    async def _pages(
        self, tags: Mapping[str, str], view: View, *, once: bool = False
    ) -> AsyncGenerator[list[Task], None]:
        for start in range(MAX_STARTS):
            try:
                async for page in self._list(tags, view, once):
                    yield page
                return
            except BrokenList:
                if start == MAX_STARTS - 1:
                    raise
                await asyncio.sleep(self._patience.pause(start + 1))

    async def _list(self, tags: Mapping[str, str], view: View, once: bool) -> AsyncGenerator[list[Task], None]:
        token = ""
        seen: set[str] = set()
        ids: set[str] = set()
        for _ in range(MAX_PAGES):
            answer = await self._page(tags, view, token, once)
            tasks = tasks_from_json(answer)
            new = {id_of(t) for t in tasks} - ids
            if tasks and not new:
                raise BrokenList(502, "bad-answer", f"{self._name} gave the same page of its task list twice.")
            ids |= new
            if view != "MINIMAL":
                tasks = [t for t in tasks if all(tags_of(t).get(k) == v for k, v in tags.items())]
            yield tasks
            following = answer.get("next_page_token")
            if not following:
                return
            token = str(following)
            if token in seen:
                raise BrokenList(502, "bad-answer", f"{self._name} gave the same page of its task list twice.")
            seen.add(token)
        raise BrokenList(502, "bad-answer", f"{self._name}'s task list has more than {MAX_PAGES} pages.")

    async def _page(self, tags: Mapping[str, str], view: View, token: str, once: bool) -> Json:
        size = self._sizes[view]

        async def call() -> Json:
            if not self._lists:
                return {}
            params: dict[str, Any] = {"view": self._view(view), "page_size": size.size}
            if self._filters and tags:
                params |= {"tag_key": list(tags), "tag_value": list(tags.values())}
            if token:
                params["page_token"] = token
            began = time.monotonic()
            try:
                answer = await self._once("GET", TASKS, params=params)
            except UNSENT:
                raise
            except httpx.TransportError:
                size.refused()
                raise
            except ProblemError as error:
                if error.problem.status in REFUSED and not token and self._other_view(view, error):
                    return await call()
                if error.problem.status in REFUSED and self._filters and tags and not token:
                    self._filters, self._minimal = False, True  # TES 1.0 has no filter by tags
                    self._say(f"{self._name} cannot list by tags: its whole task list is read")
                    return await call()
                if error.problem.status in UNLISTED and not token:
                    self._lists = False
                    self._say(f"{self._name} cannot list its tasks: those of an earlier start are not found again")
                    return {}
                # gRPC's limit on messages comes as 429 through its HTTP gateway.
                if error.problem.status in (413, 429) or error.problem.status >= 500:
                    size.refused()
                    if error.problem.status == 413:
                        raise ProblemError(503, "too-much", error.problem.detail) from None
                raise
            size.served(time.monotonic() - began)
            return answer

        return await call() if once else await persist(call, what=self._name, patience=self._patience, say=self._say)

    async def _call(self, method: str, path: str, **arguments: Any) -> Json:
        return await persist(
            lambda: self._once(method, path, **arguments), what=self._name, patience=self._patience, say=self._say
        )

    async def _once(self, method: str, path: str, **arguments: Any) -> Json:
        return await self._send(self._http.build_request(method, path, **arguments))

    def _creation(self, task: Task) -> httpx.Request:
        """As `build_request` would make it, without merging URLs, headers and parameters anew for each of ten
        thousand.
        """
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        body = json.dumps(to_json(task), ensure_ascii=False, separators=(",", ":")).encode()
        return httpx.Request(
            "POST", self._tasks_url, headers=headers, content=body, extensions={"timeout": self._http.timeout.as_dict()}
        )

    async def _send(self, request: httpx.Request) -> Json:
        for _ in range(MAX_MOVES):
            self.requests += 1
            answer = await self._http.send(request)
            self._date = answer.headers.get("date", "")
            if answer.status_code not in MOVED:
                break
            request = self._moved(request, answer)
        if not answer.is_success:
            raise error_of(answer)
        try:
            body = answer.json() if answer.content else {}
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            what = f"{self._name} answered {request.url.path} with something that is not a JSON object"
            if self._pages_in_a_row is None:
                raise ProblemError(502, "bad-answer", what)
            self._pages_in_a_row += 1
            # A proxy may put up a page for a while; a server that never speaks JSON is no TES.
            status = 502 if self._pages_in_a_row < MAX_PAGES_IN_A_ROW else 421
            raise ProblemError(status, "bad-answer", f"{what}: is this the address of a TES?")
        self._pages_in_a_row = None
        return body

    def _moved(self, request: httpx.Request, answer: httpx.Response) -> httpx.Request:
        """The same request to where the server sends it, on the same server only: a credential goes nowhere else."""
        target = request.url.join(answer.headers.get("location", ""))
        same = (target.scheme, target.host, target.port) == (request.url.scheme, request.url.host, request.url.port)
        if not same or (request.method != "GET" and answer.status_code not in (307, 308)) or target == request.url:
            shown = str(target.copy_with(query=None, fragment=None, userinfo=b""))[:200]
            detail = f"{self._name} sends {request.url.path} on to {shown}: if that is your TES, give its address"
            raise ProblemError(421, "moved", detail)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "authorization")}
        return httpx.Request(
            request.method, target, headers=headers, content=request.content, extensions=request.extensions
        )


def _status(error: Exception | None) -> int:
    return error.problem.status if isinstance(error, ProblemError) else 0


def _identifier(answer: Json, name: str) -> str:
    identifier = identifier_of(answer)
    if not identifier:
        raise ProblemError(502, "bad-answer", f"{name} created a task without an id.")
    return identifier


def _segment(identifier: str) -> str:
    """A task id as one path segment: it came from a server and is only data here."""
    if not identifier or len(identifier) > 200 or any(c in identifier for c in "/?#%:\\") or identifier in (".", ".."):
        raise ProblemError(502, "bad-answer", "the TES gave a task id that cannot be put into a URL.")
    return identifier
