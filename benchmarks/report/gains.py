"""Gain of each method over KD by the year of its publication: a figure and its numbers."""

import dataclasses
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.statistics.comparison import AVERAGE, deciding_measure, differences
from benchmarks.statistics.judging import epoch_that_decides
from benchmarks.tables.benchmark import Benchmark
from sskd.methods import METHODS

LSKD = 2024  # Sun et al.; can be added to any method


def year_of(row: str) -> int | None:
    """Returns the year of a table's row ("DKD", "DKD+LSKD", "CTKD on DKD"); None for the teacher and for no
    distillation."""
    if "+LSKD" in row:
        return LSKD
    years = {METHODS[name].info.title: METHODS[name].info.year for name in METHODS}
    return years.get(row.split("+")[0].split(" on ")[0]) or None


def gains(frame: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """Returns a row for each method with a year, except KD: row, year, gain over KD in points at the deciding epoch,
    lower, upper, seeds. With several columns the gain is the mean over them."""
    measure = deciding_measure(benchmark, epoch_that_decides(frame))
    gaps = differences(frame, dataclasses.replace(benchmark, reference="KD"), measure)
    if frame["column"].nunique() > 1:
        gaps = gaps[gaps["column"] == AVERAGE]
    rows = [
        (gap["row"], year, -gap["difference"], -gap["upper"], -gap["lower"], gap["seeds"])
        for gap in gaps.to_dict("records")
        if (year := year_of(gap["row"])) is not None
    ]
    return pd.DataFrame(rows, columns=["row", "year", "gain", "lower", "upper", "seeds"])


def gains_by_year(frame: pd.DataFrame, benchmark: Benchmark) -> Figure | None:
    """Draws each method's gain and interval in order of the years. Returns None without results of KD or of any other
    method."""
    table = gains(frame, benchmark)
    if table.empty:
        return None
    order = table.sort_values(["year", "row"], kind="stable")
    figure, axis = plt.subplots(figsize=(2.0 + 0.32 * len(order), 3.6), layout="constrained")
    places = range(len(order))
    spread = [order["gain"] - order["lower"], order["upper"] - order["gain"]]
    style: Any = {"fmt": "o", "color": "black", "ecolor": "0.6", "elinewidth": 1, "markersize": 4}
    axis.errorbar(places, order["gain"], yerr=spread, **style)
    axis.axhline(0, color="tab:red", linewidth=1)
    axis.set_xticks(places, [f"{row} ({year})" for row, year in zip(order["row"], order["year"], strict=True)])
    axis.tick_params(axis="x", rotation=90)
    axis.set(title="Gain over KD", ylabel="top-1 minus KD's (points), 95 % interval")
    axis.grid(axis="y", color="0.9", linewidth=0.7)
    return figure
