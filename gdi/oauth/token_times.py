"""The times in a token answer (RFC 6749 §5.1 `expires_in`): whatever stands there, no token is lost by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

LONGEST_ACCESS = 86400.0  # seconds; whoever says more is asked again after a day
LONGEST_REFRESH = 10 * 365 * 86400.0


def seconds(value: object, longest: float) -> float | None:
    """A lifetime, at most `longest`. None where the provider tells none: absent, no number, not above zero, endless."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return min(found, longest) if math.isfinite(found) and found > 0 else None


def with_safe_times(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A token answer whose times Authlib can read: `expires_in` a whole number of seconds, or absent."""
    safe = {key: value for key, value in fields.items() if key not in ("expires_in", "expires_at")}
    lifetime = seconds(fields.get("expires_in"), LONGEST_ACCESS)
    return safe if lifetime is None else {**safe, "expires_in": max(1, int(lifetime))}
