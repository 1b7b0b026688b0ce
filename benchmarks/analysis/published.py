"""The paper's own numbers and independent reproductions, from results/paper, each with its source.

A file has a line for each row and pair, with top1, for some top5, and a source. Of newer methods it also says by which
protocol a number was found: only a number that was found as this suite finds its own is compared with ours.
"""

from functools import lru_cache
from typing import NamedTuple

import pandas as pd

from benchmarks.tables.benchmark import BENCHMARKS
from sskd.paths import PAPER


class Value(NamedTuple):
    value: float
    source: str


class Elsewhere(NamedTuple):
    """A number that was found by another protocol (epochs, teachers, recipe)."""

    value: float
    protocol: str
    source: str


@lru_cache(maxsize=16)
def _read(files: tuple[str, ...]) -> tuple[dict[tuple[str, str, str], Value], dict[tuple[str, str], Elsewhere]]:
    """Returns the files' comparable numbers, of which a later file's count, and by row and pair the first number of
    another protocol, where there is no comparable one."""
    comparable: dict[tuple[str, str, str], Value] = {}
    elsewhere: dict[tuple[str, str], Elsewhere] = {}
    for file in files:
        for line in pd.read_csv(PAPER / file, dtype=str, keep_default_na=False).to_dict("records"):
            row, pair = line["row"], line["pair"]
            if line.get("same_protocol", "yes") == "yes":
                numbers = {name: line[name] for name in ("top1", "top5") if line.get(name)}
                comparable |= {(row, pair, name): Value(float(text), line["source"]) for name, text in numbers.items()}
            else:
                epochs = f"{line['epochs']} epochs" if line["epochs"] else ""
                protocol = "; ".join(filter(None, (epochs, line["protocol"])))
                elsewhere.setdefault((row, pair), Elsewhere(float(line["top1"]), protocol, line["source"]))
    known = {(row, pair) for row, pair, _ in comparable}
    return comparable, {place: number for place, number in elsewhere.items() if place not in known}


def published(benchmark: str) -> dict[tuple[str, str, str], Value]:
    """Returns the paper's numbers by (row, column, "top1" or "top5"); empty where they were not at hand."""
    return _read(BENCHMARKS[benchmark].published)[0]


def published_elsewhere(benchmark: str) -> dict[tuple[str, str], Elsewhere]:
    """Returns by (row, column) numbers of another protocol, which are shown beside ours and not subtracted."""
    return _read(BENCHMARKS[benchmark].published)[1]


@lru_cache(maxsize=1)
def linear_evaluation() -> dict[str, float]:
    """Returns how good each pretext task is by itself: linear evaluation on ImageNet, as quoted by the paper's table
    2."""
    table = pd.read_csv(PAPER / "table2_pretext_tasks.csv")
    return dict(zip(table["row"], table["pretext_linear_eval_imagenet"].astype(float), strict=True))


def reproductions(pairs: set[str]) -> pd.DataFrame:
    """Returns what others measured for these published pairs: by, dataset, pair, method, top1, protocol."""
    table = pd.read_csv(PAPER / "reproductions.csv")
    return table[table["pair"].isin(sorted(pairs))]
