"""How a kind's picture is written: as PNG for a page, as SVG for a paper, by the file's suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MOST_SHAPES = 2000  # points of one series that an SVG draws one by one; more are an image within it


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
