"""A benchmark's table: mean, standard deviation and seeds per cell, best and last epoch separately, and the paper's
values."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.analysis.published import published, published_elsewhere
from benchmarks.analysis.setting import describe_setting, of_paper, same_runs
from benchmarks.report.escaping import markdown_text
from benchmarks.tables.benchmark import Benchmark, Measure
from benchmarks.tables.cell import published_columns
from sskd.formatting import first_of, markdown_table, plural

OTHER_CODE, CONFLICT = "†", "‡"
SHOWN = 3  # maximum number of ids in a note


def summary(frame: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """Returns one row per cell, in the benchmark's order of cells.

    Columns: row, column, seeds; per measure "<label> mean" and "<label> sd" (n - 1); for measures with published values
    "<label> paper", "<label> difference" (ours minus the paper's, in columns with the paper's setting) and "<label>
    other protocol" if such numbers are known; "missing": why numbers or seeds are missing; "differs": values of
    compared items that differ from the majority of the column.
    """
    paper, elsewhere = published(benchmark.id), published_elsewhere(benchmark.id)
    named = published_columns(frame)
    comparable = comparable_columns(frame, benchmark)
    rows = []
    for (row, column), group in frame.groupby(["row", "column"], sort=False):
        entry: dict[str, object] = {"row": row, "column": column}
        entry["seeds"] = int((group["state"] == "finished").sum())
        for measure in benchmark.measures:
            values = group.get(measure.name, pd.Series(dtype=float))
            entry[f"{measure.label} mean"] = mean = float(values.mean())
            entry[f"{measure.label} sd"] = float(values.std())
            if measure.published:
                known = paper.get((str(row), named[str(column)], measure.published), math.nan)
                entry[f"{measure.label} paper"] = known
                entry[f"{measure.label} difference"] = mean - known if column in comparable else math.nan
                if elsewhere:
                    other = elsewhere.get((str(row), named[str(column)]))
                    entry[f"{measure.label} other protocol"] = other.value if other else math.nan
        entry["missing"], entry["differs"] = missing(group), _differs(group)
        rows.append(entry)
    return pd.DataFrame(rows)


def comparable_columns(frame: pd.DataFrame, benchmark: Benchmark) -> set[str]:
    """Returns the columns whose runs have the paper's setting, so that their numbers can be compared with the
    paper's."""
    return {str(column) for column, group in frame.groupby("column", sort=False) if of_paper(group, benchmark.dataset)}


def shown_measures(table: pd.DataFrame, benchmark: Benchmark) -> list[tuple[Measure, str]]:
    """Returns the (measure, kind) that a table shows per cell: "mean", and if available "paper", "difference" and
    "other protocol"."""
    shown: list[tuple[Measure, str]] = []
    for measure in benchmark.measures:
        shown.append((measure, "mean"))
        if measure.published:
            kinds = ("paper", "difference", "other protocol")
            names = {kind: f"{measure.label} {kind}" for kind in kinds}
            shown += [(measure, kind) for kind, name in names.items() if name in table and table[name].notna().any()]
    return shown


def missing(group: pd.DataFrame) -> str:
    """Returns why a cell's runs have no result, each reason with its number of runs; "" if all have one. The marks for
    runs with other code and for conflicting results come first."""
    mark = [OTHER_CODE] if len(other_code(group)) else []
    mark += [CONFLICT] if len(in_conflict(group)) else []
    reasons = [str(why) for why in group["why"] if why]
    return "; ".join(mark + _counted(reasons, len(group)))


def _differs(group: pd.DataFrame) -> str:
    """Returns the values in which a cell's runs differ from the majority (comparability.exclude_incomparable), each
    with its number of runs."""
    return "; ".join(_counted([why for why in group["differs"] if why], len(group))) if "differs" in group else ""


def other_code(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the finished runs that were trained with other code than today's."""
    return frame[(frame["state"] == "finished") & (frame["changed"] != "")] if "changed" in frame else frame[:0]


def in_conflict(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the merged runs with a second, different result."""
    return frame[frame["conflict"].notna()] if "conflict" in frame else frame[:0]


def _by_whom(frame: pd.DataFrame) -> list[str]:
    """Returns for merged results a line per person and machine, with their cells and seeds."""
    if "who" not in frame or not frame["who"].notna().any():
        return []
    cells: dict[str, dict[str, list[str]]] = {}
    for run in frame[frame["state"] == "finished"].to_dict("records"):
        who = run["who"] if isinstance(run["who"], str) else "here"
        place = f"{who} ({run.get('device') or 'machine not recorded'}, {run.get('host') or '?'})"
        cell = f"{run['row']} in {run['column']}"
        cells.setdefault(place, {}).setdefault(cell, []).append(str(run["seed"]))
    return [
        f"By {place}: " + ", ".join(f"{cell} (seed {', '.join(seeds)})" for cell, seeds in of.items()) + "."
        for place, of in cells.items()
    ]


def _counted(reasons: list[str], runs: int) -> list[str]:
    return [why if count == runs else f"{count} of {runs}: {why}" for why, count in Counter(reasons).items()]


def best_rows(table: pd.DataFrame, measure: Measure) -> set[tuple[str, str]]:
    """Returns the (row, column) with the best mean of each column, teachers excluded; all of them for ties."""
    name = f"{measure.label} mean"
    students = table[(table["row"] != "Teacher") & table[name].notna()]
    rounded = students[name].round(measure.digits)
    top = rounded.groupby(students["column"]).transform("max" if measure.larger_is_better else "min")
    leaders = students[rounded == top]
    return set(zip(leaders["row"], leaders["column"], strict=True))


def format_number(value: object, digits: int, signed: bool = False) -> str:
    """Formats a number with ``digits`` decimals; "-" for none."""
    if not isinstance(value, float | int) or pd.isna(value):
        return "-"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def notes(frame: pd.DataFrame, benchmark: Benchmark, table: pd.DataFrame) -> list[str]:
    """Returns the notes below the table: setting, shared runs, and the meaning of its numbers."""
    lines = []
    where = describe_setting(frame, benchmark.dataset)
    kinds = {kind for _, kind in shown_measures(table, benchmark)}
    paper = "paper" in kinds
    if where and paper:
        lines.append(f"{where}: the paper's values refer to another setting.")
    elif where:
        lines.append(f"{where}.")
    lines += same_runs(frame)
    if paper:
        minus = "; difference: our best epoch minus that" if "difference" in kinds else ""
        lines.append(f"paper: best epoch on the test images, one run{minus}.")
    lines += _other_protocols(benchmark, table, published_columns(frame))
    if benchmark.note:
        lines.append(benchmark.note)
    by_reason: dict[str, dict[str, None]] = {}
    for run in other_code(frame).to_dict("records"):
        by_reason.setdefault(run["changed"], {})[run["id"]] = None
    lines += [f"{OTHER_CODE} trained with other code ({why}): {', '.join(ids)}." for why, ids in by_reason.items()]
    conflicts = {run["id"]: run["conflict"] for run in in_conflict(frame).to_dict("records")}
    lines += [f"{CONFLICT} two results of one run, {run}: {what}." for run, what in conflicts.items()]
    failed = frame[(frame["state"] == "failed") & frame["last_top1"].notna()] if "last_top1" in frame else frame[:0]
    lines += [
        f"{run['row']} in {run['column']}, seed {run['seed']}, failed and counts with chance accuracy."
        for run in failed.to_dict("records")
    ]
    return [*lines, *_by_whom(frame), *_weights(frame)]


def _weights(frame: pd.DataFrame) -> list[str]:
    """Returns a line for the finished runs whose weights are missing, and one for damaged weights. Their results stay
    valid."""
    finished = frame[frame["state"] == "finished"].drop_duplicates("id")
    lines = []
    for problem in ("missing", "damaged") if "weights" in finished else ():
        ids = list(finished["id"][finished["weights"] == problem])
        if ids:
            which = f"{len(ids)} of {plural(len(finished), 'finished run')} are {problem}"
            lines.append(f"The weights of {which}: {first_of(ids, SHOWN)}.")
    return lines


def _other_protocols(benchmark: Benchmark, table: pd.DataFrame, named: Mapping[str, str]) -> list[str]:
    """Returns a line per protocol of published numbers that differs from this suite's. named: the paper's name of each
    column."""
    shown = set(zip(table["row"], table["column"].map(named), strict=True))
    pairs: dict[tuple[str, str, str], list[str]] = {}
    for (row, column), found in published_elsewhere(benchmark.id).items():
        if (row, column) in shown:
            teacher = f" with a teacher of {found.teacher} %" if found.teacher else ""
            text = f"{column} {found.value:.2f}{teacher}"
            pairs.setdefault((row, found.protocol, found.source), []).append(text)
    return [
        f"Other protocol, not subtracted: {row}, {', '.join(values)} ({protocol}; {source})."
        for (row, protocol, source), values in pairs.items()
    ]


def markdown(table: pd.DataFrame, benchmark: Benchmark) -> str:
    """Formats the summary as a Markdown table: a row per cell, a dash for missing numbers."""
    headers = [benchmark.rows, benchmark.columns, "seeds"]
    digits: dict[str, tuple[int, bool]] = {}
    for measure, kind in shown_measures(table, benchmark):
        digits[f"{measure.label} {kind}"] = (measure.digits, kind == "difference")
        if kind == "mean":
            digits[f"{measure.label} sd"] = (measure.digits, False)
    words = ["missing", *(["differs"] if table["differs"].any() else [])]
    rows = []
    for record in table.to_dict("records"):
        values = [format_number(record[name], *how) for name, how in digits.items()]
        texts = [markdown_text(record[name]) for name in ("row", "column", "seeds", *words)]
        rows.append([*texts[:3], *values, *texts[3:]])
    return markdown_table([*headers, *digits, *words], rows)


def latex(table: pd.DataFrame, benchmark: Benchmark, notes: Sequence[str] = ()) -> str:
    r"""Formats a booktabs tabular: methods as rows, mean and standard deviation per measure and the paper's value as
    columns, the best of each column underlined; below it the number of seeds and the ``notes``. Needs
    \usepackage{booktabs}."""
    columns = list(dict.fromkeys(table["column"]))
    shown = [(measure, kind) for measure, kind in shown_measures(table, benchmark) if kind in ("mean", "paper")]
    names = [measure.label if kind == "mean" else kind for measure, kind in shown]
    leaders = {m.label: best_rows(table, m) for m in benchmark.measures}
    cells = {(r["row"], r["column"]): r for r in table.to_dict("records")}
    width = len(names)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{l" + ("r" * width) * len(columns) + "}",
        r"\toprule",
        " & ".join(["", *(rf"\multicolumn{{{width}}}{{c}}{{{_latex_column(str(c))}}}" for c in columns)]) + r" \\",
        "".join(rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(columns))),
        " & ".join([escape(benchmark.rows), *(names * len(columns))]) + r" \\",
        r"\midrule",
    ]
    for row in dict.fromkeys(table["row"]):
        texts = [escape(str(row))]
        for column in columns:
            record = cells.get((row, column))
            for measure, kind in shown:
                if kind == "mean":
                    texts.append(_latex_number(record, measure, (row, column) in leaders[measure.label]))
                else:
                    known = record and record[f"{measure.label} paper"]
                    texts.append(format_number(known, measure.digits).replace("-", "--"))
        lines.append(" & ".join(texts) + r" \\")
    below = [escape(note) + r"\par" for note in (_seeds_text(table), *notes) if note]
    lines += [r"\bottomrule", r"\end{tabular}", *([r"\par\smallskip{\footnotesize", *below, "}"] if below else [])]
    return "\n".join(lines) + "\n"


def _latex_column(column: str) -> str:
    """Returns a column's name, in two lines if a pair of networks stands for a published pair."""
    run, stands, published = column.partition(" for ")
    return rf"\shortstack{{{escape(run)}\\for {escape(published)}}}" if stands else escape(column)


def _seeds_text(table: pd.DataFrame) -> str:
    """Formats "Means and standard deviations over 3 seeds.", with the cells that have another number of seeds."""
    named = table["column"].nunique() > 1
    counts: dict[int, list[str]] = {}
    for cell in table[(table["row"] != "Teacher") & (table["seeds"] > 0)].to_dict("records"):
        counts.setdefault(cell["seeds"], []).append(f"{cell['row']} in {cell['column']}" if named else cell["row"])
    if not counts:
        return ""
    usual = max(counts, key=lambda seeds: len(counts[seeds]))
    others = [f"{seeds} of {', '.join(cells)}" for seeds, cells in counts.items() if seeds != usual]
    text = f"Means and standard deviations over {plural(usual, 'seed')}"
    return f"{text} ({'; '.join(others)})." if others else f"{text}."


def _latex_number(record: Mapping[Any, Any] | None, measure: Measure, leads: bool) -> str:
    if record is None or pd.isna(record[f"{measure.label} mean"]):
        return "--"
    mean = format_number(record[f"{measure.label} mean"], measure.digits)
    sd = format_number(record[f"{measure.label} sd"], measure.digits)
    text = rf"\underline{{{mean}}}" if leads else mean
    text += r"$^\dagger$" if OTHER_CODE in str(record["missing"]) else ""
    return text if sd == "-" else rf"{text} {{\scriptsize$\pm${sd}}}"


ESCAPED = str.maketrans(
    {character: "\\" + character for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def escape(text: str) -> str:
    """Escapes text for LaTeX."""
    return text.translate(ESCAPED)
