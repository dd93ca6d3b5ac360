"""Which workflows a node runs by itself, for whom: the part of its policy for placement `node`."""

from __future__ import annotations

import datetime
import time
from typing import Annotated, Any, Literal

import jwt
from pydantic import AfterValidator, Field, model_validator

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


def _public(value: dict[str, Any]) -> dict[str, Any]:
    if "d" in value:
        raise ValueError("holds a private key: give the public part only")
    try:
        jwt.PyJWK(value, algorithm="ES256")
    except (jwt.PyJWTError, ValueError, TypeError):
        raise ValueError("is not a public JWK of P-256") from None
    return value


PublicKey = Annotated[dict[str, Any], AfterValidator(_public)]


class ReviewersKey(Frozen):
    """A key and until when it counts; a day counts to its end, UTC."""

    key: PublicKey
    not_after: datetime.datetime | datetime.date | None = None
    revoked: bool = False

    @property
    def counts(self) -> bool:
        return not self.revoked and (self.not_after is None or time.time() < _end(self.not_after))


class Approver(ReviewersKey):
    """A reviewer whose signatures count: `key` is the public JWK, `may` the workflows (`*`: all). `other_keys`: the
    same person's, of before or after a change of keys; of one person only one signature counts.
    """

    id: Label
    may: list[Annotated[str, Field(max_length=63)]] = Field(default_factory=list, max_length=1000)
    other_keys: list[ReviewersKey] = Field(default_factory=list, max_length=10)

    def keys_for(self, workflow: str) -> list[dict[str, Any]]:
        """The keys with which this reviewer's signature on this workflow counts now."""
        if not {workflow, "*"} & set(self.may):
            return []
        return [one.key for one in (self, *self.other_keys) if one.counts]


Name = Annotated[str, Field(min_length=1, max_length=255)]


class Veto(Frozen):
    """Who is not served, whatever the centre approved: `users` by `sub`; `organisations` by the domain of an
    AffiliationAndRole visa, or of the user's `sub`; `projects` by the value of a visa of one of the types in
    `project_visas` (GA4GH Passport 1.2, custom visa types).
    """

    users: list[Name] = Field(default_factory=list, max_length=10_000)
    organisations: list[Name] = Field(default_factory=list, max_length=10_000)
    projects: list[Name] = Field(default_factory=list, max_length=10_000)
    project_visas: list[Name] = Field(default_factory=list, max_length=20)

    @model_validator(mode="after")
    def _told_by_visas(self) -> Veto:
        if self.projects and not self.project_visas:
            raise ValueError("projects: say in project_visas which type of visa names a user's project")
        return self


def _end(value: datetime.datetime | datetime.date) -> float:
    if not isinstance(value, datetime.datetime):  # a day: its end, UTC
        value = datetime.datetime.combine(value, datetime.time.max)
    return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()
