"""What stands before Vault may answer in its place: no grant ends and no token is lost by it. A real OpenBao behind a
proxy that lies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gdi.local_federation.openbao import OpenBao
from tests.support.kept_grants import Kept, kept_grants, refused
from tests.support.vault_proxy import FOREIGN, Fault
from token_broker.tokens.vault import VaultUnavailable

pytestmark = pytest.mark.asyncio(loop_scope="module")
pytest_plugins = ["tests.support.broker_fixtures"]
ABSENT = (404, '{"errors": []}')  # Vault's own answer where nothing is
READ, WRITE = ("GET", "/data/grants/"), ("POST", "/data/grants/")
foreign = pytest.mark.parametrize("answer", FOREIGN.values(), ids=FOREIGN.keys())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kept]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with kept_grants(openbao, tmp_path_factory.mktemp("kept"), monkeypatch) as made:
            yield made


@pytest_asyncio.fixture(loop_scope="module")
async def kept(shared: Kept) -> Kept:
    """The grants of a new user at a provider without a past."""
    return await shared.anew()


# --- reading ------------------------------------------------------------------------------------


@foreign
async def test_a_foreign_answer_to_a_reading_ends_no_grant(kept: Kept, answer: tuple[int, str]) -> None:
    grant = await kept.grant()
    kept.proxy.faults = [Fault(*READ, answer, times=2)]
    assert (await refused(kept, grant)).slug == "vault-unavailable"
    assert (await kept.shown(grant)).state == "active"
    assert (await kept.refresher.access(grant)).token == "A-2", "the next one is Vault's"


@pytest.mark.parametrize("path", ["/data/grants/", "/metadata/grants/"])
async def test_one_answer_that_looks_like_vaults_own_ends_no_grant(kept: Kept, path: str) -> None:
    grant = await kept.grant()
    kept.proxy.faults = [Fault("GET", path, ABSENT)]
    assert (await kept.refresher.access(grant)).token == "A-2"
    assert (await kept.shown(grant)).state == "active"


async def test_a_vault_without_the_brokers_own_key_ends_no_grant(kept: Kept) -> None:
    """Another Vault, an empty one, another mount, or a proxy that says 404 in Vault's words to everything."""
    grant = await kept.grant()
    kept.proxy.faults = [Fault("GET", "/v1/gdi/", ABSENT, times=1000)]
    error = await refused(kept, grant)
    assert error.slug == "vault-unavailable" and "the broker's own key" in error.problem.detail
    assert (await kept.shown(grant)).state == "active"


async def test_a_record_whose_metadata_is_there_is_not_gone(kept: Kept) -> None:
    grant = await kept.grant()
    kept.proxy.faults = [Fault(*READ, ABSENT, times=1000)]
    assert "contradicts itself" in (await refused(kept, grant)).problem.detail
    assert (await kept.shown(grant)).state == "active"


@pytest.mark.parametrize(
    ("method", "kind", "why"), [("DELETE", "metadata", "no record"), ("DELETE", "data", "deleted")]
)
async def test_what_vault_itself_lost_ends_the_grant_with_the_reason(
    kept: Kept, method: str, kind: str, why: str
) -> None:
    grant = await kept.grant()
    with kept.bao.as_operator() as operator:
        operator.request(method, f"/v1/gdi/{kind}/grants/{grant}").raise_for_status()
    error = await refused(kept, grant)
    assert error.slug == "grant-inactive" and why in error.problem.detail
    shown = await kept.shown(grant)
    assert shown.state == "dead" and why in shown.detail
    await kept.grants.revoke_upstream()
    with kept.bao.as_operator() as operator:
        assert operator.get(f"/v1/gdi/metadata/grants/{grant}").status_code == 404, "SQL and Vault agree"


@pytest.mark.parametrize("record", [{}, {"refresh_token": 7}, {"refresh_token": "R", "refresh_lifetime": "x"}])
async def test_a_record_that_is_none_is_said_and_ends_no_grant(kept: Kept, record: dict[str, object]) -> None:
    grant = await kept.grant()
    with kept.bao.as_operator() as operator:
        body = {"data": record, "options": {"cas": 2}}
        operator.post(f"/v1/gdi/data/grants/{grant}", json=body).raise_for_status()
    assert "no record of the broker's" in (await refused(kept, grant)).problem.detail
    assert (await kept.shown(grant)).state == "active"


# --- ending -------------------------------------------------------------------------------------


@foreign
async def test_a_foreign_answer_at_a_revocation_destroys_nothing(kept: Kept, answer: tuple[int, str]) -> None:
    grant = await kept.grant()
    await kept.grants.revoke(grant, kept.user, actor="x")
    kept.proxy.faults = [Fault(*READ, answer, times=2)]
    assert await kept.grants.revoke_upstream() == 0
    assert kept.record(grant) is not None and kept.provider.revoked == []
    await kept.due_now(grant)
    assert await kept.grants.revoke_upstream() == 1
    assert kept.provider.revoked == ["R-1"] and kept.record(grant) is None


async def test_an_absence_in_vaults_words_is_read_twice_before_a_record_is_destroyed(kept: Kept) -> None:
    grant = await kept.grant()
    await kept.grants.revoke(grant, kept.user, actor="x")
    kept.proxy.faults = [Fault(*READ, ABSENT)]
    assert await kept.grants.revoke_upstream() == 0 and kept.record(grant) is not None
    await kept.due_now(grant)
    assert await kept.grants.revoke_upstream() == 1 and kept.provider.revoked == ["R-1"]


@pytest.mark.parametrize("answer", [(204, ""), (404, "404 page not found"), (200, "<html>"), (307, ""), ABSENT])
async def test_what_was_not_destroyed_is_not_called_destroyed(kept: Kept, answer: tuple[int, str]) -> None:
    grant = await kept.grant()
    await kept.grants.revoke(grant, kept.user, actor="x")
    kept.proxy.faults = [Fault("DELETE", "/metadata/grants/", answer, times=2)]
    done = await kept.grants.revoke_upstream()
    assert done == 0 or kept.record(grant) is None
    for _ in range(2):
        await kept.due_now(grant)
        await kept.grants.revoke_upstream()
    assert kept.record(grant) is None


# --- storing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["instead-of-storing", "stored-and-then"])
@foreign
async def test_a_new_token_is_stored_whatever_is_answered(kept: Kept, answer: tuple[int, str], after: bool) -> None:
    grant = await kept.grant()
    asked: list[int] = []

    class Second(Fault):
        """From the second write on: the first one takes the lease."""

        def takes(self, method: str, path: str) -> bool:
            if (method, "/data/grants/" in path) != ("POST", True):
                return False
            asked.append(1)
            return 1 < len(asked) <= 3

    kept.proxy.faults = [Second(*WRITE, answer, after=after)]
    assert (await kept.refresher.access(grant)).token == "A-2"
    record = kept.record(grant)
    assert record is not None and record["refresh_token"] == "R-2" and record["redeeming"] == ""
    assert kept.provider.refreshed == ["R-1"] and kept.provider.replayed == []
    assert (await kept.shown(grant)).state == "active" and (await kept.shown(grant)).refreshes == 1


async def test_storing_outlives_the_lease_and_nobody_waits_for_ever(
    openbao: OpenBao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vault is away for longer than a lease: the process goes on with the only copy; whoever asks is told."""
    async with kept_grants(openbao, tmp_path, monkeypatch, lease=0.2) as kept:
        grant = await kept.grant()
        await kept.refresher.access(grant)
        await kept.age(grant, access_expires_at=0)
        kept.proxy.faults = [Fault("POST", "/data/grants/", (502, ""), times=0)]
        first = kept.provider.handle

        async def then_vault_is_away(request: object) -> object:
            if request.path == "/token":  # type: ignore[attr-defined]
                kept.proxy.faults = [Fault(m, "/v1/gdi/", (502, ""), times=10_000) for m in ("GET", "POST")]
            return await first(request)  # type: ignore[arg-type]

        kept.provider.server.answers = [then_vault_is_away]
        waiting = asyncio.create_task(kept.refresher.access(grant))
        async with asyncio.timeout(60):
            while grant not in kept.refresher.records.unstored:
                await asyncio.sleep(0.02)
        assert "wait for it" in (await refused(kept, grant)).problem.detail
        kept.proxy.faults = []
        assert (await waiting).token == "A-3"
        assert kept.provider.replayed == [] and (await kept.shown(grant)).state == "active"


async def test_new_tokens_win_over_a_lease_that_holds_only_the_used_one(kept: Kept) -> None:
    """Ours ended while Vault was away, and another replica began: it has nothing newer than we have."""
    grant = await kept.grant()
    handle = kept.provider.handle

    async def another_takes_the_lease(request: object) -> object:
        if request.path == "/token":  # type: ignore[attr-defined]
            await kept.age(grant, redeeming="other-1", redeeming_until=9e9)
        return await handle(request)  # type: ignore[arg-type]

    kept.provider.server.answers = [another_takes_the_lease]
    assert (await kept.refresher.access(grant)).token == "A-2"
    record = kept.record(grant)
    assert record is not None and record["refresh_token"] == "R-2" and kept.provider.revoked == []


@pytest.mark.parametrize("answer", [(503, '{"errors": ["Vault is sealed"]}'), (502, ""), (200, "{}"), (307, "")])
async def test_ones_own_lease_is_known_after_an_answer_that_was_lost(kept: Kept, answer: tuple[int, str]) -> None:
    grant = await kept.grant()
    kept.proxy.faults = [Fault(*WRITE, answer, after=True)]
    async with asyncio.timeout(20):  # the lease lasts 30 s: whoever did not know it as theirs would wait for its end
        assert (await kept.refresher.access(grant)).token == "A-2"
    assert kept.provider.refreshed == ["R-1"]


async def test_a_grants_first_tokens_are_known_after_an_answer_that_was_lost(kept: Kept) -> None:
    kept.proxy.faults = [Fault(*WRITE, (502, ""), after=True)]
    grant = await kept.grant(stale=False)
    assert (await kept.refresher.access(grant)).token == "A-1"


async def test_no_answer_carries_a_secret_into_an_error(kept: Kept) -> None:
    grant = await kept.grant()
    for answer in [(404, '{"message": "R-1 A-1"}'), (500, '{"errors": ["R-1 A-1"]}'), (400, '{"errors": ["R-1"]}')]:
        kept.proxy.faults = [Fault(*READ, answer, times=2)]
        error = await refused(kept, grant)
        assert "R-1" not in str(error) + error.problem.detail


async def test_the_key_of_the_broker_is_not_made_anew_over_a_proxys_word(kept: Kept) -> None:
    from token_broker.broker import signing_key

    before = (await signing_key(kept.vault)).kid
    kept.proxy.faults = [Fault("GET", "/signing-key", ABSENT)]
    assert (await signing_key(kept.vault)).kid == before
    kept.proxy.faults = [Fault("GET", "/signing-key", ABSENT, times=10_000)]
    with pytest.raises(VaultUnavailable, match="contradicts"):
        await signing_key(kept.vault)
