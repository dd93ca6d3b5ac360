"""A login outlives what a provider leaves out, writes in its own way, or a proxy answers in its place."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gdi.client import login
from gdi.client.login import StoredLogin, seconds, stored_login
from gdi.kit.bounded_read import BoundedClient
from gdi.kit.problem import ProblemError


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *((3600, 3600), ("3600", 3600), ("3600s", 3600), (None, 300), ("never", 300), ("nan", 300), (0, 300)),
        *((-1, 300), ("1e400", login.LONGEST), (10**12, login.LONGEST), ([], 300)),
    ],
    ids=str,
)
def test_a_lifetime_is_read_as_providers_write_it(written: object, read: float) -> None:
    assert seconds(written, 300) == read


def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, body: bytes) -> StoredLogin:
    def client() -> BoundedClient:
        transport = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
        return BoundedClient(max_answer=1000, transport=transport)

    monkeypatch.setattr(login, "_http", client)
    monkeypatch.setenv("GDI_LOGIN_FILE", str(tmp_path / "login.json"))
    known = StoredLogin("https://p.example", "https://aai.example/token", "c", "old", "refresh-1", time.time() - 1)
    known.keep()
    return known


def body(**answer: Any) -> bytes:
    return json.dumps(answer).encode()


@pytest.mark.parametrize("lifetime", [None, "3600s", "never", "1e400"], ids=str)
def test_the_new_refresh_token_is_kept_whatever_its_lifetime(
    lifetime: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = body(access_token="new", refresh_token="refresh-2", **({"expires_in": lifetime} if lifetime else {}))
    assert answers(monkeypatch, tmp_path, 200, given).access_token() == "new"
    assert (stored_login().refresh, stored_login().access) == ("refresh-2", "new")


@pytest.mark.parametrize(
    ("status", "given", "said"),
    [
        (400, body(error="invalid_grant"), 401),
        (400, body(error="temporarily_unavailable"), 503),
        (403, body(message="blocked by policy"), 503),
        (403, b"<html>blocked</html>", 502),
        (404, b"404 page not found", 502),
        (503, b"", 502),
        (200, b"<html>welcome</html>", 502),
        (200, body(scope="openid"), 503),
    ],
    ids=str,
)
def test_only_the_provider_itself_ends_a_login(
    status: int, given: bytes, said: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ProblemError) as refused:
        answers(monkeypatch, tmp_path, status, given).access_token()
    assert refused.value.problem.status == said
    assert stored_login().refresh == "refresh-1", "the login stays"
