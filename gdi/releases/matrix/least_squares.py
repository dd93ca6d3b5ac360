"""Ordinary least squares of sums of products, in exact arithmetic (fractions): the estimates are those of the pooled
people, as exact as the sums are. Student's t by the continued fraction of the incomplete beta function (Press et al.,
Numerical Recipes, 6.4; Lentz 1976). Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

DEPENDENT = Fraction(1, 10**9)  # a column of which no more of its size is its own follows from those before it
TINY = 1e-300


@dataclass(frozen=True)
class Estimate:
    """A coefficient, its standard error, t, -log10 of the two-sided P, and the ends of the 95 % interval."""

    beta: float
    se: float
    t: float
    minus_log10_p: float
    low: float
    high: float


@dataclass(frozen=True)
class LeastSquares:
    """`estimates`: None of a column that follows from those before it. `r2`: of the outcome's variance; `sigma`: the
    residual standard deviation; `df`: people less columns.
    """

    estimates: list[Estimate | None]
    r2: float
    sigma: float
    df: int


def fit(products: Sequence[Sequence[Fraction]], outcome: Sequence[Fraction], square: Fraction) -> LeastSquares | None:
    """`products`: XᵀX (p × p), the first column constant; `outcome`: Xᵀy (p); `square`: yᵀy. None where there are no
    more people than columns, or the outcome is the same for all.
    """
    n, p = int(products[0][0]), len(outcome)
    rows = [[*products[i], *(Fraction(int(i == j)) for j in range(p)), outcome[i]] for i in range(p)]
    used = eliminate(rows)
    df = n - len(used)
    total = square - outcome[0] ** 2 / n if n else Fraction(0)
    left = square - sum((rows[i][-1] * outcome[i] for i in used), Fraction(0))
    if df < 1 or total <= 0:
        return None
    variance = max(float(left / df), 0.0)
    found: list[Estimate | None] = [None] * p
    quantile = student_quantile(0.975, df)
    for i in used:
        found[i] = _estimate(float(rows[i][-1]), math.sqrt(variance * float(rows[i][p + i])), df, quantile)
    return LeastSquares(found, 1 - float(left / total), math.sqrt(variance), df)


def eliminate(rows: list[list[Fraction]]) -> list[int]:
    """Gauss and Jordan, in place. `rows`: a symmetric matrix without negative eigenvalues (p × p), more columns behind
    it. Which of its columns do not follow from those before; the others are left out.
    """
    sizes = [row[i] for i, row in enumerate(rows)]
    used: list[int] = []
    for column, size in enumerate(sizes):
        if rows[column][column] <= DEPENDENT * size:
            continue
        used.append(column)
        scale = rows[column][column]
        rows[column] = [value / scale for value in rows[column]]
        for i in range(len(rows)):
            if i != column and (factor := rows[i][column]):
                rows[i] = [value - factor * of for value, of in zip(rows[i], rows[column], strict=True)]
    return used


def _estimate(beta: float, se: float, df: int, quantile: float) -> Estimate:
    t = beta / se if se else math.copysign(math.inf, beta)
    return Estimate(beta, se, t, minus_log10_p(t, df), beta - quantile * se, beta + quantile * se)


def minus_log10_p(t: float, df: int) -> float:
    """-log10 of the two-sided P of Student's t."""
    if math.isinf(t):
        return math.inf
    return max(0.0, -log_beta_part(df / 2, 0.5, df / (df + t * t)) / math.log(10))


def student_quantile(part: float, df: int) -> float:
    """The t below which `part` (more than half) of Student's distribution lies."""
    wanted = -math.log10(2 * (1 - part))
    return _root(lambda t: minus_log10_p(t, df) - wanted, 0.0, 1e6)


def _root(of: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is zero, by bisection."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if of(middle) < 0 else (low, middle)
    return (low + high) / 2


def log_beta_part(a: float, b: float, x: float) -> float:
    """The natural logarithm of the regularised incomplete beta function."""
    if x <= 0:
        return -math.inf
    if x >= 1:
        return 0.0
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return front + math.log(_continued(a, b, x) / a)
    return math.log1p(-math.exp(front) * _continued(b, a, 1 - x) / b)


def _continued(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, 10_000):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + factor * d)
            c = _away(1 + factor / c)
            found *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return found


def _away(number: float) -> float:
    return number if abs(number) > TINY else TINY
