"""Each kind's picture is a PNG and an SVG, the same each time; many points do not make a heavy SVG."""

from __future__ import annotations

from pathlib import Path

from gdi.releases.cross_table.merge import MergedCell
from gdi.releases.matrix.least_squares import Estimate
from gdi.releases.matrix.merge import FittedTerm
from gdi.releases.moments.merge import MergedGroup, PooledMoments
from gdi.releases.registry import kind_of
from gdi.releases.variant_statistics.merge import MergedVariant
from gdi.releases.variant_statistics.statistics import pool

ANSWERS = {
    "allele-counts": [],
    "matrix": [FittedTerm("ldl", "sex", "male", Estimate(0.4, 0.1, 4.0, 4.2, 0.2, 0.6), 1, 629, 0.1, 0.8)],
    "moments": [MergedGroup("ldl", (("sex", "male"),), 1, PooledMoments(100, 3.0, 1.0))],
    "table": [MergedCell("people", (("sex", "male"),), (7, 7), 1), MergedCell("people", (), (7, 7), 1)],
    "variant-statistics": [
        MergedVariant(("1", n + 1, "A", "C"), 1, 100, 0.3, pool([(0.1 * (n % 40), 0.5)]), "+") for n in range(2500)
    ],
}


def test_every_kinds_picture_is_png_and_svg(tmp_path: Path) -> None:
    for kind, answer in ANSWERS.items():
        half, size = kind_of(kind).coordinator(), {}
        for name in ("a.png", "a.svg", "b.svg"):
            half.draw(answer, tmp_path / name, title=f"Of {kind}", nodes=["node-a"])
            size[name] = (tmp_path / name).stat().st_size
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        text = (tmp_path / "a.svg").read_text()
        assert "<svg" in text and f"Of {kind}" in text and text == (tmp_path / "b.svg").read_text(), kind
        assert size["a.svg"] < 500_000, "points of a plot are an image in it"
