"""How a person is told of their runs and consents: chosen here, by mail or a webhook."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import ValidationError

from gdi.contracts.notices import NOTICE_KINDS, NoticeChoice
from gdi.kit.problem import ProblemError
from gdi.portal.pages.visits import P, PageRoute

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/notices")
async def notices(p: P) -> Response:
    found = await p.door.broker.notices(p.who.token)
    return p.page("notices.html", section="consents", settings=found, kinds=NOTICE_KINDS, saved=False)


@router.post("/notices")
async def choose(p: P) -> Response:
    """The page again, with the new webhook's secret, which is told this once."""
    wanted = {
        "kinds": p.form.get("kinds", [])[: len(NOTICE_KINDS)],
        "email": p.first("email") == "yes",
        "webhook": p.first("webhook") or None,
    }
    try:
        choice = NoticeChoice.model_validate(wanted)
    except ValidationError:
        raise ProblemError(422, "bad-notice", p.texts("notices.wrong"), action=p.texts("problem.back")) from None
    found = await p.door.broker.choose_notices(p.who.token, choice)
    return p.page("notices.html", section="consents", settings=found, kinds=NOTICE_KINDS, saved=True)
