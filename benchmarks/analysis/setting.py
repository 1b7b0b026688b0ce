"""Differences between the runs' setting and the paper's: data, networks, epochs, fraction of the training images."""

from collections.abc import Sequence

import pandas as pd

DATASET_TITLES = {"cifar100": "CIFAR-100", "imagenet": "ImageNet"}
FULL_EPOCHS = {"cifar100": 240, "imagenet": 100}


def of_paper(frame: pd.DataFrame, dataset: str = "cifar100") -> bool:
    """Returns True if the students of these runs have the paper's data, networks, epochs and training images."""
    return not describe_setting(frame, dataset)


def describe_setting(frame: pd.DataFrame, dataset: str = "cifar100") -> str:
    """Describes how the finished students (all, if none is finished) differ from the paper's setting; "" if they do
    not.

    Examples: "On digits (resnet14/resnet8 for vgg13/vgg8; 2 of 240 epochs), not CIFAR-100", or if columns differ "On
    CIFAR-100 (10%: 12 of 240 epochs, 10% of the training images; 25%: ...)".
    """
    students = frame[frame["role"] == "student"] if "role" in frame else frame
    finished = students[students["state"] == "finished"]
    students = students if finished.empty else finished
    if students.empty:
        return ""
    used = " and ".join(DATASET_TITLES.get(name, name) for name in dict.fromkeys(students["dataset"]))
    other = set(students["dataset"]) != {dataset}
    stands: dict[str, list[str]] = {}
    for pair, run_pair in dict.fromkeys(zip(students["pair"], students["run_pair"], strict=True)):
        stands.setdefault(run_pair, []).append(pair)
    replaced = {run: pairs for run, pairs in stands.items() if any(pair != run for pair in pairs)}
    remarks = [f"{run} for {_listed(pairs)}" for run, pairs in replaced.items()]
    remarks += _training(students, FULL_EPOCHS[dataset])
    if not other and not remarks:
        return ""
    own = [run for run in stands if run not in replaced and run]
    remarks = own + remarks if other else remarks
    where = f"On {used} ({'; '.join(remarks)})" if remarks else f"On {used}"
    return f"{where}, not {DATASET_TITLES[dataset]}" if other else where


def same_runs(frame: pd.DataFrame) -> list[str]:
    """Returns a line for each set of columns that show the same runs, with the rows concerned."""
    columns_of = frame.groupby(["row", "id"], sort=False)["column"].unique()
    rows: dict[tuple[str, ...], list[str]] = {}
    for row, columns in zip(columns_of.index.get_level_values("row"), columns_of, strict=True):
        if len(columns) > 1 and row not in rows.setdefault(tuple(columns), []):
            rows[tuple(columns)].append(row)
    return [f"The runs are the same in {' and '.join(columns)}: {', '.join(names)}." for columns, names in rows.items()]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} of the paper's pairs"


def _training(students: pd.DataFrame, full: int) -> list[str]:
    """Describes epochs and fraction of the training images: once if all runs agree, else per column."""
    shares = students["fraction"].map(_share)
    percent = students["fraction"].map(lambda fraction: f"{100 * fraction:g}%")
    if "" in set(shares) and (students["column"] == percent).all():
        shares[:] = ""  # the column's name already gives the fraction, as in figure 4a
    kinds = {f"all {full} epochs": students["epochs"].map(lambda number: _epochs(number, full))}
    kinds |= {"all training images": shares}
    said = students[["column", "row"]].assign(**kinds).drop_duplicates(["column", "row"])
    varying = [usual for usual in kinds if said[usual].nunique() > 1]
    remarks = [text for usual in kinds if usual not in varying and (text := said[usual].iloc[0])]
    if not varying:
        return remarks
    said["text"] = [", ".join(text or usual for usual, text in run.items()) for run in said[varying].to_dict("records")]
    columns: dict[str, list[str]] = {}  # description, and its columns
    for column, cells in said.groupby("column", sort=False):
        rows = cells.groupby("text", sort=False)["row"].agg(", ".join)
        parts = [f"{text} ({names})" if len(rows) > 1 else text for text, names in rows.items()]
        unit = f" of {full} epochs ("  # said of the first
        parts = parts[:1] + [part.replace(unit, " (") for part in parts[1:]]
        columns.setdefault(", ".join(parts), []).append(str(column))
    return remarks + [f"{', '.join(names)}: {text}" for text, names in columns.items()]


def _epochs(number: int, full: int) -> str:
    """Describes the number of epochs; "" for the paper's."""
    if number == full:
        return ""
    return f"{number} of {full} epochs" if number < full else f"{number} epochs for {full}"


def _share(fraction: float) -> str:
    """Describes the fraction of the training images; "" for all."""
    return f"{100 * fraction:g}% of the training images" if fraction < 1 else ""
