"""A report in memory: the section of each benchmark, and the whole."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analysis.comparability import TableComparability
from benchmarks.profiles.profile import Profile
from benchmarks.report.style import Style
from benchmarks.report.time_to_accuracy import TimeToAccuracy
from benchmarks.report.tuning import TuningReport
from benchmarks.statistics.controls import Control
from benchmarks.statistics.judging import Verdict
from benchmarks.tables.benchmark import Benchmark


class Section(NamedTuple):
    """A benchmark's section of the report."""

    benchmark: Benchmark
    frame: pd.DataFrame  # the benchmark's rows of the report's frame
    table: pd.DataFrame  # see tables.summary
    differences: dict[str, pd.DataFrame]  # by measure's label, see comparison.differences
    pairs: dict[str, pd.DataFrame]  # by measure's label, see comparison.pairwise; for at least three rows
    ranking: list[str]  # see ranking.ranking_lines
    notes: list[str]
    reproductions: pd.DataFrame
    figure: Path | None  # PNG


class Report(NamedTuple):
    """Everything that the page shows."""

    profile: Profile
    frame: pd.DataFrame
    styles: dict[str, Style]  # by row
    sections: list[Section]
    verdicts: list[Verdict]  # at the best validation epoch, else the last
    verdicts_best: list[Verdict]  # at the best epoch on the test images, as in the paper
    controls: list[Control]
    time_to_accuracy: TimeToAccuracy
    comparability: dict[str, TableComparability]  # by benchmark
    curves: dict[str, np.ndarray]  # by run, see frame.curve_of
    means: pd.DataFrame  # see curves.mean_curves
    shared_machine: set[str]  # ids of runs that shared their machine
    tuning: TuningReport | None = None  # of the profile's own report
