"""What an identity provider may answer about a grant's refresh token, and what the grant becomes: it ends only by what
the OAuth server itself says of the token, and the user reads why.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gdi.kit.problem import ProblemError
from gdi.local_federation.openbao import OpenBao
from tests.support.kept_grants import Kept, kept_grants, refused
from token_broker.tokens import token_refresher

pytestmark = pytest.mark.asyncio(loop_scope="module")
pytest_plugins = ["tests.support.broker_fixtures"]
DENIED = (400, {"error": "invalid_grant"})
PAGES: list[tuple[int, Any]] = [
    (403, "<html>Forbidden</html>"),
    (404, "<html>Not found</html>"),
    (404, {"error": "not_found"}),
    (401, ""),
    (400, {"error": "temporarily_unavailable"}),
    (400, {"error": "server_error"}),
    (400, {"error": "slow_down"}),
    (429, {"error": "invalid_grant"}),
    (503, {"error": "invalid_grant"}),
    (302, ""),
    (200, "<html>sign in</html>"),
    (200, {"status": "ok"}),
    (200, {"active": "false"}),
    (200, {"active": None}),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kept]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(token_refresher, "PROVIDER_TRIES", 1)
        async with kept_grants(openbao, tmp_path_factory.mktemp("kept"), monkeypatch) as made:
            yield made


@pytest_asyncio.fixture(loop_scope="module")
async def kept(shared: Kept) -> Kept:
    return await shared.anew()


async def interrupted(kept: Kept) -> str:
    """A grant whose refresh token was redeemed by a replica that died before it stored the new one."""
    grant = await kept.grant()
    kept.provider.active.discard("R-1")
    await kept.age(grant, redeeming="dead-1", redeeming_until=1.0)
    return grant


@pytest.mark.parametrize("answer", PAGES, ids=str)
async def test_no_page_ends_a_grant_while_a_lost_refresh_is_looked_into(kept: Kept, answer: tuple[int, Any]) -> None:
    grant = await interrupted(kept)
    await kept.age(grant, access_expires_at=9e9)
    for endpoint in ("introspection", "token"):
        kept.provider.instead = {endpoint: [answer]}
        if endpoint == "token" and answer == (200, {"active": None}):
            continue
        with pytest.raises(ProblemError) as caught:
            await kept.refresher.access(grant, min_ttl=10**10 - 1)
        assert caught.value.slug in ("provider-unavailable", "min-ttl-unavailable")
        assert (await kept.shown(grant)).state == "active"
    assert kept.provider.replayed == []


async def test_what_introspection_calls_inactive_and_nothing_can_replace_is_dead(kept: Kept) -> None:
    grant = await interrupted(kept)
    assert (await refused(kept, grant)).slug == "grant-inactive"
    assert (await kept.shown(grant)).state == "dead" and kept.provider.replayed == []


@pytest.mark.parametrize("redeemed", [False, True])
async def test_where_the_provider_does_not_tell_the_token_itself_is_the_last_question(
    kept: Kept, redeemed: bool
) -> None:
    grant = await interrupted(kept)
    if not redeemed:
        kept.provider.active.add("R-1")
    kept.provider.always = {"introspection": (403, {"error": "unauthorized_client"})}
    if not redeemed:
        assert (await kept.refresher.access(grant)).token == "A-2"
        return
    assert (await refused(kept, grant)).slug == "provider-unavailable" and kept.provider.replayed == ["R-1"]
    assert (await kept.shown(grant)).state == "active", "once more, later"
    await kept.age(grant, refused_at=1.0)
    assert (await refused(kept, grant)).slug == "grant-inactive"


# --- refused, and called active -----------------------------------------------------------------


async def test_a_token_that_is_refused_once_and_called_active_is_tried_again(kept: Kept) -> None:
    grant = await kept.grant()
    kept.provider.instead = {"token": [DENIED]}
    assert "does not call dead" in (await refused(kept, grant)).problem.detail
    assert (await kept.shown(grant)).state == "active"
    assert (await kept.refresher.access(grant)).token == "A-2"
    record = kept.record(grant)
    assert record is not None and record["refused_at"] == 0


async def test_a_token_that_is_refused_again_a_minute_later_is_dead_whatever_it_is_called(kept: Kept) -> None:
    grant = await kept.grant()
    kept.provider.always = {"token": DENIED}
    for _ in range(2):
        assert (await refused(kept, grant)).slug == "provider-unavailable"
    record = kept.record(grant)
    assert record is not None
    await kept.age(grant, refused_at=record["refused_at"] - token_refresher.REFUSED_TWICE)
    assert (await refused(kept, grant)).slug == "grant-inactive"
    assert "no longer accepts" in (await kept.shown(grant)).detail


async def test_a_token_that_is_refused_and_called_inactive_is_dead_at_once(kept: Kept) -> None:
    grant = await kept.grant()
    kept.provider.active.clear()
    assert (await refused(kept, grant)).slug == "grant-inactive"
    shown = await kept.shown(grant)
    assert shown.state == "dead" and "no longer accepts" in shown.detail
    await kept.grants.revoke_upstream()
    assert kept.record(grant) is None, "nothing of a dead grant stays in Vault"


@pytest.mark.parametrize("code", ["invalid_client", "invalid_scope", "invalid_request", "unauthorized_client"])
async def test_a_refusal_of_the_brokers_own_client_ends_no_grant(kept: Kept, code: str) -> None:
    grant = await kept.grant()
    kept.provider.instead = {"token": [(400, {"error": code})]}
    assert (await refused(kept, grant)).slug == "provider-refused"
    assert (await kept.refresher.access(grant)).token == "A-2"


# --- scope --------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [None, "openid offline_access ga4gh_passport_v1", "ga4gh_passport_v1 openid email"])
@pytest.mark.parametrize("scope", ["openid", "openid offline_access", "offline_access", "ga4gh_passport_v1", "email"])
async def test_a_scope_narrowed_at_a_refresh_stops_the_grant_with_that_reason(
    kept: Kept, first: str | None, scope: str
) -> None:
    kept.provider.more = {"scope": first}
    grant = await kept.grant()
    kept.provider.more = {"scope": scope}
    assert "left out the scope" in (await refused(kept, grant)).problem.detail
    shown = await kept.shown(grant)
    assert shown.state == "dead" and "left out the scope" in shown.detail
    await kept.grants.revoke_upstream()
    assert kept.provider.revoked == ["R-2"] and kept.record(grant) is None, "the newest token is the one that ends"


@pytest.mark.parametrize(
    ("first", "scope"),
    [
        (None, None),
        (None, ""),
        (None, "openid ga4gh_passport_v1"),
        ("openid ga4gh_passport_v1 email", "ga4gh_passport_v1 openid"),
        ("openid", "openid"),  # a provider that never names scopes of its own in its answers
        ("openid offline_access", "openid"),
    ],
)
async def test_a_scope_that_has_what_a_grant_needs_is_no_narrowing(
    kept: Kept, first: str | None, scope: str | None
) -> None:
    kept.provider.more = {"scope": first}
    grant = await kept.grant()
    kept.provider.more = {"scope": scope}
    assert (await kept.refresher.access(grant)).token == "A-2"


async def test_a_record_of_an_older_version_has_no_scope_to_compare(kept: Kept) -> None:
    grant = await kept.grant()
    await kept.age(grant, scope="")
    kept.provider.more = {"scope": "openid"}
    assert (await kept.refresher.access(grant)).token == "A-2"


# --- revocation ---------------------------------------------------------------------------------

REFUSALS: list[tuple[int, Any]] = [
    (400, {"error": "unsupported_token_type"}),
    (400, {"error": "invalid_request"}),
    (403, {"error": "unauthorized_client"}),
    (403, "<html>no</html>"),
    (404, "<html>no</html>"),
    (405, ""),
    (501, ""),
]


@pytest.mark.parametrize("answer", REFUSALS, ids=str)
async def test_a_revocation_that_is_refused_is_said_at_the_grant_and_ends_with_the_token(
    kept: Kept, answer: tuple[int, Any]
) -> None:
    grant = await kept.grant()
    await kept.grants.revoke(grant, kept.user, actor="x")
    kept.provider.always = {"revocation": answer}
    for _ in range(2):
        await kept.due_now(grant)
        assert await kept.grants.revoke_upstream() == 0
        shown = await kept.shown(grant)
        assert shown.state == "revoked" and shown.detail.count("not yet revoked") == 1
        assert shown.detail.startswith("Revoked by the user.") and "ends on 20" in shown.detail
    assert kept.record(grant) is not None
    await kept.age(grant, refreshed_at=1.0)
    kept.provider.active.clear()
    await kept.due_now(grant)
    assert await kept.grants.revoke_upstream() == 1 and kept.record(grant) is None
    shown = await kept.shown(grant)
    assert "has ended by itself" in shown.detail and "not yet" not in shown.detail


async def test_without_a_revocation_endpoint_the_record_goes_at_the_tokens_end(kept: Kept) -> None:
    grant = await kept.grant()
    await kept.grants.revoke(grant, kept.user, actor="x")
    metadata = kept.refresher.oidc._provider._metadata._found
    endpoint = metadata.pop("revocation_endpoint")
    try:
        assert await kept.grants.revoke_upstream() == 0
        assert "offers no revocation_endpoint" in (await kept.shown(grant)).detail
        await kept.age(grant, refreshed_at=time.time() - 3700)
        await kept.due_now(grant)
        assert await kept.grants.revoke_upstream() == 0, "introspection says that it is active still"
        kept.provider.active.clear()
        await kept.due_now(grant)
        assert await kept.grants.revoke_upstream() == 1 and kept.record(grant) is None
    finally:
        metadata["revocation_endpoint"] = endpoint


@pytest.mark.parametrize("body", ["<html>sign in</html>", "", "{}"])
async def test_a_good_answer_to_a_revocation_is_believed_when_introspection_agrees(kept: Kept, body: str) -> None:
    grant = await kept.grant()
    await kept.grants.revoke(grant, kept.user, actor="x")
    kept.provider.instead = {"revocation": [(200, body)]}  # of a proxy: the token lives
    assert await kept.grants.revoke_upstream() == 0
    assert kept.record(grant) is not None and "still active" in (await kept.shown(grant)).detail
    await kept.due_now(grant)
    assert await kept.grants.revoke_upstream() == 1
    assert kept.provider.revoked == ["R-1"] and (await kept.shown(grant)).detail == "Revoked by the user."


# --- optional fields ----------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["expires_in", "refresh_expires_in", "token_type", "scope"])
async def test_a_token_answer_may_lack_what_is_optional(kept: Kept, field: str) -> None:
    kept.provider.more = {field: None}
    grant = await kept.grant()
    assert (await kept.refresher.access(grant)).token == "A-2"
    assert (await kept.refresher.access(grant)).token == "A-2", "and it lives: the next question is no refresh"
    assert kept.provider.refreshed == ["R-1"]


async def test_a_provider_that_does_not_rotate(kept: Kept) -> None:
    grant = await kept.grant()
    kept.provider.more = {"refresh_token": None}
    assert (await kept.refresher.access(grant)).token == "A-2"
    record = kept.record(grant)
    assert record is not None and record["refresh_token"] == "R-1"


async def test_a_provider_that_was_away_for_an_hour_costs_nobody_a_sign_in(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.provider.more = {"refresh_expires_in": 4 * 3600}
    grants = [await kept.grant() for _ in range(3)]
    kept.provider.always = {name: (503, "<html>maintenance</html>") for name in ("token", "introspection", "userinfo")}
    real, passed = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + passed)
    while passed < 3600:  # runs go on, and ask again and again
        for grant in grants:
            assert (await refused(kept, grant)).slug == "provider-unavailable"
            with pytest.raises(ProblemError, match="again"):
                await kept.refresher.renew(grant)  # in the background
        passed += 600.0
    assert {(await kept.shown(grant)).state for grant in grants} == {"active"}
    kept.provider.always = {}
    found = {(await kept.refresher.access(grant)).token for grant in grants}
    assert len(found) == 3 and kept.provider.replayed == [] and kept.provider.revoked == []
    assert {(await kept.shown(grant)).state for grant in grants} == {"active"}
