"""Issuing, rotating, exchanging, introspecting and revoking tokens. RFC 6749 §6, RFC 8693, RFC 7662, RFC 7009, RFC 9700
§4.14.

Tokens that descend from one authorization form a family. With strict rotation a refresh token is good once: when it
comes back, somebody else has it, so the whole family dies, access tokens included.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import jwt

from gdi.kit.canonical import sha256_hex
from gdi.local_federation.aai.config import AaiConfig, Client
from gdi.local_federation.aai.keys import RsaKey
from gdi.local_federation.aai.oauth import OAuthError, scopes_within
from gdi.local_federation.aai.store import AaiStore

ACCESS = "urn:ietf:params:oauth:token-type:access_token"
REFRESH = "urn:ietf:params:oauth:token-type:refresh_token"


@dataclass(frozen=True)
class AccessClaims:
    """A valid access token, read. `aud` is the client's id, or a list where the token was narrowed."""

    sub: str
    client_id: str
    scope: list[str]
    aud: str | list[str]
    iat: int
    exp: int
    jti: str
    family: str = field(repr=False)


@dataclass
class Issuer:
    config: AaiConfig
    store: AaiStore
    key: RsaKey
    url: str  # the issuer, http://…/oidc

    def new_family(self, sub: str, client_id: str, auth_time: int) -> str:
        family = secrets.token_hex(12)
        self.store.db.execute("INSERT INTO families VALUES (?,?,?,?,NULL)", (family, sub, client_id, auth_time))
        return family

    def access_token(
        self,
        family: str,
        sub: str,
        client_id: str,
        scope: list[str],
        *,
        aud: list[str] | None = None,
        until: int | None = None,
    ) -> tuple[str, int]:
        """A signed access token (RFC 9068) and its seconds to live; `until` (Unix seconds) bounds a narrowed token by
        the one it came from.
        """
        now = int(time.time())
        exp = min(now + self.config.lifetimes.access, until or 2**40)
        claims: dict[str, Any] = {
            "iss": self.url,
            "sub": sub,
            "aud": aud or client_id,
            "client_id": client_id,
            "scope": " ".join(scope),
        }
        claims |= {"iat": now, "exp": exp, "jti": secrets.token_hex(12)}
        token = self.key.sign(claims, typ="at+jwt")
        self.store.db.execute("INSERT INTO access_tokens VALUES (?,?,?,0)", (claims["jti"], family, exp))
        self.record(token)
        return token, exp - now

    def refresh_token(self, family: str, scope: list[str]) -> str:
        token = "rt-" + secrets.token_urlsafe(32)
        now = int(time.time())
        row = (sha256_hex(token.encode()), family, " ".join(scope), now, now + self.config.lifetimes.refresh)
        self.store.db.execute("INSERT INTO refresh_tokens VALUES (?,?,?,?,?,0)", row)
        self.record(token)
        return token

    def record(self, token: str) -> None:
        """For leak tests, where configured: what was issued, so that a search knows what to look for."""
        if self.config.record_issued is not None:
            self.config.record_issued.touch(mode=0o600)
            with self.config.record_issued.open("a") as out:
                out.write(token + "\n")

    def answer(
        self,
        family: str,
        sub: str,
        client: Client,
        scope: list[str],
        *,
        nonce: str = "",
        refresh: bool = True,
        auth_time: int = 0,
    ) -> dict[str, Any]:
        """The successful answer of RFC 6749 §5.1, with an ID token for `openid` and a refresh token for
        `offline_access`.
        """
        token, seconds = self.access_token(family, sub, client.id, scope)
        body: dict[str, Any] = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": seconds,
            "scope": " ".join(scope),
        }
        if refresh and "offline_access" in scope and "refresh_token" in client.grants:
            body |= {
                "refresh_token": self.refresh_token(family, scope),
                "refresh_expires_in": self.config.lifetimes.refresh,
            }
        if "openid" in scope:
            now = int(time.time())
            claims = {
                "iss": self.url,
                "sub": sub,
                "aud": client.id,
                "iat": now,
                "exp": now + seconds,
                "auth_time": auth_time or now,
            }
            body["id_token"] = self.key.sign(claims | ({"nonce": nonce} if nonce else {}))
        return body

    def refresh(self, client: Client, token: str, requested_scope: str) -> dict[str, Any]:
        """One redemption of a refresh token. invalid_grant where it is unknown, ended, revoked, another client's, or
        used before.
        """
        hashed = sha256_hex(token.encode())
        reused = False
        with self.store.transaction() as db:
            row = db.execute(
                "SELECT r.*, f.sub, f.client_id, f.revoked, f.auth_time FROM refresh_tokens r JOIN families f ON f.id ="
                " r.family WHERE hash=?",
                (hashed,),
            ).fetchone()
            if row is None or row["client_id"] != client.id or row["revoked"] or row["exp"] <= time.time():
                raise OAuthError(
                    "invalid_grant",
                    "The refresh token is unknown, ended, revoked or another client's; the user must consent anew.",
                )
            scope = scopes_within(requested_scope or row["scope"], row["scope"].split())
            if row["used"] and self.config.rotation == "strict":
                # Not raised here: the revocation must be committed.
                reused = True
                self.revoke_family(row["family"], "refresh token reused")
                self.store.count("reuse_detected")
            else:
                db.execute("UPDATE refresh_tokens SET used = 1 WHERE hash=?", (hashed,))
                body = self.answer(row["family"], row["sub"], client, scope, refresh=False, auth_time=row["auth_time"])
                if self.config.rotation == "strict":
                    # The new refresh token keeps the full scope: a narrower access token was asked for, not a narrower
                    # grant (RFC 6749 §6).
                    body |= {
                        "refresh_token": self.refresh_token(row["family"], row["scope"].split()),
                        "refresh_expires_in": self.config.lifetimes.refresh,
                    }
                else:
                    body["refresh_expires_in"] = max(0, row["exp"] - int(time.time()))
                self.store.count("refreshes", row["sub"])
        if reused:
            raise OAuthError(
                "invalid_grant",
                "The refresh token was used before; all tokens of this authorization are revoked, the user must consent"
                " anew.",
            )
        return body

    def exchange(self, client: Client, params: dict[str, str], audiences: list[str]) -> dict[str, Any]:
        """RFC 8693: an access token for a refresh token of the calling client, or for an access token narrowed to
        `audiences`.
        """
        if params.get("subject_token_type") != ACCESS:
            raise OAuthError("invalid_request", f"subject_token_type must be {ACCESS}.")
        if "actor_token" in params or "actor_token_type" in params:
            raise OAuthError("invalid_request", "Actor tokens are not supported; leave actor_token out.")
        token_type = params.get("requested_token_type", ACCESS)
        subject = self.read(params.get("subject_token", ""))
        if subject is None:
            raise OAuthError(
                "invalid_request",
                "The subject_token is not a valid access token of this issuer, or it ended or was revoked.",
            )
        if isinstance(subject.aud, list):
            # Otherwise a node that was given a narrowed token could widen it again.
            raise OAuthError(
                "invalid_request", "The subject_token is narrowed to an audience and cannot be exchanged again."
            )
        if token_type == REFRESH:
            return self._to_refresh(client, subject, params.get("scope", ""))
        if token_type != ACCESS:
            raise OAuthError("invalid_request", f"requested_token_type must be {ACCESS} or {REFRESH}.")
        if not audiences:
            raise OAuthError("invalid_request", "Name the audience to which the access token is to be narrowed.")
        for name in audiences:
            if "*" not in client.audiences and name not in client.audiences:
                raise OAuthError("invalid_target", f"The client {client.id} may not ask for the audience {name[:200]}.")
        scope = scopes_within(
            params.get("scope", "") or " ".join(s for s in subject.scope if s != "offline_access"), subject.scope
        )
        with self.store.transaction():
            token, seconds = self.access_token(
                subject.family, subject.sub, client.id, scope, aud=audiences, until=subject.exp
            )
            self.store.count("exchanges", "access_token")
        return {
            "access_token": token,
            "issued_token_type": ACCESS,
            "token_type": "Bearer",
            "expires_in": seconds,
            "scope": " ".join(scope),
        }

    def _to_refresh(self, client: Client, subject: AccessClaims, requested_scope: str) -> dict[str, Any]:
        if "refresh_token" not in client.grants:
            raise OAuthError("unauthorized_client", f"The client {client.id} is not registered for refresh_token.")
        scope = scopes_within(requested_scope or " ".join(subject.scope), [*subject.scope, "offline_access"])
        if "offline_access" not in scope:
            scope.append("offline_access")
        scopes_within(" ".join(scope), client.scopes)
        with self.store.transaction():
            family = self.new_family(subject.sub, client.id, subject.iat)
            token = self.refresh_token(family, scope)
            seconds = self.config.lifetimes.refresh
            self.store.count("exchanges", "refresh_token")
            if self.config.exchange_answer == "keycloak":
                access, access_seconds = self.access_token(family, subject.sub, client.id, scope)
                body = {
                    "access_token": access,
                    "token_type": "Bearer",
                    "expires_in": access_seconds,
                    "refresh_token": token,
                    "refresh_expires_in": seconds,
                }
            else:
                # RFC 8693 §2.2.1: the issued token is in `access_token` whatever its type; N_A as it is no access
                # token.
                body = {
                    "access_token": token,
                    "token_type": "N_A",
                    "expires_in": seconds,
                    "refresh_expires_in": seconds,
                }
        return body | {"issued_token_type": REFRESH, "scope": " ".join(scope)}

    def read(self, token: str) -> AccessClaims | None:
        """The access token if it is ours, unexpired and not revoked."""
        if not 0 < len(token) <= 8192:
            return None
        try:
            options = {"require": ["exp", "iat", "sub", "jti", "client_id", "scope"], "verify_aud": False}
            claims = jwt.decode(
                token,
                self.key.private.public_key(),
                algorithms=["RS256"],
                issuer=self.url,
                options=options,  # type: ignore[arg-type]
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        query = (
            "SELECT a.family FROM access_tokens a JOIN families f ON f.id = a.family WHERE a.jti=? AND a.revoked=0 AND"
            " f.revoked IS NULL"
        )
        row = self.store.db.execute(query, (str(claims["jti"]),)).fetchone()
        if row is None:
            return None
        scope = str(claims["scope"]).split()
        return AccessClaims(
            claims["sub"],
            claims["client_id"],
            scope,
            claims["aud"],
            claims["iat"],
            claims["exp"],
            claims["jti"],
            row["family"],
        )

    def introspect(self, client: Client, token: str) -> dict[str, Any]:
        """RFC 7662 §2.2; anything not good is `{"active": false}` and nothing more. A refresh token is active to its
        own client only.
        """
        found = self.read(token)
        if found is not None:
            body = {
                "active": True,
                "iss": self.url,
                "sub": found.sub,
                "client_id": found.client_id,
                "scope": " ".join(found.scope),
            }
            return body | {
                "aud": found.aud,
                "exp": found.exp,
                "iat": found.iat,
                "jti": found.jti,
                "token_type": "Bearer",
            }
        query = (
            "SELECT r.*, f.sub, f.client_id, f.revoked FROM refresh_tokens r JOIN families f ON f.id = r.family WHERE"
            " hash=?"
        )
        row = self.store.db.execute(query, (sha256_hex(token.encode()),)).fetchone()
        used = row is not None and row["used"] and self.config.rotation == "strict"
        if row is None or row["client_id"] != client.id or used or row["revoked"] or row["exp"] <= time.time():
            return {"active": False}
        if not self.config.introspects_refresh_tokens:
            return {"active": False}
        return {
            "active": True,
            "iss": self.url,
            "sub": row["sub"],
            "client_id": row["client_id"],
            "scope": row["scope"],
            "exp": row["exp"],
            "iat": row["iat"],
        }

    def revoke(self, client: Client, token: str) -> None:
        """RFC 7009: a refresh token takes its family along; an access token goes alone. Unknown and other clients'
        tokens change nothing.
        """
        query = "SELECT r.family, f.client_id FROM refresh_tokens r JOIN families f ON f.id = r.family WHERE hash=?"
        row = self.store.db.execute(query, (sha256_hex(token.encode()),)).fetchone()
        if row is not None and row["client_id"] == client.id:
            self.revoke_family(row["family"], "revoked by the client")
            self.store.count("revocations")
            return
        access = self.read(token)
        if access is not None and access.client_id == client.id:
            self.store.db.execute("UPDATE access_tokens SET revoked = 1 WHERE jti=?", (access.jti,))
            self.store.count("revocations")

    def revoke_family(self, family: str, reason: str) -> None:
        self.store.db.execute("UPDATE families SET revoked=? WHERE id=? AND revoked IS NULL", (reason, family))
