"""Compares a replayed epoch with the submitted one."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

CLOCK = ("seconds", "evaluation_seconds", "images_per_second")  # keys of a row that differ between repetitions

# Tolerance of an evaluation on another kind of machine: accuracies in points, other numbers in percent.
# Trained weights have no tolerance: with other rounding, an honest epoch ends as far away as a forged one
# (docs/verify.md), so a replay that is not bit-identical decides nothing there.
MOST_POINTS = 1.0


def kind_of(result: dict[str, Any]) -> tuple[str, ...]:
    """Returns the properties in a result.json that determine rounding: processor, vector instructions, torch,
    precision, threads and execution. "" for values that are not recorded."""
    machine, how = result.get("machine", {}), result.get("measured_with", {}).get("execution")
    device = re.sub(r", \d+ cores$", "", str(machine.get("device") or ""))
    noted = (machine.get("cpu_capability"), machine.get("torch"), result.get("precision"))
    return (device, *(str(value or "") for value in noted), f"{machine.get('threads')} threads, {how}" if how else "")


def must_be_equal(theirs: tuple[str, ...], ours: tuple[str, ...], on_cpu: bool) -> bool:
    """Returns True if an honest replay must be bit-identical: same kind of CPU, versions and settings, in fp32."""
    return on_cpu and "fp32" in theirs and all(theirs) and theirs == ours


def strange_tensors(submitted: Mapping[str, Tensor], replayed: Mapping[str, Tensor]) -> str:
    """Returns errors in a state's tensors that rounding cannot explain; "" if there are none."""
    if {key: value.shape for key, value in submitted.items()} != {key: value.shape for key, value in replayed.items()}:
        return "it has other tensors"
    return "" if all(value.isfinite().all() for value in submitted.values()) else "it has values that are not finite"


def differing(submitted: dict[str, Any], replayed: dict[str, Any], exact: bool) -> list[str]:
    """Returns descriptions of the numbers of an epoch's row, or of a result, that differ from the replay."""
    wrong = []
    for key, value in replayed.items():
        if key in CLOCK or isinstance(value, dict | str):
            continue
        claimed = submitted.get(key)
        if claimed == value or (claimed != claimed and value != value):  # NaN
            continue
        if not exact and isinstance(claimed, float | int) and isinstance(value, float | int):
            allowed = MOST_POINTS if "top" in key else MOST_POINTS / 100 * max(abs(claimed), abs(value))
            if abs(claimed - value) <= allowed:
                continue
        wrong.append(f"{key} is {claimed}, but {value} here")
    return wrong
