"""Telling people of their runs and consents: what may be told, by which ways, and the body of a webhook."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from gdi.contracts.ids import RunId, WorkflowName
from gdi.kit.models import Strict

NoticeKind = Literal[
    "run-succeeded", "run-failed", "run-waits", "start-refused", "consent-ends", "consent-ended", "schedule-stopped"
]
NOTICE_KINDS: tuple[NoticeKind, ...] = get_args(NoticeKind)
WebhookUrl = Annotated[str, Field(pattern=r"^https?://[^\s#@]+$", max_length=500)]


class NoticeChoice(Strict):
    """`PUT /v1/me/notices`: of which a person wants to be told (`kinds`; none: nothing is sent), by e-mail to the
    address that the identity provider knows, and to a webhook of theirs. Nothing is told of before the choice.
    """

    kinds: list[NoticeKind] = Field(default_factory=list, max_length=len(NOTICE_KINDS))
    email: bool = False
    webhook: WebhookUrl | None = None


class NoticeSettings(BaseModel):
    """`GET /v1/me/notices`, and the answer of a choice. `address`: where mail goes, empty where the provider tells
    none. `can_mail`: whether this broker sends mail at all. `secret` (`whsec_…`) only in the answer that made the
    webhook: it is not told again. `problem`: why the last notice could not be delivered.
    """

    model_config = ConfigDict(extra="ignore")
    choice: NoticeChoice
    address: str = ""
    can_mail: bool = False
    secret: str | None = None
    problem: str = ""


class NoticeBody(Strict):
    """What a webhook gets (standard-webhooks 1.0: `type`, `timestamp` in ISO 8601, `data`). Nothing of the data, no
    dataset and no number of a result is in it.
    """

    class Subject(Strict):
        """`run`, where it is about one; `url`: the portal's page of it, empty where the broker knows no portal."""

        run: RunId | None = None
        workflow: WorkflowName | None = None
        sentence: str
        url: str = ""

    type: NoticeKind
    timestamp: str
    data: Subject
