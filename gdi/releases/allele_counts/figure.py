"""The picture of an answer: the allele frequency spectrum, and the frequencies along the genome; a bar where a node's
numbers are an interval, a tick where nobody was called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gdi.releases.allele_counts.merge import MergedCounts, natural
from gdi.releases.pictures import SOFT, blank, of_nodes, plain, save

BLUE, ORANGE = "#2a6f97", "#e07a3f"


def draw(
    answers: Sequence[MergedCounts], file: Path, *, title: str, nodes: Sequence[str], of: int | None = None
) -> None:
    """Writes the picture (as PNG about 1500 x 900 pixels). Frequencies are drawn where every node told the counts,
    bars from the lowest to the highest possible frequency where some did not, ticks at the foot where nobody was
    called. `of`: how many there are, where `answers` are some of them.
    """
    from matplotlib.ticker import FuncFormatter  # heavy: only when a picture is drawn

    known = [a for a in answers if a.af is not None]
    withheld = [a for a in answers if a.withheld]
    missing = {(a.chrom, a.pos, a.ref) for a in answers if a.missing}
    figure = blank(title, 10, 6.2)
    top, bottom = figure.subplots(2, 1, height_ratios=[1, 1.25])
    sites = len({(a.chrom, a.pos, a.ref) for a in known})

    edges = [i / 40 for i in range(41)]
    top.hist([a.af for a in known if a.af is not None], bins=edges, color=BLUE, edgecolor="white", linewidth=0.6)
    top.set_xlim(0, 1)
    top.set_xlabel("alternate allele frequency")
    top.set_ylabel("alleles")
    top.set_title(
        f"{len(known):,} alleles at {sites:,} sites told by all {of_nodes(nodes)}"
        + (f"; {len(answers):,} of {of:,} are drawn" if of is not None and of > len(answers) else ""),
        loc="left",
        fontsize=9.5,
        color=SOFT,
    )

    offsets, ticks = _layout(answers)
    bottom.scatter(
        [offsets[a.chrom] + a.pos for a in known],
        [a.af for a in known],
        s=7,
        color=BLUE,
        alpha=0.55,
        linewidths=0,
        label="told by all nodes",
    )
    if withheld:
        lows, highs = zip(*(interval(a) for a in withheld), strict=True)
        bottom.vlines(
            [offsets[a.chrom] + a.pos for a in withheld],
            lows,
            highs,
            color=ORANGE,
            linewidth=1.2,
            alpha=0.7,
            label=f"between these, small at a node ({len(withheld):,} alleles)",
        )
    if missing:
        at = [offsets[chrom] + pos for chrom, pos, _ in missing]
        bottom.plot(
            at,
            [-0.055] * len(at),
            "|",
            color=SOFT,
            markersize=7,
            markeredgewidth=0.7,
            label=f"nobody was called ({len(missing):,} sites)",
        )
    bottom.set_ylim(-0.1, 1.04)
    bottom.set_ylabel("frequency")
    if len(ticks) == 1:
        bottom.set_xlabel(f"position on {ticks[0][1]} (Mb)")
        bottom.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e6:g}"))
    elif ticks:
        bottom.set_xticks([t[0] for t in ticks], [t[1] for t in ticks], rotation=45 if len(ticks) > 12 else 0)
        bottom.set_xlabel("chromosome")
    if known or withheld or missing:
        bottom.legend(loc="upper right", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none", markerscale=1.6)
    for axes in (top, bottom):
        plain(axes, grid="y")
    save(figure, file)


def interval(answer: MergedCounts) -> tuple[float, float]:
    """The lowest and the highest frequency that the counts allow. Copies that are not told lie among the calls that are
    not told either, so that neither end leaves 0 to 1.
    """
    (low, high), (fewest, most) = answer.ac, answer.an
    return (low / most if most else 0.0), min(1.0, high / max(fewest, high, 1))


def _layout(answers: Sequence[MergedCounts]) -> tuple[dict[str, int], list[tuple[float, str]]]:
    """Chromosomes side by side: (offset of each, [(middle, name)])."""
    spans: dict[str, tuple[int, int]] = {}
    for a in answers:
        low, high = spans.get(a.chrom, (a.pos, a.pos))
        spans[a.chrom] = (min(low, a.pos), max(high, a.pos))
    if len(spans) == 1:
        return {c: 0 for c in spans}, [(0.0, c) for c in spans]
    offsets, ticks, at = {}, [], 0
    for chrom in sorted(spans, key=natural):
        low, high = spans[chrom]
        offsets[chrom] = at - low
        ticks.append((at + (high - low) / 2, chrom))
        at += int((high - low) * 1.05) + 1
    return offsets, ticks
