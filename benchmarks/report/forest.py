"""Forest plots of the page: positions of an effect and its interval on a line, and their text."""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from benchmarks.report.tables import format_number

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
    position: Scale, effect: float, lower: float, upper: float, bound: float, size: float | None
) -> dict[str, float | None] | None:
    """Returns the positions of the bound, the effect, its interval and the paper's size; None without an effect."""
    if pd.isna(effect):
        return None
    named = {"zero": bound, "effect": effect, "lower": lower, "upper": upper, "size": size}
    return {name: position(value) for name, value in named.items()}
