"""Who wants to be told of what, and where. The address is the identity provider's, not one that a caller names; a
webhook's secret lies in Vault.
"""

from __future__ import annotations

import base64
import re
import secrets
import time

import sqlalchemy as sa
from sqlalchemy import RowMapping

from gdi.contracts.notices import NoticeChoice, NoticeSettings
from gdi.kit.canonical import sha256_hex
from gdi.kit.problem import ProblemError
from gdi.kit.rate_limit import Rate, RateLimit
from gdi.oauth.client import OAuthClient
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase
from token_broker.db.store import notice_choices as table
from token_broker.db.upsert import upsert
from token_broker.notices.due import due, make
from token_broker.notices.webhook import check_url
from token_broker.tokens.token_refresher import provider_away
from token_broker.tokens.vault import CasConflict, Vault, VaultUnavailable

WEBHOOKS = Rate(6, 6)  # of a person, looked up a minute, as a name server may answer late
ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}")


class NoticeChoices:
    def __init__(
        self, store: BrokerDatabase, vault: Vault, oidc: OAuthClient, audit: Audit, *, mail: bool, private: bool
    ) -> None:
        self._store, self._vault, self._oidc, self._audit = store, vault, oidc, audit
        self._mail, self._private = mail, private
        self._limit = RateLimit()

    async def get(self, owner: str) -> NoticeSettings:
        row = await self._row(owner)
        if row is None:
            return NoticeSettings(choice=NoticeChoice(), can_mail=self._mail)
        choice = NoticeChoice(kinds=row["kinds"], email=bool(row["address"]), webhook=row["webhook"] or None)
        return NoticeSettings(choice=choice, address=row["address"], can_mail=self._mail, problem=row["problem"])

    async def put(self, owner: str, access_token: str, choice: NoticeChoice) -> NoticeSettings:
        """422 where mail cannot be sent or the provider knows no address, or the webhook may not be called."""
        address = await self._address(owner, access_token) if choice.email else ""
        if choice.webhook is not None:
            self._limit.take("webhooks of this user", owner, WEBHOOKS)
            await check_url(choice.webhook, private=self._private)
        known = await self._row(owner)
        new = choice.webhook is not None and (known is None or known["webhook"] != choice.webhook)
        secret = await self._new_secret(owner) if new else None
        values = {
            "owner": owner,
            "kinds": sorted(set(choice.kinds)),
            "address": address,
            "webhook": choice.webhook or "",
            "problem": "",
            "changed_at": time.time(),
        }
        async with self._store.write() as c:
            await upsert(c, table, [values], replace=[name for name in values if name != "owner"])
            for kind, subject, workflow in await due(c, owner, since=time.time()):  # known to them before they chose
                for way in ("mail", "webhook"):
                    await make(c, owner, kind, subject, workflow, way, "dropped")
        await self._audit.record(f"user:{owner}", "notices.choose", owner=owner)
        return (await self.get(owner)).model_copy(update={"secret": secret})

    async def secret(self, owner: str) -> bytes | None:
        """The key that the owner's webhook verifies with."""
        record = await self._vault.read(_path(owner))
        return None if record.data is None else base64.b64decode(str(record.data["key"]))

    async def _row(self, owner: str) -> RowMapping | None:
        async with self._store.read() as c:
            return (await c.execute(sa.select(table).where(table.c.owner == owner))).mappings().one_or_none()

    async def _address(self, owner: str, access_token: str) -> str:
        if not self._mail:
            raise _refused("This coordinator sends no mail.", "Choose a webhook, or ask its operator.")
        try:
            userinfo = await self._oidc.userinfo(access_token)
        except OAuthDenied:
            raise _refused("The identity provider does not tell your address.", "Sign in again, with email.") from None
        except OAuthUnavailable as error:
            raise provider_away(error) from None
        address = userinfo.get("email")
        proven = userinfo.get("sub") == owner and userinfo.get("email_verified", True) is True
        if not proven or not isinstance(address, str) or not ADDRESS.fullmatch(address):
            raise _refused("The identity provider knows no proven e-mail address of yours.", "Add one there.")
        return address

    async def _new_secret(self, owner: str) -> str:
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        try:
            record = await self._vault.read(_path(owner))
            await self._vault.write(_path(owner), {"key": key}, cas=record.version)
        except (VaultUnavailable, CasConflict):
            raise ProblemError(
                503,
                "vault-unavailable",
                "The webhook's secret could not be kept.",
                action="Send it again.",
            ) from None
        return f"whsec_{key}"


def _path(owner: str) -> str:
    return f"notices/{sha256_hex(owner.encode())}"


def _refused(why: str, action: str) -> ProblemError:
    return ProblemError(422, "bad-notice", why, action=action)
