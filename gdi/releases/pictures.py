"""What the pictures of all kinds have, a title, axes, the names of nodes; and how they are written: as PNG for a page,
as SVG for a paper, by the file's suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

INK, SOFT = "#22313f", "#8a99a8"
MOST_NODES = 6  # whose names a title has
MOST_SHAPES = 2000  # points of one series that an SVG draws one by one; more are an image within it


def blank(title: str, width: float, height: float) -> Any:
    """A figure of so many inches, of 150 pixels each as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # heavy: only when a picture is drawn
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    return figure


def of_nodes(nodes: Sequence[str]) -> str:
    """How many, and the first names."""
    return f"{len(nodes)} nodes ({', '.join(nodes[:MOST_NODES])}{' …' if len(nodes) > MOST_NODES else ''})"


def plain(axes: Any, grid: str = "") -> None:
    """Without a frame above and to the right, with lines across the axis `grid`."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8.5)
    if grid:
        axes.grid(axis=grid, color="#e6ebf0", linewidth=0.7)
        axes.set_axisbelow(True)


def save(figure: Any, file: Path) -> None:  # matplotlib has no types
    """Writes the figure; equal figures give equal bytes. In an SVG texts stay texts."""
    import matplotlib as mpl  # heavy: only when a picture is drawn

    if file.suffix != ".svg":
        figure.savefig(file, metadata={"Software": None})
        return
    for axes in figure.axes:
        for series in axes.collections:
            if max(len(series.get_offsets()), len(series.get_paths())) > MOST_SHAPES:
                series.set_rasterized(True)
    with mpl.rc_context({"svg.hashsalt": "gdi", "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None, "Creator": None})
