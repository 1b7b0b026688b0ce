"""A run's folder: the run writes only here, and reports read only from here.

spec.yaml            the RunSpec, with all defaults
metrics.jsonl        one line per epoch
resume.pt            the checkpoint to resume from; resume.previous.pt: the one before it
best.safetensors     weights of the best epoch;  last.safetensors: of the last epoch
best.previous.safetensors   weights of the previous best epoch, for resume.previous.pt; deleted when the run is finished
network.json         network, classes, image size, mean and std of the weights (not for heads)
result.json          written last: a run is finished if this file exists
train.lock           while a process trains the run: which one
failed.json          why a run ended without a result; deleted when it is started again
epochs/NNNN.safetensors   the state after epoch NNNN, of a run that keeps them (execution.keep_epochs)
progress.json        progress, updated every few seconds; log.txt: the printed lines
trackers.json        ids of the run in trackers; events.*, wandb/: files of trackers (sskd/console/trackers.py)
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
    """Status of a run. state: "absent", "incomplete", "failed" or "finished". epoch: epochs done. message: of a
    failure."""

    state: str
    epoch: int = 0
    message: str = ""


class RunLocked(UserError):
    """Another process is training this run."""


class RunFolder:
    """Reads and writes the files of a run. Every write is atomic, so neither readers nor crashes see partial files."""

    def __init__(self, runs: Path, spec: RunSpec) -> None:
        self.spec = spec
        self.path = path = runs / spec.id
        self.metrics = path / "metrics.jsonl"
        self.resume = path / "resume.pt"
        self.previous = path / "resume.previous.pt"
        self.network = path / "network.json"
        self.result = path / "result.json"
        self.failure = path / "failed.json"
        self.lock = path / "train.lock"
        self.epochs = path / "epochs"
        self.previous_best = path / "best.previous.safetensors"

    def weights(self, epoch: str) -> Path:
        """Returns the weights file of the "best" or "last" epoch."""
        return self.path / f"{epoch}.safetensors"

    def create(self) -> None:
        """Creates the folder and writes the spec. Raises UserError if that is not possible."""
        with plain_os_errors("create", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "spec.yaml", spec_yaml(self.spec).encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the run for this process during the block (sskd.runs.files.hold). Raises RunLocked if another process
        has it."""
        try:
            with hold(self.lock):
                yield
        except Locked as other:
            raise RunLocked(f"{self.spec.id} is being trained by {other}: wait for it, or stop it first") from None

    def lock_holder(self) -> Holder | None:
        """Returns the other process that trains the run; None if there is none or it cannot be determined. Do not call
        this in the process that trains the run (see sskd.runs.files.read_lock)."""
        return lock_holder(self.lock)

    def is_finished(self) -> bool:
        """Returns True if there is a result. Also False if the user may not read the folder."""
        return os.path.exists(self.result)

    def lost_weights(self) -> bool:
        """Returns True if the run is finished but its weights are missing, as in results that were committed without
        them."""
        return self.is_finished() and not all(self.weights(epoch).exists() for epoch in ("best", "last"))

    def weights_problem(self) -> str:
        """Checks the weights files of a finished run by header and length: returns "missing", "damaged" or ""."""
        paths = [self.weights(epoch) for epoch in ("best", "last")]
        if not all(map(os.path.lexists, paths)):
            return "missing"
        return "" if all(map(is_whole, paths)) else "damaged"

    def refuse_unreadable(self) -> None:
        """Raises UserError if the run's path is not a folder or may not be read."""
        if os.path.lexists(self.path):
            with plain_os_errors("read", self.path), suppress(FileNotFoundError):
                os.stat(self.path / "spec.yaml")

    def archive(self) -> Path:
        """Renames the folder of a finished run to <id>.previous, .previous-2, ..., so that the run can be trained
        again. Returns the new path."""
        number, archived = 1, self.path.with_name(f"{self.path.name}.previous")
        while archived.exists():
            number += 1
            archived = self.path.with_name(f"{self.path.name}.previous-{number}")
        with plain_os_errors("rename", self.path):
            os.rename(self.path, archived)
        return archived

    def status(self) -> Status:
        """Returns the progress of the run, read from its files. Raises UserError if its path is not a folder or may
        not be read."""
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
        """Appends the line of an epoch to metrics.jsonl. Raises UserError on a full disk, without leaving a partial
        line."""
        with plain_os_errors("write", self.metrics):
            append_line(self.metrics, json.dumps(row))

    def rewrite_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Replaces metrics.jsonl by the rows of a checkpoint. Later epochs are trained again, so their lines are
        dropped."""
        write_atomically(self.metrics, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns all lines up to the first incomplete one, which a crash may leave."""
        rows = []
        with suppress(OSError):  # missing, a folder, or not readable
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
        """Writes the checkpoint and keeps the previous one: if this file is ever damaged, only an epoch is lost."""
        if self.resume.exists():
            with plain_os_errors("write", self.previous):
                os.replace(self.resume, self.previous)
        write_atomically(self.resume, lambda file: torch.save(state, file))

    def epoch_state(self, number: int) -> Path:
        """Returns the file of the state after ``number`` epochs (of all stages), in a run that keeps them."""
        return self.epochs / f"{number:04d}.safetensors"

    def keep_epoch(self, number: int, state: dict[str, Any]) -> None:
        """Writes the state after ``number`` epochs, so that others can verify the run (benchmarks/records)."""
        with plain_os_errors("create", self.epochs):
            self.epochs.mkdir(exist_ok=True)
        write_atomically(self.epoch_state(number), in_order(state_bytes(state)))

    def checkpoints(self) -> list[Path]:
        """Returns the checkpoints, the newest first."""
        return [path for path in (self.resume, self.previous) if path.exists()]

    def quarantine_checkpoint(self, path: Path, error: Exception, log: Callable[[str], None]) -> None:
        """Renames a checkpoint that cannot be used, keeps it for inspection, and logs it."""
        damaged = path.with_suffix(".damaged")
        with suppress(FileNotFoundError):  # another process of the run has renamed it
            os.replace(path, damaged)
        then = "resuming from the previous one" if path == self.resume and self.previous.exists() else "starting again"
        log(f"the checkpoint {path} cannot be used ({one_line(error)}); renamed to {damaged.name}, {then}")

    def weights_file(self, weights: dict[str, Tensor], number: int) -> bytes:
        """Returns the content of a weights file: a state dict of epoch ``number`` (from 1). Equal weights give equal
        bytes."""
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        return in_order(safetensors_bytes(contiguous, metadata={"epoch": str(number), "run": self.spec.id}))

    def write_weights(self, epoch: str, data: bytes) -> None:
        """Writes the weights of the "best" or "last" epoch, a ``weights_file``. The previous best weights are kept for
        the previous checkpoint."""
        path = self.weights(epoch)
        if epoch == "best" and path.exists():
            with plain_os_errors("write", self.previous_best):
                os.replace(path, self.previous_best)
        write_atomically(path, data)

    def find_best(self, sha256: str) -> Path | None:
        """Returns the file of best weights with this content; None if it is missing."""
        return next(
            (p for p in (self.weights("best"), self.previous_best) if p.exists() and file_sha256(p) == sha256), None
        )

    # --- the end ------------------------------------------------------------------------------------------------

    def save_result(self, result: dict[str, Any]) -> dict[str, Any]:
        """Writes the result, which marks the run as finished, and deletes the files that only resuming needed. Returns
        the result."""
        write_json(self.result, result)
        for path in (self.failure, self.resume, self.previous, self.previous_best):
            path.unlink(missing_ok=True)
        return result

    def read_failure(self) -> dict[str, Any]:
        """Returns the content of failed.json: message, and kind if it is known. For a damaged file, the message says
        so."""
        try:
            data = read_json(self.failure)
        except UserError as error:
            return {"message": str(error)}
        if isinstance(data, dict) and isinstance(data.get("message"), str):
            return data
        return {"message": f"cannot read {self.failure}: it has no message; delete it to rerun the run"}

    def save_failure(self, message: str, kind: str = "exception", last_lines: Sequence[str] = ()) -> None:
        """Writes why the run ended: a one-line message, its kind (benchmarks/dispatch/retries.py), and the end of
        the log."""
        write_json(self.failure, {"message": message, "kind": kind, "last_lines": list(last_lines)})
