"""Cells of tables, and the names of their columns."""

from dataclasses import dataclass

import pandas as pd

from sskd.runs.spec import RunSpec


@dataclass(frozen=True)
class Cell:
    """A run's cell in a table. The seeds of a cell give its mean and standard deviation. Columns for pairs are named by
    shown_pair."""

    row: str
    column: str
    spec: RunSpec
    pair: str = ""  # published pair (teacher/student) that the run stands for
    run_pair: str = ""  # trained pair


def shown_pair(run_pair: str, published: str) -> str:
    """Returns a pair's name in a table: the trained networks, then the published pair that they stand for."""
    return published if run_pair in ("", published) else f"{run_pair} for {published}"


def published_columns(frame: pd.DataFrame) -> dict[str, str]:
    """Maps each column of a report's frame to the paper's name: the published pair, or the column itself."""
    if frame.empty:
        return {}
    names = dict.fromkeys(zip(*(frame[name] for name in ("column", "pair", "run_pair")), strict=True))
    return {str(column): str(pair if column == shown_pair(run, pair) else column) for column, pair, run in names}
