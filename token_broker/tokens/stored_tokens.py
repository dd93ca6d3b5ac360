"""What Vault holds of a grant: its tokens, their times, and the lease of whoever redeems now."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from typing import Any

from gdi.oauth.client import SCOPE
from gdi.oauth.rfc6749 import TokenSet

MARGIN = 5.0  # an access token is not used in its last seconds
NEEDED = frozenset({"openid", "ga4gh_passport_v1"})  # scopes without which there is no user, or no visa
REFRESH_AT = 0.5  # of the refresh token's life: the background renews it then, which leaves as much again for outages


@dataclass(frozen=True, repr=False)
class StoredTokens:
    """A grant's record in Vault (`grants/<id>`); secret. `redeeming` names the replica that redeems now,
    `redeeming_until` the end of its lease. `scope`: of the last answer that told one (RFC 6749 §5.1: where none does,
    it is what was asked for); empty in records of older versions. `refused_at`: when the provider refused a refresh
    token that it does not call dead, else 0.
    """

    refresh_token: str
    refresh_lifetime: float
    refreshed_at: float
    access_token: str = ""
    access_expires_at: float = 0
    access_lifetime: float = 0
    refreshes: int = 0
    redeeming: str = ""
    redeeming_until: float = 0
    scope: str = ""
    refused_at: float = 0

    @classmethod
    def of(cls, tokens: TokenSet, *, default_lifetime: float, before: StoredTokens | None = None) -> StoredTokens:
        """The record after the provider gave `tokens`. A provider that does not rotate gives no new refresh token: the
        old one stays.
        """
        refresh = tokens.refresh_token or (before.refresh_token if before else "")
        return cls(
            refresh_token=refresh,
            refresh_lifetime=tokens.refresh_expires_in
            or (before.refresh_lifetime if before and not tokens.refresh_token else default_lifetime),
            refreshed_at=time.time(),
            access_token=tokens.access_token,
            access_expires_at=tokens.access_expires_at,
            access_lifetime=tokens.access_lifetime,
            refreshes=(before.refreshes if before else 0) + (1 if before else 0),
            scope=tokens.scope or (before.scope if before else SCOPE),
        )

    @classmethod
    def read(cls, data: dict[str, Any]) -> StoredTokens:
        """ValueError, TypeError: it is no such record."""
        record = cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})
        for f in fields(cls):
            value = getattr(record, f.name)
            if isinstance(value, bool) or not isinstance(value, str if f.type == "str" else (int, float)):
                raise ValueError(f.name)
        return record

    @property
    def ends_at(self) -> float:
        """When the refresh token ends, as far as the provider told."""
        return self.refreshed_at + self.refresh_lifetime

    def lost_scopes(self, before: StoredTokens) -> list[str]:
        """What the provider left out that `before` had, of what a grant needs."""
        had = set(before.scope.split()) & NEEDED
        return sorted(had - set(self.scope.split())) if self.scope else []

    def write(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def due(self) -> float:
        return self.refreshed_at + REFRESH_AT * self.refresh_lifetime

    def ttl(self) -> float:
        return self.access_expires_at - time.time() if self.access_token else 0

    def serves(self, min_ttl: float) -> bool:
        """Half of a life shorter than ten seconds, else five seconds, are kept as a margin."""
        return bool(self.access_token) and self.ttl() >= max(min_ttl, min(MARGIN, self.access_lifetime / 2))

    def __repr__(self) -> str:
        return "StoredTokens(…)"
