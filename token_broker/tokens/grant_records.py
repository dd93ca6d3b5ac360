"""The grants' records in Vault, as whoever holds a lease writes them: what was written is known by reading it, whatever
was answered, and new tokens are kept until they are stored.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass, replace

from token_broker.tokens.stored_tokens import StoredTokens
from token_broker.tokens.vault import CasConflict, Vault, VaultUnavailable

log = logging.getLogger(__name__)
AGAIN, LONGEST = 0.2, 2.0  # seconds between two tries to store


class Superseded(Exception):
    """The record changed under the lease, and holds a newer token than the one that ours was made of."""


@dataclass(frozen=True, repr=False)
class GrantRecord:
    """`tokens` None: Vault says that nothing is there. `version`: what the next write names."""

    tokens: StoredTokens | None
    version: int


class GrantRecords:
    """`lease`: seconds for which a lease is taken."""

    def __init__(self, vault: Vault, lease: float) -> None:
        self.vault, self.lease = vault, lease
        self.unstored: set[str] = set()  # grants whose new tokens only this process has, as Vault is away

    @staticmethod
    def path(grant: str) -> str:
        return f"grants/{grant}"

    async def read(self, grant: str) -> GrantRecord:
        """VaultUnavailable also where what is there is no grant's record."""
        record = await self.vault.read(self.path(grant))
        if record.data is None:
            return GrantRecord(None, record.version)
        try:
            return GrantRecord(StoredTokens.read(record.data), record.version)
        except (TypeError, ValueError):
            raise VaultUnavailable(
                f"What Vault has at {self.path(grant)} is no record of the broker's. Restore it, or revoke the grant."
            ) from None

    async def create(self, grant: str, stored: StoredTokens) -> None:
        """A grant's first record."""
        await self.vault.keep_one_version(self.path(grant))
        try:
            await self.vault.write(self.path(grant), stored.write(), cas=0)
        except (CasConflict, VaultUnavailable):
            found = (await self.read(grant)).tokens  # it may have been done, and the answer lost
            if found is None or not _same(found.refresh_token, stored.refresh_token):
                raise VaultUnavailable("Vault did not store the grant's tokens.") from None

    async def take(self, grant: str, mine: StoredTokens, version: int) -> int:
        """Takes or prolongs the lease that `mine` names; the record's version. CasConflict where another was faster."""
        try:
            return await self.vault.write(self.path(grant), mine.write(), cas=version)
        except (CasConflict, VaultUnavailable):
            record = await self.read(grant)  # a write whose answer was lost, or which was sent twice
            found = record.tokens
            if found and found.redeeming == mine.redeeming and abs(found.redeeming_until - mine.redeeming_until) < 0.01:
                return record.version
            raise

    async def release(self, grant: str, mine: StoredTokens, version: int, *, uncertain: bool = False) -> None:
        """Gives the lease back; `uncertain` leaves the mark that a redemption may have happened, for recovery."""
        after = replace(mine, redeeming_until=0) if uncertain else replace(mine, redeeming="", redeeming_until=0)
        try:
            await self.vault.write(self.path(grant), after.write(), cas=version)
        except (CasConflict, VaultUnavailable):
            log.warning("grant %s: the lease could not be given back; it ends by itself in %.0f s", grant, self.lease)

    async def store(self, grant: str, stored: StoredTokens, version: int, *, used: str) -> None:
        """Writes the new tokens, which are the only copy: goes on until they are there, however long Vault is away.
        Superseded where the record no longer holds `used`, the refresh token that these were had for.
        """
        late, pause = time.monotonic() + self.lease * 0.9, AGAIN
        try:
            while True:
                try:
                    await self.vault.write(self.path(grant), stored.write(), cas=version)
                    return
                except (CasConflict, VaultUnavailable):
                    pass
                try:
                    version = await self._next(grant, stored, used)
                    if not version:
                        return
                except VaultUnavailable as error:
                    if time.monotonic() > late and grant not in self.unstored:
                        self.unstored.add(grant)
                        log.error(
                            "grant %s: its new tokens cannot be stored; only this process has them until Vault is back,"
                            " so do not stop it. %s",
                            grant,
                            error,
                        )
                await asyncio.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
                pause = min(LONGEST, pause * 2)
        finally:
            self.unstored.discard(grant)

    async def _next(self, grant: str, stored: StoredTokens, used: str) -> int:
        """What the next write must name; 0 where they are stored. Superseded, VaultUnavailable."""
        record = await self.read(grant)
        if record.tokens is None:
            if await self.vault.why_absent(self.path(grant)):
                raise Superseded  # ended meanwhile: whoever did it did not know these tokens
            raise VaultUnavailable("Vault contradicts itself about a grant's record.")
        if _same(record.tokens.refresh_token, stored.refresh_token) and not record.tokens.redeeming:
            return 0
        if not _same(record.tokens.refresh_token, used):
            raise Superseded
        return record.version  # perhaps of a lease that came after ours: it has nothing newer


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
