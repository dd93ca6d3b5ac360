"""The token keeper: one refresh token is redeemed once, by one replica, and the new one is stored before anyone sees
the result.

A grant's Vault record holds the refresh token, the last access token and, while somebody redeems, a lease. The lease is
taken by check-and-set, so of any number of replicas one wins; the others wait and read what it stored. A lease that
outlives its end means that its holder died between redemption and store: nobody replays the token then (a provider with
strict rotation would revoke the family); `token_broker.tokens.recovery` finds out what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from gdi.kit.named_lock import NamedLock
from gdi.kit.problem import ProblemError
from gdi.oauth.client import OAuthClient
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from gdi.oauth.rfc6749 import TokenSet
from token_broker.tokens import recovery
from token_broker.tokens.ending import end_upstream
from token_broker.tokens.grant_records import GrantRecords, Superseded
from token_broker.tokens.stored_tokens import StoredTokens
from token_broker.tokens.vault import CasConflict, Vault, VaultUnavailable

log = logging.getLogger(__name__)
PATIENCE = 20.0  # seconds beyond a lease that a caller waits; the refresh itself goes on
EXCHANGE_TIME = 4.0  # seconds
MAX_CACHED = 20_000
PROVIDER_TRIES = 3
REFUSED_TWICE = 60.0  # seconds after the first refusal, from when on a second one ends a grant


@dataclass(frozen=True, repr=False)
class AccessToken:
    """A user's access token and its end (epoch seconds)."""

    token: str
    expires_at: float

    def __repr__(self) -> str:
        return "AccessToken(…)"


class Dead(Exception):
    """The grant's refresh token serves no more; the message says why and what the user can do."""


Note = Callable[[str, StoredTokens], Awaitable[None]]
NoteDead = Callable[[str, str], Awaitable[None]]


class TokenRefresher:
    """`on_refresh` and `on_dead` write what everybody may know (counts, due time, state) to SQL, after Vault."""

    def __init__(
        self,
        vault: Vault,
        oidc: OAuthClient,
        *,
        lease: float,
        default_lifetime: float,
        on_refresh: Note,
        on_dead: NoteDead,
        replica: str | None = None,
    ) -> None:
        self.oidc, self.records = oidc, GrantRecords(vault, lease)
        self.lease, self.default_lifetime = lease, default_lifetime
        self.on_refresh, self.on_dead = on_refresh, on_dead
        self.replica = replica or secrets.token_hex(8)
        self._cache: OrderedDict[str, StoredTokens] = OrderedDict()
        self._narrow: OrderedDict[tuple[str, str], StoredTokens] = OrderedDict()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._running: set[asyncio.Task[StoredTokens]] = set()

    async def store_new(self, grant: str, tokens: TokenSet) -> StoredTokens:
        """Keeps a grant's first tokens."""
        stored = StoredTokens.of(tokens, default_lifetime=self.default_lifetime)
        await self.records.create(grant, stored)
        return self._remember(grant, stored)

    async def access(self, grant: str, min_ttl: float = 0) -> AccessToken:
        """An access token that lives `min_ttl` seconds at least. ProblemError (503 try again; 409 cannot be had; 403
        grant-inactive).
        """
        stored = self._cache.get(grant)
        if stored is None or not stored.serves(min_ttl):
            stored = await self._guarded(grant, lambda h: h.serves(min_ttl), min_ttl)
        return AccessToken(stored.access_token, stored.access_expires_at)

    async def renew(self, grant: str) -> StoredTokens:
        """Refreshes a grant whose refresh token is past half of its life, unless another replica just did. What Vault
        has now.
        """
        return await self._guarded(grant, lambda h: h.due > time.time(), 0)

    async def narrowed(self, grant: str, audience: str, min_ttl: float = 0) -> AccessToken:
        """An access token that serves at `audience` only (RFC 8693); cached for each grant and audience."""
        key = (grant, audience)
        cached = self._narrow.get(key)
        if cached is not None and cached.serves(min_ttl):
            return AccessToken(cached.access_token, cached.access_expires_at)
        async with NamedLock(self._locks, f"{grant} {audience}"):
            cached = self._narrow.get(key)
            if cached is not None and cached.serves(min_ttl):
                return AccessToken(cached.access_token, cached.access_expires_at)
            await self.access(grant, min_ttl)
            # A narrowed token ends with the one it was made of, at the latest: that one must have time left for the
            # exchange itself.
            lifetime = self._cache[grant].access_lifetime if grant in self._cache else 0
            broad = await self.access(grant, max(min_ttl, min(min_ttl + EXCHANGE_TIME, lifetime / 2)))
            try:
                tokens = await self.oidc.narrow(broad.token, audience, lasting=broad.expires_at - time.time())
            except OAuthDenied as error:
                raise ProblemError(
                    502,
                    "narrowing-refused",
                    str(error),
                    action="The operator must allow the broker's client to exchange tokens for this audience.",
                ) from None
            except OAuthUnavailable as error:
                raise provider_away(error) from None
            stored = StoredTokens.of(tokens, default_lifetime=0)
            if stored.ttl() < min_ttl:
                raise too_short(min_ttl, stored.access_lifetime)
            self._narrow[key] = stored
            while len(self._narrow) > MAX_CACHED:
                self._narrow.popitem(last=False)
            return AccessToken(stored.access_token, stored.access_expires_at)

    def forget(self, grant: str) -> None:
        self._cache.pop(grant, None)
        for key in [k for k in self._narrow if k[0] == grant]:
            self._narrow.pop(key, None)

    async def end(self, grant: str) -> str:
        """Revokes the newest refresh token upstream and destroys the record; what its user should know, if anything.
        NotRevoked, VaultUnavailable or ProblemError: try again later.
        """
        self.forget(grant)
        async with NamedLock(self._locks, grant):
            record = await self.records.read(grant)
            if record.tokens is None:
                why = await self.records.vault.why_absent(self.records.path(grant))
                if not why:
                    raise busy(grant)
                what = f"The identity provider could not be told. {why}"
            else:
                if record.tokens.redeeming and record.tokens.redeeming_until > time.time():
                    raise busy(grant)  # its holder is about to store a newer token: that one must be revoked
                what = await end_upstream(self.oidc, record.tokens)
            await self.records.vault.destroy(self.records.path(grant))
            return what

    # --- the one way to a refresh ----------------------------------------------------------------

    async def _guarded(self, grant: str, good: Callable[[StoredTokens], bool], min_ttl: float) -> StoredTokens:
        """Runs the refresh in a task of its own: a client that hangs up must not cut it between redemption and
        store.
        """
        if grant in self.records.unstored:
            raise vault_away("Vault is away, and the new tokens of this grant wait for it.")
        task = asyncio.create_task(self._locked(grant, good, min_ttl))
        self._running.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.wait_for(asyncio.shield(task), self.lease + PATIENCE)
        except TimeoutError:
            raise busy(grant) from None
        except Dead as error:
            raise ProblemError(
                403,
                "grant-inactive",
                str(error),
                action="Give consent again (a new grant), then start again.",
                state="dead",
                grant=grant,
            ) from None
        except OAuthUnavailable as error:
            raise provider_away(error) from None
        except VaultUnavailable as error:
            raise vault_away(str(error)) from None

    def _finished(self, task: asyncio.Task[StoredTokens]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen by whoever waited; never "exception was never retrieved" in a log

    async def drain(self, timeout: float = 20) -> None:
        """At shutdown: refreshes under way are brought to their end."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout)

    async def _locked(self, grant: str, good: Callable[[StoredTokens], bool], min_ttl: float) -> StoredTokens:
        async with NamedLock(self._locks, grant):
            deadline = time.monotonic() + self.lease + 15
            failures = 0
            while time.monotonic() < deadline:
                record = await self.records.read(grant)
                stored = record.tokens
                if stored is None:
                    if why := await self.records.vault.why_absent(self.records.path(grant)):
                        raise await self.gone(grant, why)
                    continue
                if not stored.redeeming:
                    if good(stored):  # re-checked inside the lock: another may have refreshed while we waited
                        return self._remember(grant, stored)
                    if stored.access_lifetime and min_ttl > stored.access_lifetime - 1:
                        raise too_short(min_ttl, stored.access_lifetime)
                elif stored.redeeming_until > time.time():
                    await asyncio.sleep(0.05 + secrets.randbelow(100) / 1000)
                    continue
                try:
                    # Before the lease is taken, which is long enough for one request: who outlives it would redeem a
                    # token that another redeems, too.
                    await self.oidc.discover()
                except OAuthUnavailable as error:
                    failures = await self._paused(failures, error)
                    continue
                mine = replace(
                    stored, redeeming=f"{self.replica}-{secrets.token_hex(6)}", redeeming_until=time.time() + self.lease
                )
                try:
                    version = await self.records.take(grant, mine, record.version)
                except CasConflict:
                    continue
                try:
                    if stored.redeeming:
                        after = await recovery.recover(self, grant, stored, mine, version)
                    else:
                        after = await self.redeem(grant, mine, version)
                except CasConflict:  # recovery took longer than the lease, and another has it now
                    continue
                except OAuthUnavailable as error:
                    failures = await self._paused(failures, error)
                    continue
                if not after.access_token:
                    continue  # an exchange that gave a refresh token only
                if not good(after) and min_ttl > after.ttl():
                    raise too_short(min_ttl, after.access_lifetime)
                return after
        raise busy(grant)

    @staticmethod
    async def _paused(failures: int, error: OAuthUnavailable) -> int:
        """Waits before the next try of the provider; the number of failures. Raises `error` after the last try."""
        if failures + 1 >= PROVIDER_TRIES:
            raise error
        await asyncio.sleep(0.2 * 2 ** (failures + 1) * (0.5 + secrets.randbelow(1000) / 1000))
        return failures + 1

    async def prolong(self, grant: str, mine: StoredTokens, version: int) -> tuple[StoredTokens, int]:
        """Our lease from now on, and the record's version. CasConflict where it ended and another has it."""
        mine = replace(mine, redeeming_until=time.time() + self.lease)
        return mine, await self.records.take(grant, mine, version)

    async def redeem(self, grant: str, mine: StoredTokens, version: int) -> StoredTokens:
        """Redeems under our lease and stores. OAuthUnavailable: the lease is given back; where the provider may have
        acted, with a mark for recovery.
        """
        try:
            tokens = await self.oidc.refresh(mine.refresh_token)
        except OAuthDenied as error:
            if error.code not in (
                "invalid_grant",
                "invalid_token",
            ):  # invalid_client, invalid_scope …: the configuration is wrong, the grant is not dead
                await self.release(grant, mine, version)
                raise recovery.client_refused(error) from None
            raise await self._refused(grant, mine, version, error.code) from None
        except OAuthUnavailable as error:
            # Where it was sent nobody knows whether the token was redeemed. The lease ends at once, so that recovery
            # need not wait for it.
            await self.release(grant, mine, version, uncertain=error.sent)
            raise
        after = await self.store(grant, self.successor(tokens, mine), version, mine)
        if tokens.fault:  # the new refresh token is kept; its access token must not be used
            raise OAuthUnavailable("the refresh", tokens.fault, sent=False)
        if lost := after.lost_scopes(mine):
            raise await self.die(
                grant,
                after,
                0,
                f"The identity provider narrowed this grant at a refresh: it left out the scope {', '.join(lost)}."
                " Without it there are no visas.",
            )
        return after

    async def _refused(self, grant: str, mine: StoredTokens, version: int, code: str) -> Exception:
        """The provider refused the refresh token. Some do so once by mistake, so that introspection is heard, too; what
        is refused again a minute later is dead.
        """
        try:
            active: bool | None = (await self.oidc.introspect(mine.refresh_token, "refresh_token"))["active"]
        except (OAuthDenied, OAuthUnavailable):
            active = None
        first = mine.refused_at or time.time()
        if active is False or time.time() - first >= REFUSED_TWICE:
            why = f"The identity provider no longer accepts this grant's refresh token ({code})."
            return await self.die(grant, mine, version, why)
        log.warning("grant %s: its refresh token was refused (%s), and is not called dead; once more", grant, code)
        await self.release(grant, replace(mine, refused_at=first), version)
        return OAuthUnavailable("the refresh", f"{code} of a token that it does not call dead", sent=False)

    def successor(self, tokens: TokenSet, before: StoredTokens) -> StoredTokens:
        return StoredTokens.of(tokens, default_lifetime=self.default_lifetime, before=before)

    async def store(self, grant: str, stored: StoredTokens, version: int, before: StoredTokens) -> StoredTokens:
        """Writes the new tokens, had for those of `before`: nobody sees them before."""
        try:
            await self.records.store(grant, stored, version, used=before.refresh_token)
        except Superseded:
            log.error("grant %s: its record changed under the lease; the new tokens are given up and revoked", grant)
            with contextlib.suppress(OAuthDenied, OAuthUnavailable):
                await self.oidc.revoke(stored.refresh_token)
            raise busy(grant) from None
        self._remember(grant, stored)
        await self.on_refresh(grant, stored)
        return stored

    async def release(self, grant: str, mine: StoredTokens, version: int, *, uncertain: bool = False) -> None:
        """Gives the lease back; the tokens stay `uncertain` for the next who tries."""
        await self.records.release(grant, mine, version, uncertain=uncertain)

    async def die(self, grant: str, mine: StoredTokens, version: int, why: str) -> Dead:
        """Marks the grant dead, at once and for everybody; the exception to raise. `version` 0: no lease is held."""
        self.forget(grant)
        await self.on_dead(grant, why)
        if version:
            await self.release(grant, mine, version)
        return Dead(why)

    async def gone(self, grant: str, why: str) -> Dead:
        """Vault has no tokens of it, as two readings say: marked dead, so that its user sees it and no replica asks for
        it again and again; the exception to raise.
        """
        return await self.die(grant, StoredTokens("", 0, 0), 0, f"The grant's tokens are gone from Vault. {why}")

    def _remember(self, grant: str, stored: StoredTokens) -> StoredTokens:
        self._cache[grant] = stored
        self._cache.move_to_end(grant)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return stored


def provider_away(error: OAuthUnavailable) -> ProblemError:
    return ProblemError(503, "provider-unavailable", str(error), action="Try again in some seconds; nothing is lost.")


def vault_away(why: str) -> ProblemError:
    return ProblemError(
        503, "vault-unavailable", why, action="Try again in some seconds; tell the operator if it stays."
    )


def busy(grant: str) -> ProblemError:
    return ProblemError(
        503,
        "refresh-busy",
        f"The tokens of grant {grant} are being renewed and did not come in time.",
        action="Try again in some seconds.",
    )


def too_short(min_ttl: float, lifetime: float) -> ProblemError:
    return ProblemError(
        409,
        "min-ttl-unavailable",
        f"A token that lives {min_ttl:.0f} s was asked for, but the identity provider's access tokens live"
        f" {lifetime:.0f} s.",
        action="Ask for a shorter min_ttl, or ask the provider for longer access tokens.",
    )
