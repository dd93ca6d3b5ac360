"""One answer of all nodes' releases, by their kind: a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gdi.releases import columns
from gdi.releases.answer import name_missing
from gdi.releases.kind import CoordinatorHalf, Kind, Size
from gdi_operators.results.folder import ANSWER, COLUMNS, DRAWING, PACKED, PLOT
from gdi_operators.results.whole_file import write

TEXT_ROWS = 400_000  # of an answer in columns, up to which it is written as plain text as well


def answer(
    kind: Kind,
    releases: Mapping[str, Path],
    nodes: Sequence[str],
    folder: Path,
    *,
    title: str,
    missing: Sequence[str] = (),
) -> Size:
    """Writes `answer.tsv`, `answer.png` and `answer.svg` into `folder`; where a release is Parquet, `answer.parquet`
    and `answer.tsv.gz`, and `answer.tsv` up to TEXT_ROWS. `releases`: each node's proven file; `nodes`: those in the
    answer; `missing`: those of the run that are not, named in the table's last column. BadReleaseError naming the node
    whose release is not of its kind.
    """
    half = kind.coordinator()
    merge = half.column_merge() if any(columns.is_parquet_file(file) for file in releases.values()) else None
    for name in (ANSWER, COLUMNS, PACKED):  # of an earlier try
        (folder / name).unlink(missing_ok=True)
    if merge is None:
        found = half.merge({node: half.read(node, file) for node, file in releases.items()}, nodes)
        write(folder / ANSWER, lambda file: _table(half, found, missing, file))
        for picture in (PLOT, DRAWING):
            write(folder / picture, lambda file: half.draw(found, file, title=title, nodes=nodes))
        return half.size(found)
    sizes = []
    write(folder / COLUMNS, lambda file: sizes.append(merge.merge(releases, nodes, file, missing)))
    ((rows, withheld),) = sizes
    write(folder / PACKED, lambda file: columns.write_text(folder / COLUMNS, file, packed=True))
    if rows <= TEXT_ROWS:
        write(folder / ANSWER, lambda file: columns.write_text(folder / COLUMNS, file, packed=False))
    for picture in (PLOT, DRAWING):
        write(folder / picture, lambda file: merge.draw(folder / COLUMNS, file, title=title, nodes=nodes))
    return Size(rows, withheld)


def _table(half: CoordinatorHalf[Any, Any], found: Any, missing: Sequence[str], file: Path) -> None:
    """`found`: the kind's own answer."""
    half.write_table(found, file)
    if missing:
        name_missing(file, missing)
