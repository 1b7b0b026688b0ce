"""Intervals that hold while one looks: after each added seed, from the third to the tenth.

A t interval is wrong in 5 % of cases at one number of seeds that was chosen beforehand. Who looks after every seed, and
stops when the interval leaves zero, has up to eight chances to be wrong. Here the error is spent over those eight
looks: every look has the same nominal level (as Pocock, Biometrika 1977, for normal means), so small that the chance
of being wrong at any of them is the error that was asked for. The nominal levels were found by simulating Student's t
over the same growing sample, which is exact for normal differences whatever their spread:
``python -m benchmarks.statistics.simulate --levels`` finds them again.

An accuracy is a count of images. Three seeds with equal counts would give an interval without width, so the standard
deviation is never taken to be less than what rounding to whole images makes of a number by itself.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95
FIRST, LAST = 3, 10  # seeds at the first and at the last look
ERROR = 1 - LEVEL

# the error over all looks, and the level of each look that spends it (benchmarks.statistics.simulate --levels)
NOMINAL = (
    (0.0001, 0.0000145),
    (0.0005, 0.0000772),
    (0.001, 0.000165),
    (0.0025, 0.00044),
    (0.005, 0.000929),
    (0.01, 0.00198),
    (0.025, 0.00548),
    (0.05, 0.01197),
    (0.1, 0.0269),
    (0.2, 0.0623),
)
# below what can be simulated an eighth, which is right whatever the looks have to do with each other
_LOOKS = LAST - FIRST + 1
_SMALLEST = 1e-6
_CURVE = np.log([(_SMALLEST, _SMALLEST / _LOOKS), *NOMINAL])


class Estimate(NamedTuple):
    """A mean over n seeds and its interval; nan where there is none."""

    mean: float
    lower: float
    upper: float
    n: int


def nominal(error: float) -> float:
    """The level of each look at which the error over all looks is ``error`` (two-sided, at most 0.2)."""
    if not 0 < error <= NOMINAL[-1][0]:
        raise ValueError(f"the error must lie in 0..{NOMINAL[-1][0]:g}, found {error}")
    if error < _SMALLEST:
        return error / _LOOKS
    return float(np.exp(np.interp(math.log(error), *_CURVE.T)))


def spent(p: ArrayLike) -> np.ndarray:
    """The p value over all looks that goes with ``p`` at one of them, any shape: ``nominal``'s inverse, at most eight
    times p. Beyond the largest simulated level, the largest ratio there: it is above 0.2 in any case."""
    each = np.maximum(np.asarray(p, dtype=float), 1e-300)
    inside = np.exp(np.interp(np.log(each), _CURVE[:, 1], _CURVE[:, 0]))
    small, large = np.exp(_CURVE[0, 1]), np.exp(_CURVE[-1, 1])
    ratio = np.exp(_CURVE[-1, 0] - _CURVE[-1, 1])
    return np.where(each < small, _LOOKS * each, np.where(each > large, np.minimum(1.0, ratio * each), inside))


def count_floor(images: float, accuracies: float = 2) -> float:
    """The least standard deviation, in points, of a sum or difference of so many accuracies over ``images`` images.

    Rounding to steps of h = 100 / images has the variance h^2 / 12 for each of them. 0 if ``images`` is not known.
    """
    return 100 / images * math.sqrt(accuracies / 12) if images > 0 else 0.0


def half_width(spread: ArrayLike, n: int, error: float = ERROR, floor: float = 0.0) -> np.ndarray:
    """Half the width of the interval of a mean over ``n`` seeds (FIRST to LAST) whose standard deviation (n - 1) is
    ``spread``, any shape; infinite for fewer seeds."""
    known = np.maximum(np.asarray(spread, dtype=float), floor)
    if n < FIRST:
        return np.full_like(known, np.inf)
    quantile = float(stats.t.isf(nominal(error) / 2, n - 1))
    return quantile * known / math.sqrt(n)


def sequential_interval(values: Sequence[float], level: float = LEVEL, floor: float = 0.0) -> Estimate:
    """The mean of ``values`` (one a seed, in the seeds' order) and its interval. More than LAST seeds: of the first
    LAST, at which the looks end. No interval (nan) for fewer than FIRST, and for equal values without a ``floor``:
    they tell nothing of the spread."""
    used = np.asarray(values[:LAST], dtype=float)
    n = len(used)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(used.mean())
    spread = float(used.std(ddof=1)) if n > 1 else 0.0
    if n < FIRST or max(spread, floor) < 1e-9:
        return Estimate(mean, math.nan, math.nan, n)
    half = float(half_width(spread, n, 1 - level, floor))
    return Estimate(mean, mean - half, mean + half, n)


def sequential_p(values: Sequence[float], bound: float = 0.0, floor: float = 0.0) -> float:
    """Two-sided p value of the mean being ``bound``, which holds while one looks: it is below 0.05 where the 95 %
    interval leaves the bound out. nan where there is no interval."""
    used = np.asarray(values[:LAST], dtype=float)
    n = len(used)
    spread = max(float(used.std(ddof=1)), floor) if n > 1 else 0.0
    if n < FIRST or spread < 1e-9:
        return math.nan
    t = abs(float(used.mean()) - bound) * math.sqrt(n) / spread
    return float(spent(2 * stats.t.sf(t, n - 1)))


def seeds_that_decide(mean: float, spread: float, error: float = ERROR, floor: float = 0.0) -> int | None:
    """After how many seeds the interval leaves zero out, if mean and standard deviation stay what they are; None if
    not even after LAST. An estimate: of a spread from few seeds, and the mean moves too."""
    for n in range(FIRST, LAST + 1):
        if abs(mean) > float(half_width(spread, n, error, floor)):
            return n
    return None
