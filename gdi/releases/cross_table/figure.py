"""The picture of tables: people by the first column of each, side by side for the levels of its second; a whisker
where a node's count is an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gdi.releases.cross_table.merge import UNBOUNDED, MergedCell
from gdi.releases.pictures import INK, SOFT, blank, of_nodes, plain, save

COLOURS = ("#2a6f97", "#e07a3f", "#6a994e", "#8e6c8a", "#c9a227", "#5c677d", "#bc4749", "#3d9a9b")
MAX_TABLES, MAX_BARS = 6, 40


def draw(answer: Sequence[MergedCell], file: Path, *, title: str, nodes: Sequence[str]) -> None:
    """Writes the picture (as PNG 1500 pixels wide, 450 for each table, at most six of them)."""
    tables = list(dict.fromkeys(cell.table for cell in answer))[:MAX_TABLES]
    figure = blank(title, 10, 3 * max(1, len(tables)) + 0.6)
    for axes, name in zip(figure.subplots(max(1, len(tables)), 1, squeeze=False)[:, 0], tables, strict=False):
        _bars(axes, [cell for cell in answer if cell.table == name])
        shown = f"{name}: people at {of_nodes(nodes)}"
        axes.set_title(shown, loc="left", fontsize=9.5, color=SOFT)
        plain(axes, grid="y")
    save(figure, file)


def _bars(axes: Any, cells: list[MergedCell]) -> None:  # matplotlib has no types
    columns = list(dict.fromkeys(column for cell in cells for column, _ in cell.levels))[:2]
    wanted = [cell for cell in cells if [column for column, _ in cell.levels] == columns]
    wanted = [cell for cell in wanted if cell.people[1] > 0]
    groups = list(dict.fromkeys(cell.levels[1][1] if len(columns) > 1 else "" for cell in wanted))[: len(COLOURS)]
    labels = list(dict.fromkeys(cell.levels[0][1] for cell in wanted))[:MAX_BARS]
    width = 0.8 / max(1, len(groups))
    for number, group in enumerate(groups):
        at, height, whiskers = [], [], []
        for cell in wanted:
            if cell.levels[0][1] in labels and (len(columns) < 2 or cell.levels[1][1] == group):
                low, high = cell.people[0], cell.people[1] if cell.people[1] < UNBOUNDED else cell.people[0]
                at.append(labels.index(cell.levels[0][1]) - 0.4 + width * (number + 0.5))
                height.append(low)
                whiskers.append(high - low)
        axes.bar(at, height, width * 0.94, color=COLOURS[number], label=group or None)
        axes.errorbar(at, height, yerr=[[0] * len(at), whiskers], fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    axes.set_xticks(range(len(labels)), labels, rotation=45 if len(labels) > 12 else 0)
    axes.set_xlabel(columns[0] if columns else "")
    axes.set_ylabel("people")
    if len(columns) > 1 and groups:
        axes.legend(title=columns[1], loc="upper right", fontsize=8, title_fontsize=8, frameon=False)
