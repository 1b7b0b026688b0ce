"""A run's place in a table, and what its column is called."""

from dataclasses import dataclass

import pandas as pd

from sskd.runs.spec import RunSpec


@dataclass(frozen=True)
class Cell:
    """One run's place in a table: the seeds of a cell become its mean and deviation. A column that is a pair is named
    by shown_pair."""

    row: str
    column: str
    spec: RunSpec
    pair: str = ""  # the published pair (teacher/student) that the run stands for
    run_pair: str = ""  # the pair that is run


def shown_pair(run_pair: str, published: str) -> str:
    """Returns the name of a pair's runs in a table: by the networks that were trained, then by the published pair that
    they stand for."""
    return published if run_pair in ("", published) else f"{run_pair} for {published}"


def published_columns(frame: pd.DataFrame) -> dict[str, str]:
    """Returns the paper's name of each column of a report's frame: the published pair, where the column is one."""
    if frame.empty:
        return {}
    names = dict.fromkeys(zip(*(frame[name] for name in ("column", "pair", "run_pair")), strict=True))
    return {str(column): str(pair if column == shown_pair(run, pair) else column) for column, pair, run in names}
