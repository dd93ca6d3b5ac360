"""A TES 1.1 client that is asynchronous and light: tasks stay dictionaries, states and tags are looked up, lists are paged and bounded. GA4GH TES 1.1."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Literal

import httpx

from gdi_common.problem import ProblemError
from snakemake_tes_auth.retry import Patience, error_of, persist

Task = dict[str, Any]  # a TES task as JSON: py-tes's models are synchronous and cost more than the call itself
View = Literal["MINIMAL", "BASIC", "FULL"]

LIVE = frozenset({"UNKNOWN", "QUEUED", "INITIALIZING", "RUNNING", "PAUSED", "CANCELING"})
FAILED = frozenset({"EXECUTOR_ERROR", "SYSTEM_ERROR", "PREEMPTED", "CANCELED"})
STATES = LIVE | FAILED | {"COMPLETE"}
MAX_PAGES = 10_000
TASKS = "/ga4gh/tes/v1/tasks"


def state_of(task: Task) -> str:
    """The task's state; UNKNOWN where the server leaves it out or says something that TES does not know."""
    state = str(task.get("state") or "UNKNOWN")
    return state if state in STATES else "UNKNOWN"


def tags_of(task: Task) -> Mapping[str, str]:
    tags = task.get("tags")
    return tags if isinstance(tags, dict) else {}


class TesClient:
    """Calls of one TES (or gateway) through `http`, whose auth puts the token on. Every call waits for a server that is away, within `patience`.

    ProblemError where the server refuses; Away where patience ended; Refused where no token is to be had.
    """

    def __init__(self, http: httpx.AsyncClient, *, patience: Patience, say: Callable[[str], None], name: str) -> None:
        self._http = http
        self._patience = patience
        self._say = say
        self._name = name
        self.requests = 0

    async def create(self, task: Task) -> str:
        """`POST /tasks`; the new task's id. Repeating is safe where the server knows (gdi-job, gdi-try), as the gateway does."""
        answer = await self._call("POST", TASKS, json=task)
        identifier = answer.get("id")
        if not isinstance(identifier, str) or not identifier:
            raise ProblemError(502, "bad-answer", f"{self._name} created a task without an id.")
        return identifier

    async def get(self, identifier: str, view: View = "FULL") -> Task:
        """`GET /tasks/{id}`. ProblemError 404 where the TES forgot it."""
        return await self._call("GET", f"{TASKS}/{_segment(identifier)}", params={"view": view})

    async def cancel(self, identifier: str) -> None:
        """`POST /tasks/{id}:cancel`. A task that ended or is forgotten is no error."""
        try:
            await self._call("POST", f"{TASKS}/{_segment(identifier)}:cancel")
        except ProblemError as error:
            if error.problem.status not in (404, 409, 400):
                raise

    async def tasks(self, tags: Mapping[str, str], *, view: View = "MINIMAL", page_size: int = 1000) -> AsyncGenerator[Task, None]:
        """All tasks with these tags, page by page. A page token that comes twice ends in ProblemError, not in a loop without end."""
        params: dict[str, Any] = {"view": view, "page_size": page_size, "tag_key": list(tags), "tag_value": list(tags.values())}
        seen: set[str] = set()
        for _ in range(MAX_PAGES):
            answer = await self._call("GET", TASKS, params=params)
            for task in answer.get("tasks") or []:
                if isinstance(task, dict) and isinstance(task.get("id"), str):
                    yield task
            token = answer.get("next_page_token")
            if not token:
                return
            if token in seen:
                raise ProblemError(502, "bad-answer", f"{self._name} gave the same page of its task list twice.")
            seen.add(token)
            params["page_token"] = token
        raise ProblemError(502, "bad-answer", f"{self._name}'s task list has more than {MAX_PAGES} pages.")

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        async def once() -> dict[str, Any]:
            self.requests += 1
            answer = await self._http.request(method, path, **arguments)
            if not answer.is_success:
                raise error_of(answer)
            try:
                body = answer.json() if answer.content else {}
            except ValueError:
                body = None
            if not isinstance(body, dict):
                raise ProblemError(502, "bad-answer", f"{self._name} answered {path} with something that is not a JSON object.")
            return body

        return await persist(once, what=self._name, patience=self._patience, say=self._say)


def _segment(identifier: str) -> str:
    """A task id as one path segment: it came from a server and is only data here."""
    if not identifier or len(identifier) > 200 or any(c in identifier for c in "/?#%:\\") or identifier in (".", ".."):
        raise ProblemError(502, "bad-answer", "the TES gave a task id that cannot be put into a URL.")
    return identifier
