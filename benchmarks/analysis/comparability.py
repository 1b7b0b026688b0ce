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

from benchmarks.analysis.comparability_fields import ITEMS, PER_SEED, ComparabilityItem
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
    frame, tables = frame.assign(differs=""), dict[str, TableComparability]()
    numbers = [name for name in frame if str(name).startswith(NUMBERS) or name in FIDELITY]
    for benchmark in filter(None, dict.fromkeys(frame["benchmark"])):
        tables[benchmark] = card = TableComparability(fields=[], refused=[])
        own, varies = profile.for_benchmark(benchmark), BENCHMARKS[benchmark].varies
        finished = frame[(frame["benchmark"] == benchmark) & (frame["state"] == "finished")]
        for (column, role), group in finished.groupby(["column", "role"], sort=False):
            for item in ITEMS:
                if item.column not in group:
                    continue
                odd = _odd_runs(group, item, own)
                outcome: Outcome = _outcome(item, varies, own) if odd else "equal"
                known = group[item.column]
                values = {str(value): int(n) for value, n in _applicable(known).value_counts(sort=False).items()}
                if values:
                    card.fields.append(
                        ComparedItem(
                            field=item.field,
                            part=item.name,
                            column=str(column),
                            role=str(role),
                            values=values,
                            not_recorded=int(known.isna().sum()),
                            outcome=outcome,
                        )
                    )
                for index, (value, usual, others) in odd.items():
                    if outcome == "refused":
                        why = f"{item.name} differs: {short(value)}, but {short(usual)} in {others} other runs"
                        row, run = (str(group.loc[index, name]) for name in ("row", "id"))
                        card.refused.append(Exclusion(row=row, column=str(column), run=run, why=why))
                        reason = f"{EXCLUDED}: {why} (waivers.{item.field} allows it)"
                        frame.loc[index, ["state", "why", "differs"]] = [EXCLUDED, reason, ""]
                        frame.loc[index, numbers] = float("nan")
                    elif item.kind == "rounding" and outcome != "compared":
                        said = (frame.loc[index, "differs"], f"{item.name} {short(value)}, not {short(usual)}")
                        frame.loc[index, "differs"] = "; ".join(filter(None, said))
                if outcome == "refused":
                    group = group.drop(list(odd))
    return frame, tables


def _applicable(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Replaces "", the value of an item that does not apply to a run, by nan."""
    return values.replace("", float("nan"))


def _odd_runs(group: pd.DataFrame, item: ComparabilityItem, profile: Profile) -> dict[Any, tuple[Any, Any, int]]:
    """Returns by the frame's index the runs whose value differs from the majority: its value, the majority's, and the
    majority's number of runs."""
    of_seed = (*PER_SEED * profile.teacher_seeds, *("split",) * profile.split_seeds)
    within = [*item.within, *(["seed"] if item.field in of_seed else [])]
    known = _applicable(group[item.column])
    odd: dict[Any, tuple[Any, Any, int]] = {}
    for runs in [runs for _, runs in group.groupby(within, sort=False)] if within else [group]:
        values = known[runs.index].dropna()
        counts = values.value_counts(sort=False)
        if len(counts) > 1:
            usual, others = counts.idxmax(), int(counts.max())
            odd |= {index: (value, usual, others) for index, value in values.items() if value != usual}
    return odd


def _outcome(item: ComparabilityItem, varies: tuple[str, ...], profile: Profile) -> Outcome:
    """Returns the outcome of a difference."""
    if item.field in varies:
        return "compared"
    if item.field in profile.waivers:
        return "waived"
    return "refused" if item.kind == "question" or item.field in profile.strict else "shown"


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
