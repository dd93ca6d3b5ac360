"""What an answer without the server's own words means: never that a run, a release or a token is not there."""

from __future__ import annotations

import httpx
import pytest

from gdi.broker_client.client import as_problem
from gdi.kit.problem import Problem, ProblemError
from snakemake_tes_auth.retry import Refusal, error_of

PAGES = [b"<html>Sign in</html>", b"404 page not found", b'{"message": "no Route matched"}', b"[]", b""]


def answered(status: int, body: bytes, method: str = "GET") -> httpx.Response:
    return httpx.Response(status, content=body, request=httpx.Request(method, "https://broker.example.org/v1/runs/r"))


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 409, 410, 422])
@pytest.mark.parametrize("body", PAGES)
def test_a_page_of_something_else_may_pass_and_is_no_refusal(status: int, body: bytes) -> None:
    error = as_problem(answered(status, body))
    assert (error.problem.status, error.slug) == (502, "http-error")
    assert f"/v1/runs/r answered {status}" in str(error) and "proxy" in str(error)


@pytest.mark.parametrize("status", [413, 429, 500, 503])
def test_what_any_hop_may_say_keeps_its_status(status: int) -> None:
    assert as_problem(answered(status, b"<html>")).problem.status == status


def test_the_servers_own_words_count_and_a_head_has_none() -> None:
    own = Problem(type="urn:gdi:problem:run-unknown", title="x", status=404, detail="There is no run r.")
    error = as_problem(answered(404, own.model_dump_json().encode()))
    assert (error.problem.status, error.slug, error.problem.detail) == (404, "run-unknown", "There is no run r.")
    assert as_problem(answered(404, b"", "HEAD")).problem.status == 404


@pytest.mark.parametrize("body", [b"", b"<html>gone</html>"])
def test_a_bare_tes_is_taken_by_its_status(body: bytes) -> None:
    """It has no words of ours: its 404 is its own."""
    found = error_of(answered(404, body))
    assert isinstance(found, ProblemError) and found.problem.status == 404 and "answered 404" in str(found)
    assert isinstance(error_of(answered(401, body)), Refusal)
