"""What must survive a restart: token families, access tokens, codes, logins, devices, entitlements, counters. SQLite.

One connection used from the event loop's thread only: a method runs from its first statement to its commit without
giving way, so a refresh token cannot be redeemed twice. Secrets are stored as SHA-256, never in clear.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gdi.kit.canonical import sha256_hex

SCHEMA = """
CREATE TABLE IF NOT EXISTS families (id TEXT PRIMARY KEY, sub TEXT, client_id TEXT, auth_time INTEGER, revoked TEXT);
CREATE TABLE IF NOT EXISTS refresh_tokens (
  hash TEXT PRIMARY KEY, family TEXT, scope TEXT, iat INTEGER, exp INTEGER, used INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS access_tokens (jti TEXT PRIMARY KEY, family TEXT, exp INTEGER, revoked INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS pending (hash TEXT PRIMARY KEY, kind TEXT, body TEXT, exp REAL);
CREATE TABLE IF NOT EXISTS entitlements (
  id INTEGER PRIMARY KEY AUTOINCREMENT, sub TEXT, dataset TEXT, body TEXT, start INTEGER);
CREATE TABLE IF NOT EXISTS applications (
  id INTEGER PRIMARY KEY AUTOINCREMENT, sub TEXT, state TEXT, body TEXT, created INTEGER, modified INTEGER);
CREATE TABLE IF NOT EXISTS counters (name TEXT, key TEXT, n INTEGER, PRIMARY KEY (name, key));
CREATE TABLE IF NOT EXISTS seeded (what TEXT PRIMARY KEY);
CREATE INDEX IF NOT EXISTS refresh_family ON refresh_tokens (family);
CREATE INDEX IF NOT EXISTS entitlement_sub ON entitlements (sub);
"""


class AaiStore:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self.db = sqlite3.connect(path, isolation_level=None, timeout=5)
        self.db.row_factory = sqlite3.Row
        self.db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + SCHEMA)
        self._pruned = 0.0

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def count(self, name: str, key: str = "") -> None:
        self.db.execute(
            "INSERT INTO counters VALUES (?,?,1) ON CONFLICT (name, key) DO UPDATE SET n = n + 1", (name, key)
        )

    def stats(self) -> dict[str, Any]:
        """Counters without a key as numbers, those with keys as `{key: n}`."""
        found: dict[str, Any] = {"refreshes": {}, "reuse_detected": 0}
        for row in self.db.execute("SELECT name, key, n FROM counters ORDER BY name, key"):
            if row["key"]:
                found.setdefault(row["name"], {})[row["key"]] = row["n"]
            else:
                found[row["name"]] = row["n"]
        return found

    def put_pending(self, kind: str, secret: str, body: dict[str, Any], lifetime: float) -> None:
        """A login, a code or a device that waits: found again by `secret`, which is not stored itself."""
        self._prune()
        self.db.execute(
            "INSERT OR REPLACE INTO pending VALUES (?,?,?,?)",
            (sha256_hex(secret.encode()), kind, json.dumps(body), time.time() + lifetime),
        )

    def get_pending(self, kind: str, secret: str) -> tuple[dict[str, Any], float] | None:
        """Its body and when it expires (Unix seconds; may be in the past), or None where it is unknown."""
        row = self.db.execute(
            "SELECT body, exp FROM pending WHERE hash=? AND kind=?", (sha256_hex(secret.encode()), kind)
        ).fetchone()
        return (json.loads(row["body"]), row["exp"]) if row else None

    def set_pending(self, kind: str, secret: str, body: dict[str, Any]) -> None:
        self.db.execute(
            "UPDATE pending SET body=? WHERE hash=? AND kind=?", (json.dumps(body), sha256_hex(secret.encode()), kind)
        )

    def drop_pending(self, kind: str, secret: str) -> None:
        self.db.execute("DELETE FROM pending WHERE hash=? AND kind=?", (sha256_hex(secret.encode()), kind))

    def pending_count(self, kind: str) -> int:
        return int(self.db.execute("SELECT count(*) FROM pending WHERE kind=?", (kind,)).fetchone()[0])

    def _prune(self) -> None:
        """Forgets what ended an hour ago (a used code or refresh token must be known a while longer to detect its
        reuse).
        """
        if time.time() - self._pruned < 30:
            return
        self._pruned = time.time()
        old = int(time.time()) - 3600
        with self.transaction() as db:
            db.execute("DELETE FROM pending WHERE exp < ?", (old,))
            db.execute("DELETE FROM access_tokens WHERE exp < ?", (old,))
            db.execute("DELETE FROM refresh_tokens WHERE exp < ?", (old,))
