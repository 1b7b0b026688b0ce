"""The power of claims that hold for a tie, such as C2: how probably they would be supported if it is one."""

import numpy as np
import pandas as pd

from benchmarks.statistics.claims import Claim, Results
from benchmarks.statistics.comparison import RULE, Rule, by_seed
from benchmarks.statistics.intervals import FIRST
from benchmarks.statistics.judging import epoch_that_decides
from benchmarks.statistics.verdict import Condition, Sample, judge_suites
from sskd.formatting import plural

SUITES = 2000


def tie_power(deviation: float, columns: int, rule: Rule = RULE) -> float:
    """Returns the probability that a method is found not to be inferior by the margin to an equal one in each of the
    columns, by the last look. deviation: standard deviation of a run, in points."""
    rng = np.random.default_rng(0)

    def sample() -> Sample:
        return Sample((), deviation * rng.standard_normal((SUITES, rule.last)))

    parts = [Condition("", sample(), sample(), -rule.margin, last=rule.last) for _ in range(columns)]
    return float(judge_suites(parts, range(FIRST, rule.last + 1)).supported.mean())


def tie_power_text(claim: Claim, frame: pd.DataFrame, rule: Rule = RULE) -> str:
    """Describes the power of a claim that holds for ties; "" for other claims, and if no cell has three seeds.

    frame: the report's frame. The deviation of a run is the median over its cells.
    """
    own = frame[frame["benchmark"] == claim.benchmark]
    which = epoch_that_decides(own)
    ties = [part for part in claim.parts(Results(own, which, rule)) if part.bound < 0]
    values = [sample for _, group in frame.groupby("benchmark") for sample in by_seed(group, f"{which}_top1").values()]
    deviations = [float(np.std(list(seeds.values()), ddof=1)) for seeds in values if len(seeds) >= FIRST]
    if not ties or not deviations:
        return ""
    deviation, columns = float(np.median(deviations)), len({column for part in ties for _, column in part.cells})
    return (
        f"if SSKD equals the best other method, {rule.last} seeds show it within {rule.margin:g} points on "
        f"{plural(columns, 'pair')} with probability {round(100 * tie_power(deviation, columns, rule))} % (deviation "
        f"of a run {deviation:.2f} points, the median of {plural(len(deviations), 'cell')})"
    )
