"""The paper's claims as code: each is a set of parts, numbers per seed that must lie above a bound (see verdict.py).

Sizes that the paper gives ("by 2.3 points") are set beside the measured effect and do not decide.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.analysis.published import linear_evaluation
from benchmarks.statistics.comparison import by_seed, paired
from benchmarks.statistics.intervals import count_floor
from benchmarks.statistics.verdict import Cells, Condition, weakest
from benchmarks.tables import table1, table2, table3, table4
from benchmarks.tables.cell import published_columns

RANK_STEP = 0.2  # of Spearman's correlation of four
TIE = 0.2  # points: closer than this counts as tied for best (C2)
# what SSKD is compared with, of tables 3 and 6, 5, and figures 4a and 4b
TABLE_RIVALS = ("KD", "FitNet", "AT", "SP", "VID", "RKD", "PKT", "AB", "FT", "CRD")
IMAGENET_RIVALS = ("KD", "AT", "SP", "CC", "CRD")
FEW_SHOT_RIVALS = ("KD", "AT", "CRD")
NOISE_RIVALS = ("KD", "FitNet", "AT", "CRD")


class Results:
    """One benchmark's finished runs: a measure by row, column and seed. ``which``: the "chosen" (on held-out images),
    "last" or "best" (on test images) epoch."""

    def __init__(self, frame: pd.DataFrame, which: str) -> None:
        self.frame, self.which = frame, which
        self._shown = {paper: shown for shown, paper in published_columns(frame).items()}
        self._read: dict[str, dict[tuple[str, str], dict[int, float]]] = {}

    def column(self, published: str) -> str:
        """The table's name of a published pair, which says first what was trained; of another column its own."""
        return self._shown.get(published, published)

    def seeds(self, row: str, column: str, measure: str = "top1") -> dict[int, float]:
        column = self.column(column)
        name = f"{self.which}_{measure}" if measure in ("top1", "top5") else measure
        if name not in self._read:
            self._read[name] = by_seed(self.frame, name)
        return self._read[name].get((row, column), {})

    def gap(self, first: str, second: str, column: str, measure: str = "top1", bound: float = 0.0) -> Condition:
        """first - second."""
        column = self.column(column)
        values = paired(self.seeds(first, column, measure), self.seeds(second, column, measure))
        cells = ((first, column), (second, column))
        floor = self.floor() if measure in ("top1", "top5") else 0.0
        return Condition(f"{first} - {second}, {column}", list(values.values()), bound, cells=cells, floor=floor)

    def floor(self, accuracies: float = 2) -> float:
        """The least standard deviation of a sum or difference of so many accuracies, as they are counts."""
        name = f"{self.which}_images"
        return count_floor(float(self.frame[name].min()), accuracies) if name in self.frame else 0.0

    def columns(self) -> list[str]:
        """In the benchmark's order."""
        return [str(column) for column in dict.fromkeys(self.frame["column"])]

    def rows(self) -> list[str]:
        return [str(row) for row in dict.fromkeys(self.frame["row"]) if row != "Teacher"]


@dataclass(frozen=True)
class Claim:
    """``parts`` decide; ``headline`` is the effect that is shown, the weakest part where there is none; ``lacks`` says
    what the runs as they were planned cannot tell; ``rivals``: the rows that the paper compares SSKD with."""

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

    def left_out(self, results: Results) -> list[str]:
        """The rivals that were not planned: a profile's ``table_methods`` leaves them out."""
        return [row for row in self.rivals if row not in results.rows()]


# --- the parts of each claim ----------------------------------------------------------------------------------------


def _among(results: Results, rows: tuple[str, ...]) -> list[str]:
    """Those of the rows that were planned."""
    return [row for row in rows if row in results.rows()]


def _nothing_to_compare(rivals: tuple[str, ...]) -> Callable[[Results], str]:
    def lacks(results: Results) -> str:
        if "SSKD" in results.rows() and _among(results, rivals):
            return ""
        return f"it compares SSKD with {', '.join(rivals)}, and the profile leaves out too many of these"

    return lacks


def _c1(results: Results) -> Condition:
    gaps = [paired(results.seeds("SSKD", pair), results.seeds("CRD", pair)) for pair in table4.PAIRS]
    complete = sorted(set.intersection(*(set(gap) for gap in gaps)))
    means = [float(np.mean([gap[seed] for gap in gaps])) for seed in complete]
    cells = tuple((row, results.column(pair)) for pair in table4.PAIRS for row in ("SSKD", "CRD"))
    return Condition("SSKD - CRD, mean over six pairs", means, cells=cells, floor=results.floor(2 / len(gaps)))


def _c2(results: Results) -> list[Condition]:
    pairs = [pair for pair in table3.PAIRS if pair != "resnet56/resnet20"]
    rivals = [row for row in results.rows() if row != "SSKD"]
    return [results.gap("SSKD", row, pair, bound=-TIE) for pair in pairs for row in rivals]


def _c3(results: Results) -> list[Condition]:
    steps = (("+L_T", "CE+KD"), ("+L_ss", "CE+KD"), ("all", "+L_T"), ("all", "+L_ss"))
    return [results.gap(more, less, "vgg13/vgg8") for more, less in steps]


def _c4(results: Results) -> list[Condition]:
    best = results.seeds("SSKD", "75%")
    others = [f"{ratio:.0%}" for ratio in table1.RATIOS if ratio != 0.75]
    floor = results.floor()
    return [
        Condition(
            f"75% - {other} kept",
            list(paired(best, results.seeds("SSKD", other)).values()),
            cells=(("SSKD", "75%"), ("SSKD", other)),
            floor=floor,
        )
        for other in others
    ]


def _c5(results: Results) -> list[Condition]:
    quality = linear_evaluation()
    per_task = [results.seeds(title, "vgg13/vgg8") for title in table2.PRETEXTS.values()]
    complete = sorted(set.intersection(*(set(values) for values in per_task)))
    tasks = [quality[title] for title in table2.PRETEXTS.values()]
    correlations = []
    for seed in complete:
        students = [values[seed] for values in per_task]
        # students that are all equal have no order
        correlations.append(float(stats.spearmanr(tasks, students).statistic) if len(set(students)) > 1 else 0.0)
    cells = tuple((title, results.column("vgg13/vgg8")) for title in table2.PRETEXTS.values())
    return [
        Condition("rank correlation of task and student", correlations, cells=cells, floor=RANK_STEP / math.sqrt(12))
    ]


def _c5_lacks(results: Results) -> str:
    """What makes a task good for its student cannot be told from its head's luck, if all seeds have one head."""
    finished = results.frame[results.frame["state"] == "finished"]
    for _, group in finished.groupby("row"):
        if "head" not in group or group["head"].nunique() < group["seed"].nunique():
            break
    else:
        return ""
    return "each task has one head for all seeds, whose luck looks like the task's (teacher_seeds trains one a seed)"


def _c6(results: Results) -> list[Condition]:
    return [
        results.gap("SSKD", row, column, measure)
        for column in results.columns()
        for row in _among(results, IMAGENET_RIVALS)
        for measure in ("top1", "top5")
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
    """To the best (by its mean) of the other methods at 25 %."""
    at_25 = [results.gap("SSKD", row, "25%") for row in _among(results, FEW_SHOT_RIVALS)]
    return weakest(at_25) or Condition("SSKD - best other, 25%", [])


def _rates(results: Results) -> tuple[str, str] | None:
    """The columns of the lowest and the highest share of changed labels; None for fewer than two shares."""
    rates = sorted(results.columns(), key=lambda column: float(column.rstrip("%")))
    return (rates[0], rates[-1]) if len(rates) > 1 else None


def _drop(results: Results, row: str) -> dict[int, float]:
    low, high = _rates(results) or ("", "")
    return paired(results.seeds(row, low), results.seeds(row, high))


def _drop_cells(results: Results, *rows: str) -> Cells:
    return tuple((row, column) for row in rows for column in _rates(results) or ())


def _c9(results: Results) -> list[Condition]:
    pairs = [(row, "SSKD") for row in _among(results, NOISE_RIVALS)]
    worst, others = (_among(results, rows) for rows in (("FitNet", "AT"), ("KD", "CRD")))
    pairs += [(most, other) for most in worst for other in others]
    return [
        Condition(
            f"drop of {more} - drop of {less}",
            list(paired(_drop(results, more), _drop(results, less)).values()),
            cells=_drop_cells(results, more, less),
            floor=results.floor(4),
        )
        for more, less in pairs
    ]


def _c9_headline(results: Results) -> Condition:
    low, high = _rates(results) or ("", "")
    name = f"drop of SSKD from {low} to {high} noise"
    values, sized = list(_drop(results, "SSKD").values()), (low, high) == ("0%", "50%")
    return Condition(name, values, sized=sized, cells=_drop_cells(results, "SSKD"), floor=results.floor())


def _c9_lacks(results: Results) -> str:
    if not _rates(results):
        return f"a drop needs two shares of changed labels, and only {results.columns()[0]} was planned"
    return _nothing_to_compare(NOISE_RIVALS)(results)


def _c10(results: Results) -> list[Condition]:
    rivals = [row for row in results.rows() if row != "SSKD"]
    return [results.gap("SSKD", row, "vgg13/vgg8", "silhouette") for row in rivals]


CLAIMS = (
    Claim("C1", "SSKD beats CRD across architectures, by 2.3 points on average over the six pairs", "abstract, Table 4",
          "table4", lambda r: [_c1(r)], _c1, 2.3, lacks=_nothing_to_compare(("CRD",))),
    Claim("C2", "SSKD is best or tied for best on the similar pairs but resnet56/resnet20", "Table 3", "table3", _c2,
          lacks=_nothing_to_compare(TABLE_RIVALS), rivals=TABLE_RIVALS),
    Claim("C3", "Every part of the loss helps, and all together do best", "Figure 3b", "fig3b", _c3),
    Claim("C4", "Keeping all right and the top 75 % of wrong predictions beats keeping all or fewer", "Table 1",
          "table1", _c4),
    Claim("C5", "The better the pretext task, the better the student", "Table 2", "table2", _c5, lacks=_c5_lacks),
    Claim("C6", "On ImageNet, ResNet34 to ResNet18, SSKD is above KD, AT, SP, CC and CRD", "Table 5", "table5", _c6,
          dataset="imagenet", lacks=_nothing_to_compare(IMAGENET_RIVALS), rivals=IMAGENET_RIVALS),
    Claim("C7", "The SSKD student is the most like its teacher", "Table 6", "table6", _c7,
          lacks=_nothing_to_compare(TABLE_RIVALS), rivals=TABLE_RIVALS),
    Claim("C8", "With few images SSKD leads everywhere, by about 7 points at 25 %", "Figure 4a", "fig4a", _c8,
          _c8_headline, 7.0, lacks=_nothing_to_compare(FEW_SHOT_RIVALS), rivals=FEW_SHOT_RIVALS),
    Claim("C9", "With noisy labels SSKD falls by only 0.45 points from 0 to 50 %, FitNet and AT fall most", "Figure 4b",
          "fig4b", _c9, _c9_headline, 0.45, lacks=_c9_lacks, rivals=NOISE_RIVALS),
    Claim("C10", "Self-supervised targets make the classes cleaner in the student's features", "Figure 3a", "fig3a",
          _c10, lacks=_nothing_to_compare(("Student", "KD"))),
)  # fmt: skip
