"""One answer of all nodes' releases, by their kind: a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gdi.releases.kind import Kind, Size
from gdi_operators.gather.keep import write
from gdi_operators.results.folder import ANSWER, PLOT


def answer(kind: Kind, releases: Mapping[str, Path], nodes: Sequence[str], folder: Path, *, title: str) -> Size:
    """Writes `answer.tsv` and `answer.png` into `folder`. `releases`: each node's proven file; `nodes`: all of the run.
    BadReleaseError naming the node whose release is not of its kind.
    """
    half = kind.coordinator()
    found = half.merge({node: half.read(node, file) for node, file in releases.items()}, nodes)
    write(folder / ANSWER, lambda file: half.write_table(found, file))
    write(folder / PLOT, lambda file: half.draw(found, file, title=title, nodes=nodes))
    return half.size(found)
