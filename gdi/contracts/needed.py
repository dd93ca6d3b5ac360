"""Which nodes of a run must answer: all of them, so many, or these. The others may fail, refuse or be late."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from gdi.contracts.ids import NodeId
from gdi.kit.models import Strict

PARAMETER = "nodes"  # of a run's conf


class AtLeast(Strict):
    """So many nodes. `within`: seconds from the attempt's beginning for which the others are waited for; without it,
    until each has ended or its time is over.
    """

    at_least: int = Field(ge=1, le=10_000)
    within: float | None = Field(default=None, ge=1, le=59 * 86_400)


Needed = (
    Annotated[str, Field(pattern="^all$")] | AtLeast | Annotated[list[NodeId], Field(min_length=1, max_length=1000)]
)
_NEEDED: TypeAdapter[Needed] = TypeAdapter(Needed)


def read(value: JsonValue) -> Needed:
    """What a conf says; `all` where it says nothing. ValueError in words for any other value."""
    try:
        return _NEEDED.validate_python("all" if value is None else value)
    except ValidationError:
        raise ValueError('nodes: must be "all", {"at_least": k, "within": seconds} or a list of node ids') from None


def waited_until(needed: Needed, opened_at: float) -> float | None:
    """When the run goes on without those that are late, in seconds since the epoch; None: never before their end."""
    if not isinstance(needed, AtLeast) or needed.within is None:
        return None
    return opened_at + needed.within


def wrong(needed: Needed, planned: Collection[str]) -> str:
    """Why this plan can never have the nodes that must answer; empty where it can."""
    if isinstance(needed, AtLeast) and needed.at_least > len(planned):
        return f"{needed.at_least} nodes must answer, and the datasets lie at {len(planned)}"
    if isinstance(needed, list) and (strange := sorted(set(needed) - set(planned))):
        return f"{strange[0]} must answer, and holds none of the datasets"
    return ""


def possible(needed: Needed, planned: Collection[str], lost: Collection[str]) -> bool:
    """Whether the nodes that must answer may still all do so, where `lost` will not."""
    left = set(planned) - set(lost)
    if isinstance(needed, AtLeast):
        return len(left) >= needed.at_least
    return set(needed if isinstance(needed, list) else planned) <= left
