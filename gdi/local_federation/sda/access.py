"""Who may read what: the caller's token by the issuer's keys, then the visas from userinfo with that token, anew at
each request.

A visa counts if its {iss, jku} is a configured pair, its signature and `exp` hold, it is the caller's own, of type
ControlledAccessGrants, without conditions. Nothing is remembered between requests but public keys, and no cookie is
taken or given: access that is withdrawn ends with the next request.
"""

from __future__ import annotations

import json
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
import jwt

from gdi.kit import bounded_read
from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.jose import RemoteKeys, TokenError
from gdi.kit.tls import authorities
from gdi.local_federation.sda.config import SdaConfig

MAX_USERINFO = 4 * 1024 * 1024
MAX_VISAS = 2000
MAX_TOKEN = 16 * 1024


class DownloadDenied(Exception):
    """SDA's own plain-text refusal."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class AccessCheck:
    def __init__(self, config: SdaConfig) -> None:
        self.config = config
        jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self.client = BoundedAsyncClient(
            timeout=httpx.Timeout(15, connect=5),
            follow_redirects=False,
            trust_env=False,
            cookies=jar,
            verify=authorities(),
        )
        self._endpoints: dict[str, Any] = {}
        self._issuer_keys: RemoteKeys | None = None
        # One set of keys per trusted pair, made here: a jku that is not among them is never fetched.
        self._visa_keys = {(v.iss, v.jku): RemoteKeys(v.jku, self.client) for v in config.visa_issuers}

    async def aclose(self) -> None:
        await self.client.aclose()

    async def datasets(self, headers: Any) -> set[str]:  # headers: starlette's, case-insensitive
        """The ids for which the caller has a good visa. Denied 400 or 401 where the token is not good."""
        token = _token(headers)
        sub = await self._verified_sub(token)
        passport = await self._passport(token, sub)
        values = [await self._value(visa, sub) for visa in passport]
        return {v for v in values if v is not None}

    async def _discovered(self) -> dict[str, Any]:
        if not self._endpoints:
            try:
                answer = await self.client.get(self.config.issuer.rstrip("/") + "/.well-known/openid-configuration")
                answer.raise_for_status()
                found = answer.json()
                if found["issuer"] != self.config.issuer:
                    raise ValueError("another issuer")
                self._issuer_keys = RemoteKeys(str(found["jwks_uri"]), self.client)
                self._endpoints = {"userinfo": str(found["userinfo_endpoint"])}
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                raise DownloadDenied(401, "get visas failed") from None
        return self._endpoints

    async def _verified_sub(self, token: str) -> str:
        await self._discovered()
        assert self._issuer_keys is not None
        try:
            claims = await self._issuer_keys.verify(token, issuer=self.config.issuer, audience=self.config.audience)
        except TokenError:
            raise DownloadDenied(401, "unauthorised") from None
        if not isinstance(claims.get("sub"), str):
            raise DownloadDenied(401, "unauthorised")
        return str(claims["sub"])

    async def _passport(self, token: str, sub: str) -> list[str]:
        url = (await self._discovered())["userinfo"]
        try:
            async with self.client.stream("GET", url, headers={"Authorization": f"Bearer {token}"}) as answer:
                if answer.status_code != 200:
                    raise DownloadDenied(401, "get visas failed")
                body = await bounded_read.aread(answer, MAX_USERINFO)
            info = json.loads(body)
            # OpenID Connect Core §5.3.2: userinfo of another sub must not be used.
            if info["sub"] != sub:
                raise ValueError("another sub")
            visas = info.get("ga4gh_passport_v1", [])
            return [v for v in visas if isinstance(v, str)][:MAX_VISAS]
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
            raise DownloadDenied(401, "get visas failed") from None

    async def _value(self, visa: str, sub: str) -> str | None:
        """The dataset that this visa opens, or None."""
        try:
            header = jwt.get_unverified_header(visa)
            claimed = jwt.decode(visa, options={"verify_signature": False})
            keys = self._visa_keys.get((str(claimed.get("iss")), str(header.get("jku"))))
            if keys is None:
                return None
            claims = await keys.verify(visa, issuer=str(claimed["iss"]), audience=None)
        except (jwt.PyJWTError, TokenError, ValueError, KeyError):
            return None
        body = claims.get("ga4gh_visa_v1")
        if (
            not isinstance(body, dict)
            or claims.get("sub") != sub
            or body.get("type") != "ControlledAccessGrants"
            or "conditions" in body
        ):
            return None
        value = body.get("value")
        return value if isinstance(value, str) else None


def _token(headers: Any) -> str:
    """From `X-Amz-Security-Token`, else `Authorization: Bearer`."""
    token = headers.get("x-amz-security-token", "")
    if not token:
        header = headers.get("authorization", "")
        if not header:
            raise DownloadDenied(401, "access token must be provided")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise DownloadDenied(400, "authorization scheme must be bearer")
        if not token.strip():
            raise DownloadDenied(400, "token string is missing from authorization header")
    token = str(token).strip()
    if len(token) > MAX_TOKEN:
        raise DownloadDenied(401, "unauthorised")
    return token
