"""Chooses the interval of every difference; no other module does.

Between methods: Welch's, because accuracies of two methods with the same seed turned out to be uncorrelated and pairing
would halve the degrees of freedom without a gain. Within a method (a row against itself in another column): paired by
seed, because most of the variance between seeds is shared.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.profiles.profile import Profile
from benchmarks.statistics.intervals import (
    ALPHA,
    LAST,
    LATE,
    Difference,
    Estimate,
    holm,
    improvement,
    one_sample,
    rounding_std,
    two_samples,
)
from benchmarks.tables.benchmark import Benchmark, Measure

AVERAGE = "average"  # name of the column with the mean over all columns
CONTROLS = ("KD again", "KD shuffled")  # rows that are no rivals (see controls.py)
Values = dict[int, float]  # by seed, in increasing order
SENTENCE = (
    "Intervals are 95 % over all looks at 3 to 10 seeds: Welch's between methods (1.0 % per look), paired by seed "
    "within a method (1.2 %). Bold: significantly different from zero after Holm's correction over the table's rivals."
)


class Rule(NamedTuple):
    """Settings of a profile that must be chosen before the first run. margin: two accuracies within this many points
    are equivalent. last: number of seeds at the last look (intervals.LATE with late_looks)."""

    margin: float = 0.5
    last: int = LAST


RULE = Rule()


def rule_of(profile: Profile) -> Rule:
    return Rule(profile.margin, LATE if profile.late_looks else LAST)


def compare(first: Values, second: Values, same_method: bool, min_std: float = 0.0, last: int = LAST) -> Difference:
    """Compares two methods: first - second, paired by seed within a method, else Welch's. min_std: of one value of one
    sample."""
    if same_method:
        return one_sample(list(paired(first, second).values()), math.sqrt(2) * min_std, last)
    return two_samples(list(first.values()), list(second.values()), min_std, last)


def paired(first: Values, second: Values) -> Values:
    """Returns first - second for the seeds that both have."""
    return {seed: first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())}


def mean_over(columns: Sequence[Values]) -> Values:
    """Returns each seed's mean over the columns, for the seeds that all columns have."""
    seeds = sorted(set.intersection(*map(set, columns))) if columns else []
    return {seed: float(np.mean([values[seed] for values in columns])) for seed in seeds}


def by_seed(frame: pd.DataFrame, measure: str) -> dict[tuple[str, str], Values]:
    """Maps (row, column) to each seed's value. frame: one benchmark's rows of the report's frame.

    A seed counts only after all smaller seeds of its cell have ended, so seeds that finish out of order cause no
    additional looks.
    """
    found: dict[tuple[str, str], Values] = {}
    if measure not in frame:
        return found
    ended = frame["state"].isin(("finished", "refused")) if "state" in frame else frame[measure].notna()
    known = frame.assign(ended=ended | frame[measure].notna())[frame["seed"].notna()].sort_values("seed", kind="stable")
    waiting: set[tuple[str, str]] = set()
    columns = (known[name] for name in ("row", "column", "seed", measure, "ended"))
    for row, column, seed, value, has_ended in zip(*columns, strict=True):
        if not has_ended:
            waiting.add((row, column))
        elif (row, column) not in waiting and pd.notna(value):
            found.setdefault((row, column), {})[int(seed)] = float(value)
    return found


def rows_of(frame: pd.DataFrame) -> list[str]:
    """Returns the methods: every row except the teacher and the controls."""
    return [str(row) for row in dict.fromkeys(frame["row"]) if row not in ("Teacher", *CONTROLS)]


def differences(frame: pd.DataFrame, benchmark: Benchmark, measure: Measure, rule: Rule = RULE) -> pd.DataFrame:
    """Compares the benchmark's reference row with every other row, per column.

    Columns of the result: column, row, difference, lower, upper (95 % over all looks), seeds, p_holm, improvement,
    pairs_lower, pairs_upper. p_holm: p value of no difference over all looks, with Holm's correction over the table's
    rivals; nan for controls and for fewer than three seeds. improvement: P(improvement) of the reference (see
    intervals.improvement). If there are several columns and ``benchmark.averages`` holds, the last rows (column
    "average") are means over all of them and are corrected separately; pairs_lower and pairs_upper are a t interval
    over the columns, which generalises to other pairs of networks.
    """
    values, min_std = by_seed(frame, measure.name), measure_rounding_std(frame, measure)
    columns, reference = list(dict.fromkeys(map(str, frame["column"]))), benchmark.reference
    compared: list[tuple[str, str, Values, Values, tuple[float, float]]] = []
    none = (math.nan, math.nan)
    if reference in columns:  # a table with one row (table 1): the reference column minus every other column
        row = str(frame["row"].iloc[0])
        own = values.get((row, reference), {})
        compared = [
            (row, column, own, values.get((row, column), {}), none) for column in columns if column != reference
        ]
    else:
        rivals = [row for row in dict.fromkeys(map(str, frame["row"])) if row not in (reference, "Teacher")]
        pairs = {r: [(values.get((reference, c), {}), values.get((r, c), {})) for c in columns] for r in rivals}
        for index, column in enumerate(columns):
            compared += [(column, row, *pairs[row][index], none) for row in rivals]
        if len(columns) > 1 and benchmark.averages:
            for row in rivals:
                first, second = (mean_over([pair[side] for pair in pairs[row]]) for side in (0, 1))
                compared.append((AVERAGE, row, first, second, _over_columns(pairs[row])))
    lines = []
    for column, row, first, second, over_pairs in compared:
        found = compare(first, second, reference in columns, min_std, rule.last)
        if found.n:
            lines.append((column, row, found, _better(first, second, measure), over_pairs))
    p_values = [math.nan if line[1] in CONTROLS else float(line[2].p()) for line in lines]
    corrected = [math.nan] * len(lines)
    for averages in (False, True):
        indices = [index for index, line in enumerate(lines) if (line[0] == AVERAGE) == averages]
        for index, p in zip(indices, holm([p_values[index] for index in indices]), strict=True):
            corrected[index] = p
    names = ["column", "row", "difference", "lower", "upper", "seeds", "p_holm", "improvement"]
    return pd.DataFrame(
        [
            (column, row, *found.estimate(), p, better, *over)
            for (column, row, found, better, over), p in zip(lines, corrected, strict=True)
        ],
        columns=[*names, "pairs_lower", "pairs_upper"],
    )


def _over_columns(pairs: Sequence[tuple[Values, Values]]) -> tuple[float, float]:
    """Returns the t interval of the mean difference over columns, one value per column; (nan, nan) for fewer than
    three."""
    gaps = [
        float(np.mean([*first.values()]) - np.mean([*second.values()])) for first, second in pairs if first and second
    ]
    over = one_sample(gaps).estimate() if len(gaps) == len(pairs) <= LAST else Estimate(math.nan, math.nan, math.nan, 0)
    return over.lower, over.upper


def _better(first: Values, second: Values, measure: Measure) -> float:
    share = improvement(list(first.values()), list(second.values()))
    return share if measure.larger_is_better else 1 - share


def pairwise(frame: pd.DataFrame, benchmark: Benchmark, measure: Measure, rule: Rule = RULE) -> pd.DataFrame:
    """Compares every method with every other: row, other, difference, lower, upper, seeds, p_holm, improvement.

    difference: row minus other, of each seed's mean over the columns that both have. p_holm: as in ``differences``,
    corrected over all pairs. improvement: mean over columns. The teacher, the controls and pairs without a common
    column are omitted.
    """
    values, min_std = by_seed(frame, measure.name), measure_rounding_std(frame, measure)
    columns = list(dict.fromkeys(frame["column"]))
    found: list[tuple[str, str, Difference, float]] = []
    for row, other in combinations(rows_of(frame), 2):
        shared = [c for c in columns if (row, c) in values and (other, c) in values]
        first, second = (mean_over([values[name, c] for c in shared]) for name in (row, other))
        if first and second:
            better = float(np.mean([_better(values[row, c], values[other, c], measure) for c in shared]))
            found.append(
                (row, other, compare(first, second, False, min_std / math.sqrt(len(shared)), rule.last), better)
            )
    lines = []
    corrected = holm([float(gap.p()) for *_, gap, _ in found])
    for (row, other, gap, better), p in zip(found, corrected, strict=True):
        mean, lower, upper, n = gap.estimate()
        lines += [(row, other, mean, lower, upper, n, p, better), (other, row, -mean, -upper, -lower, n, p, 1 - better)]
    names = ["row", "other", "difference", "lower", "upper", "seeds", "p_holm", "improvement"]
    order = {row: index for index, row in enumerate(rows_of(frame))}
    lines.sort(key=lambda line: (order[line[0]], order[line[1]]))
    return pd.DataFrame(lines, columns=names)


def relative_gains(frame: pd.DataFrame, measure: Measure, rule: Rule = RULE) -> dict[str, float]:
    """Returns by method its gain over KD divided by KD's gain over the student alone, each summed over the columns that
    all three have been run in. Empty unless the interval of KD - Student lies above zero: the ratio is biased and its
    variance is large if the denominator is near zero."""
    values, columns = by_seed(frame, measure.name), list(dict.fromkeys(frame["column"]))
    shared = [c for c in columns if ("KD", c) in values and ("Student", c) in values]
    kd, student = (mean_over([values[row, c] for c in shared]) for row in ("KD", "Student"))
    min_std = measure_rounding_std(frame, measure) / math.sqrt(max(1, len(shared)))
    if not compare(kd, student, False, min_std, rule.last).estimate().lower > 0:
        return {}
    means = {cell: float(np.mean(list(found.values()))) for cell, found in values.items()}
    gains = {}
    for row in rows_of(frame):
        own = [c for c in shared if (row, c) in means]
        of_kd = sum(means["KD", c] - means["Student", c] for c in own)
        if row not in ("KD", "Student") and of_kd > 0:
            gains[row] = sum(means[row, c] - means["KD", c] for c in own) / of_kd
    return gains


def measure_rounding_std(frame: pd.DataFrame, measure: Measure) -> float:
    """Returns the rounding standard deviation of one of the measure's values; 0 if they are not counts of images."""
    which, _, kind = measure.name.rpartition("_")
    images = f"{which}_images"
    return rounding_std(float(frame[images].min())) if kind in ("top1", "top5") and images in frame else 0.0


def deciding_measure(benchmark: Benchmark, which: str) -> Measure:
    """Returns the accuracy at the epoch that verdicts use ("chosen" or "last"), else the benchmark's first measure."""
    measures = benchmark.measures
    return next((measure for measure in measures if measure.name == f"{which}_top1"), measures[0])


def is_sure(p_holm: float) -> bool:
    """Returns True if the difference is significant after correction (set in bold); False for nan (no p value)."""
    return p_holm < ALPHA


def seed_correlation(values: Mapping[tuple[str, str], Values]) -> tuple[float, int]:
    """Returns the correlation of two methods within a seed, pooled over all pairs of methods and all columns, and the
    number of pairs. Welch's interval keeps its error rate if the correlation is not negative.

    The pooled correlation is the sum of (a - mean a)(b - mean b) divided by the root of the product of the sums of
    squares; nan if no two methods have three common seeds.
    """
    products, squares, pairs = 0.0, np.zeros(2), 0
    for (row, column), (other, elsewhere) in combinations(values, 2):
        both = sorted(values[row, column].keys() & values[other, elsewhere].keys())
        if column != elsewhere or row == other or len(both) < 3 or {row, other} & {"Teacher", *CONTROLS}:
            continue
        a, b = (np.array([values[cell][seed] for seed in both]) for cell in ((row, column), (other, column)))
        a, b = a - a.mean(), b - b.mean()
        products, squares, pairs = products + a @ b, squares + np.array([a @ a, b @ b]), pairs + 1
    scale = math.sqrt(float(squares.prod()))
    return (products / scale if scale > 0 else math.nan), pairs
