"""Judges the paper's claims and describes each verdict.

Claims are judged at the epoch with the best validation accuracy if the runs have a validation set, else at the last
epoch. The best epoch on the test images, which the paper reports, favours methods with noisier curves; its verdict is
only shown next to the first.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analysis.setting import describe_setting
from benchmarks.statistics.claims import CLAIMS, Claim, Results
from benchmarks.statistics.comparison import RULE, Rule, is_sure
from benchmarks.statistics.intervals import ALPHA, Estimate, holm
from benchmarks.statistics.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    SUPPORTED,
    UNDECIDED,
    VOID,
    CellKeys,
    Condition,
    RequiredSeeds,
    decide,
    required_seeds,
    weakest,
)
from benchmarks.statistics.wording import (
    effect_text,
    omitted_text,
    required_text,
    restated,
    shared_variance_text,
    size_text,
)
from sskd.formatting import plural

EPOCHS = {"chosen": "best validation epoch", "last": "last epoch", "best": "best epoch on the test images"}


class ComparisonResult(NamedTuple):
    """Result of one comparison of a claim.

    effect, lower, upper: mean over seeds and its sequential interval; nan if unknown. verdict: "supported" (above
    ``bound``), "contradicted" (below), "equivalent" (within the margin) or "undecided", after Holm's correction over
    the claim's comparisons; or "void". alone: the verdict without correction.
    """

    name: str
    bound: float
    effect: float
    lower: float
    upper: float
    seeds: int
    verdict: str
    alone: str
    cells: CellKeys


class Verdict(NamedTuple):
    """Result of a claim. effect, lower, upper: nan if unknown. seeds: the smallest number of seeds of a comparison.
    effect_seeds: number of seeds of the effect.

    Texts ("" for none): restated, what was compared here; setting, differences from the paper's setting; why, the
    reason of the verdict; omitted, rows that it does not cover; sized, whether the paper's size lies in the interval;
    lacks, what would decide it and the cost; teacher_variance, variance that the intervals do not include.
    """

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
    teacher_variance: str
    measured: str  # what the effect is of
    effect: float
    lower: float
    upper: float
    size: float | None
    seeds: int
    effect_seeds: int
    runs: list[str]
    comparisons: list[ComparisonResult]
    need: RequiredSeeds | None = None  # of an undecided one

    @property
    def text(self) -> str:
        """Returns all texts: differences in setting, effect with interval, verdict, and the rest."""
        first = f"{self.setting}: {self.reason}" if self.setting else self.reason
        return " ".join(
            sentence for sentence in (first, self.omitted, self.sized, self.lacks, self.teacher_variance) if sentence
        )

    @property
    def effect_text(self) -> str:
        """Formats "SSKD - KD, 25%: +4.378 [2.901, 5.856]"; "" without an effect."""
        if not self.measured or math.isnan(self.effect):
            return ""
        return f"{self.measured}: {effect_text(self.effect, self.lower, self.upper)}"

    @property
    def reason(self) -> str:
        """Returns the effect with its interval, the verdict and its reason."""
        verdict = f"{self.verdict}, because {self.why}."
        return f"{self.effect_text}: {verdict}" if self.effect_text else verdict[0].upper() + verdict[1:]

    @property
    def seeds_text(self) -> str:
        """Formats "2 seeds", or "2 seeds (some comparisons 1)" if a comparison has fewer seeds than the shown
        effect."""
        shown = max(self.effect_seeds, self.seeds)
        return plural(shown, "seed") + ("" if shown == self.seeds else f" (some comparisons {self.seeds})")

    @property
    def decided(self) -> list[ComparisonResult]:
        return [part for part in self.comparisons if part.verdict not in (UNDECIDED, VOID)]


def judge(claim: Claim, frame: pd.DataFrame, which: str = "", rule: Rule = RULE) -> Verdict:
    """Returns the verdict on one claim, from the accuracies of the ``which`` epoch ("chosen", "last" or "best"; "": the
    one that decides for its benchmark).

    frame: the report's frame. Its optional column "expected_seconds" has the estimated duration of unfinished runs.
    """
    own = frame if frame.empty else frame[frame["benchmark"] == claim.benchmark]
    which = which or epoch_that_decides(own)
    parts, lacks, left_out, headline, finished = list[Condition](), "", list[str](), None, own
    if len(own):
        results = Results(own, which, rule)
        parts, lacks, left_out = claim.parts(results), claim.lacks(results), claim.left_out(results)
        headline = claim.headline(results) if claim.headline and not lacks else None
        finished = own[own["state"] == "finished"]
    verdict, why = (UNDECIDED, lacks) if lacks else decide(parts)
    shown = headline if headline and headline.n else weakest(parts)
    estimate = shown.interval() if shown else Estimate(np.nan, np.nan, np.nan, 0)
    need = required_seeds(claim.id, claim.benchmark, parts) if verdict == UNDECIDED and parts and not lacks else None
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
        omitted_text(claim, left_out, [] if lacks else parts),
        size_text(claim, shown, estimate),
        required_text(need, own),
        shared_variance_text(finished),
        shown.name if shown else "",
        estimate.mean,
        estimate.lower,
        estimate.upper,
        claim.size,
        min((part.n for part in parts if not part.void), default=0),
        estimate.n,
        list(dict.fromkeys(finished["id"].dropna())) if len(finished) else [],
        [] if lacks else judge_comparisons(parts, verdict),
        need,
    )


def judge_comparisons(parts: Sequence[Condition], verdict: str) -> list[ComparisonResult]:
    """Returns a verdict per comparison.

    If the claim is supported, all its comparisons are, without correction (intersection-union test: the claim requires
    every comparison to exceed its bound). Otherwise "supported" needs p < 0.05 after Holm's correction over all
    comparisons, and "contradicted" needs the level ALPHA / number of comparisons (Bonferroni), the same rule that
    contradicts the whole claim.
    """
    sound = [part for part in parts if not part.void]
    corrected = iter(holm([1.0 if math.isnan(p) else p for p in map(Condition.p, sound)]))
    judged = []
    for part in parts:
        estimate = part.interval()
        if part.void:
            judged.append(ComparisonResult(part.name, part.bound, *estimate, VOID, VOID, part.cells))
            continue
        above, below, same = part.position() if part.n else (False, False, False)
        alone = SUPPORTED if above else CONTRADICTED if below else EQUIVALENT if same else UNDECIDED
        p_holm = next(corrected)
        if below:
            sure = bool(part.position(ALPHA / len(sound)).below)
        else:
            sure = bool(same) or verdict == SUPPORTED or is_sure(p_holm)
        judged.append(
            ComparisonResult(part.name, part.bound, *estimate, alone if sure else UNDECIDED, alone, part.cells)
        )
    return judged


def epoch_that_decides(frame: pd.DataFrame) -> str:
    """Returns "chosen" if every finished student has a best validation epoch, else "last"."""
    if "chosen_top1" not in frame:
        return "last"
    finished = frame[(frame["role"] == "student") & (frame["state"] == "finished")]
    return "chosen" if len(finished) and finished["chosen_top1"].notna().all() else "last"


def verdicts(frame: pd.DataFrame, which: str = "", rule: Rule = RULE) -> list[Verdict]:
    """Judges all claims in order (see ``judge``)."""
    return [judge(claim, frame, which, rule) for claim in CLAIMS]


def deciding_epochs(judged: Sequence[Verdict]) -> str:
    """Names the epochs that the verdicts use: "last epoch", or both if benchmarks differ."""
    return " or ".join(dict.fromkeys(EPOCHS[verdict.epoch] for verdict in judged if verdict.runs)) or EPOCHS["last"]
