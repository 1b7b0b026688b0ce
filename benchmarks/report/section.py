"""A benchmark's part of the report, and the whole."""

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
    """A benchmark's part of the report."""

    benchmark: Benchmark
    frame: pd.DataFrame  # its rows of the report's frame
    table: pd.DataFrame  # see summary.summary
    differences: dict[str, pd.DataFrame]  # by measure's label, see statistics.differences
    pairs: dict[str, pd.DataFrame]  # by measure's label, see statistics.pairwise; of three rows or more
    ranking: list[str]  # of its first measure, see ranking.ranking_lines
    notes: list[str]
    reproductions: pd.DataFrame
    figure: Path | None  # its PNG


class Report(NamedTuple):
    """Everything that the page shows."""

    profile: Profile
    frame: pd.DataFrame
    styles: dict[str, Style]  # by row
    sections: list[Section]
    verdicts: list[Verdict]  # by the epoch that decides: chosen on held-out images, else the last
    verdicts_best: list[Verdict]  # by the best on test images, as the paper
    controls: list[Control]
    time_to_accuracy: TimeToAccuracy
    comparability: dict[str, TableComparability]  # by benchmark: what its numbers were measured with
    curves: dict[str, np.ndarray]  # by run, see frame.read_curve
    means: dict[str, pd.DataFrame]  # by benchmark, see curves.mean_curves
    shared_machine: set[str]  # ids of runs that shared their machine with another
    tuning: TuningReport | None = None  # of the profile's own report
