"""What the centre is told of a release that is none, and of how much a node withheld."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gdi.kit.problem import ProblemError
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


def without_row(why: str) -> str:
    """What is wrong with a file, without the place and the values: those the workflow could choose. The node's audit
    has them.
    """
    return re.sub(r"\b(row|line|site|table|cell|unit) \d+\b", r"a \1", why)[:300]


def retracted(name: str, reason: str) -> ProblemError:
    detail = f"The node's operator has marked the release {name} as wrong: {reason}"
    return ProblemError(410, "release-retracted", detail, action="Do not use its numbers.")


def refusal(reasons: list[str]) -> ProblemError:
    detail = f"The release was refused: {'; '.join(reasons)}."
    return ProblemError(422, "release-refused", detail, action="Correct what the workflow writes.", reasons=reasons)
