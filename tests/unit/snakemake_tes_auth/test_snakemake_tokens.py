"""Credentials of the Snakemake side against real HTTP servers: storms of 401, ends in the middle, rotation; and that no
secret is seen anywhere.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from gdi.kit.bearer import BearerAuth
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.credentials.oauth import ClientCredentials, check_secret_url
from snakemake_tes_auth.credentials.tokens import (
    MIN_TTL,
    BasicPassword,
    FileTokens,
    FixedToken,
    NoToken,
    TokenSource,
)
from snakemake_tes_auth.retry import Refusal
from snakemake_tes_auth.tes.client import TesClient
from tests.support.clock import Clock
from tests.support.wire import BoundHandler, Wire
from tests.support.wires import OAUTH, TES

OAUTH_AND_TES = Wire("provider and TES", [*TES.routes, *OAUTH.routes])
SECRET = "secret planted 4711+/="
QUICK = RetryPolicy(total=60, first=0.01, longest=0.05)  # short pauses; the bound is for a machine that stands still


class Server:
    """A TES, and an OAuth 2.0 provider beside it. `good` are the tokens that it takes."""

    def __init__(self) -> None:
        self.good: set[str] = set()
        self.seen: list[str] = []  # Authorization headers of the TES's requests
        self.asked: list[dict[str, Any]] = []  # requests at the token endpoint
        self.life: float | None = 300.0
        self.answers: list[tuple[int, Any]] = []  # given first, in turn, by the token endpoint
        self.methods = ["client_secret_basic"]
        self.lock = threading.Lock()
        server = self

        class Handler(BoundHandler):
            wire = OAUTH_AND_TES

            def do_GET(self) -> None:
                if self.path.endswith("openid-configuration"):
                    document = {
                        "issuer": f"{server.url}/idp",
                        "token_endpoint": f"{server.url}/idp/token",
                        "token_endpoint_auth_methods_supported": server.methods,
                    }
                    self.answer(200, document)
                    return
                header = self.headers.get("Authorization", "")
                server.seen.append(header)
                (
                    self.answer(200, {"id": "t1", "state": "RUNNING"})
                    if header in server.good
                    else self.answer(401, {"message": "no"})
                )

            def do_POST(self) -> None:
                form = {
                    k: v[0] for k, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()
                }
                with server.lock:
                    server.asked.append({**form, "authorization": self.headers.get("Authorization", "")})
                    if server.answers:
                        self.answer(*server.answers.pop(0), fault=True)
                        return
                    token = f"token-{len(server.asked)}"
                    server.good.add(f"Bearer {token}")
                    self.answer(
                        200,
                        {
                            "access_token": token,
                            "token_type": "bearer",
                            **({} if server.life is None else {"expires_in": server.life}),
                        },
                    )

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    return file


async def states(server: Server, source: TokenSource, many: int = 1, patience: RetryPolicy = QUICK) -> list[str]:
    """What so many calls at once say."""
    async with httpx.AsyncClient(base_url=server.url, auth=BearerAuth(source), trust_env=False, timeout=60) as http:
        tes = TesClient(http, patience=patience, say=lambda _: None, name="the TES")
        return [t.state for t in await asyncio.gather(*(tes.get("t1") for _ in range(many)))]


def client(server: Server, secret_file: Path, **more: Any) -> ClientCredentials:
    return ClientCredentials(
        client_id="me:&", secret_file=secret_file, **({"token_url": f"{server.url}/idp/token"} | more)
    )


# --- OAuth 2.0 client credentials ---------------------------------------------------------------


async def test_client_credentials_are_sent_as_rfc_6749_has_it_and_the_token_is_used(
    server: Server, secret_file: Path
) -> None:
    source = client(server, secret_file, scope="tes", audience="https://tes")
    assert await states(server, source, 20) == ["RUNNING"] * 20
    (asked,) = server.asked
    user, _, password = base64.b64decode(asked["authorization"].removeprefix("Basic ")).decode().partition(":")
    assert (user, password) == (
        "me%3A%26",
        "secret+planted+4711%2B%2F%3D",
    ), "form-encoded before they become user and password"
    assert (asked["grant_type"], asked["scope"], asked["audience"]) == (
        "client_credentials",
        "tes",
        "https://tes",
    ) and "client_secret" not in asked
    await source.aclose()


async def test_the_issuers_discovery_names_the_endpoint_and_the_way_to_sign_in(
    server: Server, secret_file: Path
) -> None:
    server.methods = ["client_secret_post"]
    assert await states(server, client(server, secret_file, token_url=None, issuer=f"{server.url}/idp")) == ["RUNNING"]
    assert server.asked[0]["client_secret"] == SECRET and not server.asked[0]["authorization"]


async def test_an_issuer_that_is_another_is_not_given_the_secret(server: Server, secret_file: Path) -> None:
    with pytest.raises(Refusal, match="another issuer"):
        await states(server, client(server, secret_file, token_url=None, issuer=f"{server.url}/other"))
    assert not server.asked


async def test_a_storm_of_401_costs_one_fresh_token(server: Server, secret_file: Path) -> None:
    source = client(server, secret_file)
    await states(server, source)
    server.good.clear()  # revoked early, under 50 calls at once
    assert await states(server, source, 50) == ["RUNNING"] * 50
    assert len(server.asked) == 2


async def test_a_token_near_its_end_is_renewed_before_it_is_used_and_a_short_one_serves_half_its_life(
    server: Server, secret_file: Path
) -> None:
    clock = Clock()
    source = client(server, secret_file, clock=clock)
    server.life = 60  # less than a call may take: half of it is used
    await states(server, source, 5)
    clock.now += 29
    await states(server, source, 5)
    assert len(server.asked) == 1
    clock.now += 2
    server.life = 300
    await states(server, source)
    assert len(server.asked) == 2
    clock.now += 300 - MIN_TTL - 1
    await states(server, source)
    assert len(server.asked) == 2
    clock.now += 2  # near its end, and still good
    await states(server, source)
    assert len(server.asked) == 3


async def test_a_server_that_does_not_say_how_long_is_asked_again_after_a_while_not_each_time(
    server: Server, secret_file: Path
) -> None:
    server.life = None
    clock = Clock()
    source = client(server, secret_file, clock=clock)
    await states(server, source)
    clock.now += 100
    await states(server, source)
    assert len(server.asked) == 1
    clock.now += 300
    await states(server, source)
    assert len(server.asked) == 2


async def test_a_token_endpoint_that_is_away_is_waited_for(server: Server, secret_file: Path) -> None:
    server.answers = [(503, {}), (502, b"<html>"), (429, {})]
    assert await states(server, client(server, secret_file)) == ["RUNNING"]


async def test_a_wrong_secret_is_said_with_the_servers_words_and_not_tried_for_ever(
    server: Server, secret_file: Path
) -> None:
    server.answers = [(401, {"error": "invalid_client", "error_description": "bad\nsecret"})]
    with pytest.raises(Refusal, match="invalid_client bad secret") as refused:
        await states(server, client(server, secret_file))
    assert SECRET not in str(refused.value) and len(server.asked) == 1


@pytest.mark.parametrize(
    "answer", [{"access_token": "a\r\nX-Evil: 1"}, {"access_token": 7}, {"token_type": "mac", "access_token": "x"}, {}]
)
async def test_an_answer_that_holds_no_usable_token_is_refused(
    server: Server, secret_file: Path, answer: dict[str, Any]
) -> None:
    server.answers = [(200, {"token_type": "Bearer", **answer})]
    with pytest.raises(Refusal):
        await states(server, client(server, secret_file))
    assert not server.seen


async def test_a_rotated_client_secret_is_read_again(server: Server, secret_file: Path) -> None:
    source = client(server, secret_file)
    await states(server, source)
    secret_file.write_text("rotated")
    server.good.clear()
    await states(server, source)
    assert base64.b64decode(server.asked[1]["authorization"].removeprefix("Basic ")).endswith(b":rotated")


# --- the other sources --------------------------------------------------------------------------


async def test_a_token_file_that_changes_is_followed_and_a_refused_one_is_waited_out(
    server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    server.good = {"Bearer one"}
    source = FileTokens(file)
    assert await states(server, source) == ["RUNNING"]
    server.good = {"Bearer two"}
    waiting = asyncio.create_task(states(server, source))
    while len(server.seen) < 3:  # it was refused, read again and found the same
        await asyncio.sleep(0.01)
    file.write_text("")  # being rewritten in place
    await asyncio.sleep(0.02)
    file.write_text("two")
    assert await waiting == ["RUNNING"]


async def test_a_token_of_the_environment_that_ended_says_what_to_do(server: Server) -> None:
    with pytest.raises(Refusal, match="fresh one"):
        await states(server, FixedToken("old", "the environment variable X"))
    assert len(server.seen) == 1


async def test_basic_is_user_and_password(server: Server, secret_file: Path) -> None:
    server.good = {"Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()}
    assert await states(server, BasicPassword("me", secret_file)) == ["RUNNING"]


async def test_without_a_credential_no_header_is_sent(server: Server) -> None:
    server.good = {""}
    assert await states(server, NoToken()) == ["RUNNING"]


@pytest.mark.parametrize("text", ["a b", "a\nb", "é", "x" * 10 + "\x00"])
def test_what_is_no_token_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        FixedToken(text, "the environment variable X")
    assert text not in str(refused.value)


async def test_a_missing_file_names_itself_and_a_directory_too(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(Refusal, match=str(path)):
            await FileTokens(path).token()
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(ProblemError, match="empty"):
        await FileTokens(tmp_path / "empty").token()


def test_a_credential_never_travels_readable_to_another_machine() -> None:
    for url in ("http://tes.example.org", "ftp://tes.example.org", "http://127.0.0.1.example.org"):
        with pytest.raises(Refusal):
            check_secret_url(url, plain_http=False)
    for url in ("https://tes.example.org", "http://127.0.0.1:8000", "http://localhost", "http://[::1]:80"):
        check_secret_url(url, plain_http=False)
    check_secret_url("http://funnel.internal", plain_http=True)


async def test_no_secret_is_in_a_log_a_repr_or_an_error(
    server: Server, secret_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sources: list[TokenSource] = [
        client(server, secret_file),
        BasicPassword("me", secret_file),
        FixedToken("fixed-4711", "X"),
        FileTokens(secret_file),
    ]
    said = ""
    for source in sources:
        server.good.clear()
        try:
            await states(server, source, patience=RetryPolicy(total=0.1, first=0.01, longest=0.02))
        except Exception as error:
            said += f"{error} {error!r} {error.__cause__!r}"
        said += repr(source)
    said += caplog.text
    for hidden in (
        SECRET,
        "secret+planted",
        "fixed-4711",
        "token-1",
        base64.b64encode(f"me:{SECRET}".encode()).decode(),
    ):
        assert hidden not in said
