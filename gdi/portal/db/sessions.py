"""The sessions of people at the portal's pages. A session's tokens are sealed with a key that only the browser's cookie
has: the database alone opens none.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gdi.kit.canonical import sha256_hex
from gdi.portal.db.store import PortalDatabase, sessions

LEASE = 15.0  # seconds for which one replica may take to renew a session's token


@dataclass(frozen=True, repr=False)
class SessionTokens:
    """A signed-in person's tokens. `until`: when the access token ends; `renew_at`: from when on to renew it. Both in
    seconds since the epoch.
    """

    access: str
    refresh: str
    until: float
    renew_at: float


class SessionStore:
    """`secret`: the 256 random bits that the cookie carries."""

    def __init__(self, store: PortalDatabase) -> None:
        self._store = store

    async def put(self, secret: str, owner: str, tokens: SessionTokens, ends_at: float) -> None:
        values = {"owner": owner, "sealed": _seal(secret, tokens), "ends_at": ends_at, "busy_until": 0.0}
        async with self._store.write() as c:
            await c.execute(sessions.insert().values(id=_id(secret), **values))

    async def get(self, secret: str) -> SessionTokens | None:
        query = sa.select(sessions.c.sealed).where(sessions.c.id == _id(secret), sessions.c.ends_at > time.time())
        async with self._store.read() as c:
            sealed = (await c.execute(query)).scalar_one_or_none()
        return None if sealed is None else _open(secret, sealed)

    async def lease(self, secret: str) -> bool:
        """Whether the caller is to renew the token: of many that ask, one, until LEASE is over."""
        now = time.time()
        mine = sessions.c.id == _id(secret), sessions.c.busy_until < now
        async with self._store.write() as c:
            done = await c.execute(sessions.update().where(*mine).values(busy_until=now + LEASE))
        return done.rowcount == 1

    async def renewed(self, secret: str, tokens: SessionTokens) -> None:
        values = {"sealed": _seal(secret, tokens), "busy_until": 0.0}
        async with self._store.write() as c:
            await c.execute(sessions.update().where(sessions.c.id == _id(secret)).values(**values))

    async def release(self, secret: str) -> None:
        async with self._store.write() as c:
            await c.execute(sessions.update().where(sessions.c.id == _id(secret)).values(busy_until=0.0))

    async def end(self, secret: str) -> None:
        """Ends the session, and forgets those whose time is over."""
        async with self._store.write() as c:
            await c.execute(sessions.delete().where(sa.or_(sessions.c.id == _id(secret), _over())))


def _over() -> sa.ColumnElement[bool]:
    return sessions.c.ends_at < time.time()


def _id(secret: str) -> str:
    return sha256_hex(f"id\0{secret}".encode())


def _seal(secret: str, tokens: SessionTokens) -> str:
    content = json.dumps([tokens.access, tokens.refresh, tokens.until, tokens.renew_at]).encode()
    return _box(secret).encrypt(content).decode()


def _open(secret: str, sealed: str) -> SessionTokens | None:
    try:
        return SessionTokens(*json.loads(_box(secret).decrypt(sealed.encode())))
    except InvalidToken:
        return None


def _box(secret: str) -> Fernet:
    key = HKDF(hashes.SHA256(), 32, salt=None, info=b"gdi-portal-session").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(key))
