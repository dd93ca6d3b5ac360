"""REMS: entitlements and the visas made of them, signed by its own key with `jku`; and a rogue issuer whose visas
nobody may believe.

`GET /rems/api/permissions/{user}` and `/rems/api/jwk` answer as REMS does; `…/entitlements` is the stand-in's operator
API.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from gdi.local_federation.aai.config import AaiConfig, Entitlement
from gdi.local_federation.aai.keys import RsaKey
from gdi.local_federation.aai.oauth import same
from gdi.local_federation.aai.store import AaiStore

MAX_ENTITLEMENTS = 100_000
MAX_VISAS = 1000


@dataclass
class Rems:
    config: AaiConfig
    store: AaiStore
    key: RsaKey
    rogue_key: RsaKey
    base: str  # http://HOST:PORT

    @property
    def issuer(self) -> str:
        """REMS's public URL ends with a slash: `jku` is `{issuer}api/jwk`."""
        return f"{self.base}/rems/"

    @property
    def rogue(self) -> str:
        return f"{self.base}/rogue/"

    def seed(self) -> None:
        """The configured entitlements, once in the life of the state file: what was withdrawn stays withdrawn after a
        restart.
        """
        with self.store.transaction() as db:
            if db.execute("SELECT 1 FROM seeded WHERE what='entitlements'").fetchone() is None:
                for entitlement in self.config.entitlements:
                    self.grant(entitlement)
                db.execute("INSERT INTO seeded VALUES ('entitlements')")

    def grant(self, entitlement: Entitlement) -> int:
        """Adds it, in place of one for the same user, dataset and variant. Its id."""
        sub = self.config.sub_of(entitlement.user)
        for row in self.store.db.execute(
            "SELECT id, body FROM entitlements WHERE sub=? AND dataset=?", (sub, entitlement.dataset)
        ).fetchall():
            if json.loads(row["body"])["variant"] == entitlement.variant:
                self.store.db.execute("DELETE FROM entitlements WHERE id=?", (row["id"],))
        body = entitlement.model_dump_json()
        values = (sub, entitlement.dataset, body, int(time.time()))
        cursor = self.store.db.execute("INSERT INTO entitlements (sub, dataset, body, start) VALUES (?,?,?,?)", values)
        return int(cursor.lastrowid or 0)

    def withdraw(self, user: str, dataset: str) -> int:
        """Removes every entitlement of this user to this dataset. How many there were."""
        return self.store.db.execute(
            "DELETE FROM entitlements WHERE sub=? AND dataset=?", (self.config.sub_of(user), dataset)
        ).rowcount

    def listing(self, user: str | None = None) -> list[dict[str, Any]]:
        query, values = (
            ("SELECT * FROM entitlements WHERE sub=? ORDER BY id", (self.config.sub_of(user),))
            if user
            else ("SELECT * FROM entitlements ORDER BY id", ())
        )
        return [
            {"id": r["id"], **json.loads(r["body"]), "user": r["sub"], "start": r["start"]}
            for r in self.store.db.execute(query, values)
        ]

    def visas(self, sub: str, *, expired: bool = False) -> list[str]:
        """The user's visas as JWTs; those whose end has passed only where `expired` (or where the variant is about
        that).
        """
        rows = self.store.db.execute(
            "SELECT body, start FROM entitlements WHERE sub=? ORDER BY id LIMIT ?", (sub, MAX_VISAS)
        ).fetchall()
        made = (self._visa(sub, Entitlement.model_validate_json(r["body"]), r["start"], expired) for r in rows)
        return [v for v in made if v is not None]

    def _visa(self, sub: str, given: Entitlement, start: int, expired: bool) -> str | None:
        now = int(time.time())
        if given.variant == "not-a-jwt":
            return "this.is.not-a-visa"
        end = start + (given.expires_in if given.expires_in is not None else self.config.lifetimes.visa)
        if given.variant == "expired":
            end = now - 3600
        elif end <= now and not expired:
            return None
        rogue_issuer = given.variant == "untrusted-issuer"
        rogue_jku = given.variant in ("untrusted-issuer", "untrusted-jku")
        issuer = self.rogue if rogue_issuer else self.issuer
        jku = f"{self.rogue if rogue_jku else self.issuer}api/jwk"
        visa: dict[str, Any] = {"type": given.type, "value": given.dataset, "source": given.source or issuer}
        visa["asserted"] = given.asserted if given.asserted is not None else start
        if given.by is not None:
            visa["by"] = given.by
        if given.conditions is not None:
            visa["conditions"] = given.conditions
        claims = {"iss": issuer, "sub": sub, "iat": min(now, end - 1), "exp": end, "ga4gh_visa_v1": visa}
        if given.variant == "bad-signature":
            # Names the real key and signs with another: only checking the signature finds out.
            return self.rogue_key.sign(claims, headers={"jku": jku, "kid": self.key.kid})
        return (self.rogue_key if rogue_jku else self.key).sign(claims, headers={"jku": jku})


def routes(rems: Rems) -> APIRouter:
    router = APIRouter()

    def refusal(request: Request, *, about: str | None = None) -> Response | None:
        """REMS's own answers: 401 without the key, 403 for a user who may not see this. The operator is
        `x-rems-user-id: owner`.
        """
        key, user = request.headers.get("x-rems-api-key", ""), request.headers.get("x-rems-user-id", "")
        if not same(key, rems.config.rems_api_key.get_secret_value()) or not user:
            return PlainTextResponse("unauthorized", 401)
        if user != "owner" and user != about:
            return PlainTextResponse("forbidden", 403)
        return None

    @router.get("/rems/api/jwk")
    async def jwk() -> dict[str, Any]:
        return {"keys": [rems.key.jwk()]}

    @router.get("/rogue/api/jwk")
    async def rogue_jwk() -> dict[str, Any]:
        # Counted: whoever fetches keys from here followed a `jku` before trusting it.
        rems.store.count("rogue_jwk_fetches")
        return {"keys": [rems.rogue_key.jwk()]}

    @router.get("/rems/api/permissions/{user}")
    async def permissions(request: Request, user: str, expired: bool = False) -> Response:
        return refusal(request, about=user) or JSONResponse({"ga4gh_passport_v1": rems.visas(user, expired=expired)})

    @router.get("/rems/api/entitlements")
    async def listing(request: Request, user: Annotated[str | None, Query(max_length=255)] = None) -> Response:
        return refusal(request, about=user) or JSONResponse(rems.listing(user))

    @router.post("/rems/api/entitlements")
    async def grant(request: Request, entitlement: Entitlement) -> Response:
        refused = refusal(request)
        if refused is not None:
            return refused
        if rems.store.db.execute("SELECT count(*) FROM entitlements").fetchone()[0] >= MAX_ENTITLEMENTS:
            return PlainTextResponse("too many entitlements; withdraw some first", 409)
        with rems.store.transaction():
            number = rems.grant(entitlement)
        return JSONResponse({"success": True, "id": number}, 201)

    @router.delete("/rems/api/entitlements")
    async def withdraw(
        request: Request,
        body: Annotated[dict[str, str] | None, Body()] = None,
        user: Annotated[str, Query(max_length=255)] = "",
        dataset: Annotated[str, Query(max_length=255)] = "",
    ) -> Response:
        refused = refusal(request)
        if refused is not None:
            return refused
        who, what = (body or {}).get("user", user), (body or {}).get("dataset", dataset)
        if not who or not what:
            return PlainTextResponse("name user and dataset, in the body (JSON) or the query", 400)
        return JSONResponse({"success": True, "removed": rems.withdraw(who, what)})

    return router
