"""Effects on the page: their numbers as text, and positions of an effect and its interval on a line."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.report.tables import format_number
from benchmarks.statistics.comparison import is_sure

Scale = Callable[[float | None], float | None]


def digits_of(values: Sequence[float]) -> int:
    """Returns the number of decimals for effects of this size."""
    return 3 if max((abs(x) for x in values if not pd.isna(x)), default=0.0) < 1 else 2


def interval_text(lower: float, upper: float, digits: int) -> str:
    """Formats "1.20 to 6.90"; "" without an interval."""
    return "" if pd.isna(lower) else f"{format_number(lower, digits)} to {format_number(upper, digits)}"


def scale_of(values: Sequence[float | None]) -> Scale:
    """Returns a function from values to positions on a width of 100 that contains all ``values`` and zero."""
    marks = [0.0, *(x for x in values if x is not None and math.isfinite(x))]
    low, high = min(marks), max(marks)
    span = (high - low) or 1.0
    return lambda x: None if x is None or not math.isfinite(x) else round(6 + 88 * (x - low) / span, 2)


def forest(
    position: Scale, effect: float, lower: float, upper: float, bound: float = 0.0, size: float | None = None
) -> dict[str, float | None]:
    """Returns the positions of the bound, the effect, its interval and the paper's size."""
    named = {"zero": bound, "effect": effect, "lower": lower, "upper": upper, "size": size}
    return {name: position(value) for name, value in named.items()}


def effect_entry(found: Any, position: Scale, bound: float = 0.0, size: float | None = None) -> dict[str, Any]:
    """Returns an effect with its interval for a template: value, text, interval, and plot (None without an effect).
    found: has effect, lower and upper."""
    effect, lower, upper = found.effect, found.lower, found.upper
    if pd.isna(effect):
        return {"value": "", "text": "", "interval": "", "plot": None}
    digits = digits_of([effect, lower, upper])
    return {
        "value": round(effect, 6),
        "text": format_number(effect, digits, signed=True),
        "interval": interval_text(lower, upper, digits),
        "plot": forest(position, effect, lower, upper, bound, size),
    }


def gap_entry(gap: Mapping[Any, Any], digits: int) -> dict[str, Any]:
    """Returns a line of comparison.differences or comparison.pairwise for a template."""
    return {
        "value": round(gap["difference"], 6),
        "text": format_number(gap["difference"], digits, signed=True),
        "interval": interval_text(gap["lower"], gap["upper"], digits),
        "improvement": f"{round(100 * gap['improvement'])} %",
        "share": round(gap["improvement"], 4),
        "decided": is_sure(gap["p_holm"]),
        "seeds": gap["seeds"],
    }
