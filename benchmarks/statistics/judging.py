"""The verdicts on the paper's claims, and what must be said beside them.

Claims are judged on the epoch that was chosen on held-out images where the runs have one, else on the last. The best
epoch on the test images, which the paper reports, favours the noisier curve: it stands beside the verdict.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analysis.setting import describe_setting
from benchmarks.statistics.claims import CLAIMS, Claim, Results
from benchmarks.statistics.comparison import holm, is_sure
from benchmarks.statistics.intervals import ERROR, LAST, Estimate, sequential_p
from benchmarks.statistics.verdict import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Cells,
    Condition,
    Need,
    decide,
    need_of,
    weakest,
)
from sskd.formatting import duration

EPOCHS = {"chosen": "epoch chosen on held-out images", "last": "last epoch", "best": "best epoch on the test images"}


class Part(NamedTuple):
    """One comparison of a claim, by itself. effect, lower, upper: mean over seeds and the interval that holds while
    one looks, nan where unknown. verdict: "supported" (above ``bound``), "contradicted" (below) or "undecided", after
    Holm's correction for the claim's parts. alone: what its own interval says, which one of many does by chance."""

    name: str
    bound: float
    effect: float
    lower: float
    upper: float
    seeds: int
    verdict: str
    alone: str
    cells: Cells


class Verdict(NamedTuple):
    """What the results say of a claim. effect, lower, upper: nan where unknown. seeds: of the part that has the fewest;
    effect_seeds: of the effect and its interval. In words, or "": restated, what was compared here; setting, how it
    differs from the paper's; why, what the verdict rests on; omitted, the rows that it is not about; sized, how the
    paper's size stands to the interval; lacks, what would decide it and its cost; luck, what no interval holds."""

    id: str
    statement: str
    where: str
    benchmark: str
    epoch: str  # "chosen", "last" or "best"
    verdict: str
    restated: str
    setting: str
    why: str
    omitted: str
    sized: str
    lacks: str
    luck: str
    measured: str  # what the effect is of
    effect: float
    lower: float
    upper: float
    size: float | None
    seeds: int
    effect_seeds: int
    runs: list[str]
    parts: list[Part]
    need: Need | None = None  # of an undecided one

    @property
    def text(self) -> str:
        """All in words, beginning with how the setting differs from the claim's."""
        first = f"{self.setting}: {self.verdict}, as {self.why}." if self.setting else self.reason
        return " ".join(sentence for sentence in (first, self.omitted, self.sized, self.lacks, self.luck) if sentence)

    @property
    def reason(self) -> str:
        return f"{self.verdict.capitalize()}, as {self.why}."

    @property
    def seeds_text(self) -> str:
        """ "2 seeds", or "2 seeds (some comparisons 1)" where the effect has more than another part."""
        shown = max(self.effect_seeds, self.seeds)
        text = f"{shown} seed" if shown == 1 else f"{shown} seeds"
        return text if shown == self.seeds else f"{text} (some comparisons {self.seeds})"

    @property
    def decided(self) -> list[Part]:
        return [part for part in self.parts if part.verdict != UNDECIDED]


def judge(claim: Claim, frame: pd.DataFrame, which: str = "last") -> Verdict:
    """The verdict on one claim from the report's frame, by what ``which`` epoch reached. Its column "price", if it has
    one, is what unfinished runs are expected to take, in seconds."""
    own = frame if frame.empty else frame[frame["benchmark"] == claim.benchmark]
    results = Results(own, which)
    parts = claim.parts(results) if len(own) else []
    lacks = claim.lacks(results) if len(own) else ""
    verdict, why = (UNDECIDED, lacks) if lacks else decide(parts)
    shown = claim.headline(results) if claim.headline and len(own) and not lacks else weakest(parts)
    estimate = shown.interval() if shown else Estimate(np.nan, np.nan, np.nan, 0)
    finished = own[own["state"] == "finished"] if len(own) else own
    need = need_of(claim.id, claim.benchmark, parts) if verdict == UNDECIDED and parts and not lacks else None
    return Verdict(
        claim.id,
        claim.statement,
        claim.where,
        claim.benchmark,
        which,
        verdict,
        restated(parts),
        describe_setting(finished, claim.dataset) if len(finished) else "",
        why,
        _left_out_text(claim.left_out(results) if len(own) else []),
        _size_text(claim, shown, estimate),
        need_text(need, own),
        teachers_luck(finished),
        shown.name if shown else "",
        estimate.mean,
        estimate.lower,
        estimate.upper,
        claim.size,
        min((len(part.values) for part in parts), default=0),
        estimate.n,
        list(dict.fromkeys(finished["id"].dropna())) if len(finished) else [],
        [] if lacks else judge_parts(parts, verdict),
        need,
    )


def judge_parts(parts: Sequence[Condition], verdict: str) -> list[Part]:
    """Every part by itself. A supported claim's are all supported: that each is above its bound is what was tested, and
    needs no correction. Else Holm's over all parts, and below a bound by the rule that contradicts the whole claim."""
    p_values = [sequential_p(part.values, part.bound, part.floor) for part in parts]
    corrected = holm([1.0 if math.isnan(p) else p for p in p_values])
    judged = []
    for part, p_holm in zip(parts, corrected, strict=True):
        estimate = part.interval()
        alone = UNDECIDED
        if estimate.lower > part.bound or estimate.upper < part.bound:
            alone = SUPPORTED if estimate.mean > part.bound else CONTRADICTED
        if alone == CONTRADICTED:
            sure = part.interval(ERROR / len(parts)).upper < part.bound
        else:
            sure = verdict == SUPPORTED or is_sure(p_holm)
        judged.append(Part(part.name, part.bound, *estimate, alone if sure else UNDECIDED, alone, part.cells))
    return judged


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


def _left_out_text(rows: list[str]) -> str:
    return f"Without {', '.join(rows)}, which the profile leaves out." if rows else ""


def _size_text(claim: Claim, shown: Condition | None, estimate: Estimate) -> str:
    if claim.size is None or shown is None:
        return ""
    if not shown.sized:
        return f"The paper's {claim.size:g} is of other settings: {claim.where}."
    if math.isnan(estimate.lower):
        return ""
    inside = estimate.lower <= claim.size <= estimate.upper
    return f"The paper's {claim.size:g} lies {'inside' if inside else 'outside'} the interval."


def need_text(need: Need | None, frame: pd.DataFrame) -> str:
    """How many seeds would decide, and what they cost, in a sentence. frame: the benchmark's rows of the report's."""
    if need is None or not (frame["state"] == "finished").any() or (need.seeds is not None and need.seeds <= need.have):
        return ""
    if need.seeds is None:
        return f"At the means and spread seen so far, {LAST} seeds would not decide it."
    seconds = _seconds(need, frame)
    cost = f", about {duration(seconds)} more" if seconds else ""
    if not need.towards:
        return f"It takes {need.seeds} seeds to know the spread{cost}."
    return f"At the means and spread seen so far, {need.seeds} seeds would decide it ({need.towards}){cost}."


def _seconds(need: Need, frame: pd.DataFrame) -> float:
    """Of the runs that the need has to have, each as long as its cell's others took, or where none has finished as the
    price says; 0 where neither is known. Teachers and heads are not counted."""
    if "seconds" not in frame or need.seeds is None:
        return 0.0
    groups, total = dict(iter(frame.groupby(["row", "column"]))), 0.0
    for cell in need.cells:
        if cell not in groups:
            return 0.0
        finished = groups[cell][groups[cell]["state"] == "finished"]
        each = finished["seconds"].mean() if len(finished) else groups[cell].get("price", pd.Series([math.nan])).mean()
        missing = max(0, need.seeds - finished["seed"].nunique())
        if missing and pd.isna(each):
            return 0.0
        total += missing * float(each) if missing else 0.0
    return total


def teachers_luck(finished: pd.DataFrame) -> str:
    """What no interval over seeds holds, where one teacher or head serves several of them."""
    if "teacher" not in finished or finished.empty:
        return ""
    students = finished[(finished["role"] == "student") & (finished["teacher"] != "")]
    shared = [
        name
        for name in ("teacher", "head")
        if any(
            group["seed"].nunique() > group[name].nunique()
            for _, group in students[students[name] != ""].groupby(["row", "column"])
        )
    ]
    if not shared:
        return ""
    return (
        f"One {' and one '.join(shared)} serve{'s' * (len(shared) == 1)} several seeds: their luck is in no interval."
    )


def epoch_that_decides(frame: pd.DataFrame) -> str:
    """ "chosen" if every finished student has an epoch that was chosen on held-out images, else "last"."""
    if "chosen_top1" not in frame:
        return "last"
    finished = frame[(frame["role"] == "student") & (frame["state"] == "finished")]
    return "chosen" if len(finished) and finished["chosen_top1"].notna().all() else "last"


def judge_by_its_epoch(claim: Claim, frame: pd.DataFrame) -> Verdict:
    """The verdict by the epoch that decides for the claim's own benchmark."""
    own = frame if frame.empty else frame[frame["benchmark"] == claim.benchmark]
    return judge(claim, frame, epoch_that_decides(own))


def verdicts(frame: pd.DataFrame, which: str = "") -> list[Verdict]:
    """All claims, in order, each by the epoch that decides for its benchmark, or all by ``which``."""
    return [judge(claim, frame, which) if which else judge_by_its_epoch(claim, frame) for claim in CLAIMS]


def deciding_epochs(judged: Sequence[Verdict]) -> str:
    """What the verdicts rest on, in words: "last epoch", or both where benchmarks differ."""
    return " or ".join(dict.fromkeys(EPOCHS[verdict.epoch] for verdict in judged if verdict.runs)) or EPOCHS["last"]
