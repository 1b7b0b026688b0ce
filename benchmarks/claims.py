"""The paper's claims as code: supported, contradicted, or undecided by the results that are there.

A claim is a set of parts, each a number per seed that must be positive for the claim to hold (SSKD's accuracy minus a
rival's, with the same seed). Intervals are Student's t over seeds. The claim is
- supported if every part's 95 % interval lies above its bound;
- contradicted if some part's interval lies below it, at a level corrected for the number of parts (Bonferroni: among
  forty comparisons one or two would fall below by chance);
- undecided otherwise: too few seeds (always with one, and with two that are equal: they tell nothing of the spread),
  runs missing, or an interval that spans the bound.
Sizes that the paper gives ("by 2.3 points") are set beside the measured effect and do not decide.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.published import linear_evaluation
from benchmarks.setting import describe_setting
from benchmarks.statistics import LEVEL, Estimate, by_seed, paired, t_interval
from benchmarks.tables import table1, table2, table3, table4

TIE = 0.2  # points: closer than this counts as tied for best (C2)
FEW_SHOT_RIVALS = ("KD", "AT", "CRD")  # of figure 4a (C8)
NOISE_RIVALS = ("KD", "FitNet", "AT", "CRD")  # of figure 4b (C9)

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


class Part(NamedTuple):
    """A number per seed that must exceed ``bound``. sized: whether it is what the paper gives the claim's size of."""

    name: str
    values: list[float]
    bound: float = 0.0
    sized: bool = True


class Results:
    """One benchmark's finished runs: a measure by row, column and seed. ``which``: the "best" or "last" epoch."""

    def __init__(self, frame: pd.DataFrame, which: str) -> None:
        self.frame, self.which = frame, which
        self._read: dict[str, dict[tuple[str, str], dict[int, float]]] = {}

    def seeds(self, row: str, column: str, measure: str = "top1") -> dict[int, float]:
        name = f"{self.which}_{measure}" if measure in ("top1", "top5") else measure
        if name not in self._read:
            self._read[name] = by_seed(self.frame, name)
        return self._read[name].get((row, column), {})

    def gap(self, first: str, second: str, column: str, measure: str = "top1", bound: float = 0.0) -> Part:
        """first - second."""
        values = paired(self.seeds(first, column, measure), self.seeds(second, column, measure))
        return Part(f"{first} - {second}, {column}", list(values.values()), bound)

    def columns(self) -> list[str]:
        """In the benchmark's order."""
        return [str(column) for column in dict.fromkeys(self.frame["column"])]

    def rows(self) -> list[str]:
        return [str(row) for row in dict.fromkeys(self.frame["row"]) if row != "Teacher"]


@dataclass(frozen=True)
class Claim:
    """``parts`` decide; ``headline`` is the effect that is shown, the weakest part where there is none; ``lacks`` says
    what the runs as they were planned cannot tell."""

    id: str
    statement: str
    where: str
    benchmark: str
    parts: Callable[[Results], list[Part]]
    headline: Callable[[Results], Part] | None = None
    size: float | None = None  # the headline's size according to the paper
    dataset: str = "cifar100"
    lacks: Callable[[Results], str] = lambda results: ""


class Verdict(NamedTuple):
    """What the results say of a claim. effect, lower, upper: nan where unknown. ``text`` says it in words, beginning
    with how the setting differs from the claim's. seeds: of the part that has the fewest; effect_seeds: of the effect
    and its interval."""

    id: str
    statement: str
    where: str
    epoch: str  # "best" or "last"
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

    @property
    def seeds_text(self) -> str:
        """ "2 seeds", or "2 seeds (some comparisons 1)" where the effect has more than another part."""
        shown = max(self.effect_seeds, self.seeds)
        text = f"{shown} seed" if shown == 1 else f"{shown} seeds"
        return text if shown == self.seeds else f"{text} (some comparisons {self.seeds})"


def decide(parts: list[Part]) -> tuple[str, str]:
    """The verdict on a claim of these parts, and why."""
    if not parts:
        return UNDECIDED, "nothing was run"
    level = 1 - (1 - LEVEL) / len(parts)
    for part in parts:
        if not _two_equal(part) and t_interval(part.values, level).upper < part.bound:
            return CONTRADICTED, f"{part.name} is below {part.bound:g}"
    absent = [part for part in parts if not part.values]
    if absent:
        return UNDECIDED, f"runs are missing ({_first(absent)})"
    one = [part for part in parts if len(part.values) == 1]
    if one:
        return UNDECIDED, f"one seed gives no interval ({_first(one)})"
    equal = [part for part in parts if _two_equal(part)]
    if equal:
        return UNDECIDED, f"two equal seeds give no interval ({_first(equal)})"
    spans = [part for part in parts if not t_interval(part.values).lower > part.bound]
    if spans:
        more = f", and {len(spans) - 1} more" if len(spans) > 1 else ""
        return UNDECIDED, f"the interval of {spans[0].name} spans {spans[0].bound:g}{more}"
    return SUPPORTED, "every part's interval lies above its bound" if len(parts) > 1 else "its interval lies above 0"


def _first(parts: list[Part]) -> str:
    return parts[0].name + (f", and {len(parts) - 1} more" if len(parts) > 1 else "")


def _two_equal(part: Part) -> bool:
    """Their interval would have no width: chance, where accuracies are counted in whole images."""
    return len(part.values) == 2 and math.isclose(*part.values, rel_tol=0, abs_tol=1e-9)


def judge(claim: Claim, frame: pd.DataFrame, which: str = "best") -> Verdict:
    """The verdict on one claim from the report's frame. best: the paper's protocol (best epoch on the test images)."""
    own = frame if frame.empty else frame[frame["benchmark"] == claim.benchmark]
    results = Results(own, which)
    parts = claim.parts(results) if len(own) else []
    lacks = claim.lacks(results) if len(own) else ""
    verdict, why = (UNDECIDED, lacks) if lacks else decide(parts)
    shown = claim.headline(results) if claim.headline and len(own) and not lacks else _weakest(parts)
    estimate = t_interval(shown.values) if shown else Estimate(np.nan, np.nan, np.nan, 0)
    seeds = min((len(part.values) for part in parts), default=0)
    finished = own[own["state"] == "finished"] if len(own) else own
    where = describe_setting(finished, claim.dataset) if len(finished) else ""
    text = f"{where}: {verdict}, as {why}." if where else f"{verdict.capitalize()}, as {why}."
    if claim.size is not None and shown and not shown.sized:
        text += f" The paper's {claim.size:g} is of other settings: {claim.where}."
    elif claim.size is not None and estimate.n > 1:
        inside = estimate.lower <= claim.size <= estimate.upper
        text += f" The paper's {claim.size:g} lies {'inside' if inside else 'outside'} the interval."
    return Verdict(
        claim.id,
        claim.statement,
        claim.where,
        which,
        verdict,
        text,
        shown.name if shown else "",
        estimate.mean,
        estimate.lower,
        estimate.upper,
        claim.size,
        seeds,
        estimate.n,
        list(dict.fromkeys(finished["id"].dropna())) if len(finished) else [],
    )


def verdicts(frame: pd.DataFrame, which: str = "best") -> list[Verdict]:
    """All claims, in order."""
    return [judge(claim, frame, which) for claim in CLAIMS]


def _weakest(parts: list[Part]) -> Part | None:
    known = [part for part in parts if part.values]
    return min(known, key=lambda part: float(np.mean(part.values)) - part.bound, default=None)


# --- the parts of each claim ----------------------------------------------------------------------------------------


def _c1(results: Results) -> Part:
    gaps = [paired(results.seeds("SSKD", pair), results.seeds("CRD", pair)) for pair in table4.PAIRS]
    complete = sorted(set.intersection(*(set(gap) for gap in gaps)))
    means = [float(np.mean([gap[seed] for gap in gaps])) for seed in complete]
    return Part("SSKD - CRD, mean over six pairs", means)


def _c2(results: Results) -> list[Part]:
    pairs = [pair for pair in table3.PAIRS if pair != "resnet56/resnet20"]
    rivals = [row for row in results.rows() if row != "SSKD"]
    return [results.gap("SSKD", row, pair, bound=-TIE) for pair in pairs for row in rivals]


def _c3(results: Results) -> list[Part]:
    steps = (("+L_T", "CE+KD"), ("+L_ss", "CE+KD"), ("all", "+L_T"), ("all", "+L_ss"))
    return [results.gap(more, less, "vgg13/vgg8") for more, less in steps]


def _c4(results: Results) -> list[Part]:
    best = results.seeds("SSKD", "75%")
    others = [f"{ratio:.0%}" for ratio in table1.RATIOS if ratio != 0.75]
    return [Part(f"75% - {other} kept", list(paired(best, results.seeds("SSKD", other)).values())) for other in others]


def _c5(results: Results) -> list[Part]:
    quality = linear_evaluation()
    per_task = [results.seeds(title, "vgg13/vgg8") for title in table2.PRETEXTS.values()]
    complete = sorted(set.intersection(*(set(values) for values in per_task)))
    tasks = [quality[title] for title in table2.PRETEXTS.values()]
    correlations = []
    for seed in complete:
        students = [values[seed] for values in per_task]
        # students that are all equal have no order
        correlations.append(float(stats.spearmanr(tasks, students).statistic) if len(set(students)) > 1 else 0.0)
    return [Part("rank correlation of task and student", correlations)]


def _c6(results: Results) -> list[Part]:
    columns = list(dict.fromkeys(results.frame["column"]))
    rivals = ("KD", "AT", "SP", "CC", "CRD")
    return [
        results.gap("SSKD", row, str(column), measure)
        for column in columns
        for row in rivals
        for measure in ("top1", "top5")
    ]


def _c7(results: Results) -> list[Part]:
    rivals = [row for row in results.rows() if row != "SSKD"]
    nearer = [results.gap(row, "SSKD", "vgg13/vgg8", "kl") for row in rivals]
    more_alike = [results.gap("SSKD", row, "vgg13/vgg8", "cka") for row in rivals]
    named = [("KL: ", nearer), ("CKA: ", more_alike)]
    return [part._replace(name=prefix + part.name) for prefix, parts in named for part in parts]


def _c8(results: Results) -> list[Part]:
    return [results.gap("SSKD", row, column) for column in results.columns() for row in FEW_SHOT_RIVALS]


def _c8_headline(results: Results) -> Part:
    """To the best (by its mean) of the other methods at 25 %."""
    at_25 = [results.gap("SSKD", row, "25%") for row in FEW_SHOT_RIVALS]
    return _weakest(at_25) or Part("SSKD - best other, 25%", [])


def _rates(results: Results) -> tuple[str, str] | None:
    """The columns of the lowest and the highest share of changed labels; None for fewer than two shares."""
    rates = sorted(results.columns(), key=lambda column: float(column.rstrip("%")))
    return (rates[0], rates[-1]) if len(rates) > 1 else None


def _drop(results: Results, row: str) -> dict[int, float]:
    low, high = _rates(results) or ("", "")
    return paired(results.seeds(row, low), results.seeds(row, high))


def _c9(results: Results) -> list[Part]:
    pairs = [(row, "SSKD") for row in NOISE_RIVALS]
    pairs += [(most, other) for most in ("FitNet", "AT") for other in ("KD", "CRD")]
    return [
        Part(f"drop of {more} - drop of {less}", list(paired(_drop(results, more), _drop(results, less)).values()))
        for more, less in pairs
    ]


def _c9_headline(results: Results) -> Part:
    low, high = _rates(results) or ("", "")
    name = f"drop of SSKD from {low} to {high} noise"
    return Part(name, list(_drop(results, "SSKD").values()), sized=(low, high) == ("0%", "50%"))


def _c9_lacks(results: Results) -> str:
    columns = results.columns()
    return "" if _rates(results) else f"a drop needs two shares of changed labels, and only {columns[0]} was planned"


def _c10(results: Results) -> list[Part]:
    rivals = [row for row in results.rows() if row != "SSKD"]
    return [results.gap("SSKD", row, "vgg13/vgg8", "silhouette") for row in rivals]


CLAIMS = (
    Claim("C1", "SSKD beats CRD across architectures, by 2.3 points on average over the six pairs", "abstract, Table 4",
          "table4", lambda r: [_c1(r)], _c1, 2.3),
    Claim("C2", "SSKD is best or tied for best on the similar pairs but resnet56/resnet20", "Table 3", "table3", _c2),
    Claim("C3", "Every part of the loss helps, and all together do best", "Figure 3b", "fig3b", _c3),
    Claim("C4", "Keeping all right and the top 75 % of wrong predictions beats keeping all or fewer", "Table 1",
          "table1", _c4),
    Claim("C5", "The better the pretext task, the better the student", "Table 2", "table2", _c5),
    Claim("C6", "On ImageNet, ResNet34 to ResNet18, SSKD is above KD, AT, SP, CC and CRD", "Table 5", "table5", _c6,
          dataset="imagenet"),
    Claim("C7", "The SSKD student is the most like its teacher", "Table 6", "table6", _c7),
    Claim("C8", "With few images SSKD leads everywhere, by about 7 points at 25 %", "Figure 4a", "fig4a", _c8,
          _c8_headline, 7.0),
    Claim("C9", "With noisy labels SSKD falls by only 0.45 points from 0 to 50 %, FitNet and AT fall most", "Figure 4b",
          "fig4b", _c9, _c9_headline, 0.45, lacks=_c9_lacks),
    Claim("C10", "Self-supervised targets make the classes cleaner in the student's features", "Figure 3a", "fig3a",
          _c10),
)  # fmt: skip
