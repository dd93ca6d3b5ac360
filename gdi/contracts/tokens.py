"""The broker's API on tokens. Durations are seconds; times are seconds since the epoch (UTC)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gdi.contracts.run_token import AirflowsScope
from gdi.kit.models import Strict


class TokenRequest(Strict):
    """`POST /v1/runs/{id}/tokens`. `audience` is a gateway's, from the plan. The answer lives at least `min_ttl`
    seconds or is an error that says why. `scope`: the one thing that Airflow wants to do with it; for a pod, none.
    """

    audience: Annotated[str, Field(max_length=300)]
    min_ttl: float = Field(default=60, ge=0, le=3600)
    scope: AirflowsScope | None = None


class NodeTokenRequest(Strict):
    """`POST /v1/runs/{id}/node-tokens` by an enrolled gateway: the user's access token for that node's `sda` or
    `tes`.
    """

    audience: Literal["sda", "tes"]
    min_ttl: float = Field(default=5, ge=0, le=3600)


class Token(Strict):
    """`token_type` is always `Bearer`; `expires_at` in epoch seconds."""

    token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_at: float
