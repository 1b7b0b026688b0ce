"""A benchmark's section of the page: a table with a permanent link per cell, differences, all pairs, and the figure."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.report.curves import Plot
from benchmarks.report.forest import gap_entry, interval_text
from benchmarks.report.section import Section
from benchmarks.report.tables import best_rows, format_number, shown_measures
from benchmarks.statistics.comparison import AVERAGE
from benchmarks.tables.benchmark import Measure


def cell_anchor(benchmark: str, row: str, column: str, label: str) -> str:
    """Returns the anchor of a cell's number, such as "cell-fig4a-SSKD-25-last" (letters, digits and . _ + -). label:
    the measure's."""
    words = ("cell", benchmark, row, column, label)
    return "-".join(re.sub(r"[^A-Za-z0-9._+]+", "-", word).strip("-") for word in words)


def section_entry(section: Section, plots: list[Plot]) -> dict[str, Any]:
    """Returns the section for the template."""
    measures = section.benchmark.measures
    usual = int(section.table["seeds"].mode().max())
    return section._asdict() | {
        "table": _wide_table(section, usual, plots),
        "usual_seeds": usual,
        "differences": [_difference_table(section, measure) for measure in measures],
        "matrices": [_matrix(section.pairs[m.label], m) for m in measures if section.pairs],
        "reproductions": section.reproductions.to_dict("records"),
        "plots": plots,
    }


def _wide_table(section: Section, usual: int, plots: list[Plot]) -> dict[str, Any]:
    """Returns the table with methods as rows and, per column, the measures, the paper's value and the difference to
    it."""
    benchmark, table = section.benchmark, section.table
    columns = list(dict.fromkeys(table["column"]))
    headers = {"paper": "paper", "difference": "diff.", "other protocol": "other protocol"}
    kinds = [(measure, kind, headers.get(kind, measure.label)) for measure, kind in shown_measures(table, benchmark)]
    leaders = {measure.label: best_rows(table, measure) for measure in benchmark.measures}
    records = {(r["row"], r["column"]): r for r in table.to_dict("records")}
    runs = _runs_of_cells(section.frame)
    # plots of test images come first, and win
    curves = {(line.row, plot.column): f"curve-{plot.id}" for plot in reversed(plots) for line in plot.lines}
    rows = []
    for row in dict.fromkeys(table["row"]):
        cells: list[dict[str, Any]] = []
        for column in columns:
            record = records.get((row, column))
            for index, (measure, key, _) in enumerate(kinds):
                cell = _wide_cell(record, measure, key, index == 0, usual, leaders[measure.label])
                if key == "mean" and record is not None:
                    cell["anchor"] = cell_anchor(benchmark.id, str(row), str(column), measure.label)
                    cell |= {"runs": runs[row, column], "curve": curves.get((row, column), "")}
                cells.append(cell)
        rows.append({"name": row, "cells": cells})
    return {"columns": columns, "headers": [header for _, _, header in kinds], "rows": rows}


def _runs_of_cells(frame: pd.DataFrame) -> dict[tuple[str, str], dict[str, str]]:
    """Returns the runs of each cell by id, with their names in the cell: "s0"."""
    runs: dict[tuple[str, str], dict[str, str]] = {}
    for row, column, run, seed in zip(frame["row"], frame["column"], frame["id"], frame["seed"], strict=True):
        runs.setdefault((row, column), {})[run] = f"s{seed}"
    return runs


def _wide_cell(
    record: Mapping[Any, Any] | None, measure: Measure, key: str, first: bool, usual: int, leaders: set[tuple[str, str]]
) -> dict[str, Any]:
    cell = {"first": first, "kind": key, "value": "", "text": "", "sd": "", "why": "", "seeds": "", "leads": False}
    cell |= {"anchor": "", "runs": {}, "curve": ""}
    if record is None:
        return cell
    value = record[f"{measure.label} {key}"]
    if pd.isna(value):
        return cell | {"why": record["missing"] if first else ""}
    cell |= {"value": round(float(value), 6), "text": format_number(value, measure.digits, signed=key == "difference")}
    if key == "mean":
        cell["leads"] = (str(record["row"]), str(record["column"])) in leaders
        sd = format_number(record[f"{measure.label} sd"], measure.digits)
        cell["sd"] = "" if sd == "-" else sd
        if first:
            cell["seeds"] = f"n={record['seeds']}" if record["seeds"] != usual else ""
            cell["why"] = "; ".join(text for text in (record["missing"], record["differs"]) if text)
    return cell


def _difference_table(section: Section, measure: Measure) -> dict[str, Any]:
    rows = [
        gap_entry(gap, measure.digits)
        | {
            "column": "average over all" if gap["column"] == AVERAGE else gap["column"],
            "row": gap["row"],
            "pairs": interval_text(gap["pairs_lower"], gap["pairs_upper"], measure.digits),
        }
        for gap in section.differences[measure.label].to_dict("records")
    ]
    return {"title": measure.title, "rows": rows}


def _matrix(pairs: pd.DataFrame, measure: Measure) -> dict[str, Any]:
    """Returns all pairs of rows, from comparison.pairwise's frame: a line per row, a cell per other row."""
    rows = list(dict.fromkeys([*pairs["row"], *pairs["other"]]))
    cells = {(pair["row"], pair["other"]): gap_entry(pair, measure.digits) for pair in pairs.to_dict("records")}
    none = {"text": "", "decided": False}
    lines = [{"row": row, "cells": [cells.get((row, other), none) for other in rows]} for row in rows]
    return {"title": measure.title, "rows": rows, "lines": lines}


def embedded(png: Path) -> dict[str, Any]:
    """Returns the PNG as a data URI, with its size in pixels from the PNG's header."""
    data = png.read_bytes()
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    return {"uri": f"data:image/png;base64,{base64.b64encode(data).decode()}", "width": width, "height": height}
