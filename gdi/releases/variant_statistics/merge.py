"""Meta-analysis of the nodes' statistics: alleles are flipped where a node wrote them the other way round, strands
where it counted on the other one; what is ambiguous stays out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gdi.contracts.variants import BASES
from gdi.releases.kind import BadReleaseError
from gdi.releases.variant_statistics import table as formats
from gdi.releases.variant_statistics.statistics import Pooled, minus_log10_p, pool
from gdi.releases.variant_statistics.table import RELEASED, Analysis

COLUMNS = (
    *("CHROM", "POS", "REF", "ALT", "NODES", "N", "AF", "BETA", "SE", "MLOG10P"),
    *("BETA_RANDOM", "SE_RANDOM", "MLOG10P_RANDOM", "Q", "MLOG10P_Q", "I2", "DIRECTION"),
)
MIDDLE = (0.4, 0.6)  # a frequency that does not tell which strand an A/T or C/G variant is on
_OTHER = str.maketrans("ACGT", "TGCA")
Site = tuple[str, int, str, str]


class NodeEffect(NamedTuple):
    people: int
    frequency: float
    beta: float
    se: float

    def flipped(self) -> NodeEffect:
        """Of the other allele."""
        return NodeEffect(self.people, 1 - self.frequency, -self.beta, self.se)


@dataclass(frozen=True)
class NodeStatistics:
    """A node's release; no analysis where it has no variant."""

    node: str
    analysis: Analysis | None
    effects: dict[Site, NodeEffect] = field(default_factory=dict)


class MergedVariant(NamedTuple):
    """`direction`: for each node of the run + or -, ? where it has no number."""

    site: Site
    nodes: int
    people: int
    frequency: float
    pooled: Pooled
    direction: str

    @property
    def mlog10p(self) -> float:
        return minus_log10_p(self.pooled.beta, self.pooled.se)


def parse(node: str, file: Path) -> NodeStatistics:
    """A node's release. BadReleaseError naming node and line."""
    effects: dict[Site, NodeEffect] = {}
    with file.open("rb") as lines:
        head = lines.readline(formats.MAX_HEAD)
        try:
            analysis = None if head == b"#{}\n" else formats.analysis(head)
        except Exception as error:
            raise BadReleaseError(f"The statistics of {node} are not of their format: {error}") from None
        if lines.readline(formats.MAX_HEAD).decode(errors="replace").rstrip("\n").split("\t") != list(RELEASED):
            raise BadReleaseError(f"The statistics of {node} are not of their format: line 2")
        for number, line in enumerate(lines, 3):
            try:
                chrom, pos, ref, alt, n, frequency, beta, se = line.decode().rstrip("\n").split("\t")
                effect = NodeEffect(int(n), float(frequency), float(beta), float(se))
                whole = effect.people > 0 and 0 <= effect.frequency <= 1 and 0 < effect.se < math.inf
                if not whole or not math.isfinite(effect.beta) or len(line) > formats.MAX_LINE:
                    raise ValueError
                formats.check_place(chrom, pos, ref, alt, number)
                site = (chrom, int(pos), ref, alt)
            except Exception:
                raise BadReleaseError(f"The statistics of {node} are not of their format: line {number}") from None
            if effects.setdefault(site, effect) is not effect:
                raise BadReleaseError(f"The statistics of {node} have a variant twice: line {number}")
    return NodeStatistics(node, analysis, effects)


def merge(releases: Mapping[str, NodeStatistics], nodes: Iterable[str]) -> list[MergedVariant]:
    """One row for each variant that a node has, as the first of them by name writes it. BadReleaseError where the nodes
    analysed different things.
    """
    wanted = sorted(set(nodes))
    of = [releases[node] for node in wanted]
    analyses = {a.question for a in (one.analysis for one in of) if a}
    if len(analyses) > 1:
        raise BadReleaseError(f"The nodes {', '.join(wanted)} analysed different things; they cannot be put together.")
    found: dict[Site, dict[int, NodeEffect]] = {}
    for number, one in enumerate(of):
        for site, effect in one.effects.items():
            aligned = align(site, effect, found)
            if aligned is not None:
                found.setdefault(aligned[0], {}).setdefault(number, aligned[1])
    order = sorted(found, key=lambda site: (natural(site[0]), site[1:]))
    return [_merged(site, found[site], len(wanted)) for site in order]


def align(
    site: Site, effect: NodeEffect, known: Mapping[Site, Mapping[int, NodeEffect]]
) -> tuple[Site, NodeEffect] | None:
    """The variant as others wrote it. None where it cannot be told how: an A/T or C/G variant written the other way
    round, near a frequency of one half.
    """
    chrom, pos, ref, alt = site
    swapped = (chrom, pos, alt, ref)
    if site in known or not _plain(ref + alt):
        return site, effect
    other = (chrom, pos, ref.translate(_OTHER), alt.translate(_OTHER))
    palindrome = ref.translate(_OTHER) == alt
    if swapped in known:
        if not palindrome:
            return swapped, effect.flipped()
        there = [one.frequency for one in known[swapped].values()]
        mean = sum(there) / len(there)
        if MIDDLE[0] < mean < MIDDLE[1] or MIDDLE[0] < effect.frequency < MIDDLE[1]:
            return None
        # read on the other strand, the letters swap and the counted allele stays
        same = (mean > 0.5) == (effect.frequency > 0.5)
        return swapped, effect if same else effect.flipped()
    if not palindrome:
        if other in known:
            return other, effect
        back = (chrom, pos, other[3], other[2])
        if back in known:
            return back, effect.flipped()
    return site, effect


def _plain(letters: str) -> bool:
    return len(letters) == 2 and all(letter in "ACGT" and letter in BASES for letter in letters)


def _merged(site: Site, effects: Mapping[int, NodeEffect], nodes: int) -> MergedVariant:
    pooled = pool([(effect.beta, effect.se) for effect in effects.values()])
    people = sum(effect.people for effect in effects.values())
    frequency = sum(effect.people * effect.frequency for effect in effects.values()) / people
    signs = "".join("?" if n not in effects else "+" if effects[n].beta >= 0 else "-" for n in range(nodes))
    return MergedVariant(site, len(effects), people, frequency, pooled, signs)


def natural(chrom: str) -> tuple[int, str]:
    """chr2 before chr10 before chrX."""
    short = chrom.removeprefix("chr")
    return (int(short), "") if short.isdigit() else (1000, short)


def table_line(one: MergedVariant) -> str:
    """A row of the answer. MLOG10P is -log10 of the two-sided P; N is a lower bound where few people were not called at
    a node.
    """
    p = one.pooled
    random = minus_log10_p(p.beta_random, p.se_random)
    numbers = (
        p.beta,
        p.se,
        one.mlog10p,
        p.beta_random,
        p.se_random,
        random,
        p.q,
        -math.log10(max(p.q_p, 1e-300)) + 0.0,
        p.i2,
    )
    texts = (*one.site, one.nodes, one.people, f"{one.frequency:.5g}", *(f"{n:.6g}" for n in numbers), one.direction)
    return "\t".join(map(str, texts))
