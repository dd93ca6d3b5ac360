"""The picture of a meta-analysis: -log10 P along the genome (Manhattan), and against what chance gives (QQ), with
lambda.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from gdi.releases.pictures import SOFT, blank, of_nodes, plain, save
from gdi.releases.variant_statistics.merge import MergedVariant, natural
from gdi.releases.variant_statistics.statistics import inflation

BLUE, LIGHT, ORANGE = "#2a6f97", "#8fb8d0", "#e07a3f"
GENOME_WIDE = -math.log10(5e-8)
MOST = 60_000  # points below 2 that are drawn, evenly taken


def draw(answer: Sequence[MergedVariant], file: Path, *, title: str, nodes: Sequence[str]) -> None:
    """Writes the picture (as PNG 1650 x 675 pixels)."""
    figure = blank(title, 11, 4.5)
    left, right = figure.subplots(1, 2, width_ratios=[2.4, 1])
    factor = inflation(one.pooled.beta / one.pooled.se for one in answer)
    shown = "" if factor is None else f", λ = {factor:.3f}"
    what = "genes" if answer and answer[0].site[3].startswith("<") else "variants"
    left.set_title(f"{len(answer):,} {what} at {of_nodes(nodes)}", loc="left", fontsize=9.5, color=SOFT)
    heights = [one.mlog10p for one in answer]
    step = max(1, sum(height < 2 for height in heights) // MOST)
    kept = [i for i, height in enumerate(heights) if height >= 2 or i % step == 0]
    chroms = sorted({one.site[0] for one in answer}, key=natural)
    offset, ticks = 0, []
    for number, chrom in enumerate(chroms):
        mine = [i for i in kept if answer[i].site[0] == chrom]
        if not mine:
            continue
        low, high = min(answer[i].site[1] for i in mine), max(answer[i].site[1] for i in mine)
        left.scatter(
            [offset + answer[i].site[1] - low for i in mine],
            [heights[i] for i in mine],
            s=5,
            color=BLUE if number % 2 == 0 else LIGHT,
            linewidths=0,
        )
        ticks.append((offset + (high - low) / 2, chrom))
        offset += int((high - low) * 1.03) + 1
    left.set_xticks([at for at, _ in ticks], [name for _, name in ticks])
    left.set_xlabel("chromosome")
    left.axhline(GENOME_WIDE, color=ORANGE, linewidth=0.8)
    ordered = sorted(heights, reverse=True)
    chance = [-math.log10((i + 0.5) / len(ordered)) for i in range(len(ordered))]
    drawn = [i for i in range(len(ordered)) if i < 5000 or i % max(1, len(ordered) // 5000) == 0]
    right.plot([0, max(chance, default=1)], [0, max(chance, default=1)], color=SOFT, linewidth=0.8)
    right.scatter([chance[i] for i in drawn], [ordered[i] for i in drawn], s=5, color=BLUE, linewidths=0)
    right.set_xlabel("-log10 P by chance")
    right.set_title(f"QQ{shown}", loc="left", fontsize=9.5, color=SOFT)
    for axes in (left, right):
        axes.set_ylabel("-log10 P")
        axes.set_ylim(bottom=0)
        plain(axes)
    save(figure, file)
