"""The picture of a regression: a forest plot, each coefficient with its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gdi.releases.matrix.merge import CONSTANT, FittedTerm
from gdi.releases.pictures import INK, SOFT, blank, of_nodes, plain, save

POINT = "#2a6f97"
MAX_TERMS = 60


def draw(answer: Sequence[FittedTerm], file: Path, *, title: str, nodes: Sequence[str]) -> None:
    """Writes the picture (1500 pixels wide as PNG; 60 for each coefficient). The constant is not drawn."""
    rows = [(one, one.estimate) for one in answer if one.estimate and one.term != CONSTANT][:MAX_TERMS]
    figure = blank(title, 10, 0.4 * max(3, len(rows)) + 1.8)
    axes = figure.subplots()
    first = answer[0] if answer else None
    about = f"{first.outcome}, {first.n:,} people, R² = {first.r2 or 0:.3g}" if first else "nothing left"
    axes.set_title(f"{about}, at {of_nodes(nodes)}", loc="left", fontsize=9.5, color=SOFT)
    for place, (_, of) in enumerate(rows):
        axes.plot([of.low, of.high], [place, place], color=POINT, linewidth=1.6)
        axes.plot([of.beta], [place], marker="s", color=POINT, markersize=5)
    labels = [f"{name_of(one)}   {of.beta:.3g} ({of.low:.3g} to {of.high:.3g})" for one, of in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.axvline(0, color=SOFT, linewidth=0.9, linestyle="--")
    axes.set_xlabel("coefficient, in units of the outcome, with its 95 % interval", fontsize=9, color=INK)
    plain(axes, grid="x")
    save(figure, file)


def name_of(one: FittedTerm) -> str:
    return f"{one.term}: {one.level}" if one.level else one.term
