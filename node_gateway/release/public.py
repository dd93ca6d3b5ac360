"""How much a node withheld, as the centre is told."""

from __future__ import annotations

from collections.abc import Mapping

from gdi.releases.kind import Kind

TOLD_FROM, TOLD_TO = 10_000, 1_000  # units: from how many on, and how closely


def rounded(count: int) -> int:
    """A number of units as closely as the centre is told it."""
    return round(count / TOLD_TO) * TOLD_TO


def public_withheld(kind: Kind, withheld: Mapping[str, int], units: int) -> dict[str, int] | None:
    """How much was withheld for each reason, as the centre is told: rounded, and None of fewer than TOLD_FROM units. Of
    a short list the count would say which.
    """
    if units < TOLD_FROM:
        return None
    central = {why: rounded(count) for why, count in sorted(withheld.items()) if why in kind.central}
    return {why: count for why, count in central.items() if count}
