"""Which workflows a node runs by itself, for whom: the part of its policy for placement `node`."""

from __future__ import annotations

import datetime
import time
from typing import Annotated, Any, Literal

import jwt
from pydantic import Field, field_validator

from gdi.contracts.ids import Digest, Label, WorkflowAt, WorkflowName
from gdi.kit.models import Frozen


class ApprovedVersion(Frozen):
    """This version of this workflow: the operator read it."""

    name: WorkflowName
    digest: Digest


class ApprovedBy(Frozen):
    """What this reviewer's key signed (`approvers`)."""

    approved_by: Label


WorkflowEntry = ApprovedVersion | ApprovedBy | Literal["*"] | WorkflowAt


class Approver(Frozen):
    """A reviewer whose signatures count: `key` is the public JWK, `may` the workflows (`*`: all)."""

    id: Label
    key: dict[str, Any]
    may: list[Annotated[str, Field(max_length=63)]] = Field(default_factory=list, max_length=1000)
    not_after: datetime.datetime | datetime.date | None = None
    revoked: bool = False

    @field_validator("key")
    @classmethod
    def _public(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "d" in value:
            raise ValueError("holds a private key: give the public part only")
        try:
            jwt.PyJWK(value, algorithm="ES256")
        except (jwt.PyJWTError, ValueError, TypeError):
            raise ValueError("is not a public JWK of P-256") from None
        return value

    def counts_for(self, workflow: str) -> bool:
        """Whether this reviewer's signature on this workflow counts now."""
        if self.revoked or not {workflow, "*"} & set(self.may):
            return False
        return self.not_after is None or time.time() < _end(self.not_after)


class Veto(Frozen):
    """Who is not served, whatever the centre approved: `users` by `sub`; `organisations` by the domain of an
    AffiliationAndRole visa, or of the user's `sub`.
    """

    users: list[Annotated[str, Field(max_length=255)]] = Field(default_factory=list, max_length=10_000)
    organisations: list[Annotated[str, Field(max_length=255)]] = Field(default_factory=list, max_length=10_000)


def _end(value: datetime.datetime | datetime.date) -> float:
    if not isinstance(value, datetime.datetime):  # a day: its end, UTC
        value = datetime.datetime.combine(value, datetime.time.max)
    return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()
