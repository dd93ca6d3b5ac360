"""One answer of all nodes' releases, by their kind: a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gdi.releases.answer import name_missing
from gdi.releases.kind import CoordinatorHalf, Kind, Size
from gdi_operators.gather.keep import write
from gdi_operators.results.folder import ANSWER, PLOT


def answer(
    kind: Kind,
    releases: Mapping[str, Path],
    nodes: Sequence[str],
    folder: Path,
    *,
    title: str,
    missing: Sequence[str] = (),
) -> Size:
    """Writes `answer.tsv` and `answer.png` into `folder`. `releases`: each node's proven file; `nodes`: those in the
    answer; `missing`: those of the run that are not, named in the table's last column. BadReleaseError naming the node
    whose release is not of its kind.
    """
    half = kind.coordinator()
    found = half.merge({node: half.read(node, file) for node, file in releases.items()}, nodes)
    write(folder / ANSWER, lambda file: _table(half, found, missing, file))
    write(folder / PLOT, lambda file: half.draw(found, file, title=title, nodes=nodes))
    return half.size(found)


def _table(half: CoordinatorHalf[Any, Any], found: Any, missing: Sequence[str], file: Path) -> None:
    """`found`: the kind's own answer."""
    half.write_table(found, file)
    if missing:
        name_missing(file, missing)
