"""Describes verdicts: what was compared and omitted, what would decide it, and which variance the intervals omit."""

import math
from collections.abc import Sequence

import pandas as pd

from benchmarks.statistics.claims import Claim
from benchmarks.statistics.intervals import Estimate
from benchmarks.statistics.verdict import Condition, RequiredSeeds
from sskd.formatting import duration, first_of, plural

MANY = (
    "The error rate of 5 % holds per claim, not for all claims together: if none of ten claims were true, some claim "
    'would be "supported" in 16 to 23 % of suites, and some verdict would be wrong in 29 to 41 %.'
)


def effect_text(mean: float, lower: float, upper: float, digits: int = 3, signed: bool = False) -> str:
    """Formats "+4.378 [2.901, 5.856]", without the interval if it is nan. signed: bounds have a sign."""
    sign = "+" if signed else ""
    interval = "" if math.isnan(lower) else f" [{lower:{sign}.{digits}f}, {upper:{sign}.{digits}f}]"
    return f"{mean:+.{digits}f}{interval}"


def restated(parts: Sequence[Condition]) -> str:
    """Restates the claim for these runs: "SSKD above KD and AT, in 10% and 25%", or the comparisons by name."""
    rivals: dict[tuple[str, str, float], list[str]] = {}  # by row, column and bound
    for part in parts:
        if len(part.cells) != 2:
            return _by_name(parts)
        (row, column), (other, _) = part.cells
        if part.name != f"{row} - {other}, {column}":  # not a gap of accuracies
            return _by_name(parts)
        rivals.setdefault((row, column, part.bound), []).append(other)
    columns: dict[tuple[str, str, float], list[str]] = {}  # by row, rivals and bound
    for (row, column, bound), others in rivals.items():
        columns.setdefault((row, listed(others), bound), []).append(column)
    return "; ".join(
        f"{row} above {others}{f', or at most {-bound:g} below' if bound else ''}, in {listed(where)}"
        for (row, others, bound), where in columns.items()
    )


def _by_name(parts: Sequence[Condition]) -> str:
    by_bound: dict[float, list[str]] = {}
    for part in parts:
        by_bound.setdefault(part.bound, []).append(part.name)
    return "; ".join(f"{listed(names, '; ')} above {bound:g}" for bound, names in by_bound.items())


def listed(names: Sequence[str], comma: str = ", ", most: int = 6) -> str:
    """Formats "a, b and c"; of more than ``most`` names the first ones and "n more"."""
    if len(names) > most:
        return first_of(names, most - 1, between=comma)
    return f"{comma.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def omitted_text(claim: Claim, rows: list[str], parts: Sequence[Condition]) -> str:
    """Describes what the verdict does not cover: rows that were not planned, and conditions that are void."""
    said = [f"Without {', '.join(rows)}, which the profile omits."] if rows else []
    void: dict[str, list[str]] = {}
    for part in parts:
        if part.void:
            void.setdefault(part.void, []).append(part.name)
    said += [f"Void: {'; '.join(names)} ({why})." for why, names in void.items()]
    return " ".join([*said, *([claim.remark] if claim.remark else [])])


def size_text(claim: Claim, shown: Condition | None, estimate: Estimate) -> str:
    if claim.size is None or shown is None:
        return ""
    if not shown.sized:
        return f"The paper's {claim.size:g} refers to another setting: {claim.where}."
    if math.isnan(estimate.lower):
        return ""
    inside = estimate.lower <= claim.size <= estimate.upper
    return f"The paper's {claim.size:g} lies {'inside' if inside else 'outside'} the interval."


def required_text(need: RequiredSeeds | None, frame: pd.DataFrame) -> str:
    """Describes in one sentence the probability that more seeds decide, and their cost. frame: the benchmark's rows of
    the report's frame."""
    if need is None or not (frame["state"] == "finished").any() or (need.seeds is not None and need.seeds <= need.have):
        return ""
    if need.seeds is None:
        return f"{chance_text(need)}: more seeds are not worthwhile."
    seconds = _seconds(need, frame)
    cost = f", about {duration(seconds)} more" if seconds else ""
    if math.isnan(need.chance):
        return f"{need.seeds} seeds are needed to estimate the variance{cost}."
    return f"{chance_text(need)}, in half of these cases with {plural(need.seeds, 'seed')}{cost}."


def chance_text(need: RequiredSeeds) -> str:
    """Describes the predictive probability."""
    return f"{need.last} seeds decide it with a predictive probability of {round(100 * need.chance)} %"


def _seconds(need: RequiredSeeds, frame: pd.DataFrame) -> float:
    """Returns the seconds of the missing runs: the mean of the cell's finished runs, or "expected_seconds" if there are
    none; 0 if both are unknown. Teachers and heads are not counted."""
    if "seconds" not in frame or need.seeds is None:
        return 0.0
    groups, total = dict(iter(frame.groupby(["row", "column"]))), 0.0
    for cell in need.cells:
        if cell not in groups:
            return 0.0
        finished = groups[cell][groups[cell]["state"] == "finished"]
        each = (
            finished["seconds"].mean()
            if len(finished)
            else groups[cell].get("expected_seconds", pd.Series([math.nan])).mean()
        )
        missing = max(0, need.seeds - finished["seed"].nunique())
        if missing and pd.isna(each):
            return 0.0
        total += missing * float(each) if missing else 0.0
    return total


SHARED = (("split_seed", "split"), ("teacher", "teacher"), ("head", "head"))  # columns of the frame, and their names


def shared_variance_text(finished: pd.DataFrame) -> str:
    """Names the split, teacher or head that several seeds share: its variance is not in the intervals over seeds."""
    if "teacher" not in finished or finished.empty:
        return ""
    students = finished[finished["role"] == "student"]
    shared = [said for column, said in SHARED if column in students and _is_shared(students, column)]
    if not shared:
        return ""
    what = ", ".join(f"one {name}" for name in shared[:-1]) + (" and " if shared[1:] else "") + f"one {shared[-1]}"
    return f"Several seeds share {what}: the intervals do not include the variance between {'s, '.join(shared)}s."


def _is_shared(students: pd.DataFrame, column: str) -> bool:
    known = students[students[column].notna() & (students[column] != "")]
    groups = known.groupby(["row", "column"])
    return any(group["seed"].nunique() > group[column].nunique() for _, group in groups)
