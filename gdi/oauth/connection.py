"""One provider, as one of its clients reaches it: what the modules of the standards call with."""

from __future__ import annotations

import logging

import httpx

from gdi.kit.jose import RemoteKeys
from gdi.oauth.authlib_client import AuthlibClient
from gdi.oauth.client_auth import ClientAuthentication
from gdi.oauth.errors import OAuthUnavailable
from gdi.oauth.rfc8414 import ProviderMetadata
from gdi.oauth.session import JudgedSession

log = logging.getLogger(__name__)


class ProviderConnection:
    """`http` is shared by all calls. `timeout` (seconds) bounds each; `access_lifetime` (seconds) is assumed of an
    access token whose lifetime the provider does not tell.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        issuer: str,
        client_id: str,
        authentication: ClientAuthentication,
        *,
        timeout: float = 10,
        access_lifetime: float = 300,
    ) -> None:
        self.http, self.issuer, self.client_id = http, issuer, client_id
        self.access_lifetime = access_lifetime
        self._authentication, self._timeout = authentication, timeout
        self._metadata = ProviderMetadata(self.session("discovery"), issuer)
        self._keys: RemoteKeys | None = None

    def session(self, what: str, *, body_matters: bool = True) -> JudgedSession:
        """A session for one call that errors name `what`."""
        return JudgedSession(self.http, what, timeout=self._timeout, body_matters=body_matters)

    async def endpoint(self, name: str) -> str:
        """An endpoint from the provider's metadata. OAuthUnavailable."""
        return await self._metadata.url(name)

    async def promises_iss(self) -> bool:
        """Whether each authorization response carries `iss` (RFC 9207 §3). OAuthUnavailable."""
        return await self._metadata.promises_iss()

    async def own_issuer(self) -> str:
        """`issuer` to the letter, as the provider's tokens name it. OAuthUnavailable."""
        return await self._metadata.issuer()

    async def authlib(self, what: str, *, body_matters: bool = True) -> AuthlibClient:
        """A new Authlib client, authenticated, for one call. OAuthUnavailable where our own secret cannot be read."""
        token_endpoint = await self.endpoint("token_endpoint")
        session = self.session(what, body_matters=body_matters)
        try:
            credentials = self._authentication.prepare(token_endpoint)
        except Exception as error:  # whatever `prepare` raises: nothing was sent, so no grant may suffer
            log.error("the credentials of OAuth client %s cannot be used: %s", self.client_id, error)
            why = f"the client's own credentials cannot be used ({type(error).__name__})"
            raise OAuthUnavailable(what, why, sent=False) from None
        return AuthlibClient(session, self.client_id, self._authentication.method, credentials)

    async def keys(self) -> RemoteKeys:
        """The keys that sign ID tokens (`jwks_uri`)."""
        url = await self.endpoint("jwks_uri")
        if self._keys is None or self._keys.url != url:
            self._keys = RemoteKeys(url, self.http)
        return self._keys
