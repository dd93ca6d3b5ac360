"""Times as the Kubernetes API writes them (RFC 3339), and as seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def epoch(value: object) -> float | None:
    """Seconds since the epoch; None where there is no time, or none that can be read."""
    try:
        return datetime.fromisoformat(str(value)).timestamp() if value else None
    except ValueError:
        return None


def stamp_of(seconds: float) -> str:
    """`2026-01-01T00:00:00Z` for seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
