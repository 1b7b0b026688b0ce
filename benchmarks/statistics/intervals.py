"""Confidence intervals of differences and their levels: one rule for tables, claims, the page and README.

A t interval has its nominal error of 5 % only if the number of seeds is fixed in advance. Whoever checks after every
seed and stops as soon as the interval excludes zero has up to eight chances to be wrong. The design is therefore
group-sequential: looks at 3 to 10 seeds, each at the same level (Pocock, Biometrika 64, 1977), chosen such that the
probability of an error at any look is alpha. ``python -m perf.verdict_rates --levels`` finds the levels by simulation.

All functions take arrays with one value per seed (..., n) and broadcast over the leading axes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95
ALPHA = 1 - LEVEL
FIRST, LAST = 3, 10  # seeds at the first and at the last look
LATE = 20  # seeds at the last look of a profile with late_looks, which adds looks at 15 and 20 seeds
LATE_SHARE = 0.94  # factor of the level per look if there are two more looks

# overall alpha, level per look for one sample, level per look for two samples (Welch): the smallest in simulations with
# ratios of standard deviations from 1 to 10
LEVELS = (
    (0.000001, 0.000000125, 0.0000000028),
    (0.0001, 0.0000145, 0.00000146),
    (0.0005, 0.0000772, 0.000013),
    (0.001, 0.000165, 0.0000389),
    (0.0025, 0.00044, 0.000147),
    (0.005, 0.000929, 0.000398),
    (0.01, 0.00198, 0.00106),
    (0.025, 0.00548, 0.00386),
    (0.05, 0.01197, 0.01),
    (0.1, 0.0269, 0.024),
    (0.2, 0.0623, 0.0599),
)
_CURVE = np.log(LEVELS)


def per_look_alpha(alpha: float, two: bool = False, last: int = LAST) -> float:
    """Returns the significance level of each look for an overall level ``alpha`` (two-sided, at most 0.2).

    two: two-sample test (Welch). last: LATE if the looks at 15 and 20 seeds count too.
    """
    if not 0 < alpha <= LEVELS[-1][0]:
        raise ValueError(f"alpha must lie in 0..{LEVELS[-1][0]:g}, found {alpha}")
    below = min(0.0, math.log(alpha) - _CURVE[0, 0])  # below the table the ratio of alpha and level is constant
    level = float(np.exp(np.interp(math.log(alpha), _CURVE[:, 0], _CURVE[:, 1 + two]) + below))
    return level * (LATE_SHARE if last > LAST else 1.0)


def overall_p_value(p: ArrayLike, two: bool = False, last: int = LAST) -> np.ndarray:
    """Returns the p value over all looks that corresponds to ``p`` at one look: the inverse of ``per_look_alpha``, at
    most 1."""
    each = np.log(np.maximum(np.asarray(p, dtype=float), 1e-300) / (LATE_SHARE if last > LAST else 1.0))
    levels = _CURVE[:, 1 + two]
    beyond = np.minimum(0.0, each - levels[0]) + np.maximum(0.0, each - levels[-1])
    return np.minimum(1.0, np.exp(np.interp(each, levels, _CURVE[:, 0]) + beyond))


class Estimate(NamedTuple):
    """Mean over ``n`` seeds and its interval; nan if there is none."""

    mean: float
    lower: float
    upper: float
    n: int


class Difference(NamedTuple):
    """Sampling distribution of a mean difference: ``mean``, standard error ``sd`` and degrees of freedom ``df``, of one
    shape.

    n: the smaller number of seeds. two: True for two samples (Welch). last: number of seeds at the last look.
    """

    mean: np.ndarray
    sd: np.ndarray
    df: np.ndarray
    n: int
    two: bool
    last: int = LAST

    def half_width(self, alpha: float = ALPHA) -> np.ndarray:
        """Returns half the interval's width: infinite for fewer than FIRST seeds or zero variance."""
        if self.n < FIRST:
            return np.full_like(self.sd, np.inf)
        quantile = stats.t.isf(per_look_alpha(alpha, self.two, self.last) / 2, self.df)
        return np.where(self.sd > 1e-9, quantile * self.sd, np.inf)

    def p(self, bound: float = 0.0) -> np.ndarray:
        """Returns the two-sided p value of the hypothesis that the mean is ``bound``, over all looks. It is below 0.05
        if and only if the 95 % interval excludes the bound; nan if there is no interval."""
        if self.n < FIRST:
            return np.full_like(self.sd, np.nan)
        known = np.where(self.sd > 1e-9, self.sd, np.nan)
        at_this_look = 2 * stats.t.sf(np.abs(self.mean - bound) / known, self.df)
        return np.where(np.isnan(known), np.nan, overall_p_value(at_this_look, self.two, self.last))

    def estimate(self, alpha: float = ALPHA) -> Estimate:
        """Returns mean and interval of a single difference."""
        mean, half = float(self.mean), float(self.half_width(alpha))
        return Estimate(mean, *((mean - half, mean + half) if math.isfinite(half) else (math.nan,) * 2), self.n)


def counted(n: int, last: int = LAST) -> int:
    """Returns how many of ``n`` seeds are used: those of the latest look (3 to 10 seeds; with late looks also 15 and
    20)."""
    looks = [*range(LAST + 1), *(range(15, last + 1, 5))]
    return max(look for look in looks if look <= n)


def one_sample(values: ArrayLike, min_std: float = 0.0, last: int = LAST) -> Difference:
    """Student's t for the mean of ``values`` (..., n), one per seed: paired differences or any number of one method.

    min_std: lower bound of the standard deviation of a value (see ``rounding_std``).
    """
    mean, variance, n = _moments(values, min_std, last)
    return Difference(mean, np.sqrt(variance), np.full_like(mean, max(1, n - 1)), n, False, last)


def two_samples(first: ArrayLike, second: ArrayLike, min_std: float = 0.0, last: int = LAST) -> Difference:
    """Welch's t for the difference of two means (..., n) and (..., m) of independent samples with unequal variances.

    Degrees of freedom are Satterthwaite's (Welch, Biometrika 34, 1947). min_std: lower bound of each sample's standard
    deviation.
    """
    (mean_a, a, n), (mean_b, b, m) = _moments(first, min_std, last), _moments(second, min_std, last)
    spread = np.maximum(a**2 / max(1, n - 1) + b**2 / max(1, m - 1), 1e-300)
    return Difference(mean_a - mean_b, np.sqrt(a + b), np.maximum((a + b) ** 2 / spread, 1.0), min(n, m), True, last)


def _moments(values: ArrayLike, min_std: float, last: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the mean, its squared standard error and the number of seeds used."""
    known = np.asarray(values, dtype=float)
    n = counted(known.shape[-1], last)
    used = known[..., :n]
    if n == 0:
        return np.full(known.shape[:-1], np.nan), np.full(known.shape[:-1], np.nan), 0
    variance = used.var(-1, ddof=1) if n > 1 else np.zeros(used.shape[:-1])
    return used.mean(-1), np.maximum(variance, min_std**2) / n, n


def rounding_std(images: float, accuracies: float = 1) -> float:
    """Returns the standard deviation (in points) that rounding to whole images causes in a sum or difference of
    ``accuracies`` accuracies, each measured on ``images`` images.

    Rounding to steps of h = 100 / images has variance h^2 / 12 per accuracy. Without this lower bound, three seeds with
    equal counts would give an interval of width zero. Returns 0 if ``images`` is unknown.
    """
    return 100 / images * math.sqrt(accuracies / 12) if images > 0 else 0.0


def is_equivalent(lower: ArrayLike, upper: ArrayLike, margin: float) -> np.ndarray:
    """Returns True if the interval lies within [-margin, margin]."""
    return (np.asarray(lower) >= -margin) & (np.asarray(upper) <= margin)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979): the i-th smallest of m p values is
    multiplied by m - i + 1, made monotone, and limited to 1. nan stays nan and is not counted."""
    known = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for step, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - step) * p))
        corrected[index] = largest
    return corrected


def improvement(first: ArrayLike, second: ArrayLike) -> float:
    """Returns P(improvement): the fraction of all pairs of one seed of ``first`` (n,) and one of ``second`` (m,) in
    which the first is larger; ties count half. This is Mann and Whitney's U / (n m)."""
    gaps = np.subtract.outer(np.asarray(first, dtype=float), np.asarray(second, dtype=float))
    return float((np.sign(gaps) + 1).mean() / 2) if gaps.size else math.nan
