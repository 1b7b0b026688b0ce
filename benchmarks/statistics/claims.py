"""The paper's claims as code: each is a set of conditions, differences that must lie above a bound (see verdict.py).

Sizes that the paper states ("by 2.3 points") are shown next to the measured effect and do not decide.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.analysis.published import linear_evaluation
from benchmarks.statistics.comparison import RULE, Rule, Values, by_seed, compare, mean_over, paired
from benchmarks.statistics.intervals import rounding_std
from benchmarks.statistics.verdict import Condition, Sample, weakest
from benchmarks.tables import table1, table2, table3, table4
from benchmarks.tables.cell import published_columns
from sskd.formatting import plural

ACCURACIES = ("top1", "top5")
STUDENT = "Student"
# rivals of SSKD in tables 3 and 6, in table 5, and in figures 4a and 4b
TABLE_RIVALS = ("KD", "FitNet", "AT", "SP", "VID", "RKD", "PKT", "AB", "FT", "CRD")
TIED_PAIRS = tuple(pair for pair in table3.PAIRS if pair != "resnet56/resnet20")
IMAGENET_RIVALS = ("KD", "AT", "SP", "CC", "CRD")
FEW_SHOT_RIVALS = ("KD", "AT", "CRD")
NOISE_RIVALS = ("KD", "FitNet", "AT", "CRD")


class Results:
    """Runs of one benchmark: values of a measure by row, column and seed. which: the "chosen" (best validation), "last"
    or "best" (on test images) epoch. rule: the profile's settings of the comparison."""

    def __init__(self, frame: pd.DataFrame, which: str, rule: Rule = RULE) -> None:
        self.frame, self.which, self.rule = frame, which, rule
        self._shown = {paper: shown for shown, paper in published_columns(frame).items()}
        self._read: dict[str, dict[tuple[str, str], Values]] = {}

    def column(self, published: str) -> str:
        """Returns the table's name of a published pair (the trained networks come first); any other column is returned
        unchanged."""
        return self._shown.get(published, published)

    def seeds(self, row: str, column: str, measure: str = "top1") -> Values:
        column = self.column(column)
        name = f"{self.which}_{measure}" if measure in ACCURACIES else measure
        if name not in self._read:
            self._read[name] = by_seed(self.frame, name)
        return self._read[name].get((row, column), {})

    def gap(self, first: str, second: str, column: str, measure: str = "top1", bound: float = 0.0) -> Condition:
        """Returns the condition first - second, of two methods in one column."""
        column = self.column(column)
        ours, theirs = (
            Sample(((row, column),), list(self.seeds(row, column, measure).values())) for row in (first, second)
        )
        part = self.part(f"{first} - {second}, {column}", ours, theirs, 1, bound)
        return part if measure in ACCURACIES else part._replace(min_std=0.0, margin=0.0)

    def part(self, name: str, first: Sample, second: Sample | None, accuracies: float, bound: float = 0.0) -> Condition:
        """Returns a condition about accuracies. accuracies: number of accuracies that a value adds or subtracts."""
        images = f"{self.which}_images"
        min_std = rounding_std(float(self.frame[images].min()), accuracies) if images in self.frame else 0.0
        return Condition(name, first, second, bound, min_std=min_std, margin=self.rule.margin, last=self.rule.last)

    def mean_gap(self, first: str, second: str, columns: list[str], name: str) -> Condition:
        """Returns the condition first - second of two methods' means over the columns, for the seeds that have all
        columns."""
        columns = [self.column(column) for column in columns]
        ours, theirs = (
            Sample(
                tuple((row, column) for column in columns),
                list(mean_over([self.seeds(row, column) for column in columns]).values()) if columns else [],
            )
            for row in (first, second)
        )
        return self.part(name, ours, theirs, 1 / max(1, len(columns)))

    def drop(self, row: str, start: str, end: str) -> Sample:
        """Returns the accuracy that a method loses from one column to another, paired by seed."""
        values = paired(self.seeds(row, start), self.seeds(row, end))
        return Sample(((row, self.column(start)), (row, self.column(end))), list(values.values()))

    def columns(self) -> list[str]:
        """Returns the columns in the benchmark's order."""
        return [str(column) for column in dict.fromkeys(self.frame["column"])]

    def planned(self, pairs: Sequence[str]) -> list[str]:
        """Returns the published pairs that the profile does not omit."""
        return [pair for pair in pairs if pair in self._shown]

    def rows(self) -> list[str]:
        return [str(row) for row in dict.fromkeys(self.frame["row"]) if row != "Teacher"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    parts: the conditions that decide. headline: the effect that is shown (default: the weakest condition). lacks: the
    reason why the planned runs cannot decide. rivals: the rows that the paper compares SSKD with.
    """

    id: str
    statement: str
    where: str
    benchmark: str
    parts: Callable[[Results], list[Condition]]
    headline: Callable[[Results], Condition] | None = None
    size: float | None = None  # the headline's size according to the paper
    dataset: str = "cifar100"
    lacks: Callable[[Results], str] = lambda results: ""
    rivals: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    remark: str = ""  # caution that is shown with every verdict

    def left_out(self, results: Results) -> list[str]:
        """Returns the rivals that were not planned, because the profile's table_methods omit them."""
        rows = [row for row in self.rivals if row not in results.rows()]
        return rows + [pair for pair in self.pairs if pair not in results.planned(self.pairs)]


def method_claim(first: str, second: str, benchmark: str) -> Claim:
    """Returns the claim that one method is above another, on average over the columns that have both."""

    def parts(results: Results) -> list[Condition]:
        keys = set(zip(results.frame["row"], results.frame["column"], strict=True))
        columns = [column for column in results.columns() if {(first, column), (second, column)} <= keys]
        over = columns[0] if len(columns) == 1 else f"mean over {len(columns)} columns"
        return [results.mean_gap(first, second, columns, f"{first} - {second}, {over}")] if columns else []

    return Claim(f"{first}-{second}", f"{first} is above {second}", benchmark, benchmark, parts)


# --- the conditions of each claim -----------------------------------------------------------------------------------


def _among(results: Results, rows: tuple[str, ...]) -> list[str]:
    """Returns the rows that were planned."""
    return [row for row in rows if row in results.rows()]


def _nothing_to_compare(rivals: tuple[str, ...]) -> Callable[[Results], str]:
    def lacks(results: Results) -> str:
        if "SSKD" in results.rows() and _among(results, rivals):
            return ""
        return f"it compares SSKD with {', '.join(rivals)}, but the profile omits too many of these"

    return lacks


def _c1(results: Results) -> Condition:
    pairs = results.planned(table4.PAIRS)
    gap = results.mean_gap("SSKD", "CRD", pairs, f"SSKD - CRD, mean over {plural(len(pairs), 'pair')}")
    return gap._replace(sized=len(pairs) == len(table4.PAIRS))


def _c2(results: Results) -> list[Condition]:
    """SSKD is best or tied: not inferior to any rival by more than the margin."""
    pairs = results.planned(TIED_PAIRS)
    rivals = [row for row in results.rows() if row != "SSKD"]
    gaps = [results.gap("SSKD", row, pair, bound=-results.rule.margin) for pair in pairs for row in rivals]
    return [gap._replace(margin=0.0) for gap in gaps]


def _c3(results: Results) -> list[Condition]:
    steps = (("+L_T", "CE+KD"), ("+L_ss", "CE+KD"), ("all", "+L_T"), ("all", "+L_ss"))
    return [results.gap(more, less, "vgg13/vgg8") for more, less in steps]


def _c4(results: Results) -> list[Condition]:
    others = [f"{ratio:.0%}" for ratio in table1.RATIOS if ratio != 0.75]
    return [results.part(f"75% - {other} kept", results.drop("SSKD", "75%", other), None, 2) for other in others]


def _c5(results: Results) -> list[Condition]:
    quality = linear_evaluation()
    per_task = [results.seeds(title, "vgg13/vgg8") for title in table2.PRETEXTS.values()]
    complete = sorted(set.intersection(*(set(values) for values in per_task)))
    tasks = [quality[title] for title in table2.PRETEXTS.values()]
    correlations = []
    for seed in complete:
        students = [values[seed] for values in per_task]
        # no order if all students are equal
        correlations.append(float(stats.spearmanr(tasks, students).statistic) if len(set(students)) > 1 else 0.0)
    cells = tuple((title, results.column("vgg13/vgg8")) for title in table2.PRETEXTS.values())
    name = "rank correlation of task and student"
    return [Condition(name, Sample(cells, correlations), ranks=True, last=results.rule.last)]


def _c5_lacks(results: Results) -> str:
    """Returns why the runs cannot decide C5: if all seeds share one head per task, the effect of the task and the
    variance of its head cannot be separated. Returns "" if they can."""
    finished = results.frame[results.frame["state"] == "finished"]
    for _, group in finished.groupby("row"):
        if "head" not in group or group["head"].nunique() < group["seed"].nunique():
            break
    else:
        return ""
    return (
        "all seeds share one head per task, so the variance of the heads cannot be separated from the effect of the "
        "tasks (teacher_seeds trains one head per seed)"
    )


def _c6(results: Results) -> list[Condition]:
    return [
        results.gap("SSKD", row, column, measure)
        for column in results.columns()
        for row in _among(results, IMAGENET_RIVALS)
        for measure in ACCURACIES
    ]


def _c7(results: Results) -> list[Condition]:
    rivals = [row for row in results.rows() if row != "SSKD"]
    nearer = [results.gap(row, "SSKD", "vgg13/vgg8", "kl") for row in rivals]
    more_alike = [results.gap("SSKD", row, "vgg13/vgg8", "cka") for row in rivals]
    named = [("KL: ", nearer), ("CKA: ", more_alike)]
    return [part._replace(name=prefix + part.name) for prefix, parts in named for part in parts]


def _c8(results: Results) -> list[Condition]:
    rivals = _among(results, FEW_SHOT_RIVALS)
    return [results.gap("SSKD", row, column) for column in results.columns() for row in rivals]


def _c8_headline(results: Results) -> Condition:
    """Compares SSKD with the best other method (by its mean) at 25 %."""
    at_25 = [results.gap("SSKD", row, "25%") for row in _among(results, FEW_SHOT_RIVALS)]
    return weakest(at_25) or Condition("SSKD - best other, 25%", Sample((), []))


def _rates(results: Results) -> tuple[str, str] | None:
    """Returns the columns with the lowest and the highest noise rate; None for fewer than two."""
    rates = sorted(results.columns(), key=lambda column: float(column.rstrip("%")))
    return (rates[0], rates[-1]) if len(rates) > 1 else None


def _c9(results: Results) -> list[Condition]:
    low, high = _rates(results) or ("", "")
    pairs = [(row, "SSKD") for row in _among(results, NOISE_RIVALS)]
    worst, others = (_among(results, rows) for rows in (("FitNet", "AT"), ("KD", "CRD")))
    pairs += [(most, other) for most in worst for other in others]
    return [
        results.part(
            f"drop of {more} - drop of {less}", results.drop(more, low, high), results.drop(less, low, high), 2
        )._replace(void=next(filter(None, (_below_student(results, row, low) for row in (more, less))), ""))
        for more, less in pairs
    ]


def _below_student(results: Results, row: str, clean: str) -> str:
    """Returns why a method's drop is void: without noise it is below the student alone and cannot drop far; else ""."""
    alone = compare(results.seeds(row, clean), results.seeds(STUDENT, clean), False, last=results.rule.last)
    if alone.n and bool(alone.mean + alone.half_width() < 0):
        own, student = (np.mean(list(results.seeds(name, clean).values())) for name in (row, STUDENT))
        return f"at {clean} noise {row} has {own:.1f} %, below the student alone ({student:.1f} %): it cannot drop far"
    return ""


def _c9_headline(results: Results) -> Condition:
    low, high = _rates(results) or ("", "")
    part = results.part(f"drop of SSKD from {low} to {high} noise", results.drop("SSKD", low, high), None, 2)
    return part._replace(sized=(low, high) == ("0%", "50%"))


def _c9_lacks(results: Results) -> str:
    if not _rates(results):
        return f"a drop needs two noise rates, and only {results.columns()[0]} was planned"
    return _nothing_to_compare(NOISE_RIVALS)(results)


def _c10(results: Results) -> list[Condition]:
    return [results.gap("SSKD", row, "vgg13/vgg8", "silhouette") for row in results.rows() if row != "SSKD"]


CLAIMS = (
    Claim("C1", "SSKD beats CRD across architectures, by 2.3 points on average over the six pairs", "abstract, Table 4",
          "table4", lambda r: [_c1(r)], _c1, 2.3, lacks=_nothing_to_compare(("CRD",)), pairs=table4.PAIRS),
    Claim("C2", "SSKD is best or tied for best on the similar pairs but resnet56/resnet20", "Table 3", "table3", _c2,
          lacks=_nothing_to_compare(TABLE_RIVALS), rivals=TABLE_RIVALS, pairs=TIED_PAIRS),
    Claim("C3", "Every term of the loss helps, and all together are best", "Figure 3b", "fig3b", _c3),
    Claim("C4", "Keeping 75 % of the wrong predictions is better than keeping more or fewer", "Table 1",
          "table1", _c4),
    Claim("C5", "The better the pretext task, the better the student", "Table 2", "table2", _c5, lacks=_c5_lacks),
    Claim("C6", "On ImageNet, ResNet34 to ResNet18, SSKD is above KD, AT, SP, CC and CRD", "Table 5", "table5", _c6,
          dataset="imagenet", lacks=_nothing_to_compare(IMAGENET_RIVALS), rivals=IMAGENET_RIVALS),
    Claim("C7", "The SSKD student has the highest fidelity to its teacher", "Table 6", "table6", _c7,
          lacks=_nothing_to_compare(TABLE_RIVALS), rivals=TABLE_RIVALS,
          remark="AT and CRD have no KL term: their students were never asked to match the teacher's predictions."),
    Claim("C8", "With few images SSKD is always best, by about 7 points at 25 %", "Figure 4a", "fig4a", _c8,
          _c8_headline, 7.0, lacks=_nothing_to_compare(FEW_SHOT_RIVALS), rivals=FEW_SHOT_RIVALS,
          remark="At equal epochs, which take SSKD more than three times as long as KD (docs/methods.md)."),
    Claim("C9", "With noisy labels SSKD loses only 0.45 points from 0 to 50 %, FitNet and AT lose most", "Figure 4b",
          "fig4b", _c9, _c9_headline, 0.45, lacks=_c9_lacks, rivals=NOISE_RIVALS),
    Claim("C10", "Self-supervised targets separate the classes better in the student's features", "Figure 3a", "fig3a",
          _c10, lacks=_nothing_to_compare(("Student", "KD"))),
)  # fmt: skip
