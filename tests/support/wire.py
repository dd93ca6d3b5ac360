"""What a server may answer, and a check that a fake of it answers nothing else: each fake is bound to one of
tests/support/wires.py. An answer that breaks it fails the test in which it was given.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gdi.contracts.problems import PROBLEMS
from gdi.kit.problem import PROBLEM_JSON, TYPE_PREFIX

A = TypeVar("A", bound=Starlette)
Check = Callable[[Any], None]
"""Raises ValueError or AssertionError where what JSON holds is not what the server would send."""
FAULT = "x-fault"  # a header of an answer that is wrong on purpose; also for `bind`'s own routes
BREACHES: list[str] = []  # since the last test


def model(kind: Any) -> Check:
    """A pydantic type; also that it knows every field that was given."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def check(value: Any) -> None:
        read = adapter.validate_json(json.dumps(value))
        survives(value, adapter.dump_python(read, mode="json", by_alias=True))

    return check


def survives(given: Any, read: Any, place: str = "answer") -> None:
    """AssertionError where a field of `given` is in no model: `read` is what the model made of it."""
    if isinstance(given, Mapping) and isinstance(read, Mapping):
        unknown = given.keys() - read.keys()
        assert not unknown, f"{place} has no field {', '.join(sorted(unknown))}"
        for name, value in given.items():
            survives(value, read[name], f"{place}.{name}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            survives(one, other, f"{place}[{number}]")


@dataclass(frozen=True)
class Route:
    """`answers`: the check of each status of success; None where no model tells the bytes. `path` as FastAPI has it."""

    method: str
    path: str
    answers: Mapping[int, Check | None]
    request: Check | None = None
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", compile_path(self.path)[0])


@dataclass(frozen=True)
class Wire:
    """One server's. `problems`: its errors below 500 are registered problems (a proxy before it may say 429, 5xx)."""

    name: str
    routes: Sequence[Route]
    problems: bool = False

    def route(self, method: str, path: str) -> Route | None:
        return next((r for r in self.routes if r.method == method and r.pattern.match(path)), None)

    def check(
        self, method: str, path: str, status: int, kind: str, body: bytes, request: bytes = b"", *, own: bool = False
    ) -> None:
        """AssertionError that says what this server would not do. `own`: paths that it does not have are the test's."""
        where = f"{self.name}: {method} {path} answered {status}"
        found = self.route(method, path)
        if found is None and (own or status in (404, 405)):
            return
        assert found is not None, f"{where}, and it has no such call"
        try:
            if status >= 400:
                self._problem(status, kind, body)
            else:
                assert status in found.answers or 300 <= status < 400, "a status that it never gives"
                if (asks := found.request) is not None and request:
                    asks(json.loads(request))
                if (tells := found.answers.get(status)) is not None and method != "HEAD":
                    tells(json.loads(body))
        except Exception as error:  # whatever a check makes of nonsense
            raise AssertionError(f"{where}: {type(error).__name__} {error}") from None

    def _problem(self, status: int, kind: str, body: bytes) -> None:
        if kind.startswith(PROBLEM_JSON) and self.problems:
            told = json.loads(body)
            slug = str(told["type"]).removeprefix(TYPE_PREFIX)
            assert slug in PROBLEMS, f"{slug} is no registered problem"
            assert status in PROBLEMS[slug].statuses, f"{slug} has another status"
        elif self.problems and body:
            assert status == 429 or status >= 500, "an error that is no problem"

    def breach(self, *answer: Any, **more: Any) -> str:
        """What is wrong with an answer, "" where nothing is; kept until the end of the test."""
        try:
            self.check(*answer, **more)
        except AssertionError as error:
            BREACHES.append(str(error))
            return str(error)
        return ""


ByHand = Mapping[tuple[str, str], Mapping[int, Check]]


def routes_of(*routes: Sequence[BaseRoute], more: ByHand | None = None) -> list[Route]:
    """The calls of routers of our own, with the models that they declare. `more`: of what answers by hand."""
    found = []
    for route in (one for some in routes for one in some):
        if not isinstance(route, APIRoute):
            continue
        status = route.status_code or 200
        body = route.body_field.field_info.annotation if route.body_field else None
        for method in route.methods:
            own = (more or {}).get((method, route.path))
            told = model(route.response_model) if route.response_model is not None and status != 204 else None
            asks = TypeAdapter(body).validate_python if body is not None else None
            found.append(Route(method, route.path, own or {status: told}, asks))
    return found


class _Bound:
    """ASGI: holds what is small enough to be judged, and answers 500 where it breaks the contract."""

    def __init__(self, app: ASGIApp, wire: Wire, own: bool) -> None:
        self.app, self.wire, self.own = app, wire, own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        asked, told, start = bytearray(), bytearray(), dict[str, Any]()
        route = self.wire.route(method, path)

        async def heard() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def judged(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            headers = {k.decode().lower(): v.decode() for k, v in start["headers"]}
            judge = FAULT not in headers and not (route is None and self.own)
            judge = judge and (start["status"] >= 400 or route is None or any(route.answers.values()))
            told.extend(message.get("body", b""))
            if judge and message.get("more_body"):
                return
            if judge:
                answer = (start["status"], headers.get("content-type", ""), bytes(told), bytes(asked))
                if wrong := self.wire.breach(method, path, *answer, own=self.own):
                    start["status"], told[:] = 500, wrong.encode()
                    start["headers"] = [(b"content-type", b"text/plain")]
            if "sent" not in start:
                await send({key: start[key] for key in ("type", "status", "headers")})
                start["sent"] = True
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": bytes(told), "more_body": more})
            told.clear()

        await self.app(scope, heard, judged)


def bind(app: A, wire: Wire, *, own: bool = False) -> A:
    """The application, its answers held against the contract. `own`: it has calls of the test's own too."""
    app.add_middleware(_Bound, wire=wire, own=own)
    return app


def answers_of(wire: Wire, handler: Callable[[httpx.Request], httpx.Response]) -> httpx.MockTransport:
    """A transport for httpx that answers by `handler`, held against the contract."""

    async def later(request: httpx.Request, given: Awaitable[httpx.Response]) -> httpx.Response:
        return judged(request, await given)

    def answer(request: httpx.Request) -> Any:
        given = handler(request)
        return later(request, given) if inspect.isawaitable(given) else judged(request, given)

    def judged(request: httpx.Request, given: httpx.Response) -> httpx.Response:
        if FAULT not in given.headers:
            kind = given.headers.get("content-type", "")
            wrong = wire.breach(
                request.method, request.url.path, given.status_code, kind, given.read(), request.content
            )
            assert not wrong, wrong
        return given

    return httpx.MockTransport(answer)


def held(wire: Wire) -> Callable[[httpx.Response], None]:
    """A hook for httpx's responses: AssertionError where a stand-in's answer breaks the contract."""

    def check(answer: httpx.Response) -> None:
        if answer.status_code >= 400:
            return
        if (route := wire.route(answer.request.method, answer.request.url.path)) is not None:
            kind = answer.headers.get("content-type", "")
            body = answer.read() if route.answers.get(answer.status_code) is not None else b""
            wire.check(answer.request.method, answer.request.url.path, answer.status_code, kind, body)

    return check


class BoundHandler(BaseHTTPRequestHandler):
    """For fakes over http.server: a handler whose `answer` is held against `wire`."""

    protocol_version = "HTTP/1.1"
    wire: Wire

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def address_string(self) -> str:
        return "local"

    def answer(
        self, status: int, body: object, kind: str = "application/json", *, fault: bool = False, **headers: str
    ) -> None:
        """`body`: bytes, or what JSON holds. `fault`: wrong on purpose."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = urlsplit(self.path).path
        wrong = "" if fault else self.wire.breach(self.command, path, status, kind, data)
        if wrong:
            status, kind, data = 500, "text/plain", wrong.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@pytest.fixture(autouse=True)
def bound_fakes() -> Iterator[None]:
    """Fails the test in which a fake broke its contract."""
    BREACHES.clear()
    yield
    found, BREACHES[:] = BREACHES[:], []
    assert not found, "\n".join(found)
