"""Checks a submission's files against each other, without images and without training."""

import re
from itertools import groupby
from typing import Any

from benchmarks.records.record import Submission

MEASURED = ("test_", "held_out_", "epoch")  # prefixes of a row's keys that the result repeats
CPU = re.compile(r", \d+ cores$")  # suffix of a processor's name (sskd/runs/provenance.py)
Opened = dict[int, dict[str, Any]]  # metadata of the opened states by number, see submission.wrong_files


def contradictions(found: Submission, opened: Opened) -> list[str]:
    """Returns descriptions of the contradictions; [] if there are none."""
    spec, rows, result, epochs = found.spec, found.rows, found.result, found.manifest.epochs
    if not spec.id == found.manifest.run == result["id"]:
        return [f"the spec is {spec.id}, the submission {found.manifest.run}, the result {result['id']}"]
    if epochs != len(rows):
        return [f"metrics.jsonl has {len(rows)} epochs, but {epochs} states are committed"]
    stages = groupby(row["stage"] for row in rows)
    in_order = [(stage, epoch) for stage, group in stages for epoch, _ in enumerate(group, start=1)]
    if in_order != [(row["stage"], row["epoch"]) for row in rows] or in_order[-1] != ("main", spec.recipe.epochs):
        return [
            f"the epochs of metrics.jsonl are not 1, 2, 3, ... of each stage, and 1 to {spec.recipe.epochs} of main"
        ]
    return [*_wrong_epochs(found), *_wrong_states(found, opened), *_wrong_machine(found, opened)]


def _wrong_epochs(found: Submission) -> list[str]:
    """Checks that best, last and chosen epochs follow from the metrics."""
    spec, result = found.spec, found.result
    main = [row for row in found.rows if row["stage"] == "main"]
    expected = {"best": main[-1], "last": main[-1]}
    if spec.role != "head":
        if any(row.get("test_top1") is None for row in main):
            return ["not every epoch of metrics.jsonl has a test_top1"]
        expected["best"] = max(main, key=lambda row: row["test_top1"])
    held_out = [row.get("held_out_top1") for row in main]
    if any(value is not None for value in held_out):
        if not spec.split.holdout or not all(isinstance(value, int | float) for value in held_out):
            return ["held_out_top1 is missing in some epoch of metrics.jsonl, or the split has no validation set"]
        expected["chosen"] = max(main, key=lambda row: row["held_out_top1"])
    wrong = []
    if result.get("chosen") is not None and "chosen" not in expected:
        wrong.append("result.json has a chosen epoch, but no epoch of metrics.jsonl has a held_out_top1")
    for which, row in expected.items():
        claimed = result.get(which) or {}
        for key in sorted(key for key in claimed.keys() | row.keys() if key.startswith(MEASURED)):
            if repr(claimed.get(key)) != repr(row.get(key)):  # repr: NaN equals NaN
                wrong.append(
                    f"result.json's {which}: {key} is {claimed.get(key)}, but metrics.jsonl has {row.get(key)}"
                )
    return wrong


def _wrong_states(found: Submission, opened: Opened) -> list[str]:
    """Checks that each state is the one at the end of the epoch in its name."""
    stages = list(dict.fromkeys(row["stage"] for row in found.rows))
    wrong = []
    for number, state in opened.items():
        row = found.rows[number - 1]
        whole = {"run": found.spec.id, "stage": stages.index(row["stage"]), "epoch": row["epoch"], "step": 0}
        other = {key: state[key] for key, value in whole.items() if state[key] != value}
        if other:
            wrong.append(f"the state after epoch {number} is labelled {other}, expected {whole}")
    return wrong


def _wrong_machine(found: Submission, opened: Opened) -> list[str]:
    """Checks machine and precision against the spec, the states and each other."""
    asked, machine = found.spec.recipe.precision, found.result["machine"]
    wrong = []
    if asked not in ("auto", found.result["precision"]):
        wrong.append(f"result.json's precision is {found.result['precision']}, but the spec's is {asked}")
    for package in ("torch", "torchvision"):
        said, listed = machine.get(package), (machine.get("packages") or {}).get(package)
        if said and listed and said.partition("+")[0] != listed.partition("+")[0]:
            wrong.append(f"result.json's machine has {package} {said}, but its packages list {listed}")
    on_cpu = CPU.search(machine["device"]) is not None
    if any(state["on_gpu"] == on_cpu for state in opened.values()):
        kinds = ("a processor", "a GPU") if on_cpu else ("a GPU", "a processor")
        wrong.append(
            f"result.json's device, {machine['device']}, is {kinds[0]}, but the states were saved on {kinds[1]}"
        )
    return wrong
