"""The problems that fakes answer: of registered types only, so that no fake says what no server would."""

from __future__ import annotations

from typing import Any

import httpx
from starlette.responses import JSONResponse

from gdi.contracts.problems import PROBLEMS
from gdi.kit.problem import ProblemError
from gdi.kit.server import problem_response


def problem(status: int, slug: str, detail: str, **extra: Any) -> JSONResponse:
    """A problem as a server answers it. AssertionError where its type is not registered with this status."""
    kind = PROBLEMS[slug]
    assert status in kind.statuses, f"{slug} has the status {status}"
    return problem_response(ProblemError(status, slug, detail, **extra).problem)


def problem_answer(status: int, slug: str, detail: str = "x", **extra: Any) -> httpx.Response:
    """The same for a transport of httpx."""
    made = problem(status, slug, detail, **extra)
    return httpx.Response(status, content=bytes(made.body), headers=dict(made.headers))
