"""Many methods on many pairs: mean ranks, and the reference against its rivals, with blocks that are columns.

Columns share teachers and seeds share a teacher and a head, so they are not independent draws: the p values here are
the usual ones (Demsar, JMLR 7, 2006) and are too sure by as much as that sharing matters.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.statistics.comparison import by_seed, rows_of
from benchmarks.statistics.intervals import ALPHA, holm

BLOCKS = 6  # columns: with five no signed-rank test reaches 5 %
CAUTION = "Columns and seeds share teachers: they are not independent, and these tests are surer than they should be."


class Ranking(NamedTuple):
    """``ranks``: by method, the mean over the blocks, 1 is best; ``friedman``: p of all methods being equal;
    ``p_holm``: of the reference being a rival's equal (Wilcoxon's signed ranks, exact where it can be, with Holm's
    correction for the rivals)."""

    ranks: dict[str, float]
    friedman: float
    p_holm: dict[str, float]


def rank(scores: dict[str, list[float]], reference: str, larger_is_better: bool = True) -> Ranking:
    """Ranks three methods or more. scores: by method its value in every block, of one length; with ``reference``."""
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
    """The ranking in words, of the methods that have all columns; [] where there are fewer than six columns, or fewer
    than three such methods, or the reference is none. frame: one benchmark's rows of the report's frame."""
    values, rows, columns = by_seed(frame, measure), rows_of(frame), list(dict.fromkeys(frame["column"]))
    full = [row for row in rows if all((row, column) in values for column in columns)]
    if len(columns) < BLOCKS or len(full) < 3 or reference not in full:
        return []
    scores = {row: [float(np.mean(list(values[row, column].values()))) for column in columns] for row in full}
    found = rank(scores, reference, larger_is_better)
    ranks = ", ".join(f"{method} {index:.1f}" for method, index in found.ranks.items())
    apart = ", ".join(rival for rival, p in found.p_holm.items() if p < ALPHA)
    left_out = [row for row in rows if row not in full]
    without = f" Left out, as columns of theirs have no result: {', '.join(left_out)}." if left_out else ""
    return [
        f"Mean ranks over {len(columns)} columns: {ranks}. All equal: p = {found.friedman:.2g} (Friedman). {reference} "
        f"differs by signed ranks (Wilcoxon, Holm) from: {apart or 'none'}.{without} {CAUTION}"
    ]
