"""A broker that has just started knows workloads' keys before it takes a request, and a dead issuer delays it little;
whoever is turned away is told the right reason.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import jwt
import pytest

from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from tests.support.clock import virtual_time
from tests.support.wire import answers_of
from tests.support.wires import KEY_SETS
from token_broker.authentication.callers import AirflowCaller, Authentication
from token_broker.enrolment import WorkloadIssuer
from token_broker.order_api import _chunk_sha256

URL, DEAD = "http://api/openid/v1/jwks", "http://dead/jwks"
KEY = SigningKey.generate()


class Issuers:
    """Answers with the keys of `URL`, after as many failures as `away` says; nothing else answers."""

    def __init__(self, away: int = 0) -> None:
        self.away, self.asked = away, list[str]()
        self.http = httpx.AsyncClient(transport=answers_of(KEY_SETS, self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        self.away -= 1
        if str(request.url) != URL or self.away >= 0:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={"keys": [KEY.jwk()]})

    def callers(self, *urls: str) -> Authentication:
        issuers = [WorkloadIssuer(issuer=f"https://{n}", jwks_url=url, airflow=["a"]) for n, url in enumerate(urls)]
        enrolment: Any = SimpleNamespace(current=SimpleNamespace(workload_issuers=issuers, node=lambda _: None))
        nobody = cast(Any, None)
        return Authentication(self.http, enrolment, nobody, "https://broker", nobody)


def token() -> str:
    return KEY.sign({"iss": "https://0", "aud": "token-broker", "sub": "a"}, lifetime=300)


@virtual_time
async def test_the_first_token_after_the_start_needs_no_issuer_that_answers() -> None:
    issuers = Issuers(away=2)
    callers = issuers.callers(URL)
    await callers.learn(15)
    assert issuers.asked == [URL] * 3, "it was away at first"
    issuers.away = 99
    assert isinstance(await callers.identify(f"Bearer {token()}"), AirflowCaller)


@virtual_time
async def test_an_issuer_that_stays_away_delays_the_start_by_no_more_than_was_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    issuers = Issuers()
    callers = issuers.callers(URL, DEAD)
    await callers.learn(5)
    assert 3 <= issuers.asked.count(DEAD) <= 7 and issuers.asked.count(URL) == 1
    assert "started without the keys of workload issuer https://1" in caplog.text
    assert isinstance(await callers.identify(f"Bearer {token()}"), AirflowCaller)
    other = jwt.encode({"iss": "https://1", "sub": "a"}, "x" * 32, algorithm="HS256")
    with pytest.raises(ProblemError, match="cannot be had now"):
        await callers.identify(f"Bearer {other}")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"keys": {}}', '{"keys": []}', '{"keys": ["x"]}', None])
async def test_a_file_of_keys_that_cannot_be_read_refuses_nobody_for_good(tmp_path: Path, text: str | None) -> None:
    """A 401 ends a pod; the file is ours, and may be in the middle of a change."""
    file = tmp_path / "jwks.json"
    if text is not None:
        file.write_text(text)
    issuer = WorkloadIssuer(issuer="https://0", jwks_file=file, airflow=["a"])
    enrolment: Any = SimpleNamespace(current=SimpleNamespace(workload_issuers=[issuer], node=lambda _: None))
    callers = Authentication(httpx.AsyncClient(), enrolment, cast(Any, None), "https://broker", cast(Any, None))
    with pytest.raises(ProblemError, match="cannot be had now") as error:
        await callers.identify(f"Bearer {token()}")
    assert error.value.problem.status == 503
    file.write_text(json.dumps({"keys": [KEY.jwk()]}))
    assert isinstance(await callers.identify(f"Bearer {token()}"), AirflowCaller)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"active": False}, "not active"),
        ({"sub": "alice", "client_id": "portal"}, "not active"),
        ({"active": True, "sub": "alice"}, "names no `sub` and `client_id`"),
        ({"active": True, "client_id": "portal"}, "names no `sub` and `client_id`"),
        ({"active": True, "sub": "", "client_id": "portal"}, "names no `sub` and `client_id`"),
        ({"active": True, "sub": "alice", "client_id": "other"}, "not an enrolled portal"),
    ],
)
async def test_a_token_is_refused_for_the_reason_that_it_is(answer: dict[str, Any], reason: str) -> None:
    """RFC 7662 leaves every field but `active` to the provider."""

    async def introspect(_: str) -> dict[str, Any]:
        return answer

    current = SimpleNamespace(workload_issuers=[], node=lambda _: None, portal_clients={"portal"}, nodes=[])
    oidc: Any = SimpleNamespace(introspect=introspect)
    enrolment: Any = SimpleNamespace(current=current)
    callers = Authentication(httpx.AsyncClient(), enrolment, oidc, "https://broker", cast(Any, None))
    with pytest.raises(ProblemError, match=reason) as error:
        await callers.identify("Bearer opaque")
    assert error.value.problem.status == 401


@pytest.mark.parametrize("header", ["sha-256=:{}:", "sha-512=:AA==:, sha-256=:{}:", "sha-256=:{}:;x=1, unixsum=:AA==:"])
def test_a_digest_may_stand_beside_others(header: str) -> None:
    own = hashlib.sha256(b"x")
    assert _chunk_sha256(header.format(base64.b64encode(own.digest()).decode())) == own.hexdigest()


@pytest.mark.parametrize("header", ["", "sha-512=:AA==:", "sha-256=AA", "sha-256=:AA==:", "md5=x"])
def test_a_digest_that_is_not_there_is_said(header: str) -> None:
    with pytest.raises(ProblemError, match="no SHA-256"):
        _chunk_sha256(header)
