"""Compares tuned methods. Studies take the place of the seeds of other tables: n is the number of studies.

The published and the tuned accuracy of one method are paired within a study; two methods are compared by Welch's
interval, as in all tables (statistics/comparison.py). There is no verdict on two methods whose searches were not equal
(``unequal``).
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.statistics.comparison import CONTROLS, RULE, Rule, Values, compare
from benchmarks.statistics.intervals import rounding_std
from benchmarks.statistics.judging import ComparisonResult, judge_comparisons
from benchmarks.statistics.verdict import UNDECIDED, Condition, Sample
from benchmarks.tuning.spaces import RATE
from benchmarks.tuning.studies import StudyFile
from sskd.formatting import plural
from sskd.methods import METHODS

ENOUGH = 0.6  # rank correlation of short and full trials, below which full ones are advised
Searches = dict[str, list[StudyFile]]  # by method's label, in order
PER_STUDY = (
    *("method", "study", "budget", "space", "published", "tuned", "gain", "held_out", "optimism"),
    *("chosen", "settings", "search_seconds", "final_seconds"),
)


def finished(studies: Sequence[StudyFile]) -> Searches:
    """Returns the finished studies of each method. A study counts only after all studies with smaller numbers have
    finished, so studies that finish out of order cause no additional looks."""
    found: Searches = {}
    for study in sorted(studies, key=lambda study: study.study):
        if study.is_finished and len(found.get(study.label, [])) == study.study:
            found.setdefault(study.label, []).append(study)
    return found


def tuned(studies: Sequence[StudyFile]) -> Values:
    """Returns the test accuracy of the chosen setting by study."""
    return {study.study: study.final.top1 for study in studies if study.final and study.final.top1 is not None}


def published(studies: Sequence[StudyFile]) -> Values:
    """Returns the test accuracy of the published setting by study."""
    return {study.study: study.default.top1 for study in studies if study.default.top1 is not None}


def per_study(searches: Searches) -> pd.DataFrame:
    """Returns tuning.csv: a row for each finished study, with accuracies in percent. The column ``space`` has the hash
    of the search space; ``optimism`` is nan if trials are shorter than final runs."""
    rows = []
    for label, studies in searches.items():
        before, after = published(studies), tuned(studies)
        for study in studies:
            d, t, v = before[study.study], after[study.study], max(study.scores)
            optimism = v - t if study.epochs == study.full_epochs else math.nan
            took = study.final.seconds if study.final else None
            row = (label, study.study, study.budget, study.space_hash, d, t, t - d, v, optimism)
            rows.append((*row, study.best.number, json.dumps(study.best.settings), study.search_seconds, took))
    return pd.DataFrame(rows, columns=PER_STUDY)


def summary(searches: Searches, rule: Rule = RULE) -> pd.DataFrame:
    """Returns a row for each method: row, studies, budget, published, tuned, gain with its interval (lower, upper),
    optimism (validation accuracy of the chosen trial minus the final test accuracy; nan if trials are shorter), and
    mean seconds of a search and of a final training."""
    rows = []
    for label, studies in searches.items():
        before, after = published(studies), tuned(studies)
        gain = compare(after, before, same_method=True, min_std=_min_std(studies), last=rule.last).estimate()
        table = per_study({label: studies})
        means = (float(table[name].mean()) for name in ("published", "tuned"))
        others = (float(table[name].mean()) for name in ("optimism", "search_seconds", "final_seconds"))
        budgets = ", ".join(str(budget) for budget in dict.fromkeys(study.budget for study in studies))
        rows.append((label, len(studies), budgets, *means, gain.mean, gain.lower, gain.upper, *others))
    names = ["row", "studies", "budget", "published", "tuned", "gain", "lower", "upper", "optimism"]
    return pd.DataFrame(rows, columns=[*names, "search_seconds", "final_seconds"])


def reference_of(searches: Searches, wanted: str = "") -> str:
    """Returns the method that the others are compared with: ``wanted``, else the last of the user's own, else SSKD,
    else the last one."""
    labels = list(searches)
    own = [
        label
        for label, (study, *_) in searches.items()
        if study.method in METHODS and not METHODS[study.method].__module__.startswith("sskd.")
    ]
    return next(label for label in (wanted, *own[::-1], "SSKD", labels[-1]) if label in labels)


def verdicts(searches: Searches, reference: str, rule: Rule = RULE) -> tuple[list[ComparisonResult], list[str]]:
    """Compares the tuned reference with each tuned rival. Returns the comparisons, decided after Holm's correction, and
    for each rival that cannot be compared a line with the reason."""
    ours, parts, refused = searches[reference], list[Condition](), []
    for label, theirs in searches.items():
        if label == reference or label in CONTROLS:
            continue
        why = unequal(ours, theirs)
        if why:
            refused.append(f"{reference} - {label}: no verdict, because {why}.")
            continue
        first, second = (
            Sample(((name, "tuned"),), list(tuned(studies).values()))
            for name, studies in ((reference, ours), (label, theirs))
        )
        min_std = min(_min_std(ours), _min_std(theirs))
        name = f"{reference} - {label}"
        parts.append(Condition(name, first, second, min_std=min_std, margin=rule.margin, last=rule.last))
    return (judge_comparisons(parts, UNDECIDED) if parts else []), refused


def unequal(ours: Sequence[StudyFile], theirs: Sequence[StudyFile]) -> str:
    """Describes the differences between two methods' searches that rule out a comparison; "" if there are none."""
    both = [*ours, *theirs]
    rates = {json.dumps(study.space[RATE]) for study in both}
    asked: dict[str, set[Any]] = {
        "budgets differ": {study.budget for study in both},
        "validation fractions differ": {study.holdout for study in both},
        "epochs differ": {(study.epochs, study.full_epochs) for study in both},
        "ranges of the learning rate differ": rates,
        "one method was searched in several spaces": {study.space_hash for study in ours},
        "the rival was searched in several spaces": {study.space_hash for study in theirs},
    }
    return " and ".join(text for text, found in asked.items() if len(found) > 1)


def expected_best(scores: Sequence[float]) -> list[float]:
    """Returns the expected best score of b trials drawn without replacement from all B, for b = 1 ... B.

    With scores sorted, the i-th is the best of b in C(i, b) - C(i - 1, b) of C(B, b) draws (Tang et al., ACL 2020).
    """
    ordered, count = sorted(scores), len(scores)
    return [
        sum(score * math.comb(i, b - 1) for i, score in enumerate(ordered)) / math.comb(count, b)
        for b in range(1, count + 1)
    ]


def curves(searches: Searches) -> pd.DataFrame:
    """Returns the expected validation accuracy (%) of the best of b trials, as a mean over studies: row, trials (b),
    top1."""
    rows = []
    for label, studies in searches.items():
        expected = [expected_best(study.scores) for study in studies]
        length = min(map(len, expected))
        mean = np.mean([values[:length] for values in expected], axis=0)
        rows += [(label, b, top1) for b, top1 in enumerate(mean.tolist(), start=1)]
    return pd.DataFrame(rows, columns=["row", "trials", "top1"])


def short_trials(studies: Sequence[StudyFile]) -> str:
    """Describes the rank correlation of short trials with full trials of the same settings; "" if trials are full or
    were not repeated."""
    for study in studies:
        full = [trial.held_out_top1 for trial in study.full_trials]
        known = [score for score in full if score is not None]
        if full and len(known) == len(full) == len(study.scores):
            varied = len(set(study.scores)) > 1 and len(set(known)) > 1
            found = float(stats.spearmanr(study.scores, known).statistic) if varied else math.nan
            text = (
                f"Rank correlation of {study.label}'s {len(full)} trials of {plural(study.epochs, 'epoch')} with the "
                f"same trials of {study.full_epochs}: {found:.2f}."
            )
            weak = math.isnan(found) or found < ENOUGH
            return f"{text} It is below {ENOUGH}: use full trials (tuning.epochs=null)." if weak else text
    return ""


def _min_std(studies: Sequence[StudyFile]) -> float:
    images = [final.images for study in studies for final in (study.final, study.default) if final and final.images]
    return rounding_std(min(images)) if images else 0.0
