"""Checks a submission by computing: evaluates its weights, and trains epochs again."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.planning.memory import check_batch_memory, device_memory
from benchmarks.records.agreeing import CPU
from benchmarks.records.plain import copy_plain
from benchmarks.records.record import Submission, needed_weights, numbers_of, state_name
from benchmarks.records.submission import Segments, committed_state
from sskd.config.execution import Execution
from sskd.data.datasets.registry import dataset_info
from sskd.errors import UserError, described
from sskd.formatting import first_of
from sskd.runs.epoch_state import state_hash
from sskd.runs.files import one_line
from sskd.runs.provenance import provenance
from sskd.runs.records import ExecutedAs
from sskd.runtime.device import device_of, resolve_precision
from sskd.training.replay import Replayed, replay_epoch
from sskd.training.result import measured_with
from sskd.training.setup import Setup, prepare
from sskd.training.tasks import build_task
from sskd.training.tasks.stage import TrainingTask

CLOCK = ("seconds", "evaluation_seconds", "images_per_second")  # keys of a row that differ between repetitions

# Tolerance of an evaluation on another kind of machine: accuracies in points, other numbers in percent.
# Trained weights have no tolerance: with other rounding, an honest epoch ends as far away as a forged one
# (docs/verify.md), so a replay that is not bit-identical decides nothing there.
MOST_POINTS = 1.0
THREADS = 64  # maximum threads of a replay on machines with fewer cores
Note = Callable[..., bool]  # (check's name, its problems, further entries) -> whether it passed


def by_computing(found: Submission, execution: Execution, segments: Segments, note: Note) -> str:
    """Evaluates the weights and replays the segments. Returns how the replays were compared."""
    execution = _as_theirs(execution, found.result)
    exact, on_cpu = _exact(found, execution), device_of(execution).type == "cpu"
    with tempfile.TemporaryDirectory() as text:
        runs = Path(text)
        _copy_needs(found, runs)
        setup, task = _built(found, runs, execution)
        if note("every stage has its epochs", _wrong_stages(found, task)):
            note("it was measured with what it says", _wrong_measure(found, setup, task))
            for which, number in numbers_of(found.rows, found.result).items():
                _check_weights(found, task, which, number, exact, note)
            equal: dict[int, bool] = {}
            for segment in segments.all:
                equal[segment] = _check_segment(found, runs, execution, segment, exact, note)
                shutil.rmtree(runs / found.spec.id, ignore_errors=True)
            if on_cpu and not exact:
                note("all epochs were rounded alike", _rounded_otherwise(found, equal))
    return "bit for bit" if exact else "on another kind of machine, or not in fp32"


# --- setup ------------------------------------------------------------------------------------------------------------


def _as_theirs(execution: Execution, result: dict[str, Any]) -> Execution:
    """Sets the execution settings that affect rounding, and no others, to those of the run."""
    how = {key: result["measured_with"]["execution"][key] for key in ExecutedAs.model_fields}
    if execution.threads is None:
        how["threads"] = min(result["machine"]["threads"], max(THREADS, os.cpu_count() or 1))
    return execution.model_copy(update=how)


def _exact(found: Submission, execution: Execution) -> bool:
    """Returns True if an honest replay must be bit-identical here: in fp32, on the same kind of CPU, with the same
    versions and settings."""
    device, theirs = device_of(execution), found.result["machine"]
    ours = provenance(device) | {"threads": execution.threads}
    same = [theirs[key] == ours[key] for key in ("cpu_capability", "torch", "threads")]
    same.append(CPU.sub("", theirs["device"]) == CPU.sub("", ours["device"]))
    precision = resolve_precision(found.spec.recipe.precision, device)
    return device.type == "cpu" and all(same) and found.result["precision"] == precision == "fp32"


def _copy_needs(found: Submission, runs: Path) -> None:
    for spec, epoch in needed_weights(found.spec):
        name = f"needs/{spec.id}/{epoch}.safetensors"
        if name not in found.manifest.files:
            raise UserError(f"{found.folder} lacks {name}, which the run needs")
        (runs / spec.id).mkdir()
        copy_plain(found.folder / name, runs / spec.id / f"{epoch}.safetensors")


def _built(found: Submission, needs: Path, execution: Execution) -> tuple[Setup, TrainingTask]:
    """Builds setup and task of the spec. Raises UserError if that is impossible here, also for a batch that cannot fit
    into memory: a forged spec may ask for any size."""
    try:
        if found.spec.trains:
            data, _ = dataset_info(found.spec.dataset, Path(execution.dataset_root))
            check_batch_memory(found.spec, data.image_size, device_memory(execution))
        if execution.threads:
            torch.set_num_threads(execution.threads)
        setup = prepare(found.spec, needs, execution)
        return setup, build_task(setup)
    except UserError:
        raise
    except Exception as error:  # invalid settings or a user's own code can raise anything
        raise UserError(f"{found.spec.id} cannot be set up here: {described(error)}") from None


# --- checks -----------------------------------------------------------------------------------------------------------


def _wrong_stages(found: Submission, task: TrainingTask) -> list[str]:
    asked = [(stage.name, stage.epochs) for stage in task.stages]
    noted = [(name, len(list(rows))) for name, rows in groupby(found.rows, key=lambda row: str(row["stage"]))]
    return [] if asked == noted else [f"metrics.jsonl has the stages {noted}, but the spec's are {asked}"]


def _wrong_measure(found: Submission, setup: Setup, task: TrainingTask) -> list[str]:
    """Checks images, split, teacher, network and their sizes against the record."""
    claimed, here = found.result["measured_with"], measured_with(setup)
    same_torch = found.result["machine"]["torch"] == torch.__version__
    keys = [key for key in here if key in claimed and key != "execution" and (key != "network" or same_torch)]
    numbers = {
        "parameters": sum(parameter.numel() for parameter in task.output.parameters()),
        "train_images": len(setup.split.indices),
    }
    return [f"{key} is {claimed[key]}, but {here[key]} here" for key in keys if claimed[key] != here[key]] + differing(
        found.result, numbers, exact=True
    )


def _check_weights(found: Submission, task: TrainingTask, which: str, number: int, exact: bool, note: Note) -> None:
    """Checks that the weights are bit-identical to the state after ``number`` epochs, and have the claimed accuracy.
    The chosen epoch has its weights only in the state."""
    name, accuracy = f"the {which} weights are those of the {which} state", f"accuracy of the {which} weights"
    try:
        task.modules.load_state_dict(committed_state(found.folder, found.manifest, number)["modules"])
    except (UserError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        note(name, [f"the state after epoch {number} does not belong to this run: {one_line(error)}"])
        return
    if which != "chosen":
        note(name, _other_tensors(found.folder / f"{which}.safetensors", task))
    measured = {f"test_{key}": value for key, value in task.evaluate().items()}
    measured |= {f"held_out_{key}": value for key, value in task.validate().items()}
    problems = differing(found.result[which], measured, exact)
    if which == "last":
        problems += differing(found.result, task.final(), exact)
    note(accuracy, problems)


def _other_tensors(path: Path, task: TrainingTask) -> list[str]:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        return [f"cannot read {path.name}: {one_line(error)}"]
    own = {key: tensor.detach().cpu() for key, tensor in task.output.state_dict().items()}
    if own.keys() != weights.keys():
        return [f"{path.name} has other tensors"]
    other = [key for key in own if state_hash({key: own[key]}) != state_hash({key: weights[key]})]
    return [f"{path.name} differs from the state in {first_of(other, 1)}"] if other else []


def _check_segment(found: Submission, runs: Path, execution: Execution, segment: int, exact: bool, note: Note) -> bool:
    """Trains an epoch again and records the outcome. Returns True if the replay was bit-identical."""
    name = f"epoch {segment} to {segment + 1}"
    try:
        start = committed_state(found.folder, found.manifest, segment) if segment else None
        replayed = replay_epoch(found.spec, runs, execution, found.rows[:segment], start)
        submitted = committed_state(found.folder, found.manifest, segment + 1)
        equal = state_hash(replayed.state) == found.manifest.states[state_name(segment + 1)]
        problem = "" if equal else strange_tensors(submitted["modules"], replayed.state["modules"])
    except Exception as error:  # a forged state can raise anything
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise UserError(f"this machine has too little memory to replay {found.spec.id}") from None
        note(name, [f"cannot be replayed: {one_line(error)}"])
        return False
    if exact and not equal:
        problem = problem or "not bit-identical, on the same kind of CPU in fp32"
    problems = [problem] if problem else []
    if exact or equal:
        problems += _other_numbers(found, replayed, segment)
    note(name, problems, equal=equal)
    return equal


def _other_numbers(found: Submission, replayed: Replayed, segment: int) -> list[str]:
    """Returns the numbers of the epoch's row, and after the last epoch of the result, that differ from the replay."""
    row = found.rows[segment]
    wrong = differing(row, replayed.row, exact=True)
    wrong += [f"{key} is not measured in such a run" for key in row if key not in replayed.row]
    if replayed.result is not None:
        wrong += differing(found.result, {k: v for k, v in replayed.result.items() if k != "finished"}, exact=True)
    return wrong


def _rounded_otherwise(found: Submission, equal: dict[int, bool]) -> list[str]:
    """Checks that rounding is consistent. A record names one machine: if one epoch of a stage is bit-identical here,
    all other epochs of the stage must be."""
    alike = {found.rows[segment]["stage"] for segment, same in equal.items() if same}
    odd = [segment for segment, same in equal.items() if not same and found.rows[segment]["stage"] in alike]
    return [
        f"epoch {segment} to {segment + 1} has other bits here, and others of its stage the same" for segment in odd
    ]


# --- comparison -------------------------------------------------------------------------------------------------------


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
