"""After a crash or a lost answer in the middle of a redemption: was the refresh token redeemed, and what is left of the
grant?

The old token is never replayed on a guess. Introspection (RFC 7662) asks the provider about it without using it up:
still active means that it was not redeemed. Otherwise the last access token, while it lives, is exchanged for a new
refresh token (RFC 8693). Where neither works the grant is dead if introspection says that the token is; where the
provider does not tell, the token itself is shown once more, as nothing is left to lose by it: its answer decides.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from gdi.kit.problem import ProblemError
from gdi.oauth.client import OAuthClient
from gdi.oauth.errors import OAuthDenied, OAuthNotOffered, OAuthUnavailable
from gdi.oauth.rfc6749 import TokenSet
from token_broker.tokens.stored_tokens import StoredTokens

T = TypeVar("T")
log = logging.getLogger(__name__)
NEEDED_TTL = 2.0
NOT_KNOWN = (
    "invalid_client",
)  # the provider refuses the broker itself, as while its secret is changed: that tells nothing about the grant


class LeaseHolder(Protocol):
    """What recovery asks of the replica that holds the grant's lease (TokenRefresher)."""

    oidc: OAuthClient

    async def release(self, grant: str, mine: StoredTokens, version: int, *, uncertain: bool = False) -> None:
        """Gives the lease back; the tokens stay `uncertain` for the next who tries."""

    async def prolong(self, grant: str, mine: StoredTokens, version: int) -> tuple[StoredTokens, int]:
        """The lease for longer, and its new version."""

    async def redeem(self, grant: str, mine: StoredTokens, version: int) -> StoredTokens:
        """New tokens for the refresh token, stored."""

    def successor(self, tokens: TokenSet, before: StoredTokens) -> StoredTokens:
        """A provider's tokens as a record."""

    async def store(self, grant: str, stored: StoredTokens, version: int, before: StoredTokens) -> StoredTokens:
        """Stores the record, had for the tokens of `before`; the lease ends."""

    async def die(self, grant: str, mine: StoredTokens, version: int, why: str) -> Exception:
        """Marks the grant as dead; the error to raise."""


async def recover(
    refresher: LeaseHolder, grant: str, before: StoredTokens, mine: StoredTokens, version: int
) -> StoredTokens:
    """The grant's tokens after an interrupted redemption, stored. `mine` is the lease we hold now. Dead where nothing
    is left.
    """
    log.warning(
        "grant %s: a redemption by replica %s was interrupted; finding out what is left",
        grant,
        before.redeeming.split("-")[0],
    )

    async def answer_of(question: Awaitable[T]) -> T | None:
        """The provider's answer, or None where it refuses. Where it tells nothing, the tokens stay as uncertain as they
        are, for the next who tries.
        """
        try:
            return await question
        except OAuthNotOffered:
            return None
        except OAuthUnavailable:
            await refresher.release(grant, mine, version, uncertain=True)
            raise
        except OAuthDenied as error:
            if error.code not in NOT_KNOWN:
                return None
            await refresher.release(grant, mine, version, uncertain=True)
            raise client_refused(error) from None

    answer = await answer_of(refresher.oidc.introspect(before.refresh_token, "refresh_token"))
    if (
        answer is not None and answer.get("active") is True
    ):  # a provider that does not tell about refresh tokens: assume the worse
        log.warning("grant %s: the refresh token had not been redeemed; going on", grant)
        return await refresher.redeem(
            grant, *await refresher.prolong(grant, mine, version)
        )  # the questions may have taken most of the lease
    if before.ttl() > NEEDED_TTL:
        tokens = await answer_of(refresher.oidc.exchange_for_refresh(before.access_token))
        if tokens is None:
            log.warning("grant %s: the last access token could not be exchanged", grant)
        elif tokens.refresh_token:
            log.warning("grant %s: saved by exchanging the last access token", grant)
            return await refresher.store(grant, refresher.successor(tokens, mine), version, mine)
    if answer is None:
        log.warning("grant %s: the provider does not tell whether the token was redeemed; it is shown once more", grant)
        return await refresher.redeem(grant, *await refresher.prolong(grant, mine, version))
    raise await refresher.die(
        grant,
        mine,
        version,
        "A broker stopped between redeeming this grant's refresh token and storing the new one; the token is used up"
        " and no other is known.",
    )


def client_refused(error: OAuthDenied) -> ProblemError:
    return ProblemError(
        502, "provider-refused", str(error), action="The operator must look at the broker's OIDC client."
    )
