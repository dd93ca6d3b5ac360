"""A visa's `conditions` (GA4GH Passport 1.2 §conditions): the outer list is OR, the inner AND; one other visa must
match all claims of a clause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_CLAUSES = 100
CLAIMS = ("value", "source", "by")


def conditions_met(
    conditions: Any, candidates: Sequence[Mapping[str, Any]]
) -> bool:  # any JSON value: it comes from a token
    """True where there are none. `candidates`: accepted visas without conditions of their own (those are skipped, which
    ends recursion).
    """
    if conditions is None or conditions == []:
        return True
    if not isinstance(conditions, list) or sum(len(c) if isinstance(c, list) else 1 for c in conditions) > MAX_CLAUSES:
        return False
    return any(
        isinstance(clauses, list) and clauses and all(_clause(c, candidates) for c in clauses) for clauses in conditions
    )


def _clause(clause: Any, candidates: Sequence[Mapping[str, Any]]) -> bool:
    if (
        not isinstance(clause, dict)
        or not isinstance(clause.get("type"), str)
        or len(clause) < 2
        or set(clause) - {"type", *CLAIMS}
    ):
        return False
    return any(
        v["type"] == clause["type"] and all(_matches(clause[c], v.get(c)) for c in CLAIMS if c in clause)
        for v in candidates
    )


def _matches(pattern: Any, actual: Any) -> bool:
    if not isinstance(pattern, str) or not isinstance(actual, str):
        return False
    kind, colon, rest = pattern.partition(":")
    if not colon:
        return False
    if kind == "const":
        return rest == actual
    if kind == "pattern":
        return wildcard(rest, actual)
    if kind == "split_pattern":
        return any(wildcard(rest, part) for part in actual.split(";"))
    return False  # an unknown prefix fails


def wildcard(pattern: str, text: str) -> bool:
    """`?` is one character, `*` any number; whole and case-sensitive. Linear backtracking: a hostile pattern cannot
    explode.
    """
    p = t = 0
    star, mark = -1, 0
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, mark = p, t
            p += 1
        elif p < len(pattern) and (pattern[p] == "?" or pattern[p] == text[t]):
            p, t = p + 1, t + 1
        elif star >= 0:
            p, mark = star + 1, mark + 1
            t = mark
        else:
            return False
    return all(c == "*" for c in pattern[p:])
