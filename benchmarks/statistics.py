"""Differences between rows of a table, paired by seed: two students of one seed start from the same weights and see
the same images in the same order, so much of what varies between seeds cancels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.base import Benchmark, Measure

LEVEL = 0.95
AVERAGE = "average"  # the column of a mean over all columns


class Estimate(NamedTuple):
    """A mean over n seeds and its t interval (Student, n - 1 degrees of freedom); no interval (nan) for one seed."""

    mean: float
    lower: float
    upper: float
    n: int


def t_interval(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The mean of ``values`` and its t interval at ``level``."""
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def by_seed(frame: pd.DataFrame, measure: str) -> dict[tuple[str, str], dict[int, float]]:
    """(row, column) to what each finished seed reached. ``frame``: one benchmark's rows of the report's frame."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    if measure not in frame:
        return values
    known = frame[frame[measure].notna() & frame["seed"].notna()]
    for row, column, seed, value in zip(known["row"], known["column"], known["seed"], known[measure], strict=True):
        values.setdefault((row, column), {})[int(seed)] = float(value)
    return values


def paired(first: dict[int, float], second: dict[int, float]) -> dict[int, float]:
    """first - second for the seeds that both have."""
    return {seed: first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())}


def differences(frame: pd.DataFrame, benchmark: Benchmark, measure: Measure) -> pd.DataFrame:
    """The benchmark's reference row minus each other one: column, row, difference, lower, upper, seeds.

    Where there are several columns, the last ones (column "average") are over all of them: the mean of a seed's
    differences, for the seeds that have every column. The teacher is no rival and is left out.
    """
    values = by_seed(frame, measure.name)
    reference = benchmark.reference
    rows = [row for row in dict.fromkeys(frame["row"]) if row not in (reference, "Teacher")]
    columns = list(dict.fromkeys(frame["column"]))
    if reference in columns:
        return _between_columns(values, frame, reference)
    result = []
    for row in rows:
        per_column = {c: paired(values.get((reference, c), {}), values.get((row, c), {})) for c in columns}
        for column, gaps in per_column.items():
            result.append((column, row, *t_interval(list(gaps.values()))))
        if len(columns) > 1:
            complete = set.intersection(*(set(gaps) for gaps in per_column.values()))
            means = [float(np.mean([gaps[seed] for gaps in per_column.values()])) for seed in sorted(complete)]
            result.append((AVERAGE, row, *t_interval(means)))
    order = {column: place for place, column in enumerate([*columns, AVERAGE])}
    result.sort(key=lambda entry: order[entry[0]])
    return _table(result)


def pairwise(frame: pd.DataFrame, benchmark: Benchmark, measure: Measure) -> pd.DataFrame:
    """Every row against every other: row, other, difference, lower, upper, seeds, wins, comparisons.

    difference: row minus other, each seed's mean over the columns, for the seeds that both have in every column that
    both have been run in; lower, upper: its 95 % t interval. wins: in how many of the ``comparisons`` (a column and a
    seed) the row is better than the other, a tie counting half. The teacher is left out, and so are pairs that share
    no seed.
    """
    values = by_seed(frame, measure.name)
    rows = [row for row in dict.fromkeys(frame["row"]) if row != "Teacher"]
    columns = list(dict.fromkeys(frame["column"]))
    better = 1 if measure.larger_is_better else -1
    result = []
    for row in rows:
        for other in rows:
            shared = [paired(values.get((row, c), {}), values.get((other, c), {})) for c in columns]
            shared = [gaps for gaps in shared if gaps]
            if row == other or not shared:
                continue
            complete = sorted(set.intersection(*(set(gaps) for gaps in shared)))
            estimate = t_interval([float(np.mean([gaps[seed] for gaps in shared])) for seed in complete])
            every = [better * gap for gaps in shared for gap in gaps.values()]
            wins = sum(1.0 if gap > 0 else 0.5 if gap == 0 else 0.0 for gap in every)
            result.append((row, other, *estimate, wins, len(every)))
    names = ["row", "other", "difference", "lower", "upper", "seeds", "wins", "comparisons"]
    return pd.DataFrame(result, columns=names)


def leaves_out_zero(lower: float, upper: float) -> bool:
    """Whether an interval says which of two is larger: not where it spans zero, where there is none (nan), or where it
    has no width, as that of two seeds that are equal by chance."""
    return upper - lower > 1e-9 and (lower > 0 or upper < 0)


def _between_columns(
    values: dict[tuple[str, str], dict[int, float]], frame: pd.DataFrame, reference: str
) -> pd.DataFrame:
    """Of a table with one row (table 1): the reference column minus each other one."""
    row = str(frame["row"].iloc[0])
    result = []
    for column in dict.fromkeys(frame["column"]):
        if column != reference:
            gaps = paired(values.get((row, reference), {}), values.get((row, column), {}))
            result.append((row, column, *t_interval(list(gaps.values()))))
    return _table(result)


def _table(rows: list[tuple[str, str, float, float, float, int]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["column", "row", "difference", "lower", "upper", "seeds"])
    return table[table["seeds"] > 0].reset_index(drop=True)
