"""The paper's own numbers and independent reproductions, from results/paper, each with its source."""

from functools import lru_cache
from typing import NamedTuple

import pandas as pd

from sskd.paths import PAPER


class Value(NamedTuple):
    value: float
    source: str


class _File(NamedTuple):
    """Where a table's rows, columns and numbers stand in its CSV. numbers: what they are to their CSV column."""

    name: str
    row: str
    column: str
    numbers: dict[str, str]


FILES = {
    "table2": _File("table2_pretext_tasks.csv", "pretext", "pair", {"top1": "student_top1"}),
    "table3": _File("table3_similar_architecture.csv", "method", "pair", {"top1": "top1"}),
    "table4": _File("table4_cross_architecture.csv", "method", "pair", {"top1": "top1"}),
    "table5": _File("table5_imagenet.csv", "method", "", {"top1": "top1", "top5": "top5"}),
}
NEWER = ("modern_methods.csv", "recent_methods.csv")  # methods of 2021 and later, and of 2019 to 2025
IMAGENET_PAIR = "resnet34/resnet18"  # of table 5, which has one column
OF_PAIRS = ("table3", "table4")  # what a comparison on any of their pairs is held against


@lru_cache(maxsize=16)
def published(benchmark: str) -> dict[tuple[str, str, str], Value]:
    """(row, column, "top1" or "top5") to the paper's number; empty where the paper's numbers are not at hand."""
    if benchmark == "modern":
        return published("comparison") | {
            (found.row, found.pair, "top1"): Value(found.value, found.source) for found in _modern() if found.comparable
        }
    if benchmark == "comparison":
        return {key: value for table in OF_PAIRS for key, value in published(table).items()}
    if benchmark not in FILES:
        return {}
    file = FILES[benchmark]
    values = {}
    for record in pd.read_csv(PAPER / file.name).to_dict("records"):
        row = str(record[file.row])
        row = row.capitalize() if benchmark == "table2" else row
        column = str(record[file.column]) if file.column else IMAGENET_PAIR
        for number, name in file.numbers.items():
            values[row, column, number] = Value(float(record[name]), str(record["source"]))
    return values


class Elsewhere(NamedTuple):
    """A number of the table of newer methods, and how it was found."""

    row: str
    pair: str
    value: float
    comparable: bool  # whether by this suite's recipe: CRD's, with its teachers, best epoch of 240
    protocol: str
    source: str


@lru_cache(maxsize=1)
def _modern() -> list[Elsewhere]:
    tables = [pd.read_csv(PAPER / name, keep_default_na=False, dtype={"epochs": str}) for name in NEWER]
    return [
        Elsewhere(
            str(record["method"]),
            str(record["pair"]),
            float(record["top1"]),
            record["same_protocol"] == "yes",
            "; ".join(part for part in (_epochs(record["epochs"]), str(record["protocol"])) if part),
            str(record["source"]),
        )
        for record in pd.concat(tables).to_dict("records")
    ]


def _epochs(epochs: object) -> str:
    return f"{epochs} epochs" if str(epochs) else ""


def published_elsewhere(benchmark: str) -> dict[tuple[str, str], Elsewhere]:
    """(row, column) to a number that was found by another protocol: shown beside ours, and not subtracted. The first
    that is known, and none where there is a comparable one."""
    if benchmark != "modern":
        return {}
    comparable = {(row, pair) for row, pair, _ in published(benchmark)}
    found: dict[tuple[str, str], Elsewhere] = {}
    for entry in _modern():
        key = (entry.row, entry.pair)
        if not entry.comparable and key not in comparable:
            found.setdefault(key, entry)
    return found


@lru_cache(maxsize=1)
def linear_evaluation() -> dict[str, float]:
    """How good each pretext task is by itself: linear evaluation on ImageNet, as quoted by the paper's table 2."""
    table = pd.read_csv(PAPER / FILES["table2"].name)
    return {
        str(name).capitalize(): float(value)
        for name, value in zip(table["pretext"], table["pretext_linear_eval_imagenet"], strict=True)
    }


def reproductions(pairs: set[str]) -> pd.DataFrame:
    """What others measured for these published pairs: by, dataset, pair, method, top1, protocol."""
    table = pd.read_csv(PAPER / "reproductions.csv")
    return table[table["pair"].isin(sorted(pairs))]
