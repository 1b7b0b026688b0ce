"""Ranks methods over many pairs of networks: mean ranks, and the reference against each rival; columns are the blocks.

Pairs of a table share teachers, and seeds share a teacher and a head, so they are not independent samples. The usual
tests (Demsar, JMLR 7, 2006) assume independence; their p values here are therefore too small (anti-conservative), by an
unknown amount.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.statistics.comparison import by_seed, rows_of
from benchmarks.statistics.intervals import ALPHA, holm

BLOCKS = 6  # with fewer columns the signed-rank test cannot reach 5 %
CAUTION = "Columns and seeds share teachers, so they are not independent: these p values are too small."


class Ranking(NamedTuple):
    """Ranking of methods. ranks: mean rank per method over the blocks, 1 is best. friedman: p value of equal methods.
    p_holm: p value per rival of being equal to the reference (Wilcoxon's signed-rank test, exact if possible, with
    Holm's correction over the rivals)."""

    ranks: dict[str, float]
    friedman: float
    p_holm: dict[str, float]


def rank(scores: dict[str, list[float]], reference: str, larger_is_better: bool = True) -> Ranking:
    """Ranks at least three methods. scores: per method one value per block; must contain ``reference``."""
    methods, table = list(scores), np.array(list(scores.values()))  # (methods, blocks)
    ranks = stats.rankdata(-table if larger_is_better else table, axis=0).mean(1)
    told_apart = bool((table != table[:1]).any())
    friedman = float(stats.friedmanchisquare(*table).pvalue) if told_apart else 1.0
    rivals = [method for method in methods if method != reference]
    own = table[methods.index(reference)]
    gaps = [own - table[methods.index(rival)] for rival in rivals]
    p_values = [float(stats.wilcoxon(gap).pvalue) if np.any(gap != 0) else 1.0 for gap in gaps]
    named = sorted(zip(methods, ranks.tolist(), strict=True), key=lambda entry: entry[1])
    return Ranking(dict(named), friedman, dict(zip(rivals, holm(p_values), strict=True)))


def ranking_lines(frame: pd.DataFrame, measure: str, reference: str, larger_is_better: bool = True) -> list[str]:
    """Describes the ranking of the methods that have results in all columns. Returns [] for fewer than six columns,
    fewer than three such methods, or a reference without results. frame: one benchmark's rows of the report's frame."""
    values, rows, columns = by_seed(frame, measure), rows_of(frame), list(dict.fromkeys(frame["column"]))
    full = [row for row in rows if all((row, column) in values for column in columns)]
    if len(columns) < BLOCKS or len(full) < 3 or reference not in full:
        return []
    scores = {row: [float(np.mean(list(values[row, column].values()))) for column in columns] for row in full}
    found = rank(scores, reference, larger_is_better)
    ranks = ", ".join(f"{method} {index:.1f}" for method, index in found.ranks.items())
    apart = ", ".join(rival for rival, p in found.p_holm.items() if p < ALPHA)
    left_out = [row for row in rows if row not in full]
    without = f" Omitted, because results are missing in some columns: {', '.join(left_out)}." if left_out else ""
    return [
        f"Mean ranks over {len(columns)} columns: {ranks}. Friedman's test of equal methods: p = {found.friedman:.2g}. "
        f"{reference} differs significantly (Wilcoxon's signed ranks, Holm) from: {apart or 'none'}.{without} {CAUTION}"
    ]
