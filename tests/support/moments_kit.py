"""What a workflow writes of people for the kind `moments`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gdi.releases.disclosure.sums import MAX_LARGEST
from gdi.releases.moments.table import FORMAT


def bin_of(value: float, bins: Sequence[float]) -> tuple[float, float]:
    """The edges around a value."""
    return next((low, high) for low, high in pairwise(bins) if low <= value < high or value == high == bins[-1])


def largest(contributions: np.ndarray[Any, Any]) -> list[float]:
    """Which part of the sum the first, the first two, … have."""
    total = float(contributions.sum())
    most = np.sort(contributions)[::-1][:MAX_LARGEST].cumsum()
    return [min(1.0, float(one) / total) if total else 0.0 for one in most]


def moments_file(
    people: Sequence[Mapping[str, Any]],
    group: Sequence[str],
    variables: Sequence[str],
    *,
    histogram: str | None = None,
    bins: Sequence[float] = (),
    scores: Mapping[str, Any] | None = None,
) -> bytes:
    """`gdi-moments/1` of people by column; a variable that nobody has is 0 of all."""
    levels: Counter[tuple[str, ...]] = Counter()
    for one in people:
        low, high = bin_of(one[histogram], bins) if histogram and bins else (0, 0)
        levels[(*(str(one[c]) for c in group), *([f"{low:g}..{high:g}"] if histogram else []))] += 1
    rows = []
    for variable in variables:
        for key in dict.fromkeys(tuple(str(one[c]) for c in group) for one in people):
            values = np.array([one.get(variable, 0) for one in people if tuple(str(one[c]) for c in group) == key])
            rows.append(
                {
                    "variable": variable,
                    "group": list(key),
                    "n": len(values),
                    "mean": float(values.mean()),
                    "variance": float(values.var(ddof=1)) if len(values) > 1 else 0.0,
                    "sums": largest(np.abs(values)),
                    "squares": largest((values - values.mean()) ** 2),
                    "apart": len(values) - int(np.unique(values, return_counts=True)[1].max()),
                }
            )
    found = {"format": FORMAT, "group": list(group), "histogram": histogram, "scores": dict(scores or {})}
    return json.dumps(found | {"people": [[*key, n] for key, n in levels.items()], "moments": rows}).encode()
