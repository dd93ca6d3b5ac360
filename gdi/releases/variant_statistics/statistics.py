"""Meta-analysis of effects, as METAL's scheme STDERR does it (Willer et al. 2010): fixed effects by inverse variance,
heterogeneity (Cochran's Q, I²), and random effects (DerSimonian and Laird 1986). Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MEDIAN_CHI2 = 0.4549364231195724  # of one degree of freedom


@dataclass(frozen=True)
class Pooled:
    """An effect over studies: by fixed and by random effects, and how much they differ. `q_p`: P of Q, 1 of one study;
    `i2`: in percent.
    """

    beta: float
    se: float
    beta_random: float
    se_random: float
    q: float
    q_p: float
    i2: float


def pool(effects: Sequence[tuple[float, float]]) -> Pooled:
    """Of (beta, standard error) of each study."""
    weights = [1 / se**2 for _, se in effects]
    total = sum(weights)
    beta = sum(w * b for w, (b, _) in zip(weights, effects, strict=True)) / total
    q = sum(w * (b - beta) ** 2 for w, (b, _) in zip(weights, effects, strict=True))
    df = len(effects) - 1
    spare = total - sum(w * w for w in weights) / total
    tau2 = max(0.0, (q - df) / spare) if df and spare > 0 else 0.0
    wide = [1 / (se**2 + tau2) for _, se in effects]
    random = sum(w * b for w, (b, _) in zip(wide, effects, strict=True)) / sum(wide)
    i2 = max(0.0, (q - df) / q * 100) if q > 0 else 0.0
    return Pooled(beta, total**-0.5, random, sum(wide) ** -0.5, q, chi2_tail(q, df), i2)


def minus_log10_p(beta: float, se: float) -> float:
    """-log10 of the two-sided P of a normal deviate."""
    z = abs(beta / se)
    if z < 37:
        return -math.log10(math.erfc(z / math.sqrt(2)))
    tail = -1 / z**2 + 2.5 / z**4  # log of the asymptotic series 1 - 1/z² + 3/z⁴
    return (z * z / 2 + math.log(z) + 0.5 * math.log(math.pi / 2) - tail) / math.log(10)


def chi2_tail(x: float, df: int) -> float:
    """P(chi-squared of `df` > x); 1 of no degree of freedom."""
    if df <= 0 or x <= 0:
        return 1.0
    if df % 2:
        total, term = math.erfc(math.sqrt(x / 2)), math.sqrt(2 * x / math.pi) * math.exp(-x / 2)
        for n in range(3, df + 1, 2):
            total, term = total + term, term * x / n
        return min(1.0, total)
    total, term = 0.0, math.exp(-x / 2)
    for n in range(2, df + 1, 2):
        total, term = total + term, term * x / n
    return min(1.0, total)


def inflation(z_scores: Iterable[float]) -> float | None:
    """Genomic control's lambda: the median of z² by that of chi-squared; None of nothing."""
    squares = sorted(z * z for z in z_scores)
    if not squares:
        return None
    middle = len(squares) // 2
    median = squares[middle] if len(squares) % 2 else (squares[middle - 1] + squares[middle]) / 2
    return median / MEDIAN_CHI2
