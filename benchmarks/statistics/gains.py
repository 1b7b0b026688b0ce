"""How much each method gains over KD, by the year in which it was published: a figure, and the numbers in it."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from sskd.methods import METHODS

LSKD = 2024  # Sun et al.: on whatever method
MEASURE = "best_top1"


def year_of(row: str) -> int | None:
    """The year of a table's row ("DKD", "DKD+LSKD", "CTKD on DKD"); None for the teacher and for no distillation."""
    if "+LSKD" in row:
        return LSKD
    years = {METHODS[name].info.title: METHODS[name].info.year for name in METHODS}
    return years.get(row.split("+")[0].split(" on ")[0]) or None


def gains(frame: pd.DataFrame) -> pd.DataFrame:
    """For each row but KD: row, year, gain (best epoch's top-1 minus KD's, of the same seed and pair: a mean over seeds
    for each pair, then over pairs), low and high (of the pairs), pairs (how many)."""
    if MEASURE not in frame:
        return pd.DataFrame(columns=["row", "year", "gain", "low", "high", "pairs"])
    known = frame[frame[MEASURE].notna()]
    kd = known[known["row"] == "KD"].set_index(["column", "seed"])[MEASURE]
    rows = []
    for row, group in known.groupby("row", sort=False):
        year = year_of(str(row))
        values = group.set_index(["column", "seed"])[MEASURE]
        of_pairs = (values - kd).dropna().groupby("column").mean()
        if row != "KD" and year is not None and len(of_pairs):
            rows.append((row, year, of_pairs.mean(), of_pairs.min(), of_pairs.max(), len(of_pairs)))
    return pd.DataFrame(rows, columns=["row", "year", "gain", "low", "high", "pairs"])


def gains_by_year(frame: pd.DataFrame) -> Figure | None:
    """A point for each method, by years; the line is from the worst pair to the best. None
    while KD or all others have no result."""
    table = gains(frame)
    if table.empty:
        return None
    order = table.sort_values(["year", "row"], kind="stable")
    length = 2.0 + 0.32 * len(order)
    figure, axis = plt.subplots(figsize=(length, 3.6), layout="constrained")
    places = list(range(len(order)))
    spread = [(order["gain"] - order["low"]).tolist(), (order["high"] - order["gain"]).tolist()]
    names = [f"{row} ({year})" for row, year in zip(order["row"], order["year"], strict=True)]
    label = "best epoch's top-1 minus KD's (points)"
    style: Any = {"fmt": "o", "color": "black", "ecolor": "0.6", "elinewidth": 1, "markersize": 4}
    axis.errorbar(places, order["gain"], yerr=spread, **style)
    axis.axhline(0, color="tab:red", linewidth=1)
    axis.set_xticks(places, names)
    axis.tick_params(axis="x", rotation=90)
    axis.set_ylabel(label)
    axis.set_title("Gain over KD, a mean over pairs")
    axis.grid(axis="y", color="0.9", linewidth=0.7)
    return figure
