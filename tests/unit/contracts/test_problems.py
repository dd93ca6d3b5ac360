"""Every problem that a room raises is of a registered type, with a status of that type; none is registered in vain."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gdi.contracts.problems import FENCED, OVER, PROBLEMS, SILENCED

ROOT = Path(__file__).parents[3]
ROOMS = ("gdi", "token_broker", "node_gateway", "snakemake_tes_auth", "plugins")
HELPERS = {"_forbidden": 403, "_refuse": 403}  # functions that make a problem of this status from a slug
INDIRECT = {
    "method-not-allowed",
    "bad-attachment",
    "workflow-not-approved",
}  # chosen by an expression: gdi/kit/server.py; given to `bad`: gdi/portal/wes


class Raised(NamedTuple):
    where: str
    slug: str
    status: int | None


def raised() -> Iterator[Raised]:
    for file in (f for room in ROOMS for f in (ROOT / room).rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text())):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "id", None) or getattr(call.func, "attr", None)
            values = [a.value if isinstance(a, ast.Constant) else None for a in call.args]
            where = f"{file.relative_to(ROOT)}:{call.lineno}"
            numbered = len(values) > 1 and (isinstance(values[0], int) or name == "ProblemError")
            if name in ("ProblemError", "__init__") and numbered and isinstance(values[1], str):
                yield Raised(where, values[1], values[0] if isinstance(values[0], int) else None)
            elif name in HELPERS:
                for value in values:
                    if isinstance(value, str) and re.fullmatch(r"[a-z]+(-[a-z]+)+", value):
                        yield Raised(where, value, HELPERS[name])


def test_what_is_raised_is_registered_with_its_status() -> None:
    for one in raised():
        kind = PROBLEMS.get(one.slug)
        assert kind is not None, f"{one.where}: add {one.slug!r} to gdi.contracts.problems"
        assert one.status is None or one.status in kind.statuses, f"{one.where}: {one.slug} has the status {one.status}"


def test_what_is_registered_is_raised() -> None:
    assert set(PROBLEMS) - {one.slug for one in raised()} == INDIRECT


def test_what_a_client_asks_for_is_registered() -> None:
    asked = re.compile(r"\.slug (?:==|!=) \"([a-z-]+)\"")
    for file in (f for room in ROOMS for f in (ROOT / room).rglob("*.py")):
        for slug in asked.findall(file.read_text()):
            assert slug in PROBLEMS, f"{file}: {slug}"
    assert {FENCED, *OVER, *SILENCED} <= set(PROBLEMS)


@pytest.mark.parametrize("slug", PROBLEMS)
def test_each_says_what_to_do_next(slug: str) -> None:
    kind = PROBLEMS[slug]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", slug) and kind.action.endswith(".")
    assert all(400 <= status < 600 for status in kind.statuses)
