"""A broker that has just started knows workloads' keys before it takes a request; a dead issuer delays it little."""

from __future__ import annotations

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
