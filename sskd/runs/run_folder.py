"""A run's folder: a run writes nowhere else, and reports read nothing else of it.

spec.yaml            the RunSpec, defaults written out
metrics.jsonl        one line per epoch
resume.pt            all that is needed to go on, and resume.previous.pt, the one before it
best.safetensors     weights of the best epoch;  last.safetensors: of the last
best.previous.safetensors   of the best epoch before, for the checkpoint before; gone when the run is finished
network.json         what the weights are of: network, classes, image size, mean and std (not of heads)
result.json          written last: a run is finished if it is there
train.lock           while a process trains the run: who it is
failed.json          why a run ended without a result; gone once it is started again
epochs/NNNN.safetensors   the state after epoch NNNN, of a run that keeps them (execution.keep_epochs)
progress.json        how far it is, every few seconds; log.txt: what was printed
trackers.json        what the run is called by trackers; events.*, wandb/: theirs (sskd/console/trackers.py)
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from sskd.errors import UserError
from sskd.networks.weights import file_sha256
from sskd.runs.epoch_state import in_order, is_whole, state_bytes
from sskd.runs.files import (
    Holder,
    Locked,
    append_line,
    hold,
    lock_holder,
    one_line,
    plain_os_errors,
    read_json,
    write_atomically,
    write_json,
)
from sskd.runs.spec import RunSpec, spec_yaml


class Status(NamedTuple):
    """state: "absent", "incomplete", "failed" or "finished". epoch: epochs done. message: of a failure."""

    state: str
    epoch: int = 0
    message: str = ""


class RunHeld(UserError):
    """Another process trains this run at the moment."""


class _File:
    """Of a run's folder. Paths are made where they are asked for: plans look at one of each of a thousand folders."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: "RunFolder", kind: type) -> Path:
        return folder.path / self.name


class RunFolder:
    """Reads and writes one run's files. Every write is atomic: a reader or a crash never sees half a file."""

    metrics = _File("metrics.jsonl")
    resume = _File("resume.pt")
    previous = _File("resume.previous.pt")
    network = _File("network.json")
    result = _File("result.json")
    failure = _File("failed.json")
    lock = _File("train.lock")
    epochs = _File("epochs")
    previous_best = _File("best.previous.safetensors")

    def __init__(self, runs: Path, spec: RunSpec) -> None:
        self.spec = spec
        self.path = runs / spec.id

    def weights(self, epoch: str) -> Path:
        """Where the "best" or "last" epoch's weights are."""
        return self.path / f"{epoch}.safetensors"

    def create(self) -> None:
        """Makes the folder and writes the spec; UserError where that is not allowed or not possible."""
        with plain_os_errors("create", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "spec.yaml", lambda file: file.write(spec_yaml(self.spec).encode()))

    @contextmanager
    def held(self) -> Iterator[None]:
        """The run is this process's alone until the end of the block (sskd.runs.files.hold). RunHeld if another has
        it."""
        try:
            with hold(self.lock):
                yield
        except Locked as other:
            raise RunHeld(f"{self.spec.id} is being trained by {other}: wait for it, or end it first") from None

    def held_by(self) -> Holder | None:
        """Which other process trains the run at this moment; None if none does, or if it cannot be told.

        Not for the process that trains it, which would lose its lock by asking.
        """
        return lock_holder(self.lock)

    def is_finished(self) -> bool:
        """Whether there is a result. False also where this user may not look into the folder."""
        return os.path.exists(self.result)

    def lost_weights(self) -> bool:
        """Whether the run is finished, and its weights are gone: as in results that were committed without them."""
        return self.is_finished() and not all(self.weights(epoch).exists() for epoch in ("best", "last"))

    def weights_problem(self) -> str:
        """What is wrong with a finished run's weights files, by their header and their length: "missing", "damaged",
        or "" for nothing."""
        paths = [self.weights(epoch) for epoch in ("best", "last")]
        if not all(map(os.path.lexists, paths)):
            return "missing"
        return "" if all(map(is_whole, paths)) else "damaged"

    def refuse_unreadable(self) -> None:
        """UserError if what lies in the run's place is no folder, or may not be looked into."""
        if os.path.lexists(self.path):
            with plain_os_errors("read", self.path), suppress(FileNotFoundError):
                os.stat(self.path / "spec.yaml")

    def mark_for_retraining(self) -> None:
        """Makes a finished run one that is to be trained again. Its old result is kept beside the new."""
        for checkpoint in (self.resume, self.previous):
            checkpoint.unlink(missing_ok=True)
        os.replace(self.result, self.path / "result.previous.json")

    def archive(self) -> Path:
        """Renames the folder of a finished run that is to be trained anew, to <id>.previous, or .previous-2, ...
        Returns its new path."""
        number, beside = 1, self.path.with_name(f"{self.path.name}.previous")
        while beside.exists():
            number += 1
            beside = self.path.with_name(f"{self.path.name}.previous-{number}")
        with plain_os_errors("rename", self.path):
            os.rename(self.path, beside)
        return beside

    def status(self) -> Status:
        """How far the run is, from its files alone. UserError if its folder is none, or may not be read."""
        self.refuse_unreadable()
        if self.is_finished():
            return Status("finished", self.spec.recipe.epochs)
        if os.path.exists(self.failure):
            return Status("failed", len(self.read_metrics()), self.read_failure()["message"])
        if self.path.exists():
            return Status("incomplete", len(self.read_metrics()))
        return Status("absent")

    # --- metrics ------------------------------------------------------------------------------------------------

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Adds an epoch's line to metrics.jsonl. UserError on a full disk, with nothing of the line written."""
        with plain_os_errors("write", self.metrics):
            append_line(self.metrics, json.dumps(row))

    def rewrite_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Writes metrics.jsonl anew from a checkpoint's rows. Epochs after the checkpoint are trained again, so
        their lines must go."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self.metrics, lambda file: file.write(text.encode()))

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines up to the first that is none, as one is that a crash cut off."""
        rows = []
        with suppress(OSError):  # there is none, or it is a folder, or may not be read
            for line in self.metrics.read_bytes().splitlines():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):  # not JSON, or not UTF-8
                    break
                if not isinstance(row, dict):
                    break
                rows.append(row)
        return rows

    # --- checkpoints --------------------------------------------------------------------------------------------

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Keeps the one before: if this file is ever damaged, an epoch is lost and not the run."""
        if self.resume.exists():
            with plain_os_errors("write", self.previous):
                os.replace(self.resume, self.previous)
        write_atomically(self.resume, lambda file: torch.save(state, file))

    def epoch_state(self, number: int) -> Path:
        """Where the state after ``number`` epochs (of all stages) is, in a run that keeps them."""
        return self.epochs / f"{number:04d}.safetensors"

    def keep_epoch(self, number: int, state: dict[str, Any]) -> None:
        """Writes the state after ``number`` epochs, for others to check (benchmarks/records)."""
        with plain_os_errors("create", self.epochs):
            self.epochs.mkdir(exist_ok=True)
        data = in_order(state_bytes(state))
        write_atomically(self.epoch_state(number), lambda file: file.write(data))

    def checkpoints(self) -> list[Path]:
        """The newest first."""
        return [path for path in (self.resume, self.previous) if path.exists()]

    def quarantine_checkpoint(self, path: Path, error: Exception, log: Callable[[str], None]) -> None:
        """Renames a checkpoint that cannot be used, and says so. It is kept for whoever wants to look into it."""
        aside = path.with_suffix(".damaged")
        with suppress(FileNotFoundError):  # another process of the run has done it
            os.replace(path, aside)
        then = "going on from the one before" if path == self.resume and self.previous.exists() else "starting again"
        log(f"the checkpoint {path} cannot be used ({one_line(error)}); set aside as {aside.name}, {then}")

    def weights_file(self, weights: dict[str, Tensor], number: int) -> bytes:
        """The content of a weights file: a state dict by name, of epoch ``number`` (from 1). Equal weights give equal
        bytes."""
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        return in_order(safetensors_bytes(contiguous, metadata={"epoch": str(number), "run": self.spec.id}))

    def save_weights(self, epoch: str, weights: dict[str, Tensor], number: int) -> None:
        """Writes the "best" or "last" epoch's weights, as ``weights_file`` has them."""
        self.write_weights(epoch, self.weights_file(weights, number))

    def write_weights(self, epoch: str, data: bytes) -> None:
        """Writes a weights file. The best weights before it are kept, for the checkpoint before."""
        path, link = self.weights(epoch), self.path / f"{self.previous_best.name}.partial"
        if epoch == "best" and path.exists():
            with suppress(OSError):  # a file system without links keeps none
                link.unlink(missing_ok=True)
                os.link(path, link)
                os.replace(link, self.previous_best)
            link.unlink(missing_ok=True)  # left where both were the same file
        write_atomically(path, lambda file: file.write(data))

    def find_best(self, sha256: str) -> Path | None:
        """The file of best weights that has this content; None if it is gone."""
        return next(
            (p for p in (self.weights("best"), self.previous_best) if p.exists() and file_sha256(p) == sha256), None
        )

    # --- the end ------------------------------------------------------------------------------------------------

    def save_result(self, result: dict[str, Any]) -> None:
        """Marks the run as finished and drops what only resuming needed."""
        write_json(self.result, result)
        for path in (self.failure, self.resume, self.previous, self.previous_best):
            path.unlink(missing_ok=True)

    def read_failure(self) -> dict[str, Any]:
        """What failed.json says: message, and kind if it is known. Of a damaged file the message says that it is."""
        try:
            data = read_json(self.failure)
        except UserError as error:
            return {"message": str(error)}
        if isinstance(data, dict) and isinstance(data.get("message"), str):
            return data
        return {"message": f"cannot read {self.failure}: it has no message; delete it to have the run done again"}

    def save_failure(self, message: str, kind: str = "exception", last_lines: Sequence[str] = ()) -> None:
        """Why the run ended: in one line, of which kind (benchmarks/dispatch/retries.py), and the end of its log."""
        write_json(self.failure, {"message": message, "kind": kind, "last_lines": list(last_lines)})
