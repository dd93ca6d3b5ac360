"""Grants: a user's consent, kept as a row without secrets here and as tokens in Vault. Revoking denies at once; the
provider hears of it until it succeeds.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping

from gdi.contracts.grants import Grant, GrantRequest, ScheduleState
from gdi.contracts.ids import make_grant_id
from gdi.kit.problem import ProblemError
from gdi.oauth.client import OAuthClient
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from gdi.oauth.rfc6749 import TokenSet
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, grants, runs
from token_broker.grants import scheduled
from token_broker.tokens.ending import NotRevoked
from token_broker.tokens.stored_tokens import StoredTokens
from token_broker.tokens.token_refresher import TokenRefresher, provider_away
from token_broker.tokens.vault import VaultUnavailable

log = logging.getLogger(__name__)
MAX_ACTIVE, MAX_PENDING = 200, 10  # for each user
KEEP = 30 * 86400  # seconds for which an ended grant is still shown, after its own end
NOT_YET = " Its token is not yet revoked at the identity provider: "  # within a grant's detail, until it is
PENDING_LIFETIME = 900  # seconds from sign-in to consent on the broker's own page
INACTIVE = {
    "revoked": ("was revoked", "Give consent again (a new grant), then start again."),
    "expired": ("has expired", "Give consent again (a new grant), then start again."),
    "dead": (
        "no longer works at the identity provider",
        "Sign in and give consent again (a new grant), then start again.",
    ),
    "used": ("was good for one run and is used", "Give consent again for another run."),
    "pending": ("was never consented to", "Finish the consent first."),
}


class Grants:
    """`refresher` is set by whoever wires the broker: it and this class tell each other of refreshes and of ends;
    `check_run` too: it refuses a run that an access committee has stopped.
    """

    refresher: TokenRefresher
    check_run: Callable[[str], Awaitable[None]]

    def __init__(self, store: BrokerDatabase, oidc: OAuthClient, audit: Audit, max_days: float) -> None:
        self._store, self._oidc, self._audit, self._max_days = store, oidc, audit, max_days

    # --- made, listed, revoked by their user -----------------------------------------------------

    async def create(self, user: str, access_token: str, request: GrantRequest) -> Grant:
        """RFC 8693: exchanges the portal's access token for a refresh token of the broker's own, and keeps that."""
        self._check_end(request)
        scheduled.check(request, time.time())
        await self._check_room(user)
        try:
            tokens = await self._oidc.exchange_for_refresh(access_token)
        except OAuthDenied as error:
            raise ProblemError(
                403,
                "exchange-refused",
                str(error),
                action="Sign in again with the scope offline_access, or ask the operator to allow the token exchange.",
            ) from None
        except OAuthUnavailable as error:
            raise provider_away(error) from None
        grant = await self.keep(user, tokens)
        return await self.consent(grant, user, request, actor=f"user:{user}")

    async def keep(self, user: str, tokens: TokenSet) -> str:
        """Stores tokens as a pending grant; its id. It serves nothing before `consent`."""
        if not tokens.refresh_token:
            raise ProblemError(
                502,
                "no-refresh-token",
                "The identity provider gave no refresh token.",
                action="Sign in with the scope offline_access.",
            )
        grant, now = make_grant_id(), time.time()
        # The row comes first: a record in Vault without a row would never be found and never be revoked.
        async with self._store.write() as c:
            await c.execute(
                grants.insert().values(
                    id=grant,
                    owner=user,
                    workflows=[],
                    datasets=[],
                    created_at=now,
                    expires_at=now + PENDING_LIFETIME,
                    mode="once",
                    label="",
                    state="pending",
                    detail="",
                    refreshes=0,
                    refresh_due=now + 10**9,
                    revoke_tries=0,
                )
            )
        try:
            stored = await self.refresher.store_new(grant, tokens)
        except VaultUnavailable as error:
            raise ProblemError(
                503, "vault-unavailable", str(error), action="Try again in some seconds; tell the operator if it stays."
            ) from None
        async with self._store.write() as c:
            await c.execute(grants.update().where(grants.c.id == grant).values(refresh_due=stored.due))
        await self._end_surplus(user)
        return grant

    async def _end_surplus(self, user: str) -> None:
        """Of sign-ins that never came to a consent the last MAX_PENDING stay: each holds a refresh token in Vault."""
        mine = sa.and_(grants.c.owner == user, grants.c.state == "pending")
        query = sa.select(grants.c.id).where(mine).order_by(grants.c.created_at.desc()).offset(MAX_PENDING).limit(100)
        async with self._store.read() as c:
            surplus = list((await c.execute(query)).scalars())
        for grant in surplus:
            await self._end(grant, "expired", "", only=("pending",))
            self.refresher.forget(grant)

    async def consent(self, grant: str, user: str, request: GrantRequest, *, actor: str) -> Grant:
        """Turns the user's pending grant into an active one."""
        self._check_end(request)
        scheduled.check(request, time.time())
        await self._check_room(user)
        values: dict[str, Any] = {
            "workflows": sorted(set(request.workflows)),
            "datasets": sorted(set(request.datasets)),
            "created_at": time.time(),
            "expires_at": request.expires_at,
            "mode": request.mode,
            "label": clean(request.label),
            "state": "active",
        }
        async with self._store.write() as c:
            done = await c.execute(
                grants.update()
                .where(
                    grants.c.id == grant,
                    grants.c.owner == user,
                    grants.c.state == "pending",
                    grants.c.expires_at > time.time(),
                )
                .values(**values)
            )
            if done.rowcount == 1:
                await scheduled.insert(c, grant, request, time.time())
        if done.rowcount != 1:
            raise not_yours(grant)
        await self._audit.record(
            actor,
            "grant.create",
            owner=user,
            grant=grant,
            reason=f"{request.mode}; workflows {', '.join(values['workflows'])}",
        )
        return await self.get(grant, user)

    async def get(self, grant: str, user: str) -> Grant:
        row = await self.row(grant)
        if row is None or row["owner"] != user or row["state"] == "pending":
            raise ProblemError(
                404, "grant-unknown", "You have no grant with this id.", action="List your grants: GET /v1/grants."
            )
        async with self._store.read() as c:
            return as_grant(row, (await scheduled.of_grants(c, [grant])).get(grant))

    async def list(self, user: str) -> list[Grant]:
        query = (
            sa.select(grants)
            .where(grants.c.owner == user, grants.c.state != "pending")
            .order_by(grants.c.created_at.desc())
            .limit(1000)
        )
        async with self._store.read() as c:
            rows = (await c.execute(query)).mappings().all()
            found = await scheduled.of_grants(c, [r["id"] for r in rows])
            return [as_grant(r, found.get(r["id"])) for r in rows]

    async def open_runs(self, grant: str) -> Sequence[RowMapping]:
        """Id, workflow and begin of the runs that end with it; 100 at most."""
        which = runs.c.grant_id == grant, runs.c.state == "open"
        query = sa.select(runs.c.id, runs.c.workflow, runs.c.opened_at).where(*which).order_by(runs.c.opened_at)
        async with self._store.read() as c:
            return (await c.execute(query.limit(100))).mappings().all()

    async def revoke(self, grant: str, user: str, *, actor: str) -> Grant:
        """Denies at once, everywhere; the provider and Vault follow in the background. Revoking twice is no error."""
        await self.get(grant, user)
        await self._end(grant, "revoked", "Revoked by the user.", only=("active", "used", "dead", "expired"))
        self.refresher.forget(grant)
        await self._audit.record(actor, "grant.revoke", owner=user, grant=grant)
        return await self.get(grant, user)

    async def discard(self, grant: str, user: str) -> None:
        """The user left the consent page: the tokens of their pending grant, where it is still pending, are given
        up.
        """
        row = await self.row(grant)
        if row is not None and row["owner"] == user:
            await self._end(grant, "expired", "", only=("pending",))

    # --- asked by the other parts ----------------------------------------------------------------

    async def row(self, grant: str) -> RowMapping | None:
        async with self._store.read() as c:
            return (await c.execute(sa.select(grants).where(grants.c.id == grant))).mappings().one_or_none()

    async def serving(self, grant: str, run: str | None = None) -> RowMapping:
        """The grant's row if it serves now: active, or used by this very run. 403 `grant-inactive` otherwise, or where
        the run was stopped. Read anew each time.
        """
        if run is not None:
            await self.check_run(run)
        row = await self.row(grant)
        if row is None:
            raise ProblemError(
                403,
                "grant-inactive",
                f"Grant {grant} does not exist.",
                action="Give consent (a new grant), then start again.",
            )
        state = "expired" if row["expires_at"] <= time.time() and row["state"] in ("active", "used") else row["state"]
        if state == "active" or (state == "used" and run is not None and row["used_run"] == run):
            return row
        what, action = INACTIVE.get(state, ("does not serve", "Give consent again."))
        raise ProblemError(
            403,
            "grant-inactive",
            f"Grant {grant} {what}. {row['detail']}".strip(),
            action=action,
            state=state,
            grant=grant,
        )

    # --- told by the keeper ----------------------------------------------------------------------

    async def on_refresh(self, grant: str, stored: StoredTokens) -> None:
        async with self._store.write() as c:
            await c.execute(
                grants.update().where(grants.c.id == grant).values(refreshes=stored.refreshes, refresh_due=stored.due)
            )

    async def on_dead(self, grant: str, why: str) -> None:
        """Nothing where it had ended before, by its user's wish or its time. What Vault still has of it goes as with a
        revoked grant.
        """
        async with self._store.write() as c:
            done = await c.execute(
                grants.update()
                .where(grants.c.id == grant, grants.c.state.in_(("active", "used", "pending")))
                .values(state="dead", detail=why[:2000], revoke_due=time.time())
            )
        if done.rowcount != 1:
            return
        log.error("grant %s is dead: %s", grant, why)
        row = await self.row(grant)
        await self._audit.record(
            "broker", "grant.dead", owner=row["owner"] if row else None, grant=grant, allowed=False, reason=why
        )

    # --- background ------------------------------------------------------------------------------

    async def due_for_refresh(self, limit: int) -> Iterable[str]:
        query = (
            sa.select(grants.c.id)
            .where(
                grants.c.state.in_(("active", "used")),
                grants.c.refresh_due <= time.time(),
                grants.c.expires_at > time.time(),
            )
            .order_by(grants.c.refresh_due)
            .limit(limit)
        )
        async with self._store.read() as c:
            return list((await c.execute(query)).scalars())

    async def postpone(self, grant: str, seconds: float) -> None:
        """The provider was away: the next try comes later."""
        async with self._store.write() as c:
            await c.execute(grants.update().where(grants.c.id == grant).values(refresh_due=time.time() + seconds))

    async def expire(self) -> None:
        """Ends what ran out, pending sign-ins too."""
        query = (
            sa.select(grants.c.id)
            .where(grants.c.state.in_(("active", "used", "pending")), grants.c.expires_at <= time.time())
            .limit(200)
        )
        async with self._store.read() as c:
            ended = list((await c.execute(query)).scalars())
        for grant in ended:
            await self._end(grant, "expired", "", only=("active", "used", "pending"))
            self.refresher.forget(grant)

    async def revoke_upstream(self, limit: int = 20) -> int:
        """RFC 7009 for every ended grant whose turn it is, then its Vault record goes; how many are done. What fails is
        said at the grant and tried again, ever less often, until the token has ended by itself.
        """
        query = (
            sa.select(grants.c.id, grants.c.revoke_tries, grants.c.detail)
            .where(grants.c.revoke_due <= time.time())
            .order_by(grants.c.revoke_due)
            .limit(limit)
        )
        async with self._store.read() as c:
            rows = (await c.execute(query)).all()
        done = 0
        for grant, tries, before in rows:
            detail = str(before).partition(NOT_YET)[0]
            try:
                note = await self.refresher.end(grant)
                values: dict[str, Any] = {"revoke_due": None, "detail": f"{detail} {note}".strip()[:2000]}
                done += 1
            except (NotRevoked, VaultUnavailable, ProblemError) as error:
                wait = min(3600, 2 ** min(tries, 11)) * (0.75 + secrets.randbelow(500) / 1000)
                log.warning("grant %s: not yet revoked at the provider (try %d): %s", grant, tries + 1, error)
                values = {"revoke_due": time.time() + wait, "revoke_tries": tries + 1}
                if isinstance(error, NotRevoked):
                    values["detail"] = f"{detail}{NOT_YET}{error}"[:2000]
            async with self._store.write() as c:
                await c.execute(grants.update().where(grants.c.id == grant).values(**values))
            if values["revoke_due"] is None:
                await self._audit.record("broker", "grant.revoked-upstream", grant=grant, reason=note)
        return done

    async def forget_old(self) -> None:
        """Removes grants that ended KEEP ago, with what Vault still holds of them; runs that are open keep theirs."""
        used = sa.select(runs.c.grant_id).where(runs.c.state == "open")
        query = sa.select(grants.c.id, grants.c.state).where(
            grants.c.expires_at < time.time() - KEEP,
            grants.c.state != "active",
            grants.c.revoke_due.is_(None),
            grants.c.id.not_in(used),
        )
        async with self._store.read() as c:
            old = (await c.execute(query.limit(200))).all()
        for grant, state in old:
            try:
                if state not in ("expired", "revoked"):  # `revoke_upstream` ended those
                    await self.refresher.end(grant)
            except (NotRevoked, VaultUnavailable, ProblemError) as error:
                log.warning("grant %s: not yet removed: %s", grant, error)
                continue
            async with self._store.write() as c:
                await c.execute(grants.delete().where(grants.c.id == grant, grants.c.state != "active"))

    async def _end(self, grant: str, state: str, detail: str, *, only: tuple[str, ...]) -> None:
        async with self._store.write() as c:
            await c.execute(
                grants.update()
                .where(grants.c.id == grant, grants.c.state.in_(only))
                .values(state=state, detail=detail, revoke_due=time.time())
            )

    def _check_end(self, request: GrantRequest) -> None:
        left = request.expires_at - time.time()
        if not 0 < left <= self._max_days * 86400:  # NaN fails both
            raise ProblemError(
                422,
                "bad-expiry",
                f"expires_at must lie in the future, at most {self._max_days:g} days ahead.",
                action="Choose another end for the grant.",
            )

    async def _check_room(self, user: str) -> None:
        async with self._store.read() as c:
            count = await c.scalar(
                sa.select(sa.func.count())
                .select_from(grants)
                .where(grants.c.owner == user, grants.c.state.in_(("active", "pending")))
            )
        if (count or 0) > MAX_ACTIVE:
            raise ProblemError(
                409,
                "too-many-grants",
                f"You have more than {MAX_ACTIVE} active grants.",
                action="Revoke some: DELETE /v1/grants/{id}.",
            )


def as_grant(row: RowMapping, schedule: ScheduleState | None = None) -> Grant:
    expired = row["state"] == "active" and row["expires_at"] <= time.time()
    return Grant(
        id=row["id"],
        user=row["owner"],
        workflows=row["workflows"],
        datasets=row["datasets"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        mode=row["mode"],
        label=row["label"],
        state="expired" if expired else row["state"],
        detail=row["detail"],
        refreshes=row["refreshes"],
        schedule=schedule,
    )


def not_yours(grant: str) -> ProblemError:
    """The same for an unknown grant and for another user's: the answer tells nothing about what others have."""
    return ProblemError(
        403,
        "grant-not-yours",
        f"Grant {grant[:40]} is not a grant of this user.",
        action="Use a grant of your own, or give consent first.",
        grant=grant[:40],
    )


_BAD = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\u2028\u2029]"  # controls, surrogates, bidirectional
)


def clean(text: str) -> str:
    """A stranger's text without control characters, lone surrogates and bidirectional overrides (each replaced by
    U+FFFD).
    """
    return _BAD.sub("\ufffd", text)
