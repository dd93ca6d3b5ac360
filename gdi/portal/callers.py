"""Who calls: the bearer of an LS AAI access token, as the broker knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gdi.contracts.portal_api import TokenOwner
from gdi.kit.problem import ProblemError
from gdi.portal.broker import MAX_TOKEN
from gdi.portal.door import Door

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="lsAai",
    description="An LS AAI access token of a client that the broker has enrolled.",
)


@dataclass(frozen=True)
class Visitor:
    """The caller, and the token that is passed on to the broker. Never logged: its repr has no token."""

    caller: TokenOwner
    token: str

    def __repr__(self) -> str:
        return f"Visitor({self.caller.sub!r})"


def the_door(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


async def visitor(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None,
) -> Visitor:
    """ProblemError 401 `unauthenticated`, 429, or 503 where the broker cannot be asked."""
    door = the_door(request)
    token = credentials.credentials.strip() if credentials else ""
    if not token or len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable():
        raise ProblemError(
            401,
            "unauthenticated",
            "This call needs your LS AAI access token.",
            action="Sign in and send Authorization: Bearer <access token>.",
        )
    caller = await door.broker.caller(token)
    door.limits.request(caller.sub)
    return Visitor(caller, token)


D = Annotated[Door, Depends(the_door)]
V = Annotated[Visitor, Depends(visitor)]
