"""Chooses the best trial of a search, and estimates the expected best validation accuracy by number of trials."""

import math
from collections.abc import Sequence

from scipy import stats


def choose(scores: Sequence[float]) -> int:
    """Returns the number of the trial with the highest score; for ties, the lowest number."""
    return max(range(len(scores)), key=lambda number: (scores[number], -number))


def expected_best(scores: Sequence[float]) -> list[float]:
    """Returns the expected best score of b trials drawn without replacement from all B, for b = 1 ... B.

    With scores sorted, the i-th is the best of b in C(i, b) - C(i - 1, b) of C(B, b) draws (Tang et al., ACL 2020).
    """
    ordered, count = sorted(scores), len(scores)
    return [
        sum(score * math.comb(i, b - 1) for i, score in enumerate(ordered)) / math.comb(count, b)
        for b in range(1, count + 1)
    ]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Returns Spearman's rank correlation; nan if all values of ``first`` or of ``second`` are equal."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return math.nan
    return float(stats.spearmanr(first, second).statistic)
