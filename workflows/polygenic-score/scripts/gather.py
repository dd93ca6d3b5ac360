"""Puts the datasets' people into groups and bins and writes the release `gdi-moments/1`: n, mean and variance of the
score by group, its histogram, and what the node judges them by.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

MOST = 50  # people whose part of a sum the node is told


def level(value: float, edges: list[float]) -> str:
    """Its bin `LOW..HIGH`: with its lower edge, without its upper one but for the last."""
    for low, high in pairwise(edges):
        if low <= value < high or value == high == edges[-1]:
            return f"{low:g}..{high:g}"
    return "unknown"


def wrong(kind: str, why: str) -> NoReturn:
    print(f"{kind}: {why}", file=sys.stderr)
    print(f"GDI-ERROR class={kind}", file=sys.stderr)
    sys.exit(1)


def shares(contributions: np.ndarray) -> list[float]:
    """Which part of the sum the first, the first two, … have."""
    total = float(contributions.sum()) or 1.0
    most = np.sort(contributions)[::-1][:MOST].cumsum()
    return [min(1.0, float(one) / total) for one in most]


def row(group: list[str], values: np.ndarray) -> dict[str, Any]:
    mean = float(values.mean())
    return {
        "variable": "score",
        "group": group,
        "n": len(values),
        "mean": mean,
        "variance": float(values.var(ddof=1)) if len(values) > 1 else 0.0,
        "sums": shares(np.abs(values)),
        "squares": shares((values - mean) ** 2),
        "apart": len(values) - int(np.unique(values, return_counts=True)[1].max()),
    }


def gather(files: list[Path], groups: list[str], bins: list[float]) -> dict[str, Any]:
    """The release."""
    people: set[str] = set()
    by_group: dict[tuple[str, ...], list[float]] = {}
    found: dict[str, Any] = {}
    for file in files:
        one = json.loads(file.read_text())
        if not people.isdisjoint(one["people"]):
            wrong("DuplicatePeople", f"people of {file.stem} are in another dataset of the run as well")
        if found and one["used"] != found["used"]:
            wrong("DifferentVariants", "the datasets have different variants of the score: start a run for each")
        people.update(one["people"])
        found = one
        for group, value in zip(one["groups"], one["scores"], strict=True):
            by_group.setdefault(tuple(group), []).append(min(max(value, bins[0]), bins[-1]))
    counts = Counter((*group, level(value, bins)) for group, values in by_group.items() for value in values)
    return {
        "format": "gdi-moments/1",
        "group": groups,
        "histogram": "score",
        "people": [[*key, n] for key, n in sorted(counts.items())],
        "scores": {"score": {"variants": found["variants"], "largest": found["largest"]}},
        "moments": [row(list(group), np.array(values)) for group, values in sorted(by_group.items())],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--groups", required=True, help="JSON: columns")
    parser.add_argument("--bins", required=True, help="JSON: edges")
    options = parser.parse_args()
    release = gather(options.files, json.loads(options.groups), json.loads(options.bins))
    options.out.write_text(json.dumps(release, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
