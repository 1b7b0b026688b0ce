"""Comparing an epoch that was replayed with the one that was submitted: bit for bit, or by how far apart they are."""

import math
import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sskd.runs.epoch_state import State, state_hash

CLOCK = ("seconds", "evaluation_seconds", "images_per_second")  # of a row: what differs from run to run

# What the same weights may measure otherwise on another kind of machine: accuracies in points, others in percent.
# Trained weights have no such tolerance: an honest epoch that is rounded otherwise ends as far away as a forged one
# (docs/verify.md), so a replay that is not equal bit for bit decides nothing there.
MOST_POINTS = 1.0


class Kind(NamedTuple):
    """Where a run was done, as far as it decides how sums are rounded."""

    device: str
    cpu_capability: str
    torch: str
    precision: str
    execution: str


def kind_of(result: dict[str, Any]) -> Kind:
    """Of a result.json. What is not recorded is "", and equal to nothing."""
    machine, how = result.get("machine", {}), result.get("measured_with", {}).get("execution")
    device = re.sub(r", \d+ cores$", "", str(machine.get("device") or ""))
    return Kind(
        device,
        str(machine.get("cpu_capability") or ""),
        str(machine.get("torch") or ""),
        str(result.get("precision") or ""),
        f"{machine.get('threads')} threads, {how}" if how else "",
    )


def must_be_equal(theirs: Kind, ours: Kind, on_cpu: bool) -> bool:
    """Whether an honest replay gives the same bits: the same kind of CPU, versions and settings, in fp32."""
    return on_cpu and theirs.precision == "fp32" and all(theirs) and theirs == ours


class Comparison(NamedTuple):
    """equal: bit for bit. distance: see ``distance``. problem: what is wrong with it, "" for nothing."""

    equal: bool
    distance: float
    problem: str


def compare(committed: str, submitted: State, replayed: State, start: dict[str, Tensor], exact: bool) -> Comparison:
    """A replayed state with the submitted one, whose hash is ``committed``. start: the tensors of the modules before
    the epoch."""
    if state_hash(replayed) == committed:
        return Comparison(True, 0.0, "")
    far = distance(submitted["modules"], replayed["modules"], start)
    if exact:
        return Comparison(False, far, f"not equal bit for bit, on the same kind of CPU in fp32 (distance {far:.2g})")
    return Comparison(False, far, "" if math.isfinite(far) else "it has other tensors, or values that are not finite")


def distance(submitted: dict[str, Tensor], replayed: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """How far apart two ends of an epoch are, as a share of how far the submitted one is from the start: of all
    floating tensors of the modules together, root of sums of squares. inf for other shapes, or what is not finite."""
    if {key: value.shape for key, value in submitted.items()} != {key: value.shape for key, value in replayed.items()}:
        return math.inf
    apart = moved = 0.0
    for key, value in submitted.items():
        if value.is_floating_point():
            before = start[key].double() if key in start else torch.zeros_like(value, dtype=torch.float64)
            apart += float((value.double() - replayed[key].double()).square().sum())
            moved += float((value.double() - before).square().sum())
    far = math.sqrt(apart / moved) if moved else (math.inf if apart else 0.0)
    return far if math.isfinite(far) else math.inf


def differing(submitted: dict[str, Any], replayed: dict[str, Any], exact: bool) -> list[str]:
    """The numbers of an epoch's row, or of a result, that are not what a replay gave, in words."""
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
        wrong.append(f"{key} is {claimed}, and {value} here")
    return wrong
