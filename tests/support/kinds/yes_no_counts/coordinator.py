"""The coordinator's half: sums over the nodes, none where a node withheld the question; a bar for each question."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from gdi.releases.answer import Column
from gdi.releases.kind import BadReleaseError, CoordinatorHalf, Size

Release = dict[str, tuple[int, int]]
Sums = dict[str, tuple[int, int] | None]


class YesNoCoordinator(CoordinatorHalf[Release, Sums]):
    columns = (Column("QUESTION"), Column("YES", int, counted=True), Column("NO", int))

    def read(self, node: str, file: Path) -> Release:
        try:
            return {str(question): (int(yes), int(no)) for question, yes, no in json.loads(file.read_bytes())["rows"]}
        except (ValueError, KeyError, TypeError):
            raise BadReleaseError(f"The answers of {node} are not of their format") from None

    def merge(self, releases: Mapping[str, Release], nodes: Sequence[str]) -> Sums:
        found: Sums = {}
        for question in sorted({question for release in releases.values() for question in release}):
            parts = [releases[node].get(question) for node in nodes]
            known = [part for part in parts if part is not None]
            whole = len(known) == len(parts)
            found[question] = (sum(yes for yes, _ in known), sum(no for _, no in known)) if whole else None
        return found

    def size(self, answer: Sums) -> Size:
        return Size(len(answer), sum(sums is None for sums in answer.values()))

    def write_table(self, answer: Sums, file: Path) -> None:
        lines = ["\t".join(column.name for column in self.columns)]
        lines += [
            f"{question}\t{sums[0]}\t{sums[1]}" if sums else f"{question}\t\t" for question, sums in answer.items()
        ]
        file.write_text("\n".join(lines) + "\n")

    def draw(self, answer: Sums, file: Path, *, title: str, nodes: Sequence[str]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.bar(list(answer), [sums[0] if sums else 0 for sums in answer.values()])
        axes.set_title(f"{title} ({len(nodes)} nodes)")
        figure.savefig(file)
