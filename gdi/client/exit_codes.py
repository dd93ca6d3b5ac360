"""How a command ends: an exit code for each way, and one sentence with what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import httpx
from rich.console import Console
from rich.text import Text

from gdi.kit.problem import ProblemError

DONE, FAILED, USAGE, SIGNED_OUT, REFUSED, ENDED_BADLY, NOT_THERE = range(7)
EXIT_CODES = (
    "Exit codes: 0 done; 1 a server is away or failed; 2 the command line is not right; 3 not signed in; 4 refused"
    " (access, consent, limits); 5 the run ended without a result; 6 there is no such thing."
)
P = ParamSpec("P")


def with_errors(command: Callable[P, int]) -> Callable[P, int]:
    """An error is one sentence, what to do, and an exit code; never a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except ProblemError as error:
            problem, err = error.problem, Console(stderr=True, highlight=False)
            err.print(Text(problem.detail, "bold red"), soft_wrap=True)
            if problem.action:
                err.print(Text(problem.action), soft_wrap=True)
            return code_of(error)
        except httpx.TransportError as error:
            Console(stderr=True).print(Text(f"The portal does not answer ({type(error).__name__}).", "bold red"))
            return FAILED

    return run


def code_of(error: ProblemError) -> int:
    """The exit code for a refusal."""
    match error.problem.status:
        case 401:
            return SIGNED_OUT
        case 403 | 409 | 429:
            return REFUSED
        case 404:
            return NOT_THERE
        case 400 | 413 | 422:
            return USAGE
    return FAILED
