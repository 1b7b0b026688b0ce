"""Which row all others are compared with: the user's choice, or the newest of the user's own methods, or SSKD."""

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
    """The row that ``asked`` names, as a table has it ("SSKD") or as --methods does ("sskd", "crd+kd"). Without it, the
    user's own method that is the newest by its info's year, and of one year the last in the plan; else SSKD. UserError
    for a name that no table has."""
    groups = [list(group) for group in cells.values()]
    if asked:
        rows = list(dict.fromkeys(cell.row for group in groups for cell in group if cell.row != "Teacher"))
        row = asked if asked in rows else row_named(asked)
        if row not in rows:
            raise unknown("reference", asked, rows)
        return row
    years: dict[str, int] = {}
    for cell in (cell for group in groups for cell in group):
        if isinstance(cell.spec, StudentSpec):
            method = METHODS[cell.spec.method.name]
            if not method.__module__.startswith("sskd."):
                years[cell.row] = method.info.year
    newest = max(years.values(), default=0)
    return next((row for row in reversed(years) if years[row] == newest), DEFAULT)


def row_named(name: str) -> str:
    """What a method as the command line names it is called in tables; "" for no method's name."""
    try:
        settings = parse_method(name)
        return method_label(method_settings(**settings))
    except UserError:
        return ""


def with_reference(benchmark: Benchmark, cells: Iterable[Cell], reference: str) -> Benchmark:
    """The benchmark, compared with the row ``reference`` where it has it. Where the benchmark compares other things
    than methods (columns, pretext tasks, terms of a loss) it keeps its own."""
    rows = {cell.row for cell in cells}
    methods = benchmark.rows == "method" and benchmark.reference == DEFAULT
    return dataclasses.replace(benchmark, reference=reference) if methods and reference in rows else benchmark
