"""What the centre is told of a release that is none, and of how much a node withheld."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gdi.kit.problem import ProblemError
from gdi.releases.kind import Kind, NodeHalf, NotBesideError

TOLD_FROM, TOLD_TO = 10_000, 1_000  # units: from how many on, and how closely


def rounded(count: int) -> int:
    """A number of units as closely as the centre is told it."""
    return round(count / TOLD_TO) * TOLD_TO


def shown(half: NodeHalf[Any, Any], left: Sequence[Any], withheld: Mapping[str, int]) -> Mapping[str, int] | None:
    """What of the withheld units the centre may count: those that the release itself lists, never all `withheld`."""
    return half.shown(left)


def public_withheld(kind: Kind, withheld: Mapping[str, int] | None, units: int) -> dict[str, int] | None:
    """How much was withheld for each reason, as the centre is told: rounded, and None of fewer than TOLD_FROM units. Of
    a short list the count would say which.
    """
    if units < TOLD_FROM or withheld is None:
        return None
    central = {why: rounded(count) for why, count in sorted(withheld.items()) if why in kind.central}
    return {why: count for why, count in central.items() if count}


def other_people() -> ProblemError:
    return ProblemError(
        422,
        "other-people",
        "The release counts other people than the datasets' epochs have.",
        action="Count everybody of the datasets, once, or ask the node's operator for a new epoch.",
    )


def without_row(why: str) -> str:
    """What is wrong with a file, without the place and the values: those the workflow could choose. The node's audit
    has them.
    """
    return re.sub(r"\b(row|line|site|table|cell|unit) \d+\b", r"a \1", why)[:300]


def retracted(name: str, reason: str) -> ProblemError:
    detail = f"The node's operator has marked the release {name} as wrong: {reason}"
    return ProblemError(410, "release-retracted", detail, action="Do not use its numbers.")


def not_beside(error: NotBesideError) -> ProblemError:
    """It says what left of the same people, and nothing of what was counted now."""
    return ProblemError(403, "not-beside", str(error), action=error.action)


def refusal(reasons: list[str]) -> ProblemError:
    detail = f"The release was refused: {'; '.join(reasons)}."
    return ProblemError(422, "release-refused", detail, action="Correct what the workflow writes.", reasons=reasons)
