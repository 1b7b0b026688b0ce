"""Writes index.html: one static page with all results, without external files.

Order: comparison with rivals (page_asked), the paper's claims (page_verdicts), tables (page_tables), cost, and all runs
(page_runs). Links lead from a verdict to its comparisons, to cells and curves, and to runs.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from benchmarks.analysis.frame import specs_of
from benchmarks.report.comparability import comparability_rows
from benchmarks.report.curves import Plot, curve_groups
from benchmarks.report.page_asked import asked
from benchmarks.report.page_runs import MOST_NAMED, MOST_TOLD, run_entry, run_line
from benchmarks.report.page_tables import embedded, section_entry
from benchmarks.report.page_verdicts import verdict_entries
from benchmarks.report.section import Report
from benchmarks.report.style import COLOURS, DASHES
from benchmarks.report.time_to_accuracy import MARK, WORDS, amount
from benchmarks.report.tuning import CSV, RULE_TEXT, optimism_text
from benchmarks.statistics.verdict import UNDECIDED
from benchmarks.statistics.wording import effect_text
from benchmarks.tables.cell import Cell
from sskd.formatting import duration
from sskd.methods import METHODS
from sskd.runs.files import write_atomically

TEMPLATES = Path(__file__).resolve().parent / "templates"


def write_page(report: Report, cells: Mapping[str, list[Cell]], folder: Path, runs: Path) -> str:
    """Writes <folder>/index.html and returns its headline. The same results give the same bytes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    environment.filters["amount"] = amount
    environment.filters["embedded"] = embedded
    environment.filters["sentence"] = lambda text: text[:1].upper() + text[1:]  # keeps the case of names
    specs = specs_of(cells)
    unique = report.frame.drop_duplicates("id")
    plots = {
        section.benchmark.id: curve_groups(section.frame, section.benchmark, report.curves, report.means, report.styles)
        for section in report.sections
    }
    links = _links(report, plots)
    records = unique.to_dict("records")
    brief = len(records) > MOST_TOLD
    verdicts, comparison = verdict_entries(report, plots), asked(report)
    headline = claims_headline(report) or str((comparison or verdicts)["headline"])
    parts = environment.get_template("page.html").generate(
        report._asdict(),
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "page.js").read_text(encoding="utf-8"),
        variant=folder.name if folder.resolve() != runs.resolve().parent else "",
        run_folders=Path(os.path.relpath(runs, folder)).as_posix(),
        overview=_overview(unique, report.shared_machine),
        headline=headline,
        asked=comparison,
        colours=COLOURS,
        dashes=DASHES,
        verdicts=verdicts,
        sections=[section_entry(section, plots[section.benchmark.id]) for section in report.sections],
        tuning_rule=RULE_TEXT,
        tuning_csv=CSV,
        effect_text=effect_text,
        optimism_text=optimism_text,
        mark=MARK,
        words=WORDS[report.time_to_accuracy.unit],
        papers={METHODS[name].info.title: METHODS[name].info.url for name in METHODS},
        comparability={name: comparability_rows(table) for name, table in report.comparability.items()},
        named=MOST_NAMED,
        brief=brief,
        runs=(
            (
                run_line(record, report.shared_machine)
                if brief
                else run_entry(record, specs[record["id"]], report.shared_machine)
            )
            | {"curves": links.get(record["id"], [])}
            for record in records
        ),
    )
    # written in parts: a page of thousands of runs is never held in memory
    write_atomically(folder / "index.html", lambda file: file.writelines(part.encode() for part in parts))
    return headline


def claims_headline(report: Report) -> str:
    """Returns the decided claims, "C8 is supported: SSKD above KD, in 5%"; "" if none is decided, or if a benchmark
    compares the profile's own methods."""
    if any(section.benchmark.own_methods for section in report.sections):
        return ""
    decided = [verdict for verdict in report.verdicts if verdict.verdict != UNDECIDED]
    return "; ".join(f"{verdict.id} is {verdict.verdict}: {verdict.restated}" for verdict in decided)


def _links(report: Report, plots: Mapping[str, list[Plot]]) -> dict[str, list[tuple[str, str]]]:
    """Returns for each run the (identity, title) of the plots that show it."""
    links: dict[str, list[tuple[str, str]]] = {}
    for section in report.sections:
        for plot in plots[section.benchmark.id]:
            title = f"{section.benchmark.title.split(':')[0]}, {plot.title}"
            for run in dict.fromkeys(line.run for line in plot.lines if line.run):
                links.setdefault(run, []).append((f"curve-{plot.id}", title))
    return links


def _overview(unique: pd.DataFrame, shared_machine: set[str]) -> dict[str, Any]:
    states = Counter(unique["state"])
    finished = unique[unique["state"] == "finished"].reindex(columns=["seconds", "finished", "device"])
    return {
        "total": len(unique),
        "finished": states["finished"],
        "failed": states["failed"],
        "under_way": states["incomplete"],
        "absent": states["absent"],
        "seconds": 0.0 if shared_machine else finished["seconds"].sum(),
        "newest": max(finished["finished"], default="")[:10],
        "devices": sorted(set(finished["device"].dropna())),
    }
