"""Errors as `application/problem+json` (RFC 9457): a stable `type`, what happened, to what, and what to do next."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:gdi:problem:"


class Problem(BaseModel):
    """The body of every error of the broker and the gateway. `type` is `urn:gdi:problem:<slug>`; extensions (dataset,
    node, reason …) are allowed.
    """

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str
    action: str = ""

    @property
    def slug(self) -> str:
        return self.type.removeprefix(TYPE_PREFIX)


class ProblemError(Exception):
    """Raised anywhere in a server; answered as problem+json. `slug` is stable and part of the API; no secret may be put
    into any field.
    """

    def __init__(
        self, status: int, slug: str, detail: str, *, action: str = "", title: str | None = None, **extensions: Any
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            type=TYPE_PREFIX + slug,
            title=title or slug.replace("-", " ").capitalize(),
            status=status,
            detail=detail,
            action=action,
            **extensions,
        )

    @property
    def slug(self) -> str:
        return self.problem.slug

    def __str__(self) -> str:
        return f"{self.problem.detail} {self.problem.action}".strip()
