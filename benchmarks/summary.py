"""One benchmark's rows of the frame as a table: mean, deviation, seeds; best and last epoch apart; the paper's."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.base import Benchmark, Measure
from benchmarks.published import published, published_elsewhere

PAPER_DATASET = "cifar100"
DATASET_TITLES = {"cifar100": "CIFAR-100", "imagenet": "ImageNet"}


def summary(frame: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """One row for each cell: row, column, seeds, "<label> mean" and "<label> sd" (n - 1) of every measure, for those
    that the paper has "<label> paper" and "<label> difference" (ours minus the paper's), where a number of another
    protocol is known "<label> other protocol", and "missing": why there is no number, or fewer seeds than planned.
    Cells keep the order in which the benchmark names them."""
    paper, elsewhere = published(benchmark.id), published_elsewhere(benchmark.id)
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
                known = paper.get((str(row), str(column), measure.published))
                entry[f"{measure.label} paper"] = known.value if known else math.nan
                entry[f"{measure.label} difference"] = mean - known.value if known else math.nan
                if elsewhere:
                    other = elsewhere.get((str(row), str(column)))
                    entry[f"{measure.label} other protocol"] = other.value if other else math.nan
        entry["missing"] = missing(group)
        rows.append(entry)
    return pd.DataFrame(rows)


def missing(group: pd.DataFrame) -> str:
    """Why a cell's runs have no result, each reason once with the number of runs it is true of; "" if all have."""
    reasons = [str(why) for why in group["why"] if why]
    if not reasons:
        return ""
    counts = {why: reasons.count(why) for why in dict.fromkeys(reasons)}
    if counts[reasons[0]] == len(group):
        return reasons[0]
    return "; ".join(f"{count} of {len(group)}: {why}" for why, count in counts.items())


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


def number(value: object, digits: int, signed: bool = False) -> str:
    """A number with so many decimals; a dash for none."""
    if not isinstance(value, float | int) or pd.isna(value):
        return "-"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def context(frame: pd.DataFrame, dataset: str = PAPER_DATASET) -> str:
    """How the runs differ from the paper's setting, to be read first: "On digits (resnet14/resnet8 for vgg13/vgg8), not
    CIFAR-100", or "On CIFAR-100 with 12 of 240 epochs"; "" if they do not."""
    students = frame[frame["role"] == "student"] if "role" in frame else frame
    if students.empty:
        return ""
    used = " and ".join(DATASET_TITLES.get(name, name) for name in dict.fromkeys(students["dataset"]))
    other = set(students["dataset"]) != {dataset}
    stands: dict[str, list[str]] = {}
    for pair, run_pair in dict.fromkeys(zip(students["pair"], students["run_pair"], strict=True)):
        stands.setdefault(run_pair, []).append(pair)
    replaced = {run: pairs for run, pairs in stands.items() if any(pair != run for pair in pairs)}
    remarks = [f"{run} for {_listed(pairs)}" for run, pairs in replaced.items()]
    full_epochs = {"cifar100": 240, "imagenet": 100}[dataset]
    if not other and students["epochs"].max() < full_epochs:
        remarks.append(f"{students['epochs'].max():.0f} of {full_epochs} epochs")
    if not other and students["fraction"].max() < 1:
        remarks.append(f"{students['fraction'].max():.0%} of the training images")
    if not other and not remarks:
        return ""
    own = [run for run in stands if run not in replaced and run]
    remarks = own + remarks if other else remarks
    where = f"On {used} ({'; '.join(remarks)})" if remarks else f"On {used}"
    return f"{where}, not {DATASET_TITLES[dataset]}" if other else where


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} of the paper's pairs"


def notes(frame: pd.DataFrame, benchmark: Benchmark, table: pd.DataFrame) -> list[str]:
    """What stands under the table: the setting, shared runs, what the numbers are."""
    lines = []
    where = context(frame, "imagenet" if benchmark.id == "table5" else PAPER_DATASET)
    paper = any(table[f"{m.label} paper"].notna().any() for m in benchmark.measures if m.published)
    if where and paper:
        lines.append(f"{where}: the paper's values are of another setting, and differences to them say nothing.")
    elif where:
        lines.append(f"{where}.")
    pairs: dict[str, set[str]] = {}
    for pair, run_pair in zip(frame["pair"], frame["run_pair"], strict=True):
        pairs.setdefault(run_pair, set()).add(pair)
    shared = [run for run, stands in pairs.items() if len(stands) > 1]
    if shared:
        lines.append(f"Columns whose pair is the same here ({', '.join(shared)}) show the same runs.")
    if paper:
        lines.append("paper: the best epoch on the test images of one run; difference: our best epoch minus that.")
    lines += _other_protocols(benchmark, table)
    if benchmark.note:
        lines.append(benchmark.note)
    return lines


def _other_protocols(benchmark: Benchmark, table: pd.DataFrame) -> list[str]:
    """A line for each protocol that published numbers of the table's cells were found by, if not by this suite's."""
    shown = set(zip(table["row"], table["column"], strict=True))
    pairs: dict[tuple[str, str, str], list[str]] = {}
    for (row, column), found in published_elsewhere(benchmark.id).items():
        if (row, column) in shown:
            pairs.setdefault((row, found.protocol, found.source), []).append(f"{column} {found.value:.2f}")
    return [
        f"Other protocol, not subtracted: {row}, {', '.join(values)} ({protocol}; {source})."
        for (row, protocol, source), values in pairs.items()
    ]


def markdown(table: pd.DataFrame, benchmark: Benchmark) -> str:
    """The summary as a Markdown table: a row for each cell, a dash for what is not there."""
    headers = [benchmark.rows, benchmark.columns, "seeds"]
    digits: dict[str, tuple[int, bool]] = {}
    for measure in benchmark.measures:
        digits[f"{measure.label} mean"] = digits[f"{measure.label} sd"] = (measure.digits, False)
        if measure.published and table[f"{measure.label} paper"].notna().any():
            digits[f"{measure.label} paper"] = (measure.digits, False)
            digits[f"{measure.label} difference"] = (measure.digits, True)
        if f"{measure.label} other protocol" in table:
            digits[f"{measure.label} other protocol"] = (measure.digits, False)
    lines = [[*headers, *digits, "missing"], ["---"] * (len(headers) + len(digits) + 1)]
    for record in table.to_dict("records"):
        values = [number(record[name], *how) for name, how in digits.items()]
        lines.append(
            [
                str(record["row"]),
                str(record["column"]),
                str(record["seeds"]),
                *values,
                str(record["missing"]).replace("|", "/"),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def latex(table: pd.DataFrame, benchmark: Benchmark) -> str:
    r"""A booktabs tabular, methods down and columns across, mean and deviation of each measure and the paper's value;
    the best of each column in bold. Needs \usepackage{booktabs}."""
    columns = list(dict.fromkeys(table["column"]))
    has_paper = {
        m.label: bool(m.published) and bool(table[f"{m.label} paper"].notna().any()) for m in benchmark.measures
    }
    names = [n for m in benchmark.measures for n in ([m.label, "paper"] if has_paper[m.label] else [m.label])]
    leaders = {m.label: best_rows(table, m) for m in benchmark.measures}
    cells = {(r["row"], r["column"]): r for r in table.to_dict("records")}
    width = len(names)
    lines = [
        r"\begin{tabular}{l" + ("r" * width) * len(columns) + "}",
        r"\toprule",
        " & ".join(["", *(rf"\multicolumn{{{width}}}{{c}}{{{escape(str(c))}}}" for c in columns)]) + r" \\",
        "".join(rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(columns))),
        " & ".join([escape(benchmark.rows), *(names * len(columns))]) + r" \\",
        r"\midrule",
    ]
    for row in dict.fromkeys(table["row"]):
        texts = [escape(str(row))]
        for column in columns:
            record = cells.get((row, column))
            for measure in benchmark.measures:
                bold = (str(row), str(column)) in leaders[measure.label]
                texts.append(_latex_number(record, measure, bold))
                if has_paper[measure.label]:
                    texts.append(number(record and record[f"{measure.label} paper"], measure.digits).replace("-", "--"))
        lines.append(" & ".join(texts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_number(record: Mapping[Any, Any] | None, measure: Measure, bold: bool) -> str:
    if record is None or pd.isna(record[f"{measure.label} mean"]):
        return "--"
    mean = number(record[f"{measure.label} mean"], measure.digits)
    sd = number(record[f"{measure.label} sd"], measure.digits)
    text = rf"\textbf{{{mean}}}" if bold else mean
    return text if sd == "-" else rf"{text} {{\scriptsize$\pm${sd}}}"


def escape(text: str) -> str:
    """Text as LaTeX: what has a meaning there, made to stand for itself."""
    for character in "&%$#_{}":
        text = text.replace(character, "\\" + character)
    return text
