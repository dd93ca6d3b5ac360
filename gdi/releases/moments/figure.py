"""The picture of moments: for each variable the mean of each group with one standard deviation to both sides, and the
histogram by group of the variable that has one, as parts of each group's people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gdi.releases.moments.merge import MergedGroup
from gdi.releases.pictures import SOFT, blank, of_nodes, plain, save

COLOURS = ("#2a6f97", "#e07a3f", "#6a994e", "#8e6c8a", "#c9a227", "#5c677d", "#bc4749", "#3d9a9b")
MAX_VARIABLES, MAX_GROUPS = 6, 30


def draw(answer: Sequence[MergedGroup], file: Path, *, title: str, nodes: Sequence[str]) -> None:
    """Writes the picture (1500 pixels wide as PNG; 450 for each variable and for the histogram)."""
    variables = list(dict.fromkeys(one.variable for one in answer))[:MAX_VARIABLES]
    binned = [one for one in answer if one.bins][: len(COLOURS)]
    rows = max(1, len(variables) + bool(binned))
    figure = blank(title, 10, 3 * rows + 0.6)
    axes = list(figure.subplots(rows, 1, squeeze=False)[:, 0])
    for one, variable in zip(axes, variables, strict=False):
        _means(one, [group for group in answer if group.variable == variable][:MAX_GROUPS])
        one.set_title(f"{variable}: mean ± SD at {of_nodes(nodes)}", loc="left", fontsize=9.5, color=SOFT)
    if binned:
        _histogram(axes[-1], binned)
        axes[-1].set_title(f"{binned[0].variable}: people by bin", loc="left", fontsize=9.5, color=SOFT)
    for one in axes:
        plain(one, grid="x")
    save(figure, file)


def name_of(group: MergedGroup) -> str:
    return " × ".join(level for _, level in group.levels) or "all"


def _means(axes: Any, groups: Sequence[MergedGroup]) -> None:  # matplotlib has no types
    at = range(len(groups))
    spread = [math.sqrt(group.pooled.variance) for group in groups]
    axes.errorbar([g.pooled.mean for g in groups], at, xerr=spread, fmt="o", color=COLOURS[0], capsize=3, markersize=5)
    axes.set_yticks(at, [f"{name_of(group)} (n = {group.pooled.n:,})" for group in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)


def _histogram(axes: Any, groups: Sequence[MergedGroup]) -> None:
    for number, group in enumerate(groups):
        total = sum((one.fewest + one.most) / 2 for one in group.bins) or 1
        edges = [one.low for one in group.bins] + [group.bins[-1].high]
        parts = [(one.fewest + one.most) / 2 / total for one in group.bins]
        axes.stairs(parts, edges, color=COLOURS[number], label=name_of(group), linewidth=1.6)
    axes.set_ylabel("part of the group")
    axes.legend(fontsize=8, frameon=False)
