"""The verdicts on the paper's claims, and what must be said beside them.

Claims are judged on the epoch that was chosen on held-out images where the runs have one, else on the last. The best
epoch on the test images, which the paper reports, favours the noisier curve: it stands beside the verdict.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analysis.claims import CLAIMS, Claim, Results
from benchmarks.analysis.deciding import UNDECIDED, Condition, Need, decide, need_of, weakest
from benchmarks.analysis.sequential import LAST, Estimate
from benchmarks.analysis.setting import describe_setting
from sskd.training.words import duration

EPOCHS = {"chosen": "epoch chosen on held-out images", "last": "last epoch", "best": "best epoch on the test images"}


class Verdict(NamedTuple):
    """What the results say of a claim. effect, lower, upper: nan where unknown. ``text`` says it in words, beginning
    with how the setting differs from the claim's. seeds: of the part that has the fewest; effect_seeds: of the effect
    and its interval."""

    id: str
    statement: str
    where: str
    epoch: str  # "chosen", "last" or "best"
    verdict: str
    text: str
    measured: str  # what the effect is of
    effect: float
    lower: float
    upper: float
    size: float | None
    seeds: int
    effect_seeds: int
    runs: list[str]
    need: Need | None = None  # of an undecided one

    @property
    def seeds_text(self) -> str:
        """ "2 seeds", or "2 seeds (some comparisons 1)" where the effect has more than another part."""
        shown = max(self.effect_seeds, self.seeds)
        text = f"{shown} seed" if shown == 1 else f"{shown} seeds"
        return text if shown == self.seeds else f"{text} (some comparisons {self.seeds})"


def judge(claim: Claim, frame: pd.DataFrame, which: str = "last") -> Verdict:
    """The verdict on one claim from the report's frame, by what ``which`` epoch reached."""
    own = frame if frame.empty else frame[frame["benchmark"] == claim.benchmark]
    results = Results(own, which)
    parts = claim.parts(results) if len(own) else []
    lacks = claim.lacks(results) if len(own) else ""
    verdict, why = (UNDECIDED, lacks) if lacks else decide(parts)
    shown = claim.headline(results) if claim.headline and len(own) and not lacks else weakest(parts)
    estimate = shown.interval() if shown else Estimate(np.nan, np.nan, np.nan, 0)
    finished = own[own["state"] == "finished"] if len(own) else own
    need = need_of(claim.id, claim.benchmark, parts) if verdict == UNDECIDED and parts and not lacks else None
    where = describe_setting(finished, claim.dataset) if len(finished) else ""
    text = f"{where}: {verdict}, as {why}." if where else f"{verdict.capitalize()}, as {why}."
    left_out = claim.left_out(results) if len(own) else []
    sentences = [
        text,
        _left_out_text(left_out),
        _size_text(claim, shown, estimate),
        need_text(need, finished),
        teachers_luck(finished),
    ]
    return Verdict(
        claim.id,
        claim.statement,
        claim.where,
        which,
        verdict,
        " ".join(sentence for sentence in sentences if sentence),
        shown.name if shown else "",
        estimate.mean,
        estimate.lower,
        estimate.upper,
        claim.size,
        min((len(part.values) for part in parts), default=0),
        estimate.n,
        list(dict.fromkeys(finished["id"].dropna())) if len(finished) else [],
        need,
    )


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


def need_text(need: Need | None, finished: pd.DataFrame) -> str:
    """How many seeds would decide, and what they cost at the time that the finished ones took, in a sentence."""
    if need is None or finished.empty or (need.seeds is not None and need.seeds <= need.have):
        return ""
    if need.seeds is None:
        return f"At the means and spread seen so far, {LAST} seeds would not decide it."
    seconds = _seconds(need, finished)
    cost = f", about {duration(seconds)} more" if seconds else ""
    if not need.towards:
        return f"It takes {need.seeds} seeds to know the spread{cost}."
    return f"At the means and spread seen so far, {need.seeds} seeds would decide it ({need.towards}){cost}."


def _seconds(need: Need, finished: pd.DataFrame) -> float:
    """Of the runs that the need has to have, each as long as its cell's others; 0 where that is not known."""
    if "seconds" not in finished or need.seeds is None:
        return 0.0
    groups = dict(iter(finished.groupby(["row", "column"])))
    if not set(need.cells) <= groups.keys():
        return 0.0
    return sum(
        max(0, need.seeds - groups[cell]["seed"].nunique()) * float(groups[cell]["seconds"].mean())
        for cell in need.cells
    )


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


def verdicts(frame: pd.DataFrame, which: str = "") -> list[Verdict]:
    """All claims, in order, by the epoch that decides, or by another."""
    return [judge(claim, frame, which or epoch_that_decides(frame)) for claim in CLAIMS]
