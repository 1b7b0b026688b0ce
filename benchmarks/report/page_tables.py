"""A benchmark's section of the page: a table with a permanent link per cell, differences, all pairs, and the figure."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.report.curves import Plot
from benchmarks.report.forest import interval_text
from benchmarks.report.tables import best_rows, format_number, shown_measures
from benchmarks.statistics.comparison import AVERAGE, SENTENCE, is_sure

if TYPE_CHECKING:
    from benchmarks.report.section import Section

CellKey = tuple[str, str, str, str]  # benchmark, row, column, measure's label
Run = tuple[str, str]  # id, and its name in a cell: "s0"


def cell_keys(section: "Section") -> list[CellKey]:
    """Returns the key of every number of a cell that has a link."""
    cells = zip(section.table["row"], section.table["column"], strict=True)
    return [
        (section.benchmark.id, str(row), str(column), measure.label)
        for row, column in cells
        for measure in section.benchmark.measures
    ]


def cell_anchors(keys: Iterable[CellKey]) -> dict[CellKey, str]:
    """Maps keys to anchors such as "cell-fig4a-SSKD-25-last" (letters, digits and . _ + -). Keys that would get the
    same anchor ("A B" and "A/B") all have a hash as suffix, so no anchor depends on the order."""
    plain = {key: "-".join(("cell", *(_plain(word) for word in key))) for key in keys}
    count = Counter(plain.values())
    return {key: name if count[name] == 1 else f"{name}-{_hash(key)}" for key, name in plain.items()}


def _plain(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+]+", "-", word).strip("-")


def _hash(key: CellKey) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest()[:8]


def section_entry(section: "Section", plots: list[Plot], anchors: Mapping[CellKey, str]) -> dict[str, Any]:
    benchmark, table = section.benchmark, section.table
    usual = int(table["seeds"].mode().max()) if len(table) else 0
    return {
        "benchmark": benchmark,
        "notes": section.notes,
        "ranking": section.ranking,
        "table": _wide_table(section, usual, anchors, plots),
        "usual_seeds": usual,
        "figure": figure_entry(section.figure),
        "rule": SENTENCE,
        "differences": [_difference_table(section, m.label, m.title, m.digits) for m in benchmark.measures],
        "matrices": [_matrix(section.pairs[m.label], m.title, m.digits) for m in benchmark.measures if section.pairs],
        "reproductions": section.reproductions.to_dict("records"),
        "plots": plots,
    }


def _wide_table(section: "Section", usual: int, anchors: Mapping[CellKey, str], plots: list[Plot]) -> dict[str, Any]:
    """Returns the table with methods as rows and, per column, the measures, the paper's value and the difference to
    it."""
    benchmark, table = section.benchmark, section.table
    columns = list(dict.fromkeys(table["column"]))
    headers = {"paper": "paper", "difference": "diff.", "other protocol": "other protocol"}
    kinds = [(measure, kind, headers.get(kind, measure.label)) for measure, kind in shown_measures(table, benchmark)]
    leaders = {measure.label: best_rows(table, measure) for measure in benchmark.measures}
    records = {(r["row"], r["column"]): r for r in table.to_dict("records")}
    runs = _runs_of_cells(section.frame)
    curves = {plot.column: f"curve-{plot.id}" for plot in reversed(plots)}  # plots of test images come first
    rows = []
    for row in dict.fromkeys(table["row"]):
        cells: list[dict[str, Any]] = []
        for column in columns:
            record = records.get((row, column))
            for index, (measure, key, _) in enumerate(kinds):
                cell = _wide_cell(record, measure, key, index == 0, usual, leaders[measure.label])
                if key == "mean" and record is not None:
                    cell["anchor"] = anchors[benchmark.id, str(row), str(column), measure.label]
                    cell["runs"] = runs.get((str(row), str(column)), [])
                    drawn = any(line.row == row for plot in plots if plot.column == str(column) for line in plot.lines)
                    cell["curve"] = curves[str(column)] if drawn else ""
                cells.append(cell)
        rows.append({"name": row, "cells": cells})
    return {"columns": columns, "headers": [header for _, _, header in kinds], "rows": rows}


def _runs_of_cells(frame: pd.DataFrame) -> dict[tuple[str, str], list[Run]]:
    """Returns the runs of each cell. A teacher's run, which has no seed, is named "run"."""
    runs: dict[tuple[str, str], list[Run]] = {}
    for row, column, run, seed in zip(frame["row"], frame["column"], frame["id"], frame["seed"], strict=True):
        name = (run, f"s{int(seed)}" if pd.notna(seed) else "run")
        known = runs.setdefault((str(row), str(column)), [])
        if pd.notna(run) and run not in dict(known):
            known.append(name)
    return runs


def _wide_cell(
    record: Mapping[Any, Any] | None, measure: Any, key: str, first: bool, usual: int, leaders: set[tuple[str, str]]
) -> dict[str, Any]:
    cell = {"first": first, "kind": key, "value": "", "text": "", "sd": "", "why": "", "seeds": "", "leads": False}
    cell |= {"anchor": "", "runs": [], "curve": ""}
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


def _difference_table(section: "Section", label: str, title: str, digits: int) -> dict[str, Any]:
    rows = [
        {
            "column": "average over all" if gap["column"] == AVERAGE else gap["column"],
            "row": gap["row"],
            "value": gap["difference"],
            "text": format_number(gap["difference"], digits, signed=True),
            "interval": interval_text(gap["lower"], gap["upper"], digits) or "from 3 seeds on",
            "pairs": interval_text(gap["pairs_lower"], gap["pairs_upper"], digits),
            "improvement": f"{round(100 * gap['improvement'])} %",
            "share": round(gap["improvement"], 4),
            "decided": is_sure(gap["p_holm"]),
            "seeds": gap["seeds"],
        }
        for gap in section.differences[label].to_dict("records")
    ]
    return {"label": label, "title": title, "rows": rows}


def _matrix(pairs: pd.DataFrame, title: str, digits: int) -> dict[str, Any]:
    """Returns all pairs of rows, from comparison.pairwise's frame: a line per row, a cell per other row."""
    rows = list(dict.fromkeys([*pairs["row"], *pairs["other"]]))
    known = {(pair["row"], pair["other"]): pair for pair in pairs.to_dict("records")}
    lines = [{"row": row, "cells": [_matrix_cell(known.get((row, other)), digits) for other in rows]} for row in rows]
    return {"title": title, "rows": rows, "lines": lines}


def _matrix_cell(pair: Mapping[Any, Any] | None, digits: int) -> dict[str, Any]:
    if pair is None:
        return {"text": "", "decided": False, "interval": "", "improvement": ""}
    return {
        "text": format_number(pair["difference"], digits, signed=True),
        "decided": is_sure(pair["p_holm"]),
        "interval": interval_text(pair["lower"], pair["upper"], digits) or "from 3 seeds on",
        "improvement": f"{round(100 * pair['improvement'])} %",
    }


def figure_entry(png: Path | None) -> dict[str, Any] | None:
    """Returns the PNG as a data URI, with its size in pixels from the PNG's header."""
    if png is None:
        return None
    data = png.read_bytes()
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    return {"uri": f"data:image/png;base64,{base64.b64encode(data).decode()}", "width": width, "height": height}
