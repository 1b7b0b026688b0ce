"""results/<profile>/index.html: one static page of all that is known, with nothing to fetch and nothing to install."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from benchmarks.analysis.card import card_rows
from benchmarks.analysis.judging import EPOCHS
from benchmarks.analysis.paired import AVERAGE, is_sure
from benchmarks.analysis.results_frame import read_curve, specs_of
from benchmarks.report.curves import Plot, curve_groups
from benchmarks.report.figures import Drawn
from benchmarks.report.look import COLOURS, DASHES
from benchmarks.report.tables import best_rows, number, shown_measures
from benchmarks.tables.benchmark import Benchmark, Cell
from sskd.config.pretrained import Pretrained
from sskd.runs.run_folder import write_atomically
from sskd.runs.spec import RunSpec
from sskd.training.words import duration

if TYPE_CHECKING:
    from benchmarks.analysis.judging import Verdict
    from benchmarks.report.section import Report, Section

TEMPLATES = Path(__file__).resolve().parent / "templates"


def write_page(report: "Report", cells: Mapping[str, list[Cell]], folder: Path, runs: Path) -> Path:
    """Writes <folder>/index.html and returns its path. The same results give the same bytes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    specs = specs_of(cells)
    unique = report.frame[report.frame["id"].notna()].drop_duplicates("id")
    curves = {run_id: read_curve(runs / run_id / "metrics.jsonl") for run_id in unique["id"]}
    plots = {
        section.benchmark.id: curve_groups(section.frame, section.benchmark, curves, report.shown)
        for section in report.sections
    }
    links = _links(report, plots)
    here = {entry.name for entry in runs.iterdir()} if runs.is_dir() else set()
    parts = environment.get_template("page.html").generate(
        style=(TEMPLATES / "style.css").read_text(),
        script=(TEMPLATES / "page.js").read_text(),
        profile=report.profile,
        variant=folder.name if folder.resolve() != runs.resolve().parent else "",
        run_folders=Path(os.path.relpath(runs, folder)).as_posix(),
        overview=_overview(unique),
        colours=COLOURS,
        dashes=DASHES,
        controls=report.controls,
        cards={name: card_rows(card) for name, card in report.cards.items()},
        deciding=EPOCHS[report.verdicts[0].epoch],
        claims=[_claim(*both) for both in zip(report.verdicts, report.verdicts_best, strict=True) if both[0].runs],
        unjudged=[verdict for verdict in report.verdicts if not verdict.runs],
        sections=[_section(section, plots[section.benchmark.id]) for section in report.sections],
        runs=(
            _run(record, specs[record["id"]]) | {"curves": links.get(record["id"], []), "folder": record["id"] in here}
            for record in unique.to_dict("records")
        ),
    )
    path = folder / "index.html"
    # part by part: the page of thousands of runs is never in memory as a whole
    write_atomically(path, lambda file: file.writelines(part.encode() for part in parts))
    return path


def _links(report: "Report", plots: Mapping[str, list[Plot]]) -> dict[str, list[tuple[str, str]]]:
    """By run: where its curves are, as (identity, title) of each plot that has it."""
    links: dict[str, list[tuple[str, str]]] = {}
    for section in report.sections:
        for plot in plots[section.benchmark.id]:
            title = f"{section.benchmark.title.split(':')[0]}, {plot.title}"
            for run in dict.fromkeys(line.run for line in plot.lines):
                links.setdefault(run, []).append((f"curve-{plot.id}", title))
    return links


def _overview(unique: pd.DataFrame) -> dict[str, Any]:
    states: Mapping[Any, int] = unique["state"].value_counts().to_dict() if len(unique) else {}
    finished = unique[unique["state"] == "finished"] if len(unique) else unique
    has = len(finished) > 0
    return {
        "total": len(unique),
        "finished": int(states.get("finished", 0)),
        "failed": int(states.get("failed", 0)),
        "under_way": int(states.get("incomplete", 0)),
        "absent": int(states.get("absent", 0)),
        "seconds": float(finished["seconds"].sum()) if has else 0.0,
        "newest": str(finished["finished"].max())[:10] if has else "",
        "devices": sorted({str(name) for name in finished["device"].dropna()}) if has else [],
    }


def _claim(verdict: "Verdict", best: "Verdict") -> dict[str, Any]:
    shown = [abs(x) for x in (verdict.effect, verdict.lower, verdict.upper) if not pd.isna(x)]
    digits = 3 if max(shown, default=0.0) < 1 else 2
    entry = verdict._asdict() | {"best": best.verdict, "plot": None, "shown": "", "interval": ""}
    entry["seeds"] = verdict.seeds_text
    if not pd.isna(verdict.effect):
        entry["shown"] = number(verdict.effect, digits, signed=True)
        if not pd.isna(verdict.lower):
            entry["interval"] = f"{number(verdict.lower, digits)} to {number(verdict.upper, digits)}"
        entry["plot"] = _forest(verdict)
    return entry


def _forest(verdict: "Verdict") -> dict[str, float | None]:
    """Where zero, the effect, its interval's ends and the paper's size stand, on a width of 100."""
    marks = [0.0, verdict.effect]
    marks += [x for x in (verdict.lower, verdict.upper, verdict.size) if x is not None and not pd.isna(x)]
    low, high = min(marks), max(marks)
    span = (high - low) or 1.0

    def place(x: float | None) -> float | None:
        return None if x is None or pd.isna(x) else round(6 + 88 * (x - low) / span, 2)

    return {
        "zero": place(0.0),
        "effect": place(verdict.effect),
        "lower": place(verdict.lower),
        "upper": place(verdict.upper),
        "size": place(verdict.size),
    }


def _section(section: "Section", plots: list[Plot]) -> dict[str, Any]:
    benchmark, table = section.benchmark, section.table
    usual = int(table["seeds"].mode().max()) if len(table) else 0
    runs = {
        (str(row), str(column)): list(dict.fromkeys(group["id"]))
        for (row, column), group in section.frame.groupby(["row", "column"], sort=False)
    }
    return {
        "benchmark": benchmark,
        "notes": section.notes,
        "ranking": section.ranking,
        "table": _wide_table(table, benchmark, usual, runs),
        "usual_seeds": usual,
        "figure": _figure(section.figure) if section.figure else None,
        "differences": [_difference_table(section, m.label, m.title, m.digits) for m in benchmark.measures],
        "matrices": [_matrix(section.pairs[m.label], m.title, m.digits) for m in benchmark.measures if section.pairs],
        "reproductions": section.reproductions.to_dict("records"),
        "plots": plots,
    }


def _wide_table(
    table: pd.DataFrame, benchmark: Benchmark, usual: int, runs: Mapping[tuple[str, str], list[str]]
) -> dict[str, Any]:
    """Rows down, columns across, and in each of them the measures, the paper's value and the difference to it."""
    columns = list(dict.fromkeys(table["column"]))
    headers = {"paper": "paper", "difference": "diff.", "other protocol": "other protocol"}
    kinds = [(measure, kind, headers.get(kind, measure.label)) for measure, kind in shown_measures(table, benchmark)]
    leaders = {measure.label: best_rows(table, measure) for measure in benchmark.measures}
    records = {(r["row"], r["column"]): r for r in table.to_dict("records")}
    rows = []
    for row in dict.fromkeys(table["row"]):
        cells: list[dict[str, Any]] = []
        for column in columns:
            record = records.get((row, column))
            for place, (measure, key, _) in enumerate(kinds):
                cell = _wide_cell(record, measure, key, place == 0, usual, leaders[measure.label])
                cells.append(cell | {"runs": runs.get((row, column), []) if key == "mean" else []})
        rows.append({"name": row, "cells": cells})
    return {"columns": columns, "headers": [header for _, _, header in kinds], "rows": rows}


def _wide_cell(
    record: Mapping[Any, Any] | None, measure: Any, key: str, first: bool, usual: int, leaders: set[tuple[str, str]]
) -> dict[str, Any]:
    cell = {"first": first, "kind": key, "value": "", "text": "", "sd": "", "why": "", "seeds": "", "leads": False}
    if record is None:
        return cell
    value = record[f"{measure.label} {key}"]
    if pd.isna(value):
        return cell | {"why": record["missing"] if first else ""}
    cell |= {"value": round(float(value), 6), "text": number(value, measure.digits, signed=key == "difference")}
    if key == "mean":
        cell["leads"] = (str(record["row"]), str(record["column"])) in leaders
        sd = number(record[f"{measure.label} sd"], measure.digits)
        cell["sd"] = "" if sd == "-" else sd
        if first:
            cell["seeds"] = f"n={record['seeds']}" if record["seeds"] != usual else ""
            cell["why"] = record["missing"]
    return cell


def _difference_table(section: "Section", label: str, title: str, digits: int) -> dict[str, Any]:
    rows = [
        {
            "column": "average over all" if gap["column"] == AVERAGE else gap["column"],
            "row": gap["row"],
            "value": gap["difference"],
            "text": number(gap["difference"], digits, signed=True),
            "interval": f"{number(gap['lower'], digits, True)} to {number(gap['upper'], digits, True)}"
            if gap["seeds"] > 1
            else "one seed",
            "decided": is_sure(gap["p_holm"]),
            "seeds": gap["seeds"],
        }
        for gap in section.differences[label].to_dict("records")
    ]
    return {"label": label, "title": title, "rows": rows}


def _matrix(pairs: pd.DataFrame, title: str, digits: int) -> dict[str, Any]:
    """All pairs of rows, for statistics.pairwise's frame: a line for each row, a cell for each other."""
    rows = list(dict.fromkeys([*pairs["row"], *pairs["other"]]))
    known = {(pair["row"], pair["other"]): pair for pair in pairs.to_dict("records")}
    lines = []
    for row in rows:
        own = [known[row, other] for other in rows if (row, other) in known]
        wins, of = sum(pair["wins"] for pair in own), sum(pair["comparisons"] for pair in own)
        cells = [_matrix_cell(known.get((row, other)), digits) for other in rows]
        lines.append({"row": row, "cells": cells, "rate": round(100 * wins / of), "wins": f"{wins:g} of {of}"})
    return {"title": title, "rows": rows, "lines": lines}


def _matrix_cell(pair: Mapping[Any, Any] | None, digits: int) -> dict[str, Any]:
    if pair is None:
        return {"text": "", "decided": False, "interval": "", "wins": ""}
    lower, upper = number(pair["lower"], digits, True), number(pair["upper"], digits, True)
    return {
        "text": number(pair["difference"], digits, signed=True),
        "decided": is_sure(pair["p_holm"]),
        "interval": f"{lower} to {upper}" if pair["seeds"] > 1 else "one seed",
        "wins": f"{pair['wins']:g}/{pair['comparisons']} ({pair['wins_lower']:.0%} to {pair['wins_upper']:.0%})",
    }


def _figure(drawn: Drawn) -> dict[str, Any]:
    """The PNG as a data URI, wide and narrow, each with its size in pixels (from the PNG's header)."""
    wide = next(path for path in drawn.paths if path.suffix == ".png").read_bytes()
    return {"wide": _image(wide), "narrow": _image(drawn.narrow)}


def _image(data: bytes) -> dict[str, Any]:
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    return {"uri": f"data:image/png;base64,{base64.b64encode(data).decode()}", "width": width, "height": height}


def _run(record: dict[str, Any], spec: RunSpec) -> dict[str, Any]:
    """A line of the list of runs, and what it opens to."""
    known = {key: value for key, value in record.items() if not pd.isna(value)}
    facts = [("state", known["why"] or known["state"])]
    if known["state"] == "finished":
        facts += [
            ("time", duration(known["seconds"])),
            ("speed", f"{known['images_per_second']:.0f} images/s in the last epoch"),
            ("training images", f"{known['train_images']:.0f}"),
            ("parameters", f"{known['parameters']:,.0f}"),
            ("machine", f"{known.get('device', '?')} ({known.get('host', '?')}), {known.get('precision', '?')}"),
            ("driver", known.get("driver", "")),
            ("versions", _versions(known)),
            ("version", known.get("version", "")),
            ("commit", f"{known.get('commit', 'none')}{', with uncommitted changes' if known.get('dirty') else ''}"),
            ("finished", known.get("finished", "")),
            ("code", known["changed"]),
        ]
    return {
        "id": known["id"],
        "state": known["state"],
        "best": _score(known, "best"),
        "last": _score(known, "last"),
        "time": duration(known["seconds"]) if "seconds" in known else "",
        "facts": [(name, value) for name, value in facts if value],
        "spec": spec_lines(spec),
        "needs": [needed.id for needed in spec.needs],
    }


def _score(known: dict[str, Any], which: str) -> str:
    value = known.get(f"{which}_top1", known.get(f"{which}_head_top1"))
    return "" if value is None else f"{value:.2f}"


def _versions(known: dict[str, Any]) -> str:
    names = (("Python", "python"), ("torch", "torch"), ("torchvision", "torchvision"))
    return ", ".join(f"{title} {known[key]}" for title, key in names if key in known)


def spec_lines(spec: RunSpec) -> list[tuple[str, str]]:
    """What the spec says beside defaults, by the key that ``--set`` would change; the whole of it is in spec.yaml."""

    def flat(prefix: str, value: Any) -> list[tuple[str, str]]:
        if isinstance(value, dict):
            return [line for key, item in value.items() for line in flat(f"{prefix}.{key}" if prefix else key, item)]
        return [(prefix, str(value))]

    lines = flat("", spec.model_dump(mode="json", exclude_defaults=True, exclude={"teacher", "head"}))
    if isinstance(spec.teacher, Pretrained):
        lines += flat("teacher", spec.teacher.model_dump(mode="json", exclude_defaults=True))
    return lines
