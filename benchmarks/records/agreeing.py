"""What a record's parts say against each other: found without any image, and without training."""

import re
from itertools import groupby
from typing import Any

from benchmarks.records.record import Submission
from benchmarks.records.submission import Opened

MEASURED = ("test_", "held_out_", "epoch")  # begins the keys of a row that a result repeats
CPU = re.compile(r", \d+ cores$")  # ends the name of a processor in sskd/runs/provenance.py


def contradictions(found: Submission, opened: dict[int, Opened]) -> list[str]:
    """In words. ``opened``: where each opened state says that it is."""
    spec, rows, result, epochs = found.spec, found.rows, found.result, found.manifest.epochs
    if not spec.id == found.manifest.run == result["id"]:
        return [f"the spec is {spec.id}, the submission {found.manifest.run}, the result {result['id']}"]
    if epochs != len(rows):
        return [f"{len(rows)} epochs are in metrics.jsonl, and {epochs} states are committed to"]
    main = [row for row in rows if row["stage"] == "main"]
    if len(main) != spec.recipe.epochs or rows[-1]["stage"] != "main":
        return [f"the epochs of metrics.jsonl are not 1 to {spec.recipe.epochs}"]
    wrong = _wrong_order(rows)
    return wrong or [*_wrong_epochs(found, main), *_wrong_states(found, opened), *_wrong_machine(found, opened)]


def _wrong_order(rows: list[dict[str, Any]]) -> list[str]:
    """Stages whose epochs are not 1, 2, 3, ..."""
    wrong = []
    for stage, group in groupby(rows, key=lambda row: row["stage"]):
        epochs = [row["epoch"] for row in group]
        if epochs != list(range(1, len(epochs) + 1)):
            wrong.append(f"the epochs of the stage {stage} in metrics.jsonl are not 1 to {len(epochs)}")
    return wrong


def _wrong_epochs(found: Submission, main: list[dict[str, Any]]) -> list[str]:
    """Best, last and chosen epoch that are not those of the metrics."""
    spec, result = found.spec, found.result
    expected = {"best": main[-1], "last": main[-1]}
    if spec.role != "head":
        if any(row.get("test_top1") is None for row in main):
            return ["not every epoch of metrics.jsonl has a test_top1"]
        expected["best"] = max(main, key=lambda row: row["test_top1"])
    held_out = [row.get("held_out_top1") for row in main]
    if any(value is not None for value in held_out):
        if not spec.split.holdout or not all(isinstance(value, int | float) for value in held_out):
            return ["held_out_top1 is not that of a split that holds images out, in every epoch of metrics.jsonl"]
        expected["chosen"] = max(main, key=lambda row: row["held_out_top1"])
    wrong = []
    if result.get("chosen") is not None and "chosen" not in expected:
        wrong.append("result.json has a chosen epoch, and no epoch of metrics.jsonl has a held_out_top1")
    for which, row in expected.items():
        claimed, measured = _measured(result.get(which) or {}), _measured(row)
        for key in sorted(claimed.keys() | measured.keys()):
            if repr(claimed.get(key)) != repr(measured.get(key)):  # NaN is NaN
                wrong.append(
                    f"result.json's {which}: {key} is {claimed.get(key)}, and metrics.jsonl has {row.get(key)}"
                )
    return wrong


def _measured(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key.startswith(MEASURED)}


def _wrong_states(found: Submission, opened: dict[int, Opened]) -> list[str]:
    """States that are not of the end of the epoch whose number they bear."""
    stages = list(dict.fromkeys(row["stage"] for row in found.rows))
    wrong = []
    for number, state in opened.items():
        row = found.rows[number - 1]
        whole = (found.spec.id, stages.index(row["stage"]), row["epoch"], 0)
        if (state.run, state.stage, state.epoch, state.step) != whole:
            wrong.append(
                f"the state after epoch {number} is of {state.run}, stage {state.stage}, after {state.epoch} epochs "
                f"and {state.step} steps: not {whole[0]}, stage {whole[1]}, after {whole[2]} whole epochs"
            )
    return wrong


def _wrong_machine(found: Submission, opened: dict[int, Opened]) -> list[str]:
    """What is said of the machine and the precision, against the spec, the states and itself."""
    asked, machine = found.spec.recipe.precision, found.result["machine"]
    wrong = []
    if asked not in ("auto", found.result["precision"]):
        wrong.append(f"result.json's precision is {found.result['precision']}, and the spec's {asked}")
    for package in ("torch", "torchvision"):
        said, listed = machine.get(package), (machine.get("packages") or {}).get(package)
        if said and listed and said.partition("+")[0] != listed.partition("+")[0]:
            wrong.append(f"result.json's machine has {package} {said}, and among its packages {listed}")
    on_cpu = CPU.search(machine["device"]) is not None
    if any(state.on_gpu == on_cpu for state in opened.values()):
        kinds = ("a processor", "a GPU") if on_cpu else ("a GPU", "a processor")
        wrong.append(
            f"result.json's device, {machine['device']}, is {kinds[0]}, and the states are those of {kinds[1]}"
        )
    return wrong
