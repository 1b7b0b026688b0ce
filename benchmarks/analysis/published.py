"""The paper's numbers and independent reproductions, from results/paper, each with its source.

A file has a line per row and pair: top1, sometimes top5, the source and, if known, the accuracy of the teacher
(teacher_top1), its epoch ("best" on the test set, or "last") and the number of runs; files of newer methods also have
the protocol. A number is only subtracted from ours if it has this suite's protocol and the teacher of the Teacher row.
"""

from collections.abc import Hashable
from functools import lru_cache
from typing import NamedTuple

import pandas as pd

from benchmarks.tables.benchmark import BENCHMARKS
from sskd.paths import PAPER


class Elsewhere(NamedTuple):
    """A number with another protocol (epochs, recipe) or another teacher."""

    value: float
    protocol: str
    source: str
    teacher: str = ""  # the accuracy of its teacher, where that is not the table's


def _lines(file: str) -> list[dict[Hashable, str]]:
    return pd.read_csv(PAPER / file, dtype=str, keep_default_na=False).to_dict("records")


@lru_cache(maxsize=16)
def _read(files: tuple[str, ...]) -> tuple[dict[tuple[str, str, str], float], dict[tuple[str, str], Elsewhere]]:
    """Returns the files' comparable numbers (later files take precedence), and for the other cells the first number
    with another protocol, by row and pair."""
    comparable: dict[tuple[str, str, str], float] = {}
    elsewhere: dict[tuple[str, str], Elsewhere] = {}
    lines = [line for file in files for line in _lines(file)]
    teachers = {line["pair"]: line["top1"] for line in lines if line["row"] == "Teacher"}
    for line in lines:
        row, pair = line["row"], line["pair"]
        other = line.get("teacher_top1", "")
        other = "" if other == teachers.get(pair, other) else other
        if line.get("same_protocol", "yes") == "yes" and not other:
            comparable |= {(row, pair, name): float(line[name]) for name in ("top1", "top5") if line.get(name)}
        else:
            epochs = f"{line['epochs']} epochs" if line.get("epochs") else ""
            teacher = "another teacher" if other else ""
            protocol = "; ".join(filter(None, (teacher, epochs, line.get("protocol", ""))))
            elsewhere.setdefault((row, pair), Elsewhere(float(line["top1"]), protocol, line["source"], other))
    known = {(row, pair) for row, pair, _ in comparable}
    return comparable, {place: number for place, number in elsewhere.items() if place not in known}


def published(benchmark: str) -> dict[tuple[str, str, str], float]:
    """Returns the paper's numbers by (row, column, "top1" or "top5"); empty if they are not available."""
    return _read(BENCHMARKS[benchmark].published)[0]


def published_elsewhere(benchmark: str) -> dict[tuple[str, str], Elsewhere]:
    """Returns numbers with another protocol by (row, column); they are shown, but not subtracted from ours."""
    return _read(BENCHMARKS[benchmark].published)[1]


@lru_cache(maxsize=1)
def linear_evaluation() -> dict[str, float]:
    """Returns the quality of each pretext task: linear evaluation on ImageNet, as quoted in the paper's table 2."""
    table = pd.read_csv(PAPER / "table2_pretext_tasks.csv")
    return dict(zip(table["row"], table["pretext_linear_eval_imagenet"].astype(float), strict=True))


def reproductions(pairs: set[str]) -> pd.DataFrame:
    """Returns independent results for these published pairs: by, dataset, pair, method, top1, protocol."""
    table = pd.read_csv(PAPER / "reproductions.csv")
    return table[table["pair"].isin(sorted(pairs))]
