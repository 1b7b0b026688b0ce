"""Computes verdicts from values per seed: supported, contradicted, equivalent or undecided, and whether more seeds
help.

A claim is a set of conditions; each is a difference that must lie above a bound. The intervals (intervals.py) are valid
under sequential testing. The claim is
- supported if the 95 % interval of every condition lies above its bound;
- contradicted if the interval of some condition lies below its bound, at a level with Bonferroni's correction;
- equivalent if the interval of every condition lies within its margin around zero;
- undecided otherwise: fewer than three seeds, missing runs, or an interval that contains the bound.

A condition that cannot be tested (``Condition.void``) is ignored.
"""

import math
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from benchmarks.statistics.intervals import (
    ALPHA,
    FIRST,
    LAST,
    Difference,
    Estimate,
    counted,
    is_equivalent,
    one_sample,
    two_samples,
)
from sskd.formatting import first_of

SUPPORTED, CONTRADICTED, EQUIVALENT, UNDECIDED = "supported", "contradicted", "equivalent", "undecided"
VOID = "void"
RANK_LEVEL = 0.007  # one-sided level per look of the exact test of rank correlations
GIVE_UP = 0.1  # smallest predictive probability of a decision for which more seeds are worth their time
FUTURES = 500  # simulated futures of a prediction
CellKeys = tuple[tuple[str, str], ...]  # (row, column) of one benchmark


class Sample(NamedTuple):
    """Values of one method, one per seed in the order of the seeds (..., n), and their cells. have: number of values
    that exist before the first simulated look."""

    cells: CellKeys
    values: Sequence[float] | np.ndarray
    have: int = 0

    @property
    def n(self) -> int:
        return int(np.shape(self.values)[-1])

    def at(self, look: int) -> "Sample":
        """Returns the values that are available at a look with ``look`` seeds."""
        return self._replace(values=np.asarray(self.values)[..., : max(look, self.have)])


class Position(NamedTuple):
    """True where an interval is above the bound, below it, or within the margin around zero; in the samples' shape."""

    above: np.ndarray
    below: np.ndarray
    within: np.ndarray


class Condition(NamedTuple):
    """A difference that must exceed ``bound``: ``first`` minus ``second`` (two methods), or a number of one method.

    sized: True if the paper's size of the claim refers to it. min_std: lower bound of the standard deviation of a value
    (intervals.rounding_std). margin: equivalence margin around zero; 0 for none. ranks: the values are rank
    correlations of four tasks, which have an exact test. void: reason why it cannot be tested; "" if it can. last:
    number of seeds at the last look.
    """

    name: str
    first: Sample
    second: Sample | None = None
    bound: float = 0.0
    sized: bool = True
    min_std: float = 0.0
    margin: float = 0.0
    ranks: bool = False
    void: str = ""
    last: int = LAST

    @property
    def cells(self) -> CellKeys:
        return self.first.cells + (self.second.cells if self.second else ())

    @property
    def n(self) -> int:
        """Returns the smaller number of seeds."""
        return min(self.first.n, self.second.n) if self.second else self.first.n

    def at(self, look: int) -> "Condition":
        """Returns the condition with the values that are available at a look with ``look`` seeds."""
        return self._replace(first=self.first.at(look), second=self.second.at(look) if self.second else None)

    @property
    def known(self) -> Difference:
        if self.second:
            return two_samples(self.first.values, self.second.values, self.min_std, self.last)
        return one_sample(self.first.values, self.min_std, self.last)

    def interval(self, alpha: float = ALPHA) -> Estimate:
        """Returns the mean and its interval; for rank correlations only the mean."""
        found = self.known.estimate(alpha)
        return found._replace(lower=math.nan, upper=math.nan) if self.ranks else found

    def p(self) -> float:
        """Returns the two-sided p value of the bound over all looks; nan if there is none."""
        if not self.ranks:
            return float(self.known.p(self.bound))
        tails = [float(rank_p(sign * np.asarray(self.first.values))) for sign in (1, -1)]
        return min(1.0, min(tails) * ALPHA / RANK_LEVEL) if self.n >= FIRST else math.nan

    def position(self, alpha: float = ALPHA) -> Position:
        """Returns the position of the interval."""
        if self.ranks:
            values = np.asarray(self.first.values)[..., : counted(self.n, self.last)]
            level = RANK_LEVEL * alpha / ALPHA if values.shape[-1] >= FIRST else -1.0
            above, below = rank_p(values) <= level, rank_p(-values) <= level
            return Position(above, below, np.zeros_like(above))
        found = self.known
        low, high = found.mean - found.half_width(alpha), found.mean + found.half_width(alpha)
        return Position(low > self.bound, high < self.bound, is_equivalent(low, high, self.margin))


def rank_p(correlations: np.ndarray) -> np.ndarray:
    """Returns the one-sided p value of a mean of rank correlations (..., n), each of four items in n independent
    orders: the exact distribution of the sum, from the 24 permutations of four items (Spearman, 1904)."""
    n = correlations.shape[-1]
    of_one = np.zeros(11)  # by correlation, from -1 to 1 in steps of 0.2
    for order in permutations(range(4)):
        of_one[10 - sum((a - b) ** 2 for a, b in enumerate(order)) // 2] += 1 / 24
    chances = np.ones(1)
    for _ in range(n):
        chances = np.convolve(chances, of_one)
    reached = np.floor((correlations.sum(-1) + n) / 0.2 + 1e-6).astype(int)  # ties lie between the steps
    return chances[::-1].cumsum()[::-1][np.clip(reached, 0, len(chances) - 1)]


class Calls(NamedTuple):
    """Verdicts on many simulated suites at any look, (suites,) bool each. seeds: the look at which each was decided
    first, or the last look."""

    supported: np.ndarray
    contradicted: np.ndarray
    equivalent: np.ndarray
    seeds: np.ndarray

    @property
    def decided(self) -> np.ndarray:
        return self.supported | self.contradicted | self.equivalent


def outcomes(parts: Sequence[Condition], alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns whether a claim with these conditions is supported, contradicted and equivalent now; each in the samples'
    shape."""
    found = [part.position(alpha) for part in parts]
    no = np.any([part.position(alpha / len(parts)).below for part in parts], axis=0)
    yes = np.all([position.above for position in found], axis=0) & ~no
    return yes, no, np.all([position.within for position in found], axis=0) & ~yes & ~no


def judge_suites(parts: Sequence[Condition], looks: Sequence[int]) -> Calls:
    """Returns the verdicts on many simulated suites, as ``decide`` gives them after each of the ``looks``. The samples'
    values have the shape (suites, seeds)."""
    every = np.stack([np.stack(np.broadcast_arrays(*outcomes([part.at(n) for part in parts]))) for n in looks])
    supported, contradicted, equivalent = np.asarray(every.any(0))  # of (looks, 3, suites)
    decided = every.any(1)
    first = np.where(decided.any(0), decided.argmax(0), len(looks) - 1)
    return Calls(supported, contradicted, equivalent, np.asarray(looks)[first])


def decide(parts: Sequence[Condition]) -> tuple[str, str]:
    """Returns the verdict on a claim with these conditions, and the reason."""
    if not parts:
        return UNDECIDED, "nothing was run"
    sound = [part for part in parts if not part.void]
    if not sound:
        return UNDECIDED, f"every comparison is void: {parts[0].void}"
    for part in sound:
        if part.n and part.position(ALPHA / len(sound)).below:
            return CONTRADICTED, f"{part.name} is below {part.bound:g}"
    absent = [part for part in sound if not part.n]
    if absent:
        return UNDECIDED, f"runs are missing ({_names(absent)})"
    fewest = min(part.n for part in sound)
    if fewest < FIRST:
        few = [part for part in sound if part.n == fewest]
        return UNDECIDED, f"a sequential interval needs three seeds, and there are only {fewest} ({_names(few)})"
    flat = [part for part in sound if math.isnan(part.interval().lower) and not part.ranks]
    if flat:
        return UNDECIDED, f"all seeds have the same value, so there is no interval ({_names(flat)})"
    yes, _, same = outcomes(sound)
    if yes:
        return SUPPORTED, f"{'every' if len(sound) > 1 else 'the'} interval lies above its bound"
    if same:
        return EQUIVALENT, f"no difference is larger than {max(part.margin for part in sound):g}"
    spans = [part for part in sound if not part.position().above]
    if sound[0].ranks:
        return UNDECIDED, "the rank correlation is not significantly different from zero"
    return UNDECIDED, f"an interval contains its bound {spans[0].bound:g} ({_names(spans)})"


def _names(parts: Sequence[Condition]) -> str:
    return first_of([part.name for part in parts], 1)


def weakest(parts: Sequence[Condition]) -> Condition | None:
    """Returns the condition whose mean is the least above its bound."""
    known = [part for part in parts if part.n and not part.void]
    return min(known, key=lambda part: float(part.known.mean) - part.bound, default=None)


class RequiredSeeds(NamedTuple):
    """Seeds that an undecided claim needs.

    chance: posterior predictive probability that the claim is decided by the last look; nan if there are too few seeds
    to predict. seeds: total number of seeds at which the claim is decided in half of the simulated futures that decide
    it; None if the chance is below GIVE_UP. cells: the cells that need these seeds.
    """

    claim: str
    benchmark: str
    have: int
    seeds: int | None
    chance: float
    cells: CellKeys
    last: int = LAST


def required_seeds(claim: str, benchmark: str, parts: Sequence[Condition]) -> RequiredSeeds:
    """Computes which seeds the conditions need. If a condition lies below its bound, only seeds of such conditions can
    decide; otherwise those of the conditions that are not yet above their bound."""
    sound = [part for part in parts if not part.void]
    have = min((part.n for part in sound), default=0)
    if have == 0 or all(part.n < 2 for part in sound):
        return RequiredSeeds(claim, benchmark, have, max(FIRST, have + 1), math.nan, _cells(sound))
    below = [part for part in sound if float(part.known.mean) < part.bound]
    open_parts = below or [part for part in sound if not part.position().above]
    if not open_parts:
        return RequiredSeeds(claim, benchmark, have, have, 1.0, ())
    chance, likely = predict(sound, open_parts)
    # two seeds are too few to give up
    seeds = likely if chance >= GIVE_UP else FIRST if have < FIRST else None
    return RequiredSeeds(claim, benchmark, have, seeds, chance, _cells(open_parts), sound[0].last)


def predict(parts: Sequence[Condition], grown: Sequence[Condition]) -> tuple[float, int]:
    """Returns the probability that the claim is decided by the last look if the samples of ``grown`` get more seeds,
    and the number of seeds at which it is decided in half of the simulated futures that decide it.

    Futures are drawn per sample from its posterior predictive distribution with the prior 1 / sigma: mu is
    t-distributed, new seeds are normal (Gelman et al., Bayesian Data Analysis, section 3.2). A sample with one seed
    gets the pooled variance of the others.
    """
    rng = np.random.default_rng(0)
    known = [sample for part in parts for sample in (part.first, part.second) if sample]
    spreads = [(sample.n - 1, float(np.var(sample.values, ddof=1))) for sample in known if sample.n > 1]
    total = sum(df for df, _ in spreads)
    pooled = sum(df * variance for df, variance in spreads) / total
    growing = _cells(grown)
    drawn: dict[tuple[CellKeys, tuple[float, ...]], np.ndarray] = {}

    def future(sample: Sample, part: Condition) -> Sample:
        key = (sample.cells, tuple(map(float, sample.values)))
        if key not in drawn:
            n, more = sample.n, max(0, part.last - sample.n) if set(sample.cells) & set(growing) else 0
            df, variance = (n - 1, float(np.var(sample.values, ddof=1))) if n > 1 else (total, pooled)
            sigma = np.sqrt(max(variance, part.min_std**2) * df / rng.chisquare(df, (FUTURES, 1)))
            mu = float(np.mean(sample.values)) + sigma / math.sqrt(n) * rng.standard_normal((FUTURES, 1))
            new = mu + sigma * rng.standard_normal((FUTURES, more))
            if part.ranks:
                new = np.clip(np.round(new * 5) / 5, -1, 1)
            drawn[key] = np.concatenate([np.tile(np.asarray(sample.values, float), (FUTURES, 1)), new], 1)
        return sample._replace(values=drawn[key], have=sample.n)

    many = [
        part._replace(first=future(part.first, part), second=future(part.second, part) if part.second else None)
        for part in parts
    ]
    last, have = parts[0].last, min(part.n for part in grown)
    looks = [n for n in range(max(FIRST, have + 1), last + 1) if counted(n, last) == n]
    if not looks:
        return 0.0, last
    calls = judge_suites(many, looks)
    decided = calls.seeds[calls.decided]
    return float(calls.decided.mean()), int(np.median(decided)) if len(decided) else last


def _cells(parts: Sequence[Condition]) -> CellKeys:
    return tuple(dict.fromkeys(cell for part in parts for cell in part.cells))
