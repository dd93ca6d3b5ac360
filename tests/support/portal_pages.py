"""The portal's pages in memory: browsers that are signed in without a provider."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
from fastapi import Response

from gdi.kit.secret_files import write_private
from gdi.portal.db.sessions import SessionStore, SessionTokens
from gdi.portal.pages.sign_in import PortalSignIn
from tests.support.portal_world import TOKENS, PortalWorld

URL = "http://127.0.0.1:8081"
CSRF = "the-form-token-of-this-session"


def with_pages(folder: Path) -> dict[str, Any]:
    """Settings for `portal_world`, by which it has pages."""
    return {"oidc_client_id": "portal", "oidc_client_secret_file": write_private(folder / "client", "s" * 40)}


class PageVisitor:
    """One person's browser: cookies, and forms that are sent as the page has them."""

    def __init__(self, world: PortalWorld, token: str | None, language: str = "en") -> None:
        transport = httpx.ASGITransport(app=world.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url=URL, headers={"Accept-Language": language})
        self.world, self.token = world, token

    async def sign_in(self, secret: str, *, until: float = 3600, refresh: str = "r") -> PageVisitor:
        """A session whose token is good for so many seconds; `secret`: the cookie's."""
        sign_in = self.world.door.sign_in
        assert isinstance(sign_in, PortalSignIn) and self.token is not None
        now, user = time.time(), TOKENS[self.token]
        tokens = SessionTokens(self.token, refresh, now + until, now + until - 5)
        await SessionStore(self.world.door.store).put(secret, user, tokens, now + 3600)
        made = Response()
        sign_in.open(made, {"sub": user, "sid": secret, "csrf": CSRF})
        for header in made.headers.getlist("set-cookie"):
            name, _, rest = header.partition("=")
            if name == "gdi_portal":
                self.http.cookies.set(name, rest.partition(";")[0].strip('"'))
        return self

    async def get(self, path: str, status: int = 200) -> str:
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text[:3000]
        return answer.text

    async def post(self, path: str, status: int = 303, csrf: str = CSRF, **form: Any) -> httpx.Response:
        answer = await self.http.post(path, data={"csrf": csrf, **form})
        assert answer.status_code == status, answer.text[:3000]
        return answer


def hidden(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return found[1]
