"""Controls of the verdict rule: KD against itself (A/A), and KD against KD from other images of the class.

The methods are kd_again and kd_shuffled (sskd/methods/controls.py). KD and KD again differ only in their seeds, so
every "supported" or "contradicted" for this pair is a false positive. Their runs are exchangeable: randomly permuting
the labels "KD" and "KD again" estimates the false-positive rate of the verdict for runs with this variance.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.statistics.claims import Results
from benchmarks.statistics.comparison import CONTROLS, RULE, Rule
from benchmarks.statistics.intervals import FIRST
from benchmarks.statistics.verdict import CONTRADICTED, SUPPORTED, Condition, Sample, decide, judge_suites
from benchmarks.statistics.wording import effect_text
from sskd.formatting import plural

KD, (AGAIN, SHUFFLED) = "KD", CONTROLS
N_PERMUTATIONS = 2000


class Control(NamedTuple):
    """A comparison with a control.

    kind: "aa" (KD against itself: no true difference) or "shuffled" (KD against KD shuffled). effect, lower, upper,
    seeds, verdict: as in ComparisonResult. permuted: fraction of label permutations that are called "supported"; None
    for fewer than three seeds and for KD shuffled.
    """

    kind: str
    benchmark: str
    column: str
    name: str
    effect: float
    lower: float
    upper: float
    seeds: int
    verdict: str
    permuted: float | None = None


def controls(frame: pd.DataFrame, which: str, rule: Rule = RULE) -> list[Control]:
    """Returns the controls with finished seeds, KD against itself first. Runs that benchmarks share count once."""
    found, seen = list[Control](), set[frozenset[str]]()
    for name in map(str, dict.fromkeys(frame["benchmark"])) if len(frame) else ():
        own = frame[frame["benchmark"] == name]
        results = Results(own, which, rule)
        for column in results.columns():
            runs = frozenset(own["id"][(own["column"] == column) & own["row"].isin(CONTROLS)])
            if not runs or runs in seen:
                continue
            seen.add(runs)
            for kind, first, second in (("aa", AGAIN, KD), ("shuffled", KD, SHUFFLED)):
                part = results.gap(first, second, column)
                if part.n:
                    rate = permutation_rate(part) if kind == "aa" else None
                    found.append(Control(kind, name, column, part.name, *part.interval(), decide([part])[0], rate))
    return sorted(found, key=lambda control: control.kind)


def false_calls(found: Sequence[Control]) -> tuple[int, int]:
    """Returns how many comparisons of KD with itself were called a difference, and their number."""
    nulls = [control for control in found if control.kind == "aa"]
    return sum(control.verdict in (SUPPORTED, CONTRADICTED) for control in nulls), len(nulls)


def control_lines(found: Sequence[Control]) -> list[str]:
    """Describes the controls, one line each; [] if no control was run."""
    nulls = [control for control in found if control.kind == "aa"]
    lines = [f"{control.benchmark}: {_gap_text(control)}." for control in nulls]
    if nulls:
        wrong, of = false_calls(found)
        wide = max((control.upper - control.lower) / 2 for control in nulls)
        could = "" if np.isnan(wide) else f" (these seeds cannot detect differences below {wide:.1f} points)"
        lines.append(f"KD against itself: {wrong} of {plural(of, 'comparison')} called a difference{could}.")
    permuted = [control.permuted for control in nulls if control.permuted is not None]
    if permuted:
        share = f"{100 * float(np.mean(permuted)):.1f} %"
        lines.append(
            f"Permutation test: with randomly permuted labels, the verdict is supported in {share} of the permutations "
            "(looks from the third seed on)."
        )
    gained = "gain from what the teacher says about single images"
    return lines + [f"{c.benchmark}: {_gap_text(c)}: {gained}." for c in found if c.kind == "shuffled"]


def _gap_text(control: Control) -> str:
    effect = effect_text(control.effect, control.lower, control.upper, 2, signed=True)
    return f"{control.name}: {effect}, {plural(control.seeds, 'seed')}, {control.verdict}"


def permutation_rate(part: Condition, seed: int = 0) -> float | None:
    """Returns the fraction of random permutations of the method labels that are called "supported" at any look.
    Deterministic for a given ``seed``; None for fewer than three seeds."""
    assert part.second is not None
    if part.n < FIRST:
        return None
    runs = np.array([*part.first.values, *part.second.values])
    permuted = np.random.default_rng(seed).permuted(np.tile(runs, (N_PERMUTATIONS, 1)), axis=1)
    groups = (Sample((), permuted[:, : part.first.n]), Sample((), permuted[:, part.first.n :]))
    suites = part._replace(first=groups[0], second=groups[1], min_std=max(part.min_std, 1e-9))
    return float(judge_suites([suites], range(FIRST, part.n + 1)).supported.mean())
