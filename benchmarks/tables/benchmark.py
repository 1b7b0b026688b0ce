"""Registry of benchmarks: the tables and figures of the suite."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd

from benchmarks.profiles.profile import Profile
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.registry import Registry


class Measure(NamedTuple):
    """A number per run that a table shows: a column of the report's frame."""

    name: str
    label: str  # heading of its columns: "best"
    title: str  # description with its unit
    digits: int = 2
    larger_is_better: bool = True
    published: str = ""  # published number that is shown next to it: "top1", "top5"


TOP1 = (
    Measure("best_top1", "best", "top-1 accuracy of the best epoch (%)", published="top1"),
    Measure("last_top1", "last", "top-1 accuracy of the last epoch (%)"),
)

CHOSEN = Measure("chosen_top1", "chosen", "top-1 accuracy of the best validation epoch (%)")
HELD_OUT = Measure("chosen_held_out_top1", "held out", "validation top-1 accuracy of that epoch (%)")
EMA = Measure("last_ema_top1", "average", "top-1 accuracy of the moving average of the weights, last epoch (%)")


@dataclass(frozen=True)
class Benchmark:
    """A table or figure. ``cells`` returns the runs that it compares, for a profile; the other fields define its
    report."""

    id: str
    title: str
    cells: Callable[[SpecBuilder], list[Cell]]
    rows: str = "method"  # kind of the rows; ``columns``: kind of the columns
    columns: str = "pair"
    measures: tuple[Measure, ...] = TOP1
    # lines: the columns are numbers on the x axis; years: the gain over KD by the methods' years
    figure: Literal["dots", "lines", "embedding", "years"] = "dots"
    reference: str = "SSKD"  # row with which all others are compared
    varies: tuple[str, ...] = ()  # comparability fields in which its rows differ by design
    published: tuple[str, ...] = ()  # files of results/paper with published numbers of its cells
    dataset: str = "cifar100"  # data set of the paper's table
    own_methods: bool = False  # its rows are the profile's methods: the page shows it first, with their cost
    averages: bool = True  # whether a mean over its columns is meaningful
    probes: bool = False  # each column is one of the profile's probe.datasets: see analysis/probes.py
    note: str = ""  # caution that is printed below the table


def with_measured(benchmark: Benchmark, frame: pd.DataFrame) -> Benchmark:
    """Returns the benchmark with the measures that its report shows. If its runs have a validation set, the accuracy at
    the best validation epoch and the validation accuracy come first. If they have a moving average of the weights, its
    accuracy comes last. frame: the report's frame."""
    own, measures = frame[frame["benchmark"] == benchmark.id], benchmark.measures

    def has(measure: Measure) -> bool:
        return measure.name in own and bool(own[measure.name].notna().any())

    if TOP1[1] in measures:
        measures = (*((CHOSEN, HELD_OUT) if has(CHOSEN) else ()), *measures, *((EMA,) if has(EMA) else ()))
    return dataclasses.replace(benchmark, measures=measures)


BENCHMARKS: Registry[Benchmark] = Registry("benchmark", "benchmarks.tables")


def check_benchmarks(profile: Profile) -> None:
    """Raises UserError for an unknown benchmark in the profile."""
    for name in (*profile.benchmarks, *profile.overrides):
        BENCHMARKS[name]
