"""Verdicts in words: what was compared, what is left out, what would decide it, and what no interval holds."""

import math
from collections.abc import Sequence

import pandas as pd

from benchmarks.statistics.claims import Claim
from benchmarks.statistics.intervals import Estimate
from benchmarks.statistics.verdict import Condition, RequiredSeeds
from sskd.formatting import duration, plural

MANY = (
    'Ten claims of which none is true give some "supported" in 16 to 23 % of suites and some wrong verdict in 29 to '
    "41 %: each claim has its own 5 %."
)


def restated(parts: Sequence[Condition]) -> str:
    """What the claim says of these runs: "SSKD above KD and AT, in 10% and 25%", or the comparisons by name."""
    rivals: dict[tuple[str, str, float], list[str]] = {}  # of a row in a column, by what bound
    for part in parts:
        if len(part.cells) != 2:
            return _by_name(parts)
        (row, column), (other, _) = part.cells
        if part.name != f"{row} - {other}, {column}":  # not a gap of accuracies
            return _by_name(parts)
        rivals.setdefault((row, column, part.bound), []).append(other)
    columns: dict[tuple[str, str, float], list[str]] = {}  # in which a row has these rivals
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
    """ "a, b and c"; of many the first ones, and how many more."""
    shown = [*names] if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    return f"{comma.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]


def omitted_text(claim: Claim, rows: list[str], parts: Sequence[Condition]) -> str:
    """What the verdict is not about: rows that were not planned, and parts that are void."""
    said = [f"Without {', '.join(rows)}, which the profile leaves out."] if rows else []
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
        return f"The paper's {claim.size:g} is of other settings: {claim.where}."
    if math.isnan(estimate.lower):
        return ""
    inside = estimate.lower <= claim.size <= estimate.upper
    return f"The paper's {claim.size:g} lies {'inside' if inside else 'outside'} the interval."


def required_text(need: RequiredSeeds | None, frame: pd.DataFrame) -> str:
    """The probability that more seeds decide, and what they cost, in a sentence. frame: the benchmark's rows of the
    report's."""
    if need is None or not (frame["state"] == "finished").any() or (need.seeds is not None and need.seeds <= need.have):
        return ""
    if need.seeds is None:
        return f"{chance_text(need)}: more seeds are not worth their time."
    seconds = _seconds(need, frame)
    cost = f", about {duration(seconds)} more" if seconds else ""
    if math.isnan(need.chance):
        return f"It takes {need.seeds} seeds to know the spread{cost}."
    return f"{chance_text(need)}, half of the time with {plural(need.seeds, 'seed')}{cost}."


def chance_text(need: RequiredSeeds) -> str:
    """The predictive probability in words."""
    return f"{need.last} seeds decide it with a predictive probability of {round(100 * need.chance)} %"


def _seconds(need: RequiredSeeds, frame: pd.DataFrame) -> float:
    """Of the runs that the need has to have, each as long as its cell's others took, or where none has finished as the
    price says; 0 where neither is known. Teachers and heads are not counted."""
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


SHARED = (
    ("split_seed", "split"),
    ("teacher", "teacher"),
    ("head", "head"),
)  # the frame's columns, and what to call them


def shared_variance_text(finished: pd.DataFrame) -> str:
    """What no interval over seeds holds, where several of them share a split, a teacher or a head."""
    if "teacher" not in finished or finished.empty:
        return ""
    students = finished[finished["role"] == "student"]
    shared = [said for column, said in SHARED if column in students and _is_shared(students, column)]
    if not shared:
        return ""
    what = ", ".join(f"one {name}" for name in shared[:-1]) + (" and " if shared[1:] else "") + f"one {shared[-1]}"
    return f"{what.capitalize()} serve{'s' * (len(shared) == 1)} several seeds: their luck is in no interval."


def _is_shared(students: pd.DataFrame, column: str) -> bool:
    known = students[students[column].notna() & (students[column] != "")]
    groups = known.groupby(["row", "column"])
    return any(group["seed"].nunique() > group[column].nunique() for _, group in groups)
