"""Chooses the row with which all others are compared: the user's choice, the newest of the user's own methods, or
SSKD."""

import dataclasses
from collections.abc import Iterable, Mapping

from benchmarks.profiles.read import parse_method
from benchmarks.tables.benchmark import Benchmark
from benchmarks.tables.cell import Cell
from benchmarks.tables.spec_builder import method_label
from sskd.errors import UserError, unknown
from sskd.methods import METHODS
from sskd.runs.settings import method_settings
from sskd.runs.spec import StudentSpec

DEFAULT = "SSKD"


def choose_reference(cells: Mapping[str, Iterable[Cell]], asked: str = "") -> str:
    """Returns the reference row. ``asked`` names it as in tables ("SSKD") or as in --methods ("sskd", "crd+kd").

    Default: the user's own method with the latest year (of several the last one in the plan), else SSKD. Raises
    UserError for an unknown name.
    """
    every = [cell for group in cells.values() for cell in group]
    if asked:
        rows = list(dict.fromkeys(cell.row for cell in every if cell.row != "Teacher"))
        row = asked if asked in rows else row_named(asked)
        if row not in rows:
            raise unknown("reference", asked, rows)
        return row
    years: dict[str, int] = {}
    for cell in every:
        if isinstance(cell.spec, StudentSpec):
            method = METHODS[cell.spec.method.name]
            if not method.__module__.startswith("sskd."):
                years[cell.row] = method.info.year
    newest = max(years.values(), default=0)
    return next((row for row in reversed(years) if years[row] == newest), DEFAULT)


def row_named(name: str) -> str:
    """Returns the row of a method that is named as on the command line; "" for an unknown method."""
    try:
        settings = parse_method(name)
        return method_label(method_settings(**settings))
    except UserError:
        return ""


def with_reference(benchmark: Benchmark, cells: Iterable[Cell], reference: str) -> Benchmark:
    """Returns the benchmark with ``reference`` as its reference row, if it has that row. Benchmarks that do not compare
    methods (but columns, pretext tasks or loss terms) keep their own."""
    rows = {cell.row for cell in cells}
    methods = benchmark.rows == "method" and benchmark.reference == DEFAULT
    return dataclasses.replace(benchmark, reference=reference) if methods and reference in rows else benchmark
