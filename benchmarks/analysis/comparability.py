"""Comparability of the runs of a table: data, split, teacher, precision and code.

Within a table, a run that differs in images, split, teacher, preprocessing, epoch rule or batch measures something else
and is excluded, unless the profile has a waiver, which the report shows. Differences that only change rounding or code
(packages, precision, the suite's version, another training of the same head) are shown; they exclude a run only if the
profile's ``strict`` names them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from benchmarks.analysis.comparability_fields import ITEMS, PER_SEED
from benchmarks.profiles.profile import Profile
from benchmarks.tables.benchmark import BENCHMARKS
from sskd.runs.records import SCHEMA, Record
from sskd.version import code

EXCLUDED = "refused"  # state of a run that is excluded from a table
NUMBERS = ("best_", "last_", "chosen_")  # prefixes of the columns that exclusion sets to NaN
FIDELITY = ("kl", "cka")
Outcome = Literal["equal", "shown", "waived", "compared", "refused"]


class ComparedItem(Record):
    """An item of the comparability card, for the runs of one column."""

    field: str
    """Name of the field, as in waivers. "commit" and "machine" never exclude runs and need no waiver."""
    part: str
    """Item of the field that is compared."""
    column: str
    """Column of the table."""
    role: str
    """Role of the runs: student or teacher."""
    values: dict[str, int]
    """Number of runs that have each value."""
    not_recorded: int
    """Number of runs that have not recorded the item."""
    outcome: Outcome
    """equal; compared: the table compares it; shown: it differs, and the report says so; waived; refused: runs are
    excluded."""


class Exclusion(Record):
    """A run that is excluded from a table."""

    row: str
    """Row of the table."""
    column: str
    """Column of the table."""
    run: str
    """Id of the run."""
    why: str
    """The difference that excludes it."""


class TableComparability(Record):
    """Comparability card of a table."""

    fields: list[ComparedItem]
    """The compared items with their values."""
    refused: list[Exclusion]
    """The excluded runs."""


class ComparabilityFile(Record):
    """card.json: the comparability cards of a report's tables."""

    schema_version: Annotated[int, Field(alias="schema", le=SCHEMA)]
    """Version of this format."""
    profile: str
    """Name of the report's profile."""
    suite: dict[str, str | None]
    """Version and commit of the code that wrote the report."""
    waivers: dict[str, dict[str, str]]
    """Reasons why a field may differ, by table and field."""
    strict: list[str] = []
    """Additional fields that the profile requires to be equal."""
    tables: dict[str, TableComparability]
    """Cards of the tables, by benchmark."""


def exclude_incomparable(frame: pd.DataFrame, profile: Profile) -> tuple[pd.DataFrame, dict[str, TableComparability]]:
    """Returns the report's frame and one comparability card per table.

    In each column, runs that differ from the majority in a field that must be equal are excluded: their numbers become
    NaN, their state "refused", and "why" gives the reason. (If there is no majority, the value that occurs first wins.)
    The column "differs" lists other differences from the majority: "torch 2.13.0, not 2.14.1". Fields that a run has
    not recorded are ignored.
    """
    if frame.empty:
        return frame, {}
    frame, tables = frame.assign(differs=""), {}
    places = frame.index[(frame["benchmark"] != "") & (frame["state"] == "finished")]
    numbers = [name for name in frame if str(name).startswith(NUMBERS) or name in FIDELITY]
    for benchmark in dict.fromkeys(frame["benchmark"]):
        if not benchmark:
            continue
        table = TableComparability(fields=[], refused=[])
        own = profile.for_benchmark(benchmark)
        here = frame.loc[places][frame.loc[places, "benchmark"] == benchmark]
        for (column, role), group in here.groupby(["column", "role"], sort=False):
            refused, said = _differences(group, str(column), str(role), own, BENCHMARKS[benchmark].varies, table)
            for index, why in refused:
                frame.loc[index, ["state", "why"]] = [EXCLUDED, f"{EXCLUDED}: {why}"]
                frame.loc[index, numbers] = float("nan")
            for index, words in said.items():
                frame.loc[index, "differs"] = "; ".join(words)
        tables[str(benchmark)] = table
    return frame, tables


def _differences(
    group: pd.DataFrame, column: str, role: str, profile: Profile, varies: tuple[str, ...], table: TableComparability
) -> tuple[list[tuple[Any, str]], dict[Any, list[str]]]:
    """Adds the compared items to the table's card. Returns the excluded runs with their reasons, and the differences
    that are only shown, both by the frame's index."""
    refused: list[tuple[Any, str]] = []
    said: dict[Any, list[str]] = {}
    for part in ITEMS:
        if part.column not in group:
            continue
        own = (
            *PER_SEED * profile.teacher_seeds,
            *("split",) * profile.split_seeds,
        )  # fields that differ between seeds
        within = [*part.within, *(["seed"] if part.field in own else [])]
        sets = [runs for _, runs in group.groupby(within, sort=False)] if within else [group]
        known = group[part.column].replace("", float("nan"))  # "": does not apply to the run
        differs, values = False, {str(key): int(n) for key, n in known.value_counts(sort=False).items()}
        refuses = part.kind == "question" or part.field in profile.strict
        allowed = part.field in varies or part.field in profile.waivers or not refuses
        for runs in sets:
            counts = known[runs.index].value_counts(sort=False)  # ignores values that are not recorded
            if len(counts) < 2:
                continue
            differs, usual = True, counts.idxmax()
            for index, run in runs[known[runs.index].notna() & (runs[part.column] != usual)].iterrows():
                if allowed:
                    if part.kind == "rounding" and part.field not in varies:
                        text = f"{part.name} {short(run[part.column])}, not {short(usual)}"
                        said.setdefault(index, []).append(text)
                    continue
                why = f"{part.name} differs: {short(run[part.column])}, but {short(usual)} in {counts.max()} other runs"
                refused.append((index, f"{why} (waivers.{part.field} allows it)"))
                table.refused.append(Exclusion(row=str(run["row"]), column=column, run=str(run["id"]), why=why))
                group = group.drop(index)
        missing = int(group[part.column].isna().sum())
        if values:
            table.fields.append(
                ComparedItem(
                    field=part.field,
                    part=part.name,
                    column=column,
                    role=role,
                    values=values,
                    not_recorded=missing,
                    outcome=_outcome(part.field, differs, refuses, varies, profile),
                )
            )
    dropped = {index for index, _ in refused}
    return refused, {index: words for index, words in said.items() if index not in dropped}


def _outcome(field: str, differs: bool, refuses: bool, varies: tuple[str, ...], profile: Profile) -> Outcome:
    if not differs:
        return "equal"
    if field in varies:
        return "compared"
    if field in profile.waivers:
        return "waived"
    return "refused" if refuses else "shown"


def short(value: object) -> str:
    """Shortens a hash to 12 characters; returns other values unchanged."""
    text = str(value)
    return text[:12] if len(text) in (40, 64) and set(text) <= set("0123456789abcdef") else text


def comparability_json(tables: Mapping[str, TableComparability], profile: Profile) -> dict[str, Any]:
    """Returns the content of card.json."""
    known = code()
    file = ComparabilityFile(  # type: ignore[call-arg]  # mypy does not know the alias
        schema=SCHEMA,
        profile=profile.name,
        suite={"version": known["version"], "commit": known["commit"]},
        waivers={name: dict(profile.for_benchmark(name).waivers) for name in tables},  # type: ignore[arg-type]
        strict=list(profile.strict),
        tables=dict(tables),
    )
    return file.model_dump(mode="json", by_alias=True)
