"""Formats the comparability card: notes below a table, rows of the page, and card.md."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.analysis.comparability import TableComparability, short
from benchmarks.profiles.profile import Profile
from benchmarks.report.escaping import markdown_text
from benchmarks.tables.benchmark import BENCHMARKS
from sskd.formatting import markdown_table


def comparability_notes(table: TableComparability, waivers: Mapping[Any, str]) -> list[str]:
    """Returns a line for each difference between a table's runs that is excluded, waived or shown."""
    lines = []
    by_reason: dict[str, list[str]] = {}
    for refusal in table.refused:
        by_reason.setdefault(f"{refusal.column}: {refusal.why}", []).append(refusal.row)
    for why, rows in by_reason.items():
        runs = ", ".join(f"{row}: {count}" for row, count in Counter(rows).items())
        lines.append(f"Excluded, because not comparable: {why} ({runs}).")
    for entry in table.fields:
        if entry.outcome in ("waived", "shown"):
            values = ", ".join(f"{short(value)} ({count})" for value, count in entry.values.items())
            reason = f"; waived: {waivers[entry.field]}" if entry.outcome == "waived" else ""
            lines.append(f"Runs in {entry.column} differ in {entry.part}: {values}{reason}.")
    return list(dict.fromkeys(lines))


def comparability_rows(table: TableComparability) -> list[tuple[str, str, str]]:
    """Returns a table's card as rows (item, values, columns)."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in table.fields:
        if entry.role == "student":
            values = "; ".join(
                short(value) if len(entry.values) == 1 else f"{short(value)} ({count})"
                for value, count in entry.values.items()
            )
            values += f"; not recorded ({entry.not_recorded})" if entry.not_recorded else ""
            values += "" if entry.outcome == "equal" else f" [{entry.outcome}]"
            found.setdefault((entry.part, values), []).append(entry.column)
    return [(part, values, ", ".join(columns)) for (part, values), columns in found.items()]


def comparability_markdown(tables: Mapping[str, TableComparability], profile: Profile) -> str:
    """Returns card.md: the card as tables."""
    lines = ["## Comparability\n", "Properties of the runs of each table (card.json has all values)."]
    strict = f" The profile also excludes differences in: {', '.join(profile.strict)}." if profile.strict else ""
    lines.append(
        "Runs that differ in data, split, teacher, preprocessing, epoch rule or batch are excluded. Differences in "
        "packages, precision, version, head's weights, commit or device are only shown."
        f"{strict} Values that a run has not recorded are ignored.\n"
    )
    for name, table in tables.items():
        lines.append(f"### {BENCHMARKS[name].title}\n")
        lines += [f"- waiver: {field}: {reason}" for field, reason in profile.for_benchmark(name).waivers.items()]
        rows = comparability_rows(table)
        if rows:
            escaped = ([*map(markdown_text, row)] for row in rows)
            lines += ["", markdown_table(["item", "value", "columns"], escaped)]
        else:
            lines.append("No finished run.\n")
    return "\n".join(lines) + "\n"
