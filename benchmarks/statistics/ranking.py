"""Many methods on many pairs: mean ranks, and tests that know how many comparisons there are. (Who wins how often is
statistics.pairwise's.)

Pairs of one table share teachers and seeds share a teacher and a head, so they are not independent draws: the p values
and intervals here are the usual ones (Demsar, JMLR 2006) and are too sure by as much as that sharing matters.
"""

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.statistics.comparison import by_seed, holm
from benchmarks.statistics.intervals import LEVEL

CAUTION = "Pairs and seeds share teachers: they are not independent, and these tests are surer than they should be."


class Ranking(NamedTuple):
    """``ranks``: by method, 1 is best; ``blocks``: what was ranked within ("column" or "seed") and how many there were;
    ``friedman``: p of all methods being equal (nan for fewer than three methods or two blocks); ``pairwise``: first,
    second, p (Wilcoxon's signed ranks, exact where it can be), p_holm."""

    ranks: dict[str, float]
    blocks: tuple[str, int]
    friedman: float
    pairwise: pd.DataFrame


def ranking(frame: pd.DataFrame, measure: str, larger_is_better: bool = True) -> Ranking | None:
    """Of the methods that every block has. Blocks are the columns, each with its mean over seeds; where there are fewer
    than three columns, every seed of every column. None if there is nothing to rank."""
    scores, kind = _blocks(frame, measure)
    methods = list(scores)
    if len(methods) < 2:
        return None
    table = np.array([scores[method] for method in methods])  # (methods, blocks)
    ordered = -table if larger_is_better else table
    ranks = stats.rankdata(ordered, axis=0).mean(1)
    enough = len(methods) > 2 and table.shape[1] > 1
    told_apart = bool((table != table[:1]).any())
    friedman = (float(stats.friedmanchisquare(*table).pvalue) if told_apart else 1.0) if enough else math.nan
    pairs = list(combinations(range(len(methods)), 2))
    p_values = [_wilcoxon(table[i] - table[j]) for i, j in pairs]
    rows = [(methods[i], methods[j], p, q) for (i, j), p, q in zip(pairs, p_values, holm(p_values), strict=True)]
    pairwise = pd.DataFrame(rows, columns=["first", "second", "p", "p_holm"])
    named = dict(sorted(zip(methods, ranks.tolist(), strict=True), key=lambda entry: entry[1]))
    return Ranking(named, (kind, table.shape[1]), friedman, pairwise)


def _blocks(frame: pd.DataFrame, measure: str) -> tuple[dict[str, list[float]], str]:
    """By method its value in every block, for the methods that have all, and what a block is."""
    values, rows = by_seed(frame, measure), _methods(frame)
    columns = [column for column in dict.fromkeys(frame["column"]) if any((row, column) in values for row in rows)]
    if len(columns) >= 3:
        full = [row for row in rows if all((row, column) in values for column in columns)]
        return {r: [float(np.mean(list(values[r, c].values()))) for c in columns] for r in full}, "column"
    seeds = [(c, seed) for c in columns for seed in sorted(set().union(*(values.get((r, c), {}) for r in rows)))]
    full = [row for row in rows if all(seed in values.get((row, c), {}) for c, seed in seeds)]
    return {r: [values[r, c][seed] for c, seed in seeds] for r in full if seeds}, "seed"


def _wilcoxon(gaps: np.ndarray) -> float:
    """Two-sided; 1 where all are equal, as nothing speaks for a difference."""
    return float(stats.wilcoxon(gaps).pvalue) if np.any(gaps != 0) else 1.0


class Improvement(NamedTuple):
    """``value``: mean over columns of (method - KD) / (KD - student), in percent; ``columns``: how many; ``left_out``:
    columns in which KD does not exceed the student, where the quotient means nothing."""

    value: float
    columns: int
    left_out: int


def relative_improvement(
    frame: pd.DataFrame, measure: str, method: str, over: str = "KD", student: str = "Student"
) -> Improvement:
    """The paper's own summary, average relative improvement: 100 means that the method adds to KD as much as KD adds to
    the student."""
    values, quotients, left_out = by_seed(frame, measure), [], 0
    for column in dict.fromkeys(frame["column"]):
        cells = [values.get((row, column), {}) for row in (method, over, student)]
        seeds = sorted(set.intersection(*(set(cell) for cell in cells)))
        if not seeds:
            continue
        with_method, with_kd, alone = (float(np.mean([cell[seed] for seed in seeds])) for cell in cells)
        if with_kd > alone:
            quotients.append(100 * (with_method - with_kd) / (with_kd - alone))
        else:
            left_out += 1
    return Improvement(float(np.mean(quotients)) if quotients else math.nan, len(quotients), left_out)


def ranking_lines(frame: pd.DataFrame, measure: str, larger_is_better: bool = True) -> list[str]:
    """The ranking of three methods or more over two blocks or more, in words; [] where there is none."""
    found = ranking(frame, measure, larger_is_better)
    if found is None or len(found.ranks) < 3 or found.blocks[1] < 2:
        return []
    kind, number = found.blocks
    ranks = ", ".join(f"{method} {rank:.1f}" for method, rank in found.ranks.items())
    apart = found.pairwise[found.pairwise["p_holm"] < 1 - LEVEL]
    pairs = ", ".join(f"{first} and {second}" for first, second in zip(apart["first"], apart["second"], strict=True))
    lines = [
        f"Mean ranks over {number} {kind}s: {ranks}. All equal: p = {found.friedman:.2g} (Friedman). "
        f"Apart by signed ranks (Wilcoxon, Holm): {pairs or 'none'}. {CAUTION}"
    ]
    improvements = {}
    for method in (row for row in found.ranks if row not in ("KD", "Student") and larger_is_better):
        improvement = relative_improvement(frame, measure, method)
        if improvement.columns:
            improvements[method] = improvement
    if improvements:
        shown = ", ".join(f"{method} {value.value:+.0f} %" for method, value in improvements.items())
        out = next(iter(improvements.values())).left_out
        without = f"; {out} left out, where KD does not exceed the student" if out else ""
        lines.append(f"Improvement over KD, (method - KD) / (KD - student), mean over columns{without}: {shown}.")
    return lines


def _methods(frame: pd.DataFrame) -> list[str]:
    return [str(row) for row in dict.fromkeys(frame["row"]) if row != "Teacher"]
