"""The node's TES (GA4GH TES 1.1): tasks are created as the user, and listed, read and cancelled by the node's service
account.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from tes.models import Task

from gdi.contracts.tes import View, from_json, states_from_json, tasks_from_json, to_json
from gdi.kit.problem import ProblemError
from node_gateway.tasks.off_loop import off_loop
from node_gateway.upstream import NotJson, TooLarge, UpstreamAnswer, client, fetch

T = TypeVar("T")
API = "/ga4gh/tes/v1"
MAX_TASK = 16 * 1024 * 1024
MAX_PAGE = 8 * 1024 * 1024
Json = dict[str, Any]  # an answer as the TES gave it; it does not leave this file


@dataclass(frozen=True)
class TaskSelection:
    """Of a TES's tasks those with all these tags, and this state and beginning of their names where they are given."""

    tags: Mapping[str, str]
    state: str = ""
    name_prefix: str = ""


class TesAway(Exception):
    """No sure answer. `maybe_done`: the request may have been carried out all the same."""

    def __init__(self, problem: str, *, maybe_done: bool) -> None:
        super().__init__(problem)
        self.maybe_done = maybe_done

    def problem(self) -> ProblemError:
        return ProblemError(
            503,
            "tes-away",
            f"The node's TES does not answer ({self}).",
            action="Try again in a few seconds.",
            retry_after=3,
        )


class TesTooLarge(TesAway):
    """The answer is larger than it may be: ask for less."""


class UpstreamTes:
    """`url` with or without `/ga4gh/tes/v1`."""

    def __init__(self, url: str, user: str, password: str) -> None:
        base = url.removesuffix("/v1/").removesuffix(API)
        self._http = client(base)
        self._service = httpx.BasicAuth(user, password)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def create(self, task: Task, token: str | None) -> str:
        """The new task's id; as the gateway's own account where there is no `token`. ProblemError 403/422 where the TES
        refuses, TesAway where it is not sure.
        """
        proof: dict[str, Any] = {"auth": self._service}
        if token is not None:
            proof = {"headers": {"Authorization": f"Bearer {token}"}}
        answer = await self._send("POST", "/tasks", max_bytes=1024 * 1024, json=to_json(task), timeout=60, **proof)
        if answer.status in (401, 403):
            raise ProblemError(
                403,
                "tes-refused",
                f"The node's TES refuses the user ({answer.status}).",
                action="Check the user's rights at this node.",
            )
        if not answer.ok:
            raise ProblemError(
                422, "tes-rejected", f"The node's TES rejects the task: {answer.text(200)}", action="Correct the task."
            )
        found = _object(answer).get("id")
        if not isinstance(found, str) or not 0 < len(found) <= 200:
            raise TesAway("it answered without a task id", maybe_done=True)
        return found

    async def get(self, task: str, view: View) -> Task | None:
        """The task, or None where the TES does not know it. One whose logs are too large comes without them."""
        try:
            answer = await self._send(
                "GET", f"/tasks/{_quote(task)}", max_bytes=MAX_TASK, auth=self._service, params={"view": view}
            )
        except TesTooLarge:
            if view != "FULL":
                raise
            return await self.get(task, "BASIC")
        if answer.status == 404:
            return None
        return await off_loop(len(answer.content), lambda: from_json(self._good(answer), identifier=task))

    async def page(self, selection: TaskSelection, *, view: View, size: int, token: str = "") -> tuple[list[Task], str]:
        """One page of the tasks: (tasks, next page's token or empty). A page of more than MAX_PAGE bytes is asked for
        again with half as many tasks.
        """
        return await self._page(selection, view, size, token, tasks_from_json)

    async def states(
        self, selection: TaskSelection, *, size: int, token: str = ""
    ) -> tuple[list[tuple[str, str]], str]:
        """`page` in the view MINIMAL: (id, state) of each task."""
        return await self._page(selection, "MINIMAL", size, token, states_from_json, lean=True)

    async def _page(
        self,
        selection: TaskSelection,
        view: View,
        size: int,
        token: str,
        tasks_of: Callable[[Json], list[T]],
        *,
        lean: bool = False,
    ) -> tuple[list[T], str]:
        query: list[tuple[str, str | int | float | bool | None]] = [("view", view)]
        query += [("page_token", token)] if token else []
        query += [("state", selection.state)] if selection.state else []
        query += [("name_prefix", selection.name_prefix)] if selection.name_prefix else []
        for key, value in selection.tags.items():
            query += [("tag_key", key), ("tag_value", value)]
        while True:
            sized = [*query, ("page_size", size)]
            try:
                answer = await self._send(
                    "GET", "/tasks", max_bytes=MAX_PAGE, auth=self._service, params=sized, timeout=60
                )
                break
            except TesTooLarge:
                if size <= 1:
                    raise
                size //= 2

        def read() -> tuple[list[T], str]:
            body = self._good(answer)
            following = body.get("next_page_token")
            return tasks_of(body), following if isinstance(following, str) else ""

        return await off_loop(len(answer.content) // (4 if lean else 1), read)  # ids and states: a millisecond or two

    async def cancel(self, task: str) -> None:
        answer = await self._send("POST", f"/tasks/{_quote(task)}:cancel", max_bytes=1024 * 1024, auth=self._service)
        if not answer.ok and answer.status not in (404, 409):  # gone, or over already
            raise TesAway(f"cancel answered {answer.status}", maybe_done=False)

    async def alive(self) -> bool:
        try:
            return (
                await self._send("GET", "/service-info", max_bytes=1024 * 1024, auth=self._service, timeout=3)
            ).status < 500
        except TesAway:
            return False

    async def _send(self, method: str, path: str, **request: Any) -> UpstreamAnswer:  # httpx's own arguments
        try:
            answer = await fetch(self._http, method, API + path, **request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise TesAway(type(error).__name__, maybe_done=False) from None
        except TooLarge:
            raise TesTooLarge("its answer is too large", maybe_done=True) from None
        except httpx.HTTPError as error:
            raise TesAway(type(error).__name__, maybe_done=True) from None
        if answer.status >= 500 or answer.status == 429:
            raise TesAway(f"it answered {answer.status}", maybe_done=answer.status >= 500)
        return answer

    @staticmethod
    def _good(answer: UpstreamAnswer) -> Json:
        if not answer.ok:
            raise TesAway(f"it answered {answer.status}", maybe_done=False)
        return _object(answer)


def _object(answer: UpstreamAnswer) -> Json:
    try:
        value = answer.json()
    except NotJson:
        value = None
    if not isinstance(value, dict):
        raise TesAway("its answer is not a JSON object", maybe_done=True)
    return value


def _quote(task: str) -> str:
    return urllib.parse.quote(task, safe="")
