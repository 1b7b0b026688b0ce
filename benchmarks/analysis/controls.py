"""What our own verdicts say where there is nothing to find: KD against itself, KD from a teacher that knows nothing.

The registered controls are kd_again and placebo (sskd/methods/controls.py). KD and KD again differ by chance alone, so
every "supported" or "contradicted" of that comparison is wrong; and as their runs are exchangeable, dealing them anew
into two groups shows how often the verdict would be wrong for runs that spread as these do.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.analysis.claims import Results
from benchmarks.analysis.deciding import UNDECIDED, Condition, decide
from benchmarks.analysis.sequential import FIRST, LAST
from benchmarks.analysis.simulate import judge_suites

KD, AGAIN, PLACEBO, STUDENT = "KD", "KD again", "Placebo", "Student"
DEALS = 2000


def control_lines(frame: pd.DataFrame, which: str) -> list[str]:
    """In words; none where no control was run. Of benchmarks that share runs the first one tells."""
    nulls, lines, dealt, seen = list[str](), list[str](), list[float](), set[frozenset[str]]()
    wrong = 0
    for name in dict.fromkeys(frame["benchmark"]) if len(frame) else ():
        own = frame[frame["benchmark"] == name]
        results = Results(own, which)
        for column in results.columns():
            runs = frozenset(own["id"][(own["column"] == column) & own["row"].isin((AGAIN, PLACEBO))])
            if not runs or runs in seen:
                continue
            seen.add(runs)
            null, placebo = results.gap(AGAIN, KD, column), results.gap(PLACEBO, STUDENT, column)
            if null.values:
                nulls.append(f"{name}: {_gap_text(null)}.")
                wrong += decide([null])[0] != UNDECIDED
                rate = dealt_rate(results.seeds(AGAIN, column), results.seeds(KD, column), null.floor)
                dealt += [] if rate is None else [rate]
            if placebo.values:
                gained = "what soft targets give without what the teacher knows of the image"
                lines.append(f"{name}: {_gap_text(placebo)}: {gained}.")
    if nulls:
        nulls.append(f"KD against itself: {wrong} of {len(nulls)} comparisons called a difference.")
    if dealt:
        share = f"{100 * float(np.mean(dealt)):.1f} %"
        nulls.append(
            f"Of these runs dealt anew into two groups, our verdict calls {share} supported, looking after every seed "
            "from the third."
        )
    return nulls + lines


def _gap_text(part: Condition) -> str:
    estimate = part.interval()
    seeds = f"{estimate.n} seed{'s' * (estimate.n > 1)}"
    interval = "" if np.isnan(estimate.lower) else f" [{estimate.lower:+.2f}, {estimate.upper:+.2f}]"
    return f"{part.name}: {estimate.mean:+.2f}{interval}, {seeds}, {decide([part])[0]}"


def dealt_rate(first: Mapping[int, float], second: Mapping[int, float], floor: float, seed: int = 0) -> float | None:
    """How often two groups of equally many runs, dealt at random from all of these, are called "supported" at any
    look. By seed; None for fewer than three seeds that both have."""
    both = sorted(first.keys() & second.keys())[:LAST]
    n = len(both)
    if n < FIRST:
        return None
    runs = np.array([values[s] for values in (first, second) for s in both])
    dealt = np.random.default_rng(seed).permuted(np.tile(runs, (DEALS, 1)), axis=1)
    calls = judge_suites((dealt[:, :n] - dealt[:, n:])[:, None], max(floor, 1e-9), looks=range(FIRST, n + 1))
    return float(calls.supported.mean())
