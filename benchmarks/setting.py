"""What runs really had, where it is not what the paper's had: data, networks, epochs, share of the training images."""

from collections.abc import Sequence

import pandas as pd

from benchmarks.base import Benchmark

PAPER_DATASET = "cifar100"
DATASET_TITLES = {"cifar100": "CIFAR-100", "imagenet": "ImageNet"}
FULL_EPOCHS = {"cifar100": 240, "imagenet": 100}


def paper_dataset(benchmark: Benchmark) -> str:
    """The data set that the paper has for this benchmark."""
    return "imagenet" if benchmark.id == "table5" else PAPER_DATASET


def of_paper(frame: pd.DataFrame, dataset: str = PAPER_DATASET) -> bool:
    """Whether the students among these runs have the paper's data, networks, epochs and training images."""
    return not describe_setting(frame, dataset)


def describe_setting(frame: pd.DataFrame, dataset: str = PAPER_DATASET) -> str:
    """How the finished students (all of them while none is finished) differ from the paper's setting, to be read first:
    "On digits (resnet14/resnet8 for vgg13/vgg8; 2 of 240 epochs), not CIFAR-100", or "On CIFAR-100 (10%: 12 of 240
    epochs, 10% of the training images; 25%: ...)" where columns differ; "" if they do not."""
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


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} of the paper's pairs"


def _training(students: pd.DataFrame, full: int) -> list[str]:
    """Epochs and share of the training images: one remark where all runs have the same, else one for each setting."""
    standing = ["column", "row", "epochs", "fraction"]
    runs = [(str(c), str(r), int(e), float(f)) for c, r, e, f in zip(*(students[k] for k in standing), strict=True)]
    # a column that varies the share of images says so itself, as the paper's figure 4a does
    shares = {fraction for _, _, _, fraction in runs}
    varied = max(shares) == 1 and all(column == f"{100 * fraction:g}%" for column, _, _, fraction in runs)

    def words(epochs: int, fraction: float) -> str:
        parts = []
        if epochs != full:
            parts.append(f"{epochs} of {full} epochs" if epochs < full else f"{epochs} epochs for {full}")
        if fraction < 1 and not varied:
            parts.append(f"{100 * fraction:g}% of the training images")
        return ", ".join(parts) or f"all {full} epochs"

    said = {(column, row): words(epochs, fraction) for column, row, epochs, fraction in runs}
    if set(said.values()) == {f"all {full} epochs"}:
        return []
    if len(set(said.values())) == 1:
        return next(iter(said.values())).split(", ")
    remarks: dict[str, list[str]] = {}  # a column's text to the columns that have it
    for column in dict.fromkeys(column for column, _ in said):
        rows: dict[str, list[str]] = {}
        for (place, row), text in said.items():
            if place == column:
                rows.setdefault(text, []).append(row)
        texts = [f"{text} ({', '.join(names)})" if len(rows) > 1 else text for text, names in rows.items()]
        remarks.setdefault(", ".join(texts), []).append(column)
    return [f"{', '.join(columns)}: {text}" for text, columns in remarks.items()]
