"""What came out, as tables: mean, deviation and number of seeds; best and last epoch always apart."""

from pathlib import Path

import pandas as pd

from benchmarks.base import Benchmark, Cell
from benchmarks.frame import results_frame
from sskd.folder import write_atomically


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a method: for last and best epoch the mean top-1, its standard deviation over seeds (n - 1), and how
    many seeds there are. Rows keep the order in which the benchmark names them."""
    rows = []
    for (row, column), group in frame.groupby(["row", "column"], sort=False):
        entry: dict[str, object] = {
            "method": row,
            "pair": column,
            "seeds": int((group["state"] == "finished").sum()),
        }
        for which in ("last", "best"):
            name = f"{which}_top1"
            values = group[name].dropna() if name in group else pd.Series(dtype=float)
            entry[f"{which} mean"], entry[f"{which} sd"] = values.mean(), values.std(ddof=1)
        missing = [why for why in group["why"] if why]
        entry["missing"] = "; ".join(dict.fromkeys(missing))
        rows.append(entry)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """The summary as a Markdown table, numbers with two decimals, gaps as a dash."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "-" if pd.isna(value) else f"{value:.2f}"
        return str(value)

    lines = [list(table.columns), ["---"] * len(table.columns)]
    lines += [[text(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def ordering(frame: pd.DataFrame, which: str = "last") -> list[str]:
    """Paired differences between every two methods, in words: mean over common seeds and its standard error."""
    students = frame[frame["row"] != "Teacher"]
    name = f"{which}_top1"
    if name not in students:
        return []
    by_seed = students.pivot_table(index="seed", columns="row", values=name, sort=False)
    lines = []
    names = list(by_seed.columns)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            gap = (by_seed[second] - by_seed[first]).dropna()
            if gap.empty:
                continue
            error = f"+- {gap.sem(ddof=1):.2f} (standard error)" if len(gap) > 1 else "(one seed: no uncertainty)"
            lines.append(f"{second} - {first}: {gap.mean():+.2f} {error}, {len(gap)} seeds, {which} epoch")
    return lines


def write_report(benchmark: Benchmark, cells: list[Cell], folder: Path) -> str:
    """Writes <folder>/<id>.md and .csv and gives the text a person sees."""
    frame = results_frame(cells, folder / "runs")
    table = summary(frame)
    parts = [
        f"## {benchmark.title}\n",
        "Top-1 accuracy in %, mean and standard deviation over seeds.\n",
        markdown(table),
    ]
    differences = ordering(frame)
    if differences:
        parts.append("Paired by seed:\n\n" + "\n".join(f"- {line}" for line in differences) + "\n")
    text = "\n".join(parts)
    write_atomically(folder / f"{benchmark.id}.md", lambda file: file.write(text.encode()))
    write_atomically(folder / f"{benchmark.id}.csv", lambda file: file.write(frame.to_csv(index=False).encode()))
    return text
