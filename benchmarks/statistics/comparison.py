"""Differences between rows of a table, paired by seed: two students of one seed start from the same weights and see
the same images in the same order, so much of what varies between seeds cancels."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import betaincinv

from benchmarks.statistics.intervals import LEVEL, Estimate, count_floor, sequential_p
from benchmarks.tables.benchmark import Benchmark, Measure

AVERAGE = "average"  # the column of a mean over all columns


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
    """The benchmark's reference row minus each other one: column, row, difference, lower, upper (the 95 % t interval),
    seeds, p_holm: the p value of no difference, which holds while one looks (intervals.sequential_p), with Holm's
    correction for all differences of the table; nan for fewer than three seeds.

    Where there are several columns, the last ones (column "average") are over all of them: the mean of a seed's
    differences, for the seeds that have every column. The teacher is no rival and is left out.
    """
    values = by_seed(frame, measure.name)
    reference = benchmark.reference
    rows = [row for row in dict.fromkeys(frame["row"]) if row not in (reference, "Teacher")]
    columns = list(dict.fromkeys(frame["column"]))
    if reference in columns:
        return _between_columns(values, frame, reference, measure)
    result = []
    for row in rows:
        per_column = {c: paired(values.get((reference, c), {}), values.get((row, c), {})) for c in columns}
        for column, gaps in per_column.items():
            result.append((column, row, list(gaps.values())))
        if len(columns) > 1:
            complete = set.intersection(*(set(gaps) for gaps in per_column.values()))
            means = [float(np.mean([gaps[seed] for gaps in per_column.values()])) for seed in sorted(complete)]
            result.append((AVERAGE, row, means))
    order = {column: place for place, column in enumerate([*columns, AVERAGE])}
    result.sort(key=lambda entry: order[entry[0]])
    return _table(result, accuracy_floor(frame, measure))


def pairwise(frame: pd.DataFrame, benchmark: Benchmark, measure: Measure) -> pd.DataFrame:
    """Every row against every other: row, other, difference, lower, upper, seeds, p_holm, wins, comparisons,
    wins_lower, wins_upper.

    difference: row minus other, each seed's mean over the columns, for the seeds that both have in every column that
    both have been run in; lower, upper: its 95 % t interval. wins: in how many of the ``comparisons`` (a column and a
    seed) the row is better than the other, a tie counting half; wins_lower, wins_upper: the exact binomial interval of
    their share. p_holm: see ``differences``, corrected for all pairs. The teacher is left out, and so are pairs that
    share no seed.
    """
    values = by_seed(frame, measure.name)
    rows = [row for row in dict.fromkeys(frame["row"]) if row != "Teacher"]
    columns = list(dict.fromkeys(frame["column"]))
    better = 1 if measure.larger_is_better else -1
    floor = accuracy_floor(frame, measure)
    result = []
    for row in rows:
        for other in rows:
            shared = [paired(values.get((row, c), {}), values.get((other, c), {})) for c in columns]
            shared = [gaps for gaps in shared if gaps]
            if row == other or not shared:
                continue
            complete = sorted(set.intersection(*(set(gaps) for gaps in shared)))
            means = [float(np.mean([gaps[seed] for gaps in shared])) for seed in complete]
            every = [better * gap for gaps in shared for gap in gaps.values()]
            wins = sum(1.0 if gap > 0 else 0.5 if gap == 0 else 0.0 for gap in every)
            p = sequential_p(means, floor=floor / math.sqrt(len(shared)))
            result.append((row, other, *t_interval(means), p, wins, len(every), *win_interval(wins, len(every))))
    names = ["row", "other", "difference", "lower", "upper", "seeds"]
    names += ["p_holm", "wins", "comparisons", "wins_lower", "wins_upper"]
    table = pd.DataFrame(result, columns=names)
    once = {frozenset(pair): p for *pair, p in zip(table["row"], table["other"], table["p_holm"], strict=True)}
    corrected = dict(zip(once, holm(list(once.values())), strict=True))
    table["p_holm"] = [corrected[frozenset(pair)] for pair in zip(table["row"], table["other"], strict=True)]
    return table


def win_interval(wins: float, n: int) -> tuple[float, float]:
    """The exact binomial interval (Clopper and Pearson) of the share ``wins`` / ``n``; half a win of a tie counts
    against either end."""
    few, many, tail = math.floor(wins), math.ceil(wins), (1 - LEVEL) / 2
    low = betaincinv(few, n - few + 1, tail) if few else 0.0
    high = betaincinv(many + 1, n - many, 1 - tail) if many < n else 1.0
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): in order of size the i-th of m smallest is multiplied by m - i + 1, never
    below one before it, at most 1. nan stays nan and is not counted."""
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for step, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - step) * p))
        corrected[place] = largest
    return corrected


def accuracy_floor(frame: pd.DataFrame, measure: Measure) -> float:
    """The least standard deviation of a difference of two of the measure's values, where they are counts of images."""
    which, _, kind = measure.name.rpartition("_")
    images = f"{which}_images"
    return count_floor(float(frame[images].min())) if kind in ("top1", "top5") and images in frame else 0.0


def is_sure(p_holm: float) -> bool:
    """Whether a difference is set in bold: not where there is no p value (nan)."""
    return p_holm < 1 - LEVEL


def _between_columns(
    values: dict[tuple[str, str], dict[int, float]], frame: pd.DataFrame, reference: str, measure: Measure
) -> pd.DataFrame:
    """Of a table with one row (table 1): the reference column minus each other one."""
    row = str(frame["row"].iloc[0])
    result = []
    for column in dict.fromkeys(frame["column"]):
        if column != reference:
            gaps = paired(values.get((row, reference), {}), values.get((row, column), {}))
            result.append((row, column, list(gaps.values())))
    return _table(result, accuracy_floor(frame, measure))


def _table(rows: list[tuple[str, str, list[float]]], floor: float) -> pd.DataFrame:
    """From (column, row, differences of seeds). Averages over columns are summaries of what the table has already, and
    have a p value of their own that is not counted among the others."""
    known = [entry for entry in rows if entry[2]]
    table = pd.DataFrame(
        [(column, row, *t_interval(gaps)) for column, row, gaps in known],
        columns=["column", "row", "difference", "lower", "upper", "seeds"],
    )
    p_values = [sequential_p(gaps, floor=floor) for _, _, gaps in known]
    corrected = [math.nan] * len(known)
    for averages in (False, True):
        places = [place for place, (column, _, _) in enumerate(known) if (column == AVERAGE) == averages]
        for place, p in zip(places, holm([p_values[place] for place in places]), strict=True):
            corrected[place] = p
    return table.assign(p_holm=corrected)
