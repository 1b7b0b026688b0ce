"""One benchmark's rows of the frame as a table: mean, deviation, seeds; best and last epoch apart; the paper's."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.analysis.published import published, published_elsewhere
from benchmarks.analysis.setting import describe_setting, of_paper, same_runs
from benchmarks.report.escaping import markdown_text
from benchmarks.tables.benchmark import Benchmark, Measure
from benchmarks.tables.cell import published_columns
from sskd.formatting import first_of, plural

OTHER_CODE, CONFLICT = "†", "‡"
SHOWN = 3  # runs whose ids a line names
TABLE_COLUMNS = ("row", "column", "seeds", "missing", "differs")


def summary(frame: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """One row for each cell: row, column, seeds, "<label> mean" and "<label> sd" (n - 1) of every measure, for those
    that the paper has "<label> paper" and "<label> difference" (ours minus the paper's, in columns whose runs have the
    paper's setting), where numbers of another protocol are known "<label> other protocol", "missing": why there is
    no number, or fewer seeds than planned, and "differs": what runs were measured with where it is not what most others
    of their column were. Cells keep the order in which the benchmark names them."""
    paper, elsewhere = published(benchmark.id), published_elsewhere(benchmark.id)
    named = published_columns(frame)
    comparable = comparable_columns(frame, benchmark)
    rows = []
    for (row, column), group in frame.groupby(["row", "column"], sort=False):
        entry: dict[str, object] = {"row": row, "column": column}
        entry["seeds"] = int((group["state"] == "finished").sum())
        for measure in benchmark.measures:
            values = group[measure.name].dropna() if measure.name in group else pd.Series(dtype=float)
            mean = float(values.mean()) if len(values) else math.nan
            entry[f"{measure.label} mean"] = mean
            entry[f"{measure.label} sd"] = float(values.std(ddof=1)) if len(values) > 1 else math.nan
            if measure.published:
                known = paper.get((str(row), named[str(column)], measure.published))
                entry[f"{measure.label} paper"] = known.value if known else math.nan
                entry[f"{measure.label} difference"] = (
                    mean - known.value if known and column in comparable else math.nan
                )
                if elsewhere:
                    other = elsewhere.get((str(row), named[str(column)]))
                    entry[f"{measure.label} other protocol"] = other.value if other else math.nan
        entry["missing"], entry["differs"] = missing(group), _differs(group)
        rows.append(entry)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=_columns(benchmark))


def _columns(benchmark: Benchmark) -> list[str]:
    names = list(TABLE_COLUMNS)
    for measure in benchmark.measures:
        kinds = ("mean", "sd", "paper", "difference") if measure.published else ("mean", "sd")
        names += [f"{measure.label} {kind}" for kind in kinds]
    return names


def comparable_columns(frame: pd.DataFrame, benchmark: Benchmark) -> set[str]:
    """The columns whose runs have the paper's setting, so that its values can be held against them."""
    return {str(column) for column, group in frame.groupby("column", sort=False) if of_paper(group, benchmark.dataset)}


def shown_measures(table: pd.DataFrame, benchmark: Benchmark) -> list[tuple[Measure, str]]:
    """What a table shows of each cell, in order: (measure, "mean"), and of what the paper has "paper" and "difference",
    and "other protocol", where there is any."""
    shown: list[tuple[Measure, str]] = []
    for measure in benchmark.measures:
        shown.append((measure, "mean"))
        if measure.published:
            kinds = ("paper", "difference", "other protocol")
            names = {kind: f"{measure.label} {kind}" for kind in kinds}
            shown += [(measure, kind) for kind, name in names.items() if name in table and table[name].notna().any()]
    return shown


def missing(group: pd.DataFrame) -> str:
    """Why a cell's runs have no result, each reason once with the number of runs it is true of; "" if all have. The
    marks first, if some of the results are of other code than today's, or merged runs have two: the notes say which."""
    mark = [OTHER_CODE] if len(other_code(group)) else []
    mark += [CONFLICT] if len(in_conflict(group)) else []
    reasons = [str(why) for why in group["why"] if why]
    return "; ".join(mark + _counted(reasons, len(group)))


def _differs(group: pd.DataFrame) -> str:
    """What a cell's runs were measured with that is not the usual (see comparability.compared): each once, with
    its number of runs; "" if nothing is."""
    return "; ".join(_counted([why for why in group["differs"] if why], len(group))) if "differs" in group else ""


def other_code(frame: pd.DataFrame) -> pd.DataFrame:
    """The finished runs whose code was not today's."""
    return frame[(frame["state"] == "finished") & (frame["changed"] != "")] if "changed" in frame else frame[:0]


def in_conflict(frame: pd.DataFrame) -> pd.DataFrame:
    """The merged runs of which somebody has another result."""
    return frame[frame["conflict"].notna()] if "conflict" in frame else frame[:0]


def _by_whom(frame: pd.DataFrame) -> list[str]:
    """Of merged results: a line for everybody and each of their machines, with the cells and seeds that are theirs."""
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
    if not reasons:
        return []
    counts = {why: reasons.count(why) for why in dict.fromkeys(reasons)}
    if counts[reasons[0]] == runs:
        return reasons[:1]
    return [f"{count} of {runs}: {why}" for why, count in counts.items()]


def best_rows(table: pd.DataFrame, measure: Measure) -> set[tuple[str, str]]:
    """The (row, column) that leads its column, the teacher aside; ties share it."""
    name = f"{measure.label} mean"
    students = table[(table["row"] != "Teacher") & table[name].notna()]
    leaders = set()
    for column, group in students.groupby("column", sort=False):
        rounded = group[name].round(measure.digits)
        top = rounded.max() if measure.larger_is_better else rounded.min()
        leaders |= {(str(row), str(column)) for row in group["row"][rounded == top]}
    return leaders


def format_number(value: object, digits: int, signed: bool = False) -> str:
    """A number with so many decimals; a dash for none."""
    if not isinstance(value, float | int) or pd.isna(value):
        return "-"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def notes(frame: pd.DataFrame, benchmark: Benchmark, table: pd.DataFrame) -> list[str]:
    """What stands under the table: the setting, shared runs, what the numbers are."""
    lines = []
    where = describe_setting(frame, benchmark.dataset)
    kinds = {kind for _, kind in shown_measures(table, benchmark)}
    paper = "paper" in kinds
    if where and paper:
        lines.append(f"{where}: the paper's values are of another setting.")
    elif where:
        lines.append(f"{where}.")
    lines += same_runs(frame)
    if paper:
        minus = "; difference: our best epoch minus that" if "difference" in kinds else ""
        lines.append(f"paper: the best epoch on the test images of one run{minus}.")
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
    for row, column, seed in zip(failed["row"], failed["column"], failed["seed"], strict=True):
        lines.append(f"{row} in {column}, seed {seed}, failed and counts as chance.")
    lines += _by_whom(frame)
    lines += _weights(frame)
    return lines


def _weights(frame: pd.DataFrame) -> list[str]:
    """A line each for the finished runs whose weights are missing and damaged: their numbers stand all the same."""
    finished = frame[frame["state"] == "finished"].drop_duplicates("id")
    lines = []
    for problem in ("missing", "damaged") if "weights" in finished else ():
        ids = list(finished["id"][finished["weights"] == problem])
        if ids:
            which = f"{len(ids)} of {plural(len(finished), 'finished run')} are {problem}"
            lines.append(f"The weights of {which}: {first_of(ids, SHOWN)}.")
    return lines


def _other_protocols(benchmark: Benchmark, table: pd.DataFrame, named: Mapping[str, str]) -> list[str]:
    """A line for each protocol that published numbers of the table's cells were found by, if not by this suite's.
    named: the paper's name of each column."""
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
    """The summary as a Markdown table: a row for each cell, a dash for what is not there."""
    headers = [benchmark.rows, benchmark.columns, "seeds"]
    digits: dict[str, tuple[int, bool]] = {}
    for measure, kind in shown_measures(table, benchmark):
        digits[f"{measure.label} {kind}"] = (measure.digits, kind == "difference")
        if kind == "mean":
            digits[f"{measure.label} sd"] = (measure.digits, False)
    words = ["missing", *(["differs"] if table["differs"].any() else [])]
    lines = [[*headers, *digits, *words], ["---"] * (len(headers) + len(digits) + len(words))]
    for record in table.to_dict("records"):
        values = [format_number(record[name], *how) for name, how in digits.items()]
        texts = [markdown_text(record[name]) for name in ("row", "column", "seeds", *words)]
        lines.append([*texts[:3], *values, *texts[3:]])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def latex(table: pd.DataFrame, benchmark: Benchmark, notes: Sequence[str] = ()) -> str:
    r"""A booktabs tabular, methods down and columns across, mean and deviation of each measure and the paper's value;
    the best of each column underlined. Below it how many seeds there are, and the ``notes``. Needs
    \usepackage{booktabs}."""
    columns = list(dict.fromkeys(table["column"]))
    has_paper = {m.label: (m, "paper") in shown_measures(table, benchmark) for m in benchmark.measures}
    names = [n for m in benchmark.measures for n in ([m.label, "paper"] if has_paper[m.label] else [m.label])]
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
            for measure in benchmark.measures:
                leads = (str(row), str(column)) in leaders[measure.label]
                texts.append(_latex_number(record, measure, leads))
                if has_paper[measure.label]:
                    texts.append(
                        format_number(record and record[f"{measure.label} paper"], measure.digits).replace("-", "--")
                    )
        lines.append(" & ".join(texts) + r" \\")
    below = [escape(note) + r"\par" for note in (_seeds_text(table), *notes) if note]
    lines += [r"\bottomrule", r"\end{tabular}", *([r"\par\smallskip{\footnotesize", *below, "}"] if below else [])]
    return "\n".join(lines) + "\n"


def _latex_column(column: str) -> str:
    """A column's name; of a pair that stands for another the two in two lines."""
    run, stands, published = column.partition(" for ")
    return rf"\shortstack{{{escape(run)}\\for {escape(published)}}}" if stands else escape(column)


def _seeds_text(table: pd.DataFrame) -> str:
    """ "Means and standard deviations over 3 seeds.", or which row (and column) has how many."""
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
    """Text as LaTeX: what has a meaning there, made to stand for itself."""
    return text.translate(ESCAPED)
