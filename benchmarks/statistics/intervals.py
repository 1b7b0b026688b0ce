"""The intervals of every difference, and their levels: one rule for tables, claims, the page and README.

A t interval is wrong in 5 % of cases at one number of seeds that was chosen beforehand. Who looks after every seed, and
stops when the interval leaves zero, has up to eight chances to be wrong. So the error is spent over the looks at 3 to
10 seeds: every look has the same level (Pocock, Biometrika 64, 1977), so small that the chance of being wrong at any of
them is the error that was asked for. ``python -m perf.verdict_rates --levels`` finds the levels by simulation.

The functions take arrays of values per seed (..., n) and broadcast over the leading axes.
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
LATE = 20  # the last look of a profile with late_looks, which looks at 15 and 20 seeds too
LATE_SHARE = 0.94  # of the level of a look, where there are two looks more

# the error over all looks, the level of a look at one sample, and at two samples of whatever deviations (Welch): the
# smallest that the simulation finds for ratios of deviations from 1 to 10
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
    """The p value over all looks that goes with ``p`` at one of them: the inverse of ``per_look_alpha``; at most 1."""
    each = np.log(np.maximum(np.asarray(p, dtype=float), 1e-300) / (LATE_SHARE if last > LAST else 1.0))
    levels = _CURVE[:, 1 + two]
    beyond = np.minimum(0.0, each - levels[0]) + np.maximum(0.0, each - levels[-1])
    return np.minimum(1.0, np.exp(np.interp(each, levels, _CURVE[:, 0]) + beyond))


class Estimate(NamedTuple):
    """A mean over n seeds and its interval; nan where there is none."""

    mean: float
    lower: float
    upper: float
    n: int


class Difference(NamedTuple):
    """What is known of a mean difference: ``mean``, its standard error ``sd`` and degrees of freedom ``df``, all of one
    shape; ``n``: the smaller number of seeds; ``two``: whether two samples were compared (Welch)."""

    mean: np.ndarray
    sd: np.ndarray
    df: np.ndarray
    n: int
    two: bool
    last: int = LAST

    def half_width(self, alpha: float = ALPHA) -> np.ndarray:
        """Half the interval's width; infinite for fewer than FIRST seeds and where nothing is known of the spread."""
        if self.n < FIRST:
            return np.full_like(self.sd, np.inf)
        quantile = stats.t.isf(per_look_alpha(alpha, self.two, self.last) / 2, self.df)
        return np.where(self.sd > 1e-9, quantile * self.sd, np.inf)

    def p(self, bound: float = 0.0) -> np.ndarray:
        """Two-sided p value of the mean being ``bound``, over all looks: below 0.05 where the 95 % interval leaves the
        bound out. nan where there is no interval."""
        if self.n < FIRST:
            return np.full_like(self.sd, np.nan)
        known = np.where(self.sd > 1e-9, self.sd, np.nan)
        at_this_look = 2 * stats.t.sf(np.abs(self.mean - bound) / known, self.df)
        return np.where(np.isnan(known), np.nan, overall_p_value(at_this_look, self.two, self.last))

    def estimate(self, alpha: float = ALPHA) -> Estimate:
        """The mean and its interval, of a single difference."""
        mean, half = float(self.mean), float(self.half_width(alpha))
        return Estimate(mean, *((mean - half, mean + half) if math.isfinite(half) else (math.nan,) * 2), self.n)


def counted(n: int, last: int = LAST) -> int:
    """How many of ``n`` seeds count: those of the latest look. Looks are at 3 to 10 seeds, of a late rule at 15, 20."""
    looks = [*range(LAST + 1), *(range(15, last + 1, 5))]
    return max(look for look in looks if look <= n)


def one_sample(values: ArrayLike, min_std: float = 0.0, last: int = LAST) -> Difference:
    """The mean of ``values`` (..., n), one a seed: paired differences, or any number of one method. Student's t.

    min_std: the least standard deviation that a value is taken to have (see ``rounding_std``).
    """
    mean, variance, n = _moments(values, min_std, last)
    return Difference(mean, np.sqrt(variance), np.full_like(mean, max(1, n - 1)), n, False, last)


def two_samples(first: ArrayLike, second: ArrayLike, min_std: float = 0.0, last: int = LAST) -> Difference:
    """The difference of two means (..., n) and (..., m), of independent samples whose deviations may differ: Welch's
    t with Satterthwaite's degrees of freedom (Welch, Biometrika 34, 1947). min_std: as of ``one_sample``, of each."""
    (mean_a, a, n), (mean_b, b, m) = _moments(first, min_std, last), _moments(second, min_std, last)
    spread = np.maximum(a**2 / max(1, n - 1) + b**2 / max(1, m - 1), 1e-300)
    return Difference(mean_a - mean_b, np.sqrt(a + b), np.maximum((a + b) ** 2 / spread, 1.0), min(n, m), True, last)


def _moments(values: ArrayLike, min_std: float, last: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The mean, its squared standard error, and the number of the seeds that count."""
    known = np.asarray(values, dtype=float)
    n = counted(known.shape[-1], last)
    used = known[..., :n]
    if n == 0:
        return np.full(known.shape[:-1], np.nan), np.full(known.shape[:-1], np.nan), 0
    variance = used.var(-1, ddof=1) if n > 1 else np.zeros(used.shape[:-1])
    return used.mean(-1), np.maximum(variance, min_std**2) / n, n


def rounding_std(images: float, accuracies: float = 1) -> float:
    """The least standard deviation, in points, of a sum or difference of so many accuracies over ``images`` images.

    An accuracy is a count: rounding to steps of h = 100 / images has the variance h^2 / 12 for each of them, and three
    seeds with equal counts would otherwise give an interval without width. 0 if ``images`` is not known.
    """
    return 100 / images * math.sqrt(accuracies / 12) if images > 0 else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979): in order of size the i-th of m smallest
    is multiplied by m - i + 1, never below one before it, at most 1. nan stays nan and is not counted."""
    known = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for step, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - step) * p))
        corrected[index] = largest
    return corrected


def improvement(first: ArrayLike, second: ArrayLike) -> float:
    """P(improvement): the share of all pairs of a seed of ``first`` (n,) and one of ``second`` (m,) in which the first
    is larger, a tie counting half: Mann and Whitney's U / (n m)."""
    gaps = np.subtract.outer(np.asarray(first, dtype=float), np.asarray(second, dtype=float))
    return float((np.sign(gaps) + 1).mean() / 2) if gaps.size else math.nan
